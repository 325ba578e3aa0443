"""``model apply-adapter``, ``export-adapter`` and ``import-adapter``."""

from __future__ import annotations

from argparse import Namespace

from napari_dante.adapt.adapters import adapted_model
from napari_dante.adapt.peft import from_peft, read_peft, to_peft, write_peft
from napari_dante.model.file import write_model
from napari_dante.model.library import Library
from napari_dante.model.lora_file import read_adapter, write_adapter

__all__ = ["apply", "export", "import_adapter"]


def apply(options: Namespace) -> None:
    """Write the model that an adapter makes of its base."""
    adapter = read_adapter(options.adapter)
    write_model(options.out, adapted_model(Library().resolve(options.base), adapter))


def export(options: Namespace) -> None:
    """Write an adapter as a folder of peft."""
    base = Library().resolve(options.base)
    write_peft(options.folder, *to_peft(read_adapter(options.adapter), base))


def import_adapter(options: Namespace) -> None:
    """Read a folder of peft as an adapter."""
    base = Library().resolve(options.base)
    tensors, config = read_peft(options.folder)
    write_adapter(options.target, from_peft(tensors, config, base))

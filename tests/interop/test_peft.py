"""Our adapters in the real peft and its adapters here, in an environment of its own.

``scripts/interop`` makes that environment and runs these tests.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from napari_dante.adapt.adapters import adapted_model
from napari_dante.adapt.peft import from_peft, read_peft, to_peft, write_peft
from napari_dante.adapt.recipe import EncoderLoRA, LoRA
from napari_dante.model.file import read_model
from napari_dante.model.library import Library
from napari_dante.model.segmenter import Segmenter
from napari_dante.model.spec import ArchitectureSpec
from tests.adapt.adapters import base_model, lesson

INTERPRETER = os.environ.get("DANTE_PEFT_PYTHON")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        INTERPRETER is None,
        reason="DANTE_PEFT_PYTHON names no interpreter with peft; run scripts/interop",
    ),
]
IMAGE = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
RECIPES: list[LoRA | EncoderLoRA] = [
    LoRA(rank=4, alpha=8.0),
    LoRA(rank=4, alpha=4.0, scaling="rank-stabilised"),
    LoRA(rank=4, alpha=8.0, train_norms=False),
    LoRA(rank=10**6, alpha=1e6),
    LoRA(rank=2, alpha=4.0, targets=("encoder",)),
    EncoderLoRA(rank=2, alpha=4.0),
]


def prepared(folder: Path, base: Path) -> Path:
    """Make a folder with the base for the other side."""
    folder.mkdir()
    model = read_model(base)
    arguments = {**model.spec.arguments, "out_channels": model.spec.out_channels}
    (folder / "network.json").write_text(json.dumps([model.spec.network, arguments]))
    save_file(dict(model.weights), folder / "weights.safetensors")
    np.save(folder / "image.npy", IMAGE.numpy())
    return folder


def peft_side(command: str, folders: list[Path]) -> list[torch.Tensor]:
    """Return the logits of peft in each folder, to be compared with ours."""
    assert INTERPRETER is not None
    script = str(Path(__file__).with_name("peft_side.py"))
    done = subprocess.run(
        [INTERPRETER, script, command, *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=240,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [torch.from_numpy(np.load(folder / "logits.npy")) for folder in folders]


def base_file(name: str, folder: Path, spec: ArchitectureSpec) -> Path:
    if name == "brain-tissue-t1":
        return Library(folder / "library").resolve(name)
    return base_model(spec, name, folder / "base.safetensors")


def assert_same_logits(network: nn.Module, theirs: torch.Tensor, base: Path) -> None:
    with torch.no_grad():
        ours = network(IMAGE)
        before = Segmenter.from_file(base, "cpu").network(IMAGE)
    size = float(ours.abs().max())
    assert float((ours - before).abs().max()) > 1e-2 * size, "nothing was adapted"
    assert float((ours - theirs).abs().max()) <= 1e-5 * max(1.0, size)


@pytest.mark.parametrize("name", ["SegResNet", "UNet", "plain UNet", "DynUNet", "brain-tissue-t1"])
def test_peft_reads_what_we_write(tmp_path: Path, spec: ArchitectureSpec, name: str) -> None:
    base = base_file(name, tmp_path, spec)
    folders, adapters = [], []
    for number, recipe in enumerate(RECIPES):
        folders.append(prepared(tmp_path / str(number), base))
        adapters.append(lesson(base, recipe)[0])
        write_peft(folders[-1] / "peft", *to_peft(adapters[-1], base))
    for adapter, theirs in zip(adapters, peft_side("read", folders), strict=True):
        ours = Segmenter(adapted_model(base, adapter), torch.device("cpu")).network
        assert_same_logits(ours, theirs, base)


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("SegResNet", {"target_modules": ["conv"], "r": 3, "lora_alpha": 6}),
    ("SegResNet", {"target_modules": r".*\.conv[12]\.conv", "modules_to_save": ["conv_final"]}),
    (
        "UNet",
        {
            "target_modules": r"model\.(0|1\.submodule\.0).*unit\d\.conv",
            "modules_to_save": ["model.2.0.conv"],
            "use_rslora": True,
            "bias": "all",
        },
    ),
    (
        "brain-tissue-t1",
        {
            "target_modules": ["unit0.conv", "unit1.conv"],
            "rank_pattern": {r"model\.0.*": 2},
            "alpha_pattern": {r"submodule.*unit0\.conv": 3},
            "bias": "lora_only",
        },
    ),
]


def test_we_read_what_peft_writes(tmp_path: Path, spec: ArchitectureSpec) -> None:
    folders, bases = [], []
    for number, (name, options) in enumerate(OPTIONS):
        (tmp_path / f"base {number}").mkdir()
        bases.append(base_file(name, tmp_path / f"base {number}", spec))
        folders.append(prepared(tmp_path / str(number), bases[-1]))
        (folders[-1] / "options.json").write_text(json.dumps(options))
    logits = peft_side("write", folders)
    for folder, base, theirs in zip(folders, bases, logits, strict=True):
        adapter = from_peft(*read_peft(folder / "peft"), base)
        assert adapter.factors
        ours = Segmenter(adapted_model(base, adapter), torch.device("cpu")).network
        assert_same_logits(ours, theirs, base)

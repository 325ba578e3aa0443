"""``model`` and what is done to the library and to model files: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_dante.cli.options import add_json, lazily, share

__all__ = ["add_models"]


def add_models(commands: Any) -> None:  # noqa: ANN401
    """Add ``model`` with its actions."""
    parser = commands.add_parser("model", help="the library and model files")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="what a model file or name is")
    show.add_argument("model")
    add_json(show)
    show.set_defaults(command=lazily("models", "show"))
    listing = actions.add_parser("list", help="the models on this computer")
    add_json(listing)
    listing.set_defaults(command=lazily("models", "list_models"))
    use = actions.add_parser("use", help="go back, or forward, to a version")
    use.add_argument("name")
    use.add_argument("version", type=int, help="number as 'model list' prints it")
    use.set_defaults(command=lazily("models", "use"))
    export = actions.add_parser("export", help="write a Dafne .model file")
    export.add_argument("model")
    export.add_argument("target", type=Path)
    export.add_argument(
        "--by-slice",
        action="store_true",
        help="a two-dimensional model that Dafne calls slice by slice, not with volumes",
    )
    export.set_defaults(command=lazily("models", "export"))
    importing = actions.add_parser("import", help="read a Dafne .model file; nothing is executed")
    importing.add_argument("source", type=Path)
    importing.add_argument("target", type=Path, help=".safetensors")
    importing.add_argument("--name", help="its name in the library")
    importing.set_defaults(command=lazily("models", "import_model"))
    text = "models between the old and the new one of a job, with their exams"
    mix = actions.add_parser("mix", help=text, description=text)
    mix.add_argument("job", type=Path, help="folder of a finished job")
    mix.add_argument("--share", type=share, help="of the new model, from 0 to 1")
    mix.add_argument("--out", type=Path, help="write the model with this share, .safetensors")
    add_json(mix)
    mix.set_defaults(command=lazily("mixing", "mix"))
    _add_adapters(actions)


def _add_adapters(actions: Any) -> None:  # noqa: ANN401
    text = "the model that an adapter makes of its base"
    applying = actions.add_parser("apply-adapter", help=text, description=text)
    applying.add_argument("base", help="file, or name in the library")
    applying.add_argument("adapter", type=Path, help=".safetensors that 'teach' wrote")
    applying.add_argument("--out", type=Path, required=True, help="new model, .safetensors")
    applying.set_defaults(command=lazily("adapters", "apply"))
    text = "write an adapter as a folder for Hugging Face peft"
    export = actions.add_parser("export-adapter", help=text, description=text)
    export.add_argument("base", help="file, or name in the library")
    export.add_argument("adapter", type=Path, help=".safetensors that 'teach' wrote")
    export.add_argument("folder", type=Path)
    export.set_defaults(command=lazily("adapters", "export"))
    text = "read a folder of Hugging Face peft as an adapter"
    importing = actions.add_parser("import-adapter", help=text, description=text)
    importing.add_argument("base", help="file, or name in the library")
    importing.add_argument("folder", type=Path)
    importing.add_argument("target", type=Path, help="adapter, .safetensors")
    importing.set_defaults(command=lazily("adapters", "import_adapter"))

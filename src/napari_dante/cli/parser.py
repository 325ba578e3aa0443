"""Commands and their options."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from napari_dante.adapt.recipe import RECIPES
from napari_dante.adapt.training import Device
from napari_dante.cli.serve_parser import add_serving

__all__ = [
    "RECIPE",
    "CaseOption",
    "build_parser",
    "parse_label",
    "parse_new_label",
    "parse_slices",
]

RECIPE = "lora"
"""How is taught where nobody says how."""


@dataclass
class CaseOption:
    """One ``--case IMAGE LABELS`` and the ``--slices`` that followed it."""

    image: Path
    labels: Path
    slices: tuple[int, ...] | None = None


class _AddCase(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        image, labels = (Path(value) for value in values or ())
        namespace.case = [*(namespace.case or []), CaseOption(image, labels)]


class _SlicesOfCase(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if not namespace.case:
            parser.error("--slices belongs behind the --case that it is about")
        namespace.case[-1].slices = values


def parse_slices(text: str) -> tuple[int, ...]:
    """Return the indices in a list such as ``10,12,40-44``, ascending."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            found.update(range(int(first), int(last or first) + 1))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"'{text}' is not a list of slices such as 10,12,40-44"
            ) from None
    if not found or min(found) < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of slices such as 10,12,40-44")
    return tuple(sorted(found))


def _key_value(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not (mark and key and value):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form key=value")
    return key, value


def parse_new_label(text: str) -> tuple[int | None, str]:
    """Return the label value, if one is given, and the name of a new structure."""
    value, mark, name = text.partition("=")
    number, name = (int(value), name) if mark and value.isdecimal() else (None, text)
    if not name.strip() or number == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form name or value=name")
    return number, name.strip()


def parse_label(text: str) -> tuple[int, str]:
    """Return a label value and the name that it shall have."""
    value, name = parse_new_label(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form value=name")
    return value, name


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("must be at least 0 and below 1")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return value


def _lazily(module: str, name: str) -> Callable[[argparse.Namespace], int | None]:
    """Import a command only when it runs: ``--help`` must not wait for torch."""

    def command(options: argparse.Namespace) -> int | None:
        function = getattr(importlib.import_module(f"napari_dante.cli.{module}"), name)
        status: int | None = function(options)
        return status

    return command


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="napari-dante",
        description="Adapt a segmentation model to your own MRI scanner. "
        "Without a command, napari opens with the Dante panel.",
    )
    parser.add_argument("--version", action="version", version=version("napari-dante"))
    parser.set_defaults(command=_lazily("viewer", "open_viewer"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_images(commands)
    _add_teaching(commands)
    _add_models(commands)
    _add_sharing(commands)
    add_serving(commands, _lazily)
    demo = _add(commands, "demo", "viewer", "the whole loop on a real sample, without a network")
    demo.add_argument("--headless", action="store_true", help="drive the window, then exit")
    demo.add_argument("--out", type=Path, help="folder for pictures and demo.json")
    return parser


def _add(commands: Any, name: str, module: str, text: str) -> argparse.ArgumentParser:  # noqa: ANN401
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=_lazily(module, name))
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, help="NIfTI or NRRD file, DICOM file or folder")
    parser.add_argument("--series", help="id of one volume, as 'info' prints it")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=get_args(Device), default="auto")


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="allow the code inside this very .model file to run, apart and without network; "
        "it is remembered by the file's SHA-256",
    )


def _add_images(commands: Any) -> None:  # noqa: ANN401
    info = _add(commands, "info", "images", "what a file or DICOM folder is")
    info.add_argument("path", type=Path)
    _add_json(info)

    convert = _add(commands, "convert", "images", "to NIfTI, or labels to DICOM; geometry kept")
    _add_image(convert)
    convert.add_argument(
        "target",
        type=Path,
        help=".nii or .nii.gz; for labels also .dcm, a DICOM segmentation, which names the "
        "patient and the study of its series, or the names alone: .ctbl (3D Slicer), .label or "
        ".txt (ITK-SNAP)",
    )
    convert.add_argument(
        "--reference", type=Path, metavar="DICOM", help="the series that a .dcm of labels is for"
    )
    convert.add_argument(
        "--names",
        type=Path,
        metavar="TABLE",
        help="take names and colours of labels from a file of ITK-SNAP or 3D Slicer",
    )

    predict = _add(commands, "predict", "images", "segment an image")
    _add_image(predict)
    predict.add_argument("--model", required=True, help="file, or name in the library")
    predict.add_argument("--out", type=Path, required=True, help="label map, .nii or .nii.gz")
    predict.add_argument(
        "--uncertainty",
        type=Path,
        metavar="FILE",
        help="also write how unsure the model is of each voxel, from 0 (sure) to 1 (undecided)",
    )
    predict.add_argument(
        "--probabilities",
        type=Path,
        metavar="FILE",
        help="also write the probability of each structure, 4D, the background first",
    )
    predict.add_argument(
        "--largest",
        action="store_true",
        help="keep only the largest connected piece of the mask",
    )
    _add_trust(predict)
    _add_device(predict)
    _add_json(predict)

    evaluate = _add(commands, "evaluate", "images", "compare a model with a reference")
    _add_image(evaluate)
    evaluate.add_argument("--model", required=True, help="file, or name in the library")
    evaluate.add_argument("--reference", type=Path, required=True, help="label map")
    evaluate.add_argument(
        "--label",
        type=parse_label,
        action="append",
        default=[],
        metavar="VALUE=NAME",
        help="what a value of the reference is called by the model, where the file does not "
        "say; values without a name count as the model's own numbers, unless this is given",
    )
    evaluate.add_argument("--slices", type=parse_slices, help="only these, such as 10,12,40-44")
    evaluate.add_argument("--skip-slices", type=parse_slices, help="all but these")
    evaluate.add_argument("--axis", type=int, choices=(0, 1, 2), default=2)
    _add_device(evaluate)
    _add_json(evaluate)


def _add_teaching(commands: Any) -> None:  # noqa: ANN401
    teach = _add(commands, "teach", "teaching", "adapt a model to corrected slices")
    teach.add_argument("--model", help="file, or name in the library; 'scratch' can do without one")
    teach.add_argument(
        "--case", nargs=2, action=_AddCase, metavar=("IMAGE", "LABELS"), required=True
    )
    teach.add_argument(
        "--slices",
        type=parse_slices,
        action=_SlicesOfCase,
        help="the corrected slices of the case before, such as 10,12,40-44, along the stored "
        "slice axis; without it every slice that holds a label",
    )
    teach.add_argument("--axis", type=int, choices=(0, 1, 2), default=2)
    teach.add_argument(
        "--earlier",
        nargs=2,
        type=Path,
        action="append",
        default=[],
        metavar=("IMAGE", "LABELS"),
        help="a case that the model has learned before, to be rehearsed; a starter brings one",
    )
    teach.add_argument(
        "--no-rehearsal", action="store_true", help="do without the case that a starter brings"
    )
    teach.add_argument("--series", help="id of one volume, as 'info' prints it")
    teach.add_argument("--recipe", default=RECIPE, help=", ".join(RECIPES))
    teach.add_argument(
        "--set",
        type=_key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the recipe, such as steps=200, rank=8 or targets=decoder,head "
        "(lora), hidden=16 or linear_probe=true (adapter)",
    )
    teach.add_argument(
        "--new-label",
        type=parse_new_label,
        action="append",
        default=[],
        metavar="[VALUE=]NAME",
        help="a structure that the model shall learn beside those it knows, by its name in the "
        "label table or, where the labels have no names, by its value, such as 4=lesion",
    )
    teach.add_argument("--exam-fraction", type=_fraction, default=0.3)
    teach.add_argument(
        "--out",
        type=Path,
        required=True,
        help="new model, .safetensors; .model where the model runs by its own code",
    )
    _add_trust(teach)
    teach.add_argument(
        "--adapter-out", type=Path, help="what LoRA changed, without the model, .safetensors"
    )
    teach.add_argument("--job", type=Path, help="keep the job in this folder")
    _add_json(teach)

    job = _add(commands, "run", "teaching", "run or resume a job folder")
    job.add_argument("job", type=Path)
    _add_json(job)

    report = _add(commands, "report", "reporting", "the report of a finished job")
    report.add_argument("job", type=Path)
    report.add_argument("--out", type=Path, required=True, help=".html, .csv or .json")
    report.add_argument(
        "--pictures",
        action="store_true",
        help="show three exam slices in the page, which then holds patient data",
    )


def _add_models(commands: Any) -> None:  # noqa: ANN401
    parser = commands.add_parser("model", help="the library and model files")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="what a model file or name is")
    show.add_argument("model")
    _add_json(show)
    show.set_defaults(command=_lazily("models", "show"))
    listing = actions.add_parser("list", help="the models on this computer")
    _add_json(listing)
    listing.set_defaults(command=_lazily("models", "list_models"))
    use = actions.add_parser("use", help="go back, or forward, to a version")
    use.add_argument("name")
    use.add_argument("version", type=int, help="number as 'model list' prints it")
    use.set_defaults(command=_lazily("models", "use"))
    export = actions.add_parser("export", help="write a Dafne .model file")
    export.add_argument("model")
    export.add_argument("target", type=Path)
    export.add_argument(
        "--by-slice",
        action="store_true",
        help="a two-dimensional model that Dafne calls slice by slice, not with volumes",
    )
    export.set_defaults(command=_lazily("models", "export"))
    importing = actions.add_parser("import", help="read a Dafne .model file; nothing is executed")
    importing.add_argument("source", type=Path)
    importing.add_argument("target", type=Path, help=".safetensors")
    importing.add_argument("--name", help="its name in the library")
    importing.set_defaults(command=_lazily("models", "import_model"))
    text = "models between the old and the new one of a job, with their exams"
    mix = actions.add_parser("mix", help=text, description=text)
    mix.add_argument("job", type=Path, help="folder of a finished job")
    mix.add_argument("--share", type=_share, help="of the new model, from 0 to 1")
    mix.add_argument("--out", type=Path, help="write the model with this share, .safetensors")
    _add_json(mix)
    mix.set_defaults(command=_lazily("mixing", "mix"))
    _add_adapters(actions)


def _add_adapters(actions: Any) -> None:  # noqa: ANN401
    text = "the model that an adapter makes of its base"
    applying = actions.add_parser("apply-adapter", help=text, description=text)
    applying.add_argument("base", help="file, or name in the library")
    applying.add_argument("adapter", type=Path, help=".safetensors that 'teach' wrote")
    applying.add_argument("--out", type=Path, required=True, help="new model, .safetensors")
    applying.set_defaults(command=_lazily("adapters", "apply"))
    text = "write an adapter as a folder for Hugging Face peft"
    export = actions.add_parser("export-adapter", help=text, description=text)
    export.add_argument("base", help="file, or name in the library")
    export.add_argument("adapter", type=Path, help=".safetensors that 'teach' wrote")
    export.add_argument("folder", type=Path)
    export.set_defaults(command=_lazily("adapters", "export"))
    text = "read a folder of Hugging Face peft as an adapter"
    importing = actions.add_parser("import-adapter", help=text, description=text)
    importing.add_argument("base", help="file, or name in the library")
    importing.add_argument("folder", type=Path)
    importing.add_argument("target", type=Path, help="adapter, .safetensors")
    importing.set_defaults(command=_lazily("adapters", "import_adapter"))


def _add_sharing(commands: Any) -> None:  # noqa: ANN401
    pull = _add(commands, "pull", "sharing", "fetch a model from a Dafne server")
    pull.add_argument("name")
    pull.add_argument("--server", required=True, metavar="URL")
    pull.add_argument("--out", type=Path, required=True, help=".safetensors")
    text = "examine what would replace OUT on the exam slices of this job folder"
    pull.add_argument("--job", type=Path, metavar="DIR", help=text)
    pull.add_argument(
        "--even-if-worse", action="store_true", help="replace OUT although the exam says worse"
    )
    push = _add(commands, "push", "sharing", "send the weights of a model to a Dafne server")
    push.add_argument("model")
    push.add_argument("--server", required=True, metavar="URL")
    push.add_argument("--name", required=True, help="name of the model on the server")
    push.add_argument("--exam", type=Path, help="exam.json of the job that made it")
    text = "examine what the server would make of it on the exam slices of this job folder"
    push.add_argument("--job", type=Path, metavar="DIR", help=text)
    _add_json(push)
    _add_outbox(commands)


def _add_outbox(commands: Any) -> None:  # noqa: ANN401
    text = "what waits to be shared, or to be merged"
    outbox = commands.add_parser("outbox", help=text, description=text)
    actions = outbox.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help=text)
    _add_json(listing)
    listing.set_defaults(command=_lazily("outbox", "list_items"))
    retrying = actions.add_parser("retry", help="send what waits, look for what was sent")
    retrying.add_argument("id", nargs="*", help="beginning of an id; all items without one")
    retrying.set_defaults(command=_lazily("outbox", "retry_items"))
    dropping = actions.add_parser("drop", help="remove an item; the model itself stays")
    dropping.add_argument("id", nargs="+", help="beginning of an id")
    dropping.set_defaults(command=_lazily("outbox", "drop_items"))
    receipts = _add(commands, "receipts", "outbox", "what was shared, and what became of it")
    _add_json(receipts)

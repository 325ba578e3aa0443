"""Commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from napari_dante.adapt.recipe import RECIPES
from napari_dante.adapt.training import Device
from napari_dante.cli.model_parser import add_models
from napari_dante.cli.options import (
    add,
    add_json,
    fraction,
    key_value,
    lazily,
    parse_label,
    parse_new_label,
    parse_slices,
)
from napari_dante.cli.serve_parser import add_serving
from napari_dante.cli.share_parser import add_sharing

__all__ = ["RECIPE", "CaseOption", "build_parser"]

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


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="napari-dante",
        description="Adapt a segmentation model to your own MRI scanner. "
        "Without a command, napari opens with the Dante panel.",
    )
    parser.add_argument("--version", action="version", version=version("napari-dante"))
    parser.set_defaults(command=lazily("viewer", "open_viewer"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_images(commands)
    _add_teaching(commands)
    add_models(commands)
    add_sharing(commands)
    add_serving(commands)
    demo = add(commands, "demo", "viewer", "the whole loop on a real sample, without a network")
    demo.add_argument("--headless", action="store_true", help="drive the window, then exit")
    demo.add_argument("--out", type=Path, help="folder for pictures and demo.json")
    return parser


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
    _add_info(commands)
    _add_predict(commands)
    _add_evaluate(commands)


def _add_info(commands: Any) -> None:  # noqa: ANN401
    info = add(commands, "info", "images", "what a file or DICOM folder is")
    info.add_argument("path", type=Path)
    add_json(info)

    convert = add(commands, "convert", "images", "to NIfTI, or labels to DICOM; geometry kept")
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


def _add_predict(commands: Any) -> None:  # noqa: ANN401
    predict = add(commands, "predict", "images", "segment an image")
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
    add_json(predict)


def _add_evaluate(commands: Any) -> None:  # noqa: ANN401
    evaluate = add(commands, "evaluate", "images", "compare a model with a reference")
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
    add_json(evaluate)


def _add_teaching(commands: Any) -> None:  # noqa: ANN401
    _add_teach(commands)
    _add_jobs(commands)


def _add_teach(commands: Any) -> None:  # noqa: ANN401
    teach = add(commands, "teach", "teaching", "adapt a model to corrected slices")
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
        type=key_value,
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
    teach.add_argument("--exam-fraction", type=fraction, default=0.3)
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
    add_json(teach)


def _add_jobs(commands: Any) -> None:  # noqa: ANN401
    job = add(commands, "run", "teaching", "run or resume a job folder")
    job.add_argument("job", type=Path)
    add_json(job)

    report = add(commands, "report", "reporting", "the report of a finished job")
    report.add_argument("job", type=Path)
    report.add_argument("--out", type=Path, required=True, help=".html, .csv or .json")
    report.add_argument(
        "--pictures",
        action="store_true",
        help="show three exam slices in the page, which then holds patient data",
    )

"""``model show``, ``list``, ``use``, ``export`` and ``import``."""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from napari_dante.cli.console import emit_json, say
from napari_dante.errors import ModelError
from napari_dante.files import sha256
from napari_dante.model.dafne import from_dafne, read_dafne, to_dafne, write_dafne
from napari_dante.model.file import read_header, read_model, write_model
from napari_dante.model.library import Library, number_of

__all__ = ["export", "import_model", "list_models", "show", "use"]


def show(options: Namespace) -> None:
    """Print what a model is."""
    path = Library().resolve(options.model)
    spec, lineage = read_header(path)
    data = {"spec": spec.to_json(), "lineage": asdict(lineage), "sha256": sha256(path)}
    if options.json:
        emit_json(data)
        return
    say(f"{lineage.name}: {spec.network} for {', '.join(label.name for label in spec.labels)}")
    say(f"voxels {' x '.join(f'{size:g}' for size in spec.spacing)} mm (z, y, x)")
    if lineage.card is not None:
        say(lineage.card.about())
        say(lineage.card.scores())
    say(f"made {lineage.created} by napari-dante {lineage.software}")
    if lineage.recipe:
        say(f"taught by {lineage.recipe['method']} from {str(lineage.parent)[:12]}")
    if lineage.exam:
        say(
            f"exam: mean Dice {lineage.exam['before']:.3f} → {lineage.exam['after']:.3f} on "
            f"{lineage.exam['slices']} slices, {lineage.exam['verdict']}"
        )


def list_models(options: Namespace) -> None:
    """Print the models on this computer and their versions."""
    library = Library()
    models = [_entry(library, name) for name in library.names()]
    if options.json:
        emit_json({"models": models})
        return
    for model in models:
        say(f"{model['name']}: {', '.join(model['labels'])}")
        for line in model["about"]:
            say(f"       {line}")
        for version in model["versions"]:
            mark = "*" if version["current"] else " "
            say(f" {mark} {version['number']:4d}  {version['created']}")


def _entry(library: Library, name: str) -> dict[str, Any]:
    current = library.resolve(name)
    spec, lineage = library.header(name)
    card = lineage.card
    versions = []
    for path in library.versions(name):
        _, made = read_header(path)
        number = number_of(path)
        versions.append({"number": number, "created": made.created, "current": path == current})
    return {
        "name": name,
        "labels": [label.name for label in spec.labels],
        "about": [] if card is None else [card.about(), card.scores()],
        "versions": versions,
    }


def use(options: Namespace) -> None:
    """Make a version the current one."""
    library = Library()
    for path in library.versions(options.name):
        if number_of(path) == options.version:
            library.use(options.name, path)
            say(f"{options.name} is at version {options.version} now.")
            return
    raise ModelError(f"'{options.name}' has no version {options.version}.")


def export(options: Namespace) -> None:
    """Write a Dafne ``.model`` file."""
    model = read_model(Library().resolve(options.model))
    write_dafne(options.target, to_dafne(model, by_slice=options.by_slice))


def import_model(options: Namespace) -> None:
    """Read a Dafne ``.model`` file without executing anything of it."""
    dafne = read_dafne(options.source)
    name = options.name or re.sub(r"[^A-Za-z0-9 ()-]+", "-", options.target.stem)
    write_model(options.target, from_dafne(dafne, name), half=False)

"""Take a trained run apart into the two starters, with their model cards.

    python -m training.export --run RUN --data DATA --out src/napari_dante/resources/models

Writes ``brain-tissue`` and ``brain-structures`` as ``.safetensors`` and ``.md``, after
measuring each on the heads that nothing learned from and in every simulated contrast.
``--unmeasured`` leaves that out, for a look before the training has ended.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import torch

from napari_dante.files import write_text
from napari_dante.model.card import Card
from napari_dante.model.file import Model, write_model
from napari_dante.model.segmenter import Segmenter
from training.cards import write_card
from training.evaluate import HELD_OUT, LEARNED, real_case
from training.network import STARTERS, split
from training.score import HEADLINE, Scores, headline, score
from training.sweep import sweep_cases

MARGIN = 1.25
"""How much more than about any measured head a model may be in doubt about a head."""


def measured(model: Model, data: Path) -> dict[str, Scores]:
    """Return the scores on real heads and in simulated contrasts, by what was measured."""
    segmenter = Segmenter(model, torch.device("cpu"))
    found = {}
    for name in (*HELD_OUT, *LEARNED):
        _, found[name] = score(segmenter, real_case(name, data))
        print(f"{model.lineage.name}: {name} {found[name]}", flush=True)
    for name, case in sweep_cases(data).items():
        _, found[f"{name} (simulated)"] = score(segmenter, case)
        print(f"{model.lineage.name}: {name}, simulated {found[f'{name} (simulated)']}", flush=True)
    return found


def carded(model: Model, scores: dict[str, Scores]) -> Model:
    """Return the model with its card: simulated contrasts only where there is no real one."""
    shown = [*HELD_OUT, *(f"{name} (simulated)" for name in ("PD", "FLAIR-like", "T2*"))]
    dice = {name: round(headline(scores[name]), 3) for name in shown if name in scores}
    doubt = round(MARGIN * max(one.doubt for one in scores.values()), 3)
    card = Card("head", "any contrast", HEADLINE[model.lineage.name], dice, doubt)
    return replace(model, lineage=replace(model.lineage, card=card))


def curve(run: Path) -> list[list[str]]:
    """Return the rows of a run's curve: step, seconds, loss, Dice of structures and tissues."""
    with (run / "curve.csv").open(newline="") as stream:
        return list(csv.reader(stream))


def main() -> None:
    """Write both starters."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--unmeasured", action="store_true")
    arguments = parser.parse_args()
    if not arguments.unmeasured and arguments.data is None:
        parser.error("--data says where the heads to measure are")
    state = torch.load(arguments.run / "last.pt", weights_only=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for starter in STARTERS:
        model = split(state["network"], starter)
        target = arguments.out / f"{starter.name}.safetensors"
        if not arguments.unmeasured:
            scores = measured(model, arguments.data)
            model = carded(model, scores)
            text = write_card(starter.name, scores, state["step"], curve(arguments.run))
            write_text(arguments.out / f"{starter.name}.md", text)
        write_model(target, model)
        print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB, {state['step']} steps")


if __name__ == "__main__":
    main()

"""The model cards of the starters, filled with what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.evaluate import HELD_OUT, LEARNED
from training.network import CHANNELS
from training.score import HEADLINE, Scores, headline
from training.starters import PEAK, SEED

__all__ = ["write_card"]

_WHAT = {
    "brain-tissue": "CSF, grey and white matter",
    "brain-structures": "17 structures of the brain, left and right joined,",
}

_CARD = """# {name}

Finds {what} in MRI of the head, whatever the contrast: a mask worth correcting on the first
click, and a start for teaching. `brain-tissue` and `brain-structures` are the same network
under two heads, trained together.

| | |
|---|---|
| network | MONAI `UNet`, {channels}, residual units, instance norm |
| file | float16 safetensors, under 5 MB |
| input | one volume of any contrast and orientation, brought to 2 mm and scaled |
| licence | BSD-3-Clause, like the code |

## Data
- **painted from**: whole-head label maps at 1 mm, by SAMSEG: two heads (one young, one
  elderly with wide ventricles) and MNI152, computed by us for training only; head `CSI1` of
  BOLD5000 (OpenNeuro ds001499, CC0).
- **real images, three samples in ten**: T1 of `CSI1`; T1 of MNI152 2009c with its tissue
  maps (McGill notice in `NOTICES.md`); four in ten of them with another contrast, by a random curve
  over their intensities. One sample in 25 shows no head, but shapes, and holds nothing.
- **only measured**, never learned from and never used to choose anything: head `CSI3` of
  BOLD5000 (image and labels), the T2 of MNI152, `itk_head_t1`.

## Recipe
    python -m training.starters --data DATA --minutes {minutes} --out RUN
    python -m training.export --run RUN --data DATA --out src/napari_dante/resources/models

After SynthSeg (Billot et al., Med. Image Anal. 2023); `training/generate.py` says what is
painted, and `docs/images/generated.png` shows it. Seed {seed}; {steps} steps of one 128 mm
cube, Muon for the kernels and AdamW for the rest, peak {peak:g}, cosine over the budget,
bfloat16, one CPU thread. A time budget decides the number of steps; `--steps {steps}`
instead is reproducible to the bit on one processor, and gives a similar network. The Dice
of the curve is over painted samples that are never learned.

| step | seconds | loss | structures | tissues |
|---|---|---|---|---|
{curve}

## Dice
Mean of {headline}, and of each. Made by the second command above.

| image | mean | each |
|---|---|---|
{dice}

{notes}
Simulated: the tissue map of `CSI3` with the signal equation, one brightness for each tissue,
so easier than a patient. The T1 of MNI152 was learned from, so its T2 is a new contrast, not a
new head. SAMSEG's labels are themselves the output of a program. MNI152 is
the average of many people, smoother than any patient; its tissue maps and SAMSEG's labels
of the same head agree only to a Dice of 0.69 for grey and 0.82 for white matter.

## Not for
Diagnosis. Children, tumours, strokes, surgery, contrast agents, other organs, CT: none of
them was among its heads.
"""


def write_card(
    name: str, scores: Mapping[str, Scores], steps: int, curve: Sequence[Sequence[str]]
) -> str:
    """Return the Markdown of a starter's card.

    Parameters
    ----------
    name
        ``brain-tissue`` or ``brain-structures``.
    scores
        What was measured, by the name of the image.
    steps
        How many training steps were done.
    curve
        Rows of step, seconds, loss and the two Dice, which only some rows have.
    """
    checked = [row for row in curve if row[3]]
    shown = checked[:: max(1, len(checked) // 8)]
    if checked and shown[-1] is not checked[-1]:
        shown.append(checked[-1])
    return _CARD.format(
        name=name,
        what=_WHAT[name],
        channels="-".join(str(width) for width in CHANNELS),
        minutes=round(float(curve[-1][1]) / 60),
        seed=SEED,
        peak=PEAK,
        steps=steps,
        headline=HEADLINE[name],
        curve="\n".join(_row(row) for row in shown),
        dice="\n".join(
            _row([title, f"{headline(one):.3f}", _each(one)]) for title, one in scores.items()
        ),
        notes="\n".join(f"{key}: {what}." for key, what in {**HELD_OUT, **LEARNED}.items()),
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _each(scores: Scores) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in scores.dice.items())

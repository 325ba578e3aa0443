"""Train the starter model ``brain-tissue-t1`` and write its model card.

    python training/brain_tissue_t1.py --data DATA [--minutes 30] [--out DIR]

DATA holds ``mni152_2mm/{t1,t2,tissue}.nii.gz`` and ``bold5000_csi1``, ``bold5000_csi3``,
each with ``t1.nii.gz`` and ``labels.nii.gz``. It learns from the T1 of MNI152 and of
``csi1``; ``csi3`` and the T2 of MNI152 are only measured. A rerun with ``--resume`` goes
on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import set_track_meta
from numpy.typing import NDArray

from napari_dante.adapt.loss import trusted_dice_ce
from napari_dante.adapt.patches import Grid, PatchSampler
from napari_dante.model.card import Card
from napari_dante.model.file import Lineage, Model, write_model
from napari_dante.model.grids import normalise_head, resample_image, resampled_shape
from napari_dante.model.inference import predict_volume
from napari_dante.model.network import build_network
from napari_dante.model.precision import autocast
from napari_dante.model.spec import ArchitectureSpec
from napari_dante.volume import Label, LabelMap, Volume, read_nifti, read_nifti_labels

log = logging.getLogger("training")

SPEC = ArchitectureSpec(
    network="UNet",
    arguments={
        "channels": [16, 32, 64, 128],
        "strides": [2, 2, 2],
        "num_res_units": 2,
        "norm": ["INSTANCE", {"affine": True}],
    },
    labels=(
        Label("CSF", (0.337, 0.706, 0.914)),
        Label("grey matter", (0.902, 0.624, 0.0)),
        Label("white matter", (0.8, 0.475, 0.655)),
    ),
    spacing=(2.0, 2.0, 2.0),
    patch=(64, 64, 64),
)
MODEL_ID = "3f1c1d3e-5a0e-4d0b-9d55-0d6f7f3b7a11"
# FreeSurfer ids: ventricles, choroid plexus and CSF; cortex, cerebellar cortex and deep
# grey nuclei; white matter, cerebellar white matter, brain stem, ventral DC, callosum.
TISSUES = {
    1: (4, 43, 5, 44, 14, 15, 24, 31, 63, 72),
    2: (3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58),
    3: (2, 41, 7, 46, 16, 28, 60, 77, 85, 251, 252, 253, 254, 255),
}
BATCH, PEAK, WARMUP, SEED = 4, 2e-3, 50, 20261120


def tissues(labels: LabelMap) -> NDArray[np.uint8]:
    """Map FreeSurfer ids to CSF, grey and white matter."""
    out = np.zeros(labels.array.shape, np.uint8)
    for value, ids in TISSUES.items():
        out[np.isin(labels.array, ids)] = value
    return out


def to_grid(volume: Volume, labels: NDArray[np.uint8]) -> Grid:
    """Bring one head to the model's grid; every voxel is trusted."""
    shape = resampled_shape(volume.array.shape, volume.geometry.spacing, SPEC.spacing)
    nearest = torch.nn.functional.interpolate(
        torch.from_numpy(labels.astype(np.float32))[None, None], size=shape, mode="nearest-exact"
    )
    return Grid(
        image=resample_image(normalise_head(volume.array), shape),
        labels=nearest[0, 0].numpy().astype(np.uint8),
        trusted=np.ones(shape, bool),
    )


def dice(mask: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Return the Dice of each tissue."""
    return {
        label.name: round(
            float(
                2 * ((mask == k) & (truth == k)).sum() / ((mask == k).sum() + (truth == k).sum())
            ),
            3,
        )
        for k, label in enumerate(SPEC.labels, start=1)
    }


def train(network: torch.nn.Module, sampler: PatchSampler, minutes: float, checkpoint: Path) -> int:
    """Train for a time budget with cosine decay; return the number of steps."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK, weight_decay=1e-4)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    begin = time.monotonic() - spent
    while (spent := time.monotonic() - begin) < minutes * 60:
        decay = 0.5 * (1 + math.cos(math.pi * spent / (minutes * 60)))
        for group in optimiser.param_groups:
            group["lr"] = PEAK * min(1.0, (step + 1) / WARMUP) * decay + 1e-6
        patches = [sampler.draw(step * BATCH + index) for index in range(BATCH)]
        with autocast(torch.device("cpu")):
            logits = network(torch.stack([patch.image for patch in patches]))
        loss = trusted_dice_ce(
            logits,
            torch.stack([patch.labels for patch in patches]),
            torch.stack([patch.trusted for patch in patches]),
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            log.info("step %d, %.0f s, loss %.3f", step, spent, float(loss))
            torch.save(
                {
                    "network": network.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step,
                    "spent": spent,
                },
                checkpoint,
            )
    return step


def measure(network: torch.nn.Module, data: Path) -> dict[str, dict[str, float]]:
    """Return the Dice on the learned heads, the held-out head and the T2."""
    network.eval()
    mni = read_nifti_labels(data / "mni152_2mm/tissue.nii.gz").array
    heads = {
        "MNI152 T1 (learned)": (data / "mni152_2mm/t1.nii.gz", mni),
        "MNI152 T2 (other contrast, not learned)": (data / "mni152_2mm/t2.nii.gz", mni),
        **{
            f"BOLD5000 {name} T1 ({note})": (
                data / f"bold5000_{name}/t1.nii.gz",
                tissues(read_nifti_labels(data / f"bold5000_{name}/labels.nii.gz")),
            )
            for name, note in (("csi1", "learned"), ("csi3", "held out"))
        },
    }
    found = {}
    for title, (path, truth) in heads.items():
        volume = read_nifti(path)
        prediction = predict_volume(
            network,
            volume.array,
            volume.geometry.spacing,
            target_spacing=SPEC.spacing,
            patch=SPEC.patch,
        )
        found[title] = dice(prediction.classes, truth)
        log.info("%s: %s", title, found[title])
    return found


def card(results: dict[str, dict[str, float]]) -> Card:
    """Return the card: grey and white matter on the heads that were not learned from."""
    found = {
        contrast: round((results[head]["grey matter"] + results[head]["white matter"]) / 2, 3)
        for contrast, head in (
            ("T1", "BOLD5000 csi3 T1 (held out)"),
            ("T2", "MNI152 T2 (other contrast, not learned)"),
        )
    }
    return Card("head", "T1 only", "grey and white matter", found)


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("training/runs/brain-tissue-t1"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    set_track_meta(False)
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.out / "last.pt"
    if not arguments.resume:
        checkpoint.unlink(missing_ok=True)

    data = arguments.data
    mni, csi1 = data / "mni152_2mm", data / "bold5000_csi1"
    grids = [
        to_grid(
            read_nifti(mni / "t1.nii.gz"),
            read_nifti_labels(mni / "tissue.nii.gz").array.astype(np.uint8),
        ),
        to_grid(read_nifti(csi1 / "t1.nii.gz"), tissues(read_nifti_labels(csi1 / "labels.nii.gz"))),
    ]
    network = build_network(SPEC)
    steps = train(
        network, PatchSampler(grids, SPEC.patch, "strong", SEED), arguments.minutes, checkpoint
    )
    results = measure(network, data)
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    lineage = Lineage("brain-tissue-t1", MODEL_ID, card=card(results))
    write_model(arguments.out / "brain-tissue-t1.safetensors", Model(SPEC, weights, lineage))
    report = {"steps": steps, "minutes": arguments.minutes, "seed": SEED, "dice": results}
    (arguments.out / "results.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

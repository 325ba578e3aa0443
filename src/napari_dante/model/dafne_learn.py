"""What a Dafne client calls to let a model learn from corrected volumes.

Its text is a generated Dafne ``incremental_learn`` function; see :mod:`.dafne_source`. It
is plain fine-tuning within a bounded time, and what does not get better is taken back.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from napari_dante.model.dafne_apply import display_order
from napari_dante.model.grids import normalise, resample_image, working_shape

STEPS = 120
SECONDS = 300.0
RATE = 1e-3


def learn(
    network: torch.nn.Module,
    data: Mapping[str, Any],
    outputs: Mapping[int, Any] | Sequence[Any],
    labels: Sequence[str],
    spacing: Sequence[float],
    patch: Sequence[int],
    normalisation: str = "head",
    flipped: Sequence[int] = (),
    *,
    minimum: int = 1,
) -> bool:
    """Fine-tune a network on the volumes that Dafne hands over; tell whether it got better.

    Parameters
    ----------
    network
        With its weights loaded; they change in place, or stay as they were.
    data
        ``image_list``, arrays (Z, X, Y) of the slices that hold a structure; ``affine``,
        one 4x4 for each, of the arrays as (X, Y, Z); without it ``resolution`` (X, Y, Z).
    outputs
        For each image {structure: mask}, in a list or a dictionary by number.
    labels, spacing, patch, normalisation, flipped
        Of the model, see :func:`napari_dante.model.dafne_apply.segment`.
    minimum
        With fewer volumes nothing is learned.
    """
    masks = [outputs[index] for index in range(len(data["image_list"]))]
    cases = [
        learning_case(
            np.moveaxis(np.asarray(image), 0, -1),
            case_affine(data, index),
            {name: np.moveaxis(np.asarray(mask), 0, -1) for name, mask in masks[index].items()},
            labels,
            (spacing, patch, normalisation, flipped),
        )
        for index, image in enumerate(data["image_list"])
    ]
    cases = [case for case in cases if (case[1] > 0).any()]
    if not cases or len(cases) < minimum:
        return False
    device = next(network.parameters()).device
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first = judged(network, cases, patch, device)
    fit(network, cases, patch, device)
    better = judged(network, cases, patch, device) < first
    if not better:
        network.load_state_dict(before)
    network.eval()
    return better


def case_affine(data: Mapping[str, Any], index: int) -> np.ndarray:
    """Return the affine of one volume, from its resolution where it has none."""
    affine = data.get("affine")
    if affine is None:
        return np.diag([*list(data["resolution"])[:3], 1.0])
    return np.asarray(affine[index] if np.ndim(affine) == 3 else affine, dtype=np.float64)


def learning_case(
    image: np.ndarray,
    affine: np.ndarray,
    masks: Mapping[str, np.ndarray],
    labels: Sequence[str],
    grid: Sequence[Any],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return image (1, z, y, x) and class numbers (z, y, x) on the network's grid."""
    spacing, patch, normalisation, flipped = grid
    order = display_order(affine)
    axes = [axis for axis, _ in order]
    flips = tuple(slice(None, None, -1 if turned else 1) for _, turned in order)
    voxel = np.linalg.norm(affine[:3, :3], axis=0)[axes].tolist()
    classes = np.zeros(image.shape, np.uint8)
    for name, mask in masks.items():
        # Dafne's laterality: the left and the right part of one structure.
        whole = name if name in labels else name.removesuffix("_L").removesuffix("_R")
        if whole in labels:
            classes[mask > 0] = list(labels).index(whole) + 1
    shown = np.ascontiguousarray(image.transpose(axes)[flips])
    shape = working_shape(shown.shape, voxel, spacing, patch)
    scaled = resample_image(normalise(shown, normalisation), shape)
    nearest = [
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for old, new in zip(shown.shape, shape, strict=True)
    ]
    truth = classes.transpose(axes)[flips][np.ix_(*nearest)]
    missing = [(0, max(0, edge - size)) for size, edge in zip(shape, patch, strict=True)]
    scaled = np.pad(np.flip(scaled, tuple(flipped)), missing, constant_values=scaled.min())
    truth = np.pad(np.flip(truth, tuple(flipped)), missing)
    return torch.from_numpy(scaled.copy())[None], torch.from_numpy(truth.copy()).long()


def drawn(
    cases: Sequence[tuple[torch.Tensor, torch.Tensor]],
    patch: Sequence[int],
    random: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a patch (1, 1, z, y, x) around a voxel of a structure, and its classes."""
    image, truth = cases[int(random.integers(len(cases)))]
    places = torch.nonzero(truth)
    centre = places[int(random.integers(len(places)))].tolist()
    corner = []
    for middle, edge, size in zip(centre, patch, truth.shape, strict=True):
        shift = int(random.integers(-edge // 4, edge // 4 + 1))
        corner.append(min(max(0, middle - edge // 2 + shift), size - edge))
    box = tuple(slice(start, start + edge) for start, edge in zip(corner, patch, strict=True))
    return image[(slice(None), *box)][None], truth[box][None]


def disagreement(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy plus one minus soft Dice of the classes that are there."""
    shares = torch.softmax(logits.float(), dim=1)
    wanted = torch.nn.functional.one_hot(truth, logits.shape[1]).movedim(-1, 1).float()
    axes = (0, 2, 3, 4)
    overlap = (shares * wanted).sum(axes)
    dice = (2 * overlap + 1) / (shares.sum(axes) + wanted.sum(axes) + 1)
    there = wanted.sum(axes) > 0
    entropy = torch.nn.functional.cross_entropy(logits.float(), truth)
    result: torch.Tensor = entropy + 1 - dice[there].mean()
    return result


def judged(
    network: torch.nn.Module,
    cases: Sequence[tuple[torch.Tensor, torch.Tensor]],
    patch: Sequence[int],
    device: torch.device,
) -> float:
    """Return the mean disagreement on the same few patches each time."""
    random = np.random.default_rng(1)
    network.eval()
    with torch.inference_mode():
        found = [
            float(disagreement(network(image.to(device)), truth.to(device)))
            for image, truth in (drawn(cases, patch, random) for _ in range(8))
        ]
    return float(np.mean(found))


def fit(
    network: torch.nn.Module,
    cases: Sequence[tuple[torch.Tensor, torch.Tensor]],
    patch: Sequence[int],
    device: torch.device,
) -> None:
    """Take the steps; batch normalisation keeps its statistics."""
    random, begin = np.random.default_rng(0), time.monotonic()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=RATE)
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    for step in range(STEPS):
        if time.monotonic() - begin > SECONDS:
            return
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        image, truth = drawn(cases, patch, random)
        loss = disagreement(network(image.to(device)), truth.to(device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()

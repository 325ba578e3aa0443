"""What a Dafne client calls: a volume in any axis order in, one mask for each label out.

Its text is part of a generated Dafne ``apply`` function; see :mod:`.dafne_source`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from napari_dante.model.inference import predict_volume

__all__ = ["display_order", "segment"]


def display_order(affine: np.ndarray) -> list[tuple[int, bool]]:
    """Return which array axis is shown on each display axis, and whether it is flipped.

    The display axes (z, y, x) run towards superior, posterior and left. Each array axis
    goes to the anatomical axis that it is closest to, the clearest first, after shear is
    removed (the rotation of the polar decomposition).

    Parameters
    ----------
    affine
        4x4, array index to RAS+ mm.
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    directions = np.round(columns / np.linalg.norm(columns, axis=0), 5)
    left, _, right = np.linalg.svd(directions / np.sqrt((directions**2).sum(axis=0)))
    rotation = left @ right
    order = [(0, False)] * 3
    for axis in np.argsort(-np.square(rotation).max(axis=0), kind="stable").tolist():
        world = int(np.abs(rotation[:, axis]).argmax())
        forwards = bool(rotation[world, axis] > 0)
        order[2 - world] = (axis, forwards != (world == 2))
        rotation[world] = 0.0
    return order


def segment(
    network: torch.nn.Module,
    data: Mapping[str, Any],
    labels: Sequence[str],
    spacing: Sequence[float],
    patch: Sequence[int],
    normalisation: str = "head",
    flipped: Sequence[int] = (),
) -> dict[str, np.ndarray]:
    """Segment one volume as Dafne hands it over.

    Parameters
    ----------
    network
        With its weights loaded.
    data
        ``image`` (any axis order), ``affine`` (4x4, index to RAS+ mm) or, without it,
        ``resolution`` (mm along the array axes).
    labels
        Names of the output channels 1, 2, …
    spacing, patch, normalisation, flipped
        What the network expects, see :class:`napari_dante.model.spec.ArchitectureSpec`.

    Returns
    -------
    dict of str to numpy.ndarray
        uint8 masks of 0 and 1 in the shape and axis order of ``image``.
    """
    image = np.asarray(data["image"])
    affine = data.get("affine")
    if affine is None:
        affine = np.diag([*list(data["resolution"])[:3], 1.0])
    affine = np.asarray(affine, dtype=np.float64)
    order = display_order(affine)
    axes = [axis for axis, _ in order]
    flips = tuple(slice(None, None, -1 if flipped else 1) for _, flipped in order)
    voxel = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    network.eval()
    prediction = predict_volume(
        network,
        np.ascontiguousarray(image.transpose(axes)[flips]),
        [voxel[axis] for axis in axes],
        target_spacing=spacing,
        patch=patch,
        normalisation=normalisation,
        flipped=flipped,
    )
    channels = prediction.classes[flips].transpose(np.argsort(axes))
    return {
        name: np.ascontiguousarray(channels == number).astype(np.uint8)
        for number, name in enumerate(labels, start=1)
    }

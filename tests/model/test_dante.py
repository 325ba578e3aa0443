"""Dante's models open from their description, and predict and go back as they were."""

from __future__ import annotations

import uuid
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks import nets
from torch import nn

from napari_dante.errors import ModelError
from napari_dante.model.dafne import DafneModel, from_dafne, read_dafne, to_dafne, write_dafne
from napari_dante.model.dante import dante_layout
from napari_dante.model.network import build_network, load_weights
from tests.federated.tiny import volume

CODE = "def apply(model_obj, data):\n    raise SystemExit\n"


class Static(nn.Module):
    """The module around a U-Net that Dante writes."""

    def __init__(self, dimensions: int, levels: int, out: int) -> None:
        super().__init__()
        strides: list[tuple[int, ...]] = [(1,) * dimensions]
        for level in range(1, levels):
            flat = (2, 2) if dimensions == 2 else (2, 2, 2) if level <= 2 else (1, 2, 2)
            strides.append(flat)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.unet_model = nets.UNet(
                spatial_dims=dimensions, in_channels=1, out_channels=out,
                channels=[32 * 2**level for level in range(levels)], strides=strides,
                num_res_units=2, kernel_size=3, norm="INSTANCE",
            )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.unet_model(x)
        return result


class Dynamic(nn.Module):
    """The module around a DynUNet that Dante writes."""

    def __init__(self, kernels: Any, strides: Any, out: int) -> None:
        super().__init__()
        self.dyn_unet = nets.DynUNet(
            spatial_dims=3, in_channels=1, out_channels=out, kernel_size=kernels,
            strides=strides, upsample_kernel_size=strides[1:], deep_supervision=False,
            norm_name=("INSTANCE", {"affine": True}), res_block=True,
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.dyn_unet(x)
        return result


KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 1]]
COMMON = {"in_channels": 1, "out_channels": 3, "labels_name": ["VL", "RF"]}
NETWORKS: dict[str, tuple[nn.Module, dict[str, Any]]] = {}
torch.manual_seed(0)
for levels in (3, 4):
    NETWORKS[f"3D U-Net of {levels} levels"] = (
        Static(3, levels, 3),
        COMMON
        | {
            "spatial_dims": 3,
            "use_dynamic": False,
            "n_levels": levels,
            "kernel_size": 3,
            "patch_size": [8, 16, 32],
            "median_spacing": np.array([3.0, 1.5, 2.0], np.float16),
        },
    )
NETWORKS["2D U-Net"] = (
    Static(2, 3, 3),
    COMMON
    | {
        "spatial_dims": 2,
        "use_dynamic": False,
        "n_levels": 3,
        "kernel_size": 3,
        "patch_size": [16, 32],
        "median_spacing": [3.0, 1.5, 2.0],
    },
)
NETWORKS["DynUNet"] = (
    Dynamic(KERNELS, STRIDES, 3),
    COMMON
    | {
        "spatial_dims": 3,
        "use_dynamic": True,
        "kernels": KERNELS,
        "strides": STRIDES,
        "patch_size": [8, 16, 32],
        "median_spacing": np.array([3.0, 1.5, 2.0], np.float16),
    },
)


def dante(name: str, orientation: str | None = None) -> DafneModel:
    network, net = NETWORKS[name]
    metadata: dict[str, Any] = {"net_metadata": net, "train_metadata": {"epochs": 3}}
    metadata["ewc_data"] = {"fisher": {"a": np.ones(3)}}
    if orientation is not None:
        metadata["orientation"] = orientation
    return DafneModel(
        model_id=uuid.UUID(int=7),
        kind="DynamicTorchModel",
        dimensionality=net["spatial_dims"],
        timestamp=5,
        weights=dict(network.state_dict()),
        metadata=metadata,
        sources={"apply_model_function": CODE, "init_model_function": CODE},
        extra={"more": [1]},
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("orientation", "runs"),
    [(None, "IRP"), ("axial", "IRP"), ("Sagittal", "RPS"), ("coronal", "PRI")],
)
def test_a_dante_network_computes_the_same_in_our_axes(
    tmp_path: Path, name: str, orientation: str | None, runs: str
) -> None:
    path = tmp_path / "dante.model"
    write_dafne(path, dante(name, orientation))
    model = from_dafne(read_dafne(path), "Thigh")
    spec = model.spec
    assert [label.name for label in spec.labels] == ["VL", "RF"]
    assert spec.normalisation == "nonzero"
    where = ["SIPALR".index(letter) // 2 for letter in runs]
    assert [spec.spacing[axis] for axis in where] == [3.0, 1.5, 2.0]
    expected_patch = [1, 16, 32] if spec.slice_axis is not None else [8, 16, 32]
    assert [spec.patch[axis] for axis in where] == expected_patch
    assert spec.flipped == tuple(sorted(where[i] for i in range(3) if runs[i] not in "SPL"))

    ours = build_network(spec)
    load_weights(ours, {key: torch.from_numpy(value) for key, value in model.weights.items()})
    image = torch.from_numpy(volume((16, 32, 24)))
    turned = image.permute(where).flip([i for i in range(3) if runs[i] not in "SPL"])
    theirs = NETWORKS[name][0].eval()
    with torch.inference_mode():
        seen = image.flip(spec.flipped)[None, None]
        found = ours.eval()(seen)[0].flip([axis + 1 for axis in spec.flipped])
        if spec.slice_axis is None:
            expected = theirs(turned[None, None])[0]
        else:
            expected = torch.stack([theirs(plane[None, None])[0] for plane in turned], dim=1)
        expected = expected.flip([i + 1 for i in range(3) if runs[i] not in "SPL"])
    found = found.permute(0, *(axis + 1 for axis in where))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_update_of_a_dante_model_is_the_same_file_with_other_weights(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "dante.model"
    write_dafne(path, dante(name, "sagittal"))
    base = read_dafne(path)
    model = from_dafne(base, "Thigh")
    same = to_dafne(model, base)
    assert list(same.weights) == list(base.weights)
    assert all(torch.equal(same.weights[key], value) for key, value in base.weights.items())
    assert same.sources == {"apply_model_function": CODE, "init_model_function": CODE}
    assert same.metadata is base.metadata
    assert same.extra == {"more": [1]}
    assert same.model_id == uuid.UUID(int=7)
    taught = replace(model, weights={key: value * 2 for key, value in model.weights.items()})
    for key, value in to_dafne(taught, base).weights.items():
        assert torch.equal(value, base.weights[key] * 2)


@pytest.mark.parametrize(
    "change",
    [
        {"labels_name": ["a", "b", "c"]},
        {"n_levels": 4},
        {"n_levels": 10**9},
        {"kernel_size": 5},
        {"in_channels": 2},
        {"out_channels": 4},
        {"out_channels": 10**9},
        {"median_spacing": [1.0]},
        {"median_spacing": None},
        {"patch_size": [0, 1, 1]},
        {"use_dynamic": True},
        {"labels_name": None},
        {"spatial_dims": 2},
    ],
)
def test_a_description_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    good = dante("3D U-Net of 3 levels")
    net = good.metadata["net_metadata"] | change
    with pytest.raises(ModelError):
        from_dafne(replace(good, metadata={"net_metadata": net}), "Thigh")


def test_what_dante_has_not_made_has_no_layout() -> None:
    assert dante_layout({}) is None
    assert dante_layout({"net_metadata": [1]}) is None

"""Models between two models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_dante.adapt.mix import mixed
from napari_dante.errors import ModelError
from napari_dante.model.file import Model


def other(model: Model) -> Model:
    random = np.random.default_rng(1)
    return replace(
        model,
        weights={
            key: value + random.normal(size=value.shape).astype(value.dtype)
            for key, value in model.weights.items()
        },
    )


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 1))
def test_every_weight_lies_between_and_mixing_backwards_is_the_same(
    model: Model, share: float
) -> None:
    new = other(model)
    one, back = mixed(model, new, share), mixed(new, model, 1 - share)
    for key, value in one.weights.items():
        low = np.minimum(model.weights[key], new.weights[key])
        high = np.maximum(model.weights[key], new.weights[key])
        assert ((value >= low - 1e-6) & (value <= high + 1e-6)).all()
        assert np.allclose(value, back.weights[key], atol=1e-6)
        assert value.dtype == new.weights[key].dtype


def test_the_ends_are_the_models_themselves(model: Model) -> None:
    new = other(model)
    for share, whole in ((0.0, model), (1.0, new)):
        weights = mixed(model, new, share).weights
        assert all(np.array_equal(value, weights[key]) for key, value in whole.weights.items())


def test_only_versions_of_one_network_are_mixed(model: Model) -> None:
    key, value = next((key, value) for key, value in model.weights.items() if value.ndim > 1)
    wider = replace(model, weights={**model.weights, key: np.concatenate([value, value])})
    for strange in (wider, replace(model, weights={})):
        with pytest.raises(ModelError, match="same network"):
            mixed(model, strange, 0.5)
    with pytest.raises(ModelError, match="between zero and one"):
        mixed(model, other(model), 1.5)

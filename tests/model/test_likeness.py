"""A mask of something else than a head is refused; what is in doubt of nothing is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_dante.errors import ModelError
from napari_dante.model.card import Card
from napari_dante.model.inference import Prediction, doubt_about
from napari_dante.model.likeness import check_likeness, largest_share

CARD = Card("head", "any contrast", "tissues", {}, doubt=0.3)
TWO = (2.0, 2.0, 2.0)


def said(classes: np.ndarray, doubt: float = 0.1) -> Prediction:
    return Prediction(classes.astype(np.uint8), None, None, doubt)


def brain(size: int = 50) -> np.ndarray:
    classes = np.zeros((90, 90, 90), np.uint8)
    classes[20 : 20 + size, 20 : 20 + size, 20 : 20 + size] = 1
    classes[25:40, 25:40, 25:40] = 2
    return classes


def test_a_brain_passes() -> None:
    check_likeness(CARD, said(brain()), TWO)


def test_an_empty_mask_is_an_answer() -> None:
    check_likeness(CARD, said(np.zeros((5, 5, 5)), doubt=0.9), TWO)


@pytest.mark.parametrize("card", [None, replace(CARD, doubt=None)])
def test_a_model_without_a_limit_is_not_checked(card: Card | None) -> None:
    check_likeness(card, said(brain(), doubt=0.9), TWO)


def pieces() -> np.ndarray:
    classes = np.zeros((90, 90, 90), np.uint8)
    classes[::9, ::9, ::9] = 1
    classes[::9, 1::9, ::9] = 1
    return classes


@pytest.mark.parametrize(
    ("found", "spacing"),
    [
        pytest.param(said(brain(), doubt=0.31), TWO, id="in doubt"),
        pytest.param(said(brain()), (3.0, 3.0, 3.0), id="too large"),
        pytest.param(said(pieces()), TWO, id="in pieces"),
    ],
)
def test_what_is_no_head_is_refused_in_a_sentence(
    found: Prediction, spacing: tuple[float, float, float]
) -> None:
    with pytest.raises(ModelError, match="does not look like a head"):
        check_likeness(CARD, found, spacing)


def test_pieces_are_the_same_on_a_finer_grid() -> None:
    classes = brain(30)
    classes[70:80, 70:80, 70:80] = 1
    fine = classes.repeat(4, axis=0).repeat(4, axis=1)
    assert largest_share(classes, TWO) == pytest.approx(27 / 28)
    assert largest_share(fine, (0.5, 0.5, 2.0)) == pytest.approx(27 / 28)


def test_doubt_is_the_entropy_of_what_is_found() -> None:
    import torch

    sure = torch.zeros(3, 2, 2, 2)
    sure[0] = 1
    assert doubt_about(sure) == 0
    sure[:, 0, 0, 0] = torch.tensor([0.0, 0.5, 0.5])
    assert doubt_about(sure) == pytest.approx(np.log(2) / np.log(3))
    sure[:, 0, 0, 1] = torch.tensor([0.0, 0.0, 1.0])
    assert doubt_about(sure) == pytest.approx(np.log(2) / np.log(3) / 2)

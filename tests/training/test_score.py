"""The figures of a model card are the Dice that they say they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training.anatomy import STRUCTURES, TISSUES, classes_of
from training.cards import write_card
from training.contrast import SEQUENCES
from training.export import carded
from training.network import STARTERS, Starter, split
from training.score import Case, Scores, headline, references, score
from training.starters import both_heads
from training.sweep import simulated

from napari_dante.model.file import Model
from napari_dante.model.network import build_network
from napari_dante.model.segmenter import Segmenter
from napari_dante.volume import LabelMap


def model_of(starter: Starter) -> Model:
    torch.manual_seed(3)
    return split(build_network(both_heads((4, 6, 8))).state_dict(), starter)


def test_tissues_take_in_what_structures_keep_apart(labels: LabelMap) -> None:
    truth = references(labels)
    assert truth["tissue:white matter"].sum() == (labels.array == 41).sum()
    grey = np.isin(labels.array, (3, 49, 12, 53))
    assert np.array_equal(truth["tissue:grey matter"], grey)
    assert np.array_equal(truth["cortex"], labels.array == 3)
    assert np.array_equal(truth["thalamus"], labels.array == 49)
    assert len(truth) == len(STRUCTURES) + len(TISSUES)


@pytest.mark.parametrize("starter", STARTERS, ids=lambda starter: starter.name)
def test_a_model_that_is_right_scores_one(starter: Starter, labels: LabelMap) -> None:
    """The truth is what the model says; then a structure is taken out of the truth."""
    model = Segmenter(model_of(starter), torch.device("cpu"))
    image = np.random.default_rng(0).normal(size=(16, 18, 20))
    mask = model.predict(image, (2.0, 2.0, 2.0))
    names = [label.name for label in starter.labels]
    prefix = "tissue:" if starter.name == "brain-tissue" else ""
    truth = {prefix + name: mask == value for value, name in enumerate(names, start=1)}
    found, scores = score(model, Case(image, (2.0, 2.0, 2.0), truth))
    assert np.array_equal(found, mask)
    assert len(scores.dice) >= 2
    assert set(scores.dice.values()) == {1.0}
    missed = next(iter(scores.dice))
    truth[prefix + missed] = np.zeros_like(mask, bool)
    assert score(model, Case(image, (2.0, 2.0, 2.0), truth))[1].dice[missed] == 0


def test_the_headline_leaves_out_csf() -> None:
    assert headline(Scores({"CSF": 0.1, "grey matter": 0.8, "white matter": 0.9})) == pytest.approx(
        0.85
    )


def test_a_simulated_head_has_its_contrast_and_is_its_own(labels: LabelMap) -> None:
    classes = classes_of(labels.array)
    white, fluid = labels.array == 41, labels.array == 24
    for name, brighter in (("T1", white), ("T2", fluid), ("FLAIR-like", white)):
        first, again = (
            simulated(classes, SEQUENCES[name], np.random.default_rng(4)) for _ in range(2)
        )
        assert np.array_equal(first, again)
        assert np.isfinite(first).all()
        darker = fluid if brighter is white else white
        assert first[brighter].mean() > 1.3 * first[darker].mean()


def test_a_card_tells_all_that_was_measured_and_promises_what_was_not_learned() -> None:
    scores = {
        "T1": Scores({"grey matter": 0.8, "white matter": 0.9, "CSF": 0.3}),
        "T1 (learned)": Scores({"grey matter": 0.95, "white matter": 0.97}),
        "PD (simulated)": Scores({"grey matter": 0.7, "white matter": 0.7}),
        "T1 (simulated)": Scores({"grey matter": 0.9, "white matter": 0.9}),
    }
    curve = [[str(step), "1", "2.0", "", ""] for step in range(100, 500, 100)]
    curve.append(["500", "5", "1.5", "0.6000", "0.7000"])
    text = write_card("brain-tissue", scores, 500, curve)
    for title, one in scores.items():
        assert f"| {title} | {headline(one):.3f} |" in text
    assert "| 500 | 5 | 1.5 | 0.6000 | 0.7000 |" in text
    assert "--steps 500" in text
    card = carded(model_of(STARTERS[0]), scores).lineage.card
    assert card is not None
    assert card.dice == {"T1": 0.85, "PD (simulated)": 0.7}

"""The rules of merging, and what the server's own exam makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_dante.errors import ModelError
from napari_dante.federated.aggregate import best_share, federated_average, median
from napari_dante.federated.server import publish, rollback
from napari_dante.federated.server.merge import MOST_CASES, Merger
from napari_dante.federated.server.store import Store
from napari_dante.federated.server.uploads import Upload, Uploads
from napari_dante.model.dafne import DafneModel, read_dafne, to_dafne, write_dafne
from napari_dante.model.file import Model
from napari_dante.model.merging import average
from napari_dante.model.segmenter import Segmenter
from napari_dante.volume import Geometry, write_nifti
from tests.federated.tiny import SPEC, affine, tiny_model, volume

NAME = "Tiny head"
numbers = st.lists(st.floats(-1e6, 1e6, width=32, allow_nan=False), min_size=3, max_size=3).map(
    lambda values: {"w": torch.tensor(values), "n": torch.tensor([int(values[0])])}
)


@given(numbers, numbers)
def test_equal_cases_are_a_plain_mean_and_order_does_not_matter(
    one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]
) -> None:
    mean = federated_average([one, two], [3, 3])
    assert torch.allclose(mean["w"], (one["w"] + two["w"]) / 2)
    assert mean["n"].dtype == torch.int64
    swapped = federated_average([two, one], [3, 3])
    assert torch.allclose(mean["w"], swapped["w"], rtol=1e-6, atol=1e-3)


@given(numbers, numbers, st.integers(1, 9))
def test_nobody_is_left_of_whom_all_the_cases_are_not(
    one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], cases: int
) -> None:
    assert torch.equal(federated_average([one, two], [cases, 0])["w"], one["w"])


@given(numbers, st.integers(1, 2), numbers)
def test_a_minority_cannot_lead_the_median_away(
    honest: dict[str, torch.Tensor], liars: int, lie: dict[str, torch.Tensor]
) -> None:
    found = median([honest] * 3 + [lie] * liars)
    assert torch.equal(found["w"], honest["w"])
    assert torch.equal(found["n"], honest["n"])


def test_the_best_share_is_the_exams_and_of_equals_the_smallest() -> None:
    old, new = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    wanted = best_share(old, new, lambda weights: -abs(float(weights["w"]) - 0.8))
    assert (wanted.share, round(wanted.dice, 3)) == (0.75, -0.05)
    assert best_share(old, new, lambda weights: 1.0).share == 0.25


class Bench:
    """A store and a merger without a network."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.first = to_dafne(tiny_model(0))
        publish(data, NAME, self.first)
        self.store = Store(data)
        self.uploads = Uploads(self.store)
        self.merger = Merger(self.store)

    def send(self, model: DafneModel | Model, cases: int | None = None) -> Upload:
        dafne = model if isinstance(model, DafneModel) else to_dafne(model)
        received = self.uploads.receive(NAME)
        write_dafne(self.data / "sent.model", dafne)
        received.write((self.data / "sent.model").read_bytes())
        received.finish()
        upload = self.uploads.add(NAME, "anna", received, cases, None)
        assert upload is not None
        return upload

    def merge(self, model: DafneModel | Model, cases: int | None = None) -> Upload:
        upload = self.send(model, cases)
        assert self.merger.step()
        found = self.uploads.get(upload.id)
        assert found is not None
        return found

    def weights(self) -> dict[str, torch.Tensor]:
        latest = self.store.latest(NAME)
        assert latest is not None
        return read_dafne(self.store.path(NAME, latest)).weights

    def validate(self, model: Model, case: str = "one") -> None:
        """Put down a case of which `model` is the truth."""
        folder = self.data / "validation" / NAME / case
        folder.mkdir(parents=True)
        image = volume((20, 18, 22), seed=len(case))
        geometry = Geometry.from_affine(image.shape, affine("RAS", (1.0, 1.5, 2.0)))
        mask = Segmenter(model, torch.device("cpu")).predict(
            geometry.to_display(image), geometry.spacing
        )
        assert set(np.unique(mask)) == {0, 1, 2}
        write_nifti(folder / "image.nii.gz", geometry.to_display(image), geometry)
        labels = dict(enumerate(SPEC.labels, start=1))
        write_nifti(folder / "labels.nii.gz", mask, geometry, labels)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path / "server")
    with closing(found.store):
        yield found


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, two[key]) for key, value in one.items())


def test_by_cases_an_update_counts_as_it_was_taught_but_not_without_bounds(bench: Bench) -> None:
    bench.store.set_rule(NAME, "cases")
    old, new = bench.weights(), to_dafne(tiny_model(1)).weights
    assert bench.merge(tiny_model(1), cases=10).state == "merged"
    half = federated_average([old, new], [1, 1])
    assert same(bench.weights(), half), "the first one is as usual"
    newer = to_dafne(tiny_model(2)).weights
    bench.merge(tiny_model(2), cases=30)
    assert same(bench.weights(), federated_average([half, newer], [10, 30]))
    before = bench.weights()
    bench.merge(tiny_model(3), cases=9999)
    usual = bench.uploads.usual_cases(NAME)
    assert usual is not None
    shares = [one.share for one in bench.store.versions(NAME)]
    assert shares[-1] == MOST_CASES / (MOST_CASES + 1)
    assert not same(bench.weights(), before)
    bench.merge(tiny_model(4))
    assert bench.store.versions(NAME)[-1].share == 0.5, "who says nothing gives half"


def test_what_makes_the_model_worse_is_rejected_and_says_so(bench: Bench) -> None:
    bench.validate(tiny_model(0))
    before = bench.weights()
    found = bench.merge(tiny_model(1))
    assert found.state == "rejected"
    assert found.reason.startswith("It would make the model worse on the server's own cases (1)")
    assert "1.000 → 0." in found.reason
    assert same(bench.weights(), before)
    assert bench.uploads.quarantine(found).is_file()
    (version,) = bench.store.versions(NAME)
    assert version.dice == 1.0
    events = [entry["event"] for entry in bench.store.database.audit()]
    assert events[-3:] == ["merge begun", "examined", "rejected"]


def test_what_makes_it_better_is_merged_and_examined_once(bench: Bench) -> None:
    bench.validate(tiny_model(1))
    found = bench.merge(tiny_model(1))
    assert found.state == "merged"
    first, second = bench.store.versions(NAME)
    assert first.dice is not None
    assert second.dice is not None
    assert first.dice < second.dice
    assert found.dice == second.dice
    assert same(bench.weights(), average(bench.first.weights, to_dafne(tiny_model(1)).weights, 0.5))
    bench.validate(tiny_model(1), "another")
    bench.merge(tiny_model(1, "x"))
    third = bench.store.versions(NAME)[1]
    assert third.exam != second.exam, "with other cases it is another exam"


def test_examined_takes_the_share_that_does_best(bench: Bench) -> None:
    bench.store.set_rule(NAME, "examined")
    bench.validate(tiny_model(1))
    assert bench.merge(tiny_model(1)).state == "merged"
    latest = bench.store.versions(NAME)[-1]
    assert latest.share == 1.0
    assert latest.dice == 1.0
    assert same(bench.weights(), to_dafne(tiny_model(1)).weights)


def test_an_exam_that_cannot_be_read_lets_nothing_pass_and_loses_nothing(bench: Bench) -> None:
    folder = bench.data / "validation" / NAME / "broken"
    folder.mkdir(parents=True)
    (folder / "image.nii.gz").write_bytes(b"no image")
    upload = bench.send(tiny_model(1))
    assert bench.merger.step()
    assert not bench.merger.step(), "it is not tried over and over"
    found = bench.uploads.get(upload.id)
    assert found is not None
    assert found.state == "waiting"
    assert "could not merge it yet" in found.reason
    (folder / "image.nii.gz").unlink()
    folder.rmdir()
    assert bench.merger.again()
    assert bench.merger.step()
    assert len(bench.store.versions(NAME)) == 2


def test_going_back_is_a_new_version_with_the_old_weights(bench: Bench) -> None:
    bench.merge(tiny_model(1))
    first, second = bench.store.versions(NAME)
    with pytest.raises(ModelError, match="no version 7"):
        rollback(bench.data, NAME, "7")
    stamp = rollback(bench.data, NAME, str(first.timestamp))
    third = bench.store.versions(NAME)[-1]
    assert str(third.timestamp) == stamp
    assert third.origin == "rollback"
    assert third.base == second.timestamp < third.timestamp
    assert same(bench.weights(), bench.first.weights)
    assert read_dafne(bench.store.path(NAME, third)).timestamp == third.timestamp
    bench.merge(tiny_model(2))
    assert same(bench.weights(), average(bench.first.weights, to_dafne(tiny_model(2)).weights, 0.5))
    trail = [entry for entry in bench.store.database.audit() if entry["event"] == "rolled back"]
    assert [entry["to"] for entry in trail] == [first.timestamp]


def interrupted(bench: Bench, meanwhile: Callable[[], object]) -> None:
    """Let something happen between the arithmetic of a merge and its end, the first time."""
    original, entered = bench.merger._average, []

    def average_and_wait(*arguments: Any) -> Any:
        result = original(*arguments)
        if not entered:
            entered.append(True)
            meanwhile()
        return result

    bench.merger._average = average_and_wait  # type: ignore[method-assign]


def test_two_mergers_make_every_update_count_once(bench: Bench) -> None:
    bench.send(tiny_model(1))
    bench.send(tiny_model(2))
    other = Merger(bench.store)
    interrupted(bench, lambda: (other.step(), other.step()))
    assert bench.merger.step()
    assert not bench.merger.step()
    weights = bench.first.weights
    for seed in (1, 2):
        weights = average(weights, to_dafne(tiny_model(seed)).weights, 0.5)
    assert same(bench.weights(), weights)
    assert len(bench.store.versions(NAME)) == 3
    events = [entry["event"] for entry in bench.store.database.audit()]
    assert "merge failed" not in events


def test_a_merge_that_is_overtaken_starts_again_from_the_new_version(bench: Bench) -> None:
    first = bench.store.versions(NAME)[0]
    bench.merge(tiny_model(1))
    interrupted(bench, lambda: rollback(bench.data, NAME, str(first.timestamp)))
    bench.merge(tiny_model(2))
    assert same(bench.weights(), average(bench.first.weights, to_dafne(tiny_model(2)).weights, 0.5))
    bases = [one.base for one in bench.store.versions(NAME)]
    stamps = [one.timestamp for one in bench.store.versions(NAME)]
    assert bases == [None, *stamps[:-1]], "every version was made from the one before it"


def test_the_trail_cannot_be_changed(bench: Bench) -> None:
    before = bench.store.database.audit_lines()
    for statement in ("DELETE FROM audit", "UPDATE audit SET event = 'nothing'"):
        with pytest.raises(Exception, match="only appended to"):
            bench.store.database.run(statement)
    assert bench.store.database.audit_lines() == before
    assert all(json.loads(line)["time"] for line in before)


def test_a_name_is_taken_once_and_a_rule_is_a_known_one(bench: Bench) -> None:
    with pytest.raises(ModelError, match="already has"):
        publish(bench.data, NAME, bench.first)
    with pytest.raises(ModelError, match="no model 'Other'"):
        bench.store.set_rule("Other", "half")
    with pytest.raises(ModelError, match="one of these rules"):
        bench.store.set_rule(NAME, "best")  # type: ignore[arg-type]
    nan = {
        key: torch.full_like(value, torch.nan)
        for key, value in bench.first.weights.items()
        if value.is_floating_point()
    }
    with pytest.raises(ModelError, match="not finite"):
        publish(bench.data, "New", replace(bench.first, weights=bench.first.weights | nan))
    assert bench.store.names() == [NAME]

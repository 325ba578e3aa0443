"""Steps in pieces, samples drawn ahead, and nothing of it changes what is learned."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from napari_dante.adapt.patches import Patch
from napari_dante.adapt.step import (
    Feeder,
    NotFinite,
    Squeeze,
    backward,
    clip,
    is_out_of_memory,
)
from napari_dante.errors import TeachError

CPU = torch.device("cpu")


def patch(number: int, shape: tuple[int, int, int] = (4, 6, 8)) -> Patch:
    random = torch.Generator().manual_seed(number)
    return Patch(
        image=torch.randn(1, *shape, generator=random),
        labels=torch.randint(0, 3, shape, generator=random),
        trusted=torch.rand(shape, generator=random) < 0.5,
    )


def test_samples_come_in_order_and_any_step_can_be_asked_for() -> None:
    drawn: list[int] = []
    threads: set[int] = set()

    def draw(number: int) -> Patch:
        drawn.append(number)
        threads.add(threading.get_ident())
        return patch(number)

    feeder = Feeder(draw, 2)
    for step in (0, 1, 5, 2):
        for sample, number in zip(feeder.samples(step), (2 * step, 2 * step + 1), strict=True):
            assert torch.equal(sample.image, patch(number).image)
    feeder.close()
    assert drawn.count(2) == 1
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_rehearsed_samples_come_beside_the_others_and_change_none() -> None:
    alone, beside = Feeder(patch, 2), Feeder(patch, 2, lambda number: patch(100 + number), 1)
    for step in (0, 3):
        first, second, third = beside.samples(step)
        for sample, other in zip((first, second), alone.samples(step), strict=True):
            assert torch.equal(sample.image, other.image)
        assert torch.equal(third.image, patch(100 + step).image)
    alone.close()
    beside.close()


def test_an_error_while_drawing_is_not_lost() -> None:
    def draw(number: int) -> Patch:
        raise OSError(28, "full")

    feeder = Feeder(draw, 1)
    with pytest.raises(OSError, match="full"):
        feeder.samples(0)
    feeder.close()


def test_one_at_a_time_adds_up_the_gradients_of_the_samples() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    samples = [patch(number) for number in range(2)]
    squeeze = Squeeze()
    assert [len(piece) for piece in squeeze.pieces(samples)] == [2]
    assert squeeze.tighter() == "batch"
    pieces = squeeze.pieces(samples)
    assert [len(piece) for piece in pieces] == [1, 1]
    loss = backward(pieces, network, CPU)
    together = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    alone = [backward([piece], network, CPU) for piece in pieces]
    for one, other in zip(together, network.parameters(), strict=True):
        assert other.grad is not None
        assert torch.allclose(one, other.grad / 2, atol=1e-6)
    assert loss == pytest.approx(sum(alone) / 2)


def test_a_cut_patch_keeps_what_is_trusted() -> None:
    sample = patch(0, (64, 96, 48))
    trusted = torch.zeros(64, 96, 48, dtype=torch.bool)
    trusted[50, 80, 10] = True
    sample = Patch(sample.image, sample.labels, trusted)
    squeeze = Squeeze()
    assert [squeeze.tighter(), squeeze.tighter()] == ["batch", "patch"]
    for shape in [(64, 32, 48), (32, 32, 48)]:
        (cut,) = squeeze.pieces([sample])[0]
        assert cut.labels.shape == shape
        assert cut.image.shape == (1, *shape)
        assert cut.trusted.sum() == 1
        where = tuple(int(index) for index in cut.trusted.nonzero()[0])
        assert cut.labels[where] == sample.labels[50, 80, 10]
        assert cut.image[0][where] == sample.image[0, 50, 80, 10]
        squeeze.tighter()
    with pytest.raises(TeachError, match="not enough memory"):
        squeeze.pieces([sample])


def test_features_are_never_cut() -> None:
    sample = Patch(torch.zeros(8, 32, 32, 32), torch.zeros(64, 64, 64), torch.ones(64, 64, 64) > 0)
    squeeze = Squeeze()
    squeeze.tighter()
    squeeze.tighter()
    with pytest.raises(TeachError, match="not enough memory"):
        squeeze.pieces([sample])


def test_what_is_not_finite_is_noticed() -> None:
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    with pytest.raises(NotFinite):
        backward([[patch(0)]], lambda image: network(image) * torch.nan, CPU)
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, torch.inf])
    with pytest.raises(NotFinite):
        clip([parameter], 1.0)
    parameter.grad = torch.tensor([30.0, 40.0])
    clip([parameter, torch.nn.Parameter(torch.ones(1))], 1.0)
    assert torch.allclose(parameter.grad, torch.tensor([0.6, 0.8]))


def test_out_of_memory_is_told_from_other_errors() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_teacher_speaks_where_nobody_corrected() -> None:
    torch.manual_seed(0)
    network, teacher = (torch.nn.Conv3d(1, 3, 3, padding=1) for _ in range(2))
    plain = backward([[patch(0)]], network, CPU)
    taught = backward([[patch(0)]], network, CPU, teacher, 0.5)
    assert taught > plain
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_an_earlier_case_has_the_weight_of_its_number_not_of_its_voxels() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    few, many = patch(0), replace(patch(1), earlier=True)
    few = replace(few, trusted=few.trusted & (torch.arange(8) == 3))
    alone = [backward([[sample]], network, CPU) for sample in (few, few, many)]
    together = backward([[few, few, many]], network, CPU)
    assert together == pytest.approx(sum(alone) / 3, abs=1e-5)

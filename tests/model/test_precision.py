"""A precision is used only where a convolution in it was seen to come out right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from napari_dante.model import precision as module
from napari_dante.model.precision import autocast, convolves_rightly, precision

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
convolution = torch.nn.functional.conv3d


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    precision.cache_clear()
    yield
    precision.cache_clear()


def card(monkeypatch: pytest.MonkeyPatch, *, bf16: bool, right: bool = True) -> None:
    """Pretend that there is a CUDA card."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(module, "convolves_rightly", lambda device, dtype: right)


def broken(monkeypatch: pytest.MonkeyPatch, result: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Let convolutions in another precision than float32 go wrong."""

    def convolve(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = convolution(image, kernel)
        return found if found.dtype == torch.float32 else result(found)

    monkeypatch.setattr(torch.nn.functional, "conv3d", convolve)


def unsupported(found: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("not implemented for 'BFloat16'")


def test_this_processor_convolves_rightly_in_bfloat16() -> None:
    assert convolves_rightly(CPU, torch.bfloat16)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(unsupported, id="raises"),
        pytest.param(lambda found: found * torch.nan, id="no number"),
        pytest.param(lambda found: found / 0, id="infinite"),
        pytest.param(lambda found: found * 1.05, id="off"),
        pytest.param(torch.zeros_like, id="nothing"),
    ],
)
def test_a_wrong_convolution_means_float32(
    monkeypatch: pytest.MonkeyPatch, result: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    monkeypatch.setattr(module, "cpu_has_fast_bf16", lambda: True)
    assert precision(CPU) == torch.bfloat16
    precision.cache_clear()
    broken(monkeypatch, result)
    assert precision(CPU) == torch.float32


def test_the_probe_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.device] = []
    monkeypatch.setattr(module, "cpu_has_fast_bf16", lambda: True)
    monkeypatch.setattr(module, "convolves_rightly", lambda device, _: not calls.append(device))
    assert [precision(torch.device("cpu")) for _ in range(3)] == [torch.bfloat16] * 3
    assert calls == [CPU]


@pytest.mark.parametrize(
    ("bf16", "right", "expected"),
    [
        (True, True, torch.bfloat16),
        (False, True, torch.float16),
        (True, False, torch.float32),
        (False, False, torch.float32),
    ],
)
def test_a_card_without_bfloat16_takes_float16(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, right: bool, expected: torch.dtype
) -> None:
    card(monkeypatch, bf16=bf16, right=right)
    assert precision(CUDA) == expected


def test_processors_and_apple_never_take_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in (True, False):
        precision.cache_clear()
        monkeypatch.setattr(module, "cpu_has_fast_bf16", lambda fast=fast: fast)
        assert precision(CPU) == (torch.bfloat16 if fast else torch.float32)
        assert precision(MPS) == torch.float32


@pytest.mark.parametrize(
    ("dtype", "float16", "expected"),
    [
        (torch.bfloat16, False, torch.bfloat16),
        (torch.bfloat16, True, torch.bfloat16),
        (torch.float32, True, torch.float32),
        (torch.float16, True, torch.float16),
        (torch.float16, False, torch.float32),
    ],
)
def test_float16_is_only_for_who_can_do_with_it(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, float16: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(module, "precision", lambda device: dtype)
    with autocast(CPU, float16=float16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


@pytest.mark.gpu
def test_a_real_card_passes_its_probe() -> None:
    assert precision(CUDA) != torch.float32
    with autocast(CUDA, float16=True):
        product = torch.ones(2, 2, device=CUDA) @ torch.ones(2, 2, device=CUDA)
    assert product.dtype == precision(CUDA)

"""Silence in many threads at once, and everything as it was afterwards."""

from __future__ import annotations

import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom import config

from napari_dante.volume.quiet import quietly


def state() -> tuple[object, ...]:
    return (
        warnings.filters[:],
        warnings.showwarning,
        logging.getLogger("pydicom").disabled,
        config.settings.reading_validation_mode,
        config.settings.writing_validation_mode,
    )


def tell() -> None:
    # Warnings are errors in the tests: one that is not silenced ends the test here.
    warnings.warn("a patient's name", stacklevel=1)
    logging.getLogger("pydicom").error("a patient's name")


def test_a_thread_that_leaves_does_not_end_the_silence_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = state()
    inside, first_left = threading.Event(), threading.Event()

    def second() -> None:
        with quietly():
            inside.set()
            assert first_left.wait(10)
            tell()

    with ThreadPoolExecutor(1) as pool:
        with quietly():
            running = pool.submit(second)
            assert inside.wait(10)
        first_left.set()
        running.result()
    assert state() == before
    assert caplog.text == ""
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_many_threads_leave_everything_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    before = state()
    barrier = threading.Barrier(8)

    def work(_: int) -> None:
        for _ in range(20):
            barrier.wait()
            with quietly():
                tell()
                with quietly():
                    tell()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert state() == before
    assert caplog.text == ""


def test_an_error_inside_ends_the_silence() -> None:
    before = state()
    with pytest.raises(KeyError), quietly():
        raise KeyError
    assert state() == before

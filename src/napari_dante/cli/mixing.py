"""``model mix``."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from napari_dante.cli.console import emit_json, say
from napari_dante.errors import ModelError
from napari_dante.jobs.mixing import SHARES, examine_mixtures, write_mixture

__all__ = ["mix"]


def mix(options: Namespace) -> None:
    """Print the exams of mixtures, or write one of them."""
    if options.out is None:
        _table(options)
        return
    if options.share is None:
        raise ModelError("Say with --share how much of the new model the mixture shall have.")
    report = write_mixture(options.job, options.share, options.out)
    if options.json:
        emit_json({"share": options.share, "exam": report.to_json() if report else None})
        return
    say(report.sentence if report else "No slice was set aside, so there is no exam.")
    if report and report.earlier_sentence:
        say(report.earlier_sentence)


def _table(options: Namespace) -> None:
    shares = SHARES if options.share is None else (options.share,)
    mixtures = examine_mixtures(options.job, shares)
    if options.json:
        emit_json({"mixtures": [asdict(mixture) for mixture in mixtures]})
        return
    say("share of the new model   Dice on the exam   Dice on earlier cases")
    for one in mixtures:
        say(f"{one.share:22.2f}   {_number(one.exam):>16}   {_number(one.earlier):>21}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

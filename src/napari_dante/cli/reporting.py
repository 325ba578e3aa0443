"""``report``."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from napari_dante.jobs.comparison import compare
from napari_dante.jobs.folder import JobFolder
from napari_dante.jobs.reporting import pictures_of, report_of, write_run

__all__ = ["report"]


def report(options: Namespace) -> None:
    """Write the report of a finished job."""
    job = JobFolder(options.job)
    found = report_of(job)
    if options.pictures:
        found = replace(found, pictures=pictures_of(compare(job)))
    write_run(options.out, found)

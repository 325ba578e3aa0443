"""The command line: the same core without a screen.

Exit status 0 on success, 1 with one sentence on standard error for a refusal, 2 for wrong
usage. With ``--json`` one JSON object, and nothing else, goes to standard output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from napari_dante.cli.console import complain
from napari_dante.cli.parser import build_parser
from napari_dante.errors import DanteError
from napari_dante.jobs.client import MPS_FALLBACK

__all__ = ["main", "run"]


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        status: int | None = options.command(options)
    except DanteError as error:
        complain(error)
        return 1
    except OSError as error:
        # The name of the file stays out of it: it may be that of a patient.
        complain(DanteError(f"A file could not be read or written: {error.strerror}."))
        return 1
    except MemoryError:
        complain(DanteError("There is not enough memory for this; close other programs."))
        return 1
    except KeyboardInterrupt:
        return 130
    return status or 0


def main() -> None:
    """Run the command given on the command line, and exit."""
    os.environ.setdefault(*MPS_FALLBACK)
    sys.exit(run(sys.argv[1:]))

"""A lesson of one image, from Teach to the decision. Qt-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_dante.evaluate.report import ExamReport
from napari_dante.jobs.folder import JobFolder
from napari_dante.ui.compare import Overlays
from napari_dante.ui.session import Session
from napari_dante.ui.work import Taught

__all__ = ["Lesson"]


@dataclass(frozen=True, eq=False)
class Lesson:
    """A job of one session; once it is done, with what came of it and what is laid over it."""

    session: Session
    folder: Path
    model: Path
    result: Taught | None = None
    overlays: Overlays | None = None

    @property
    def job(self) -> JobFolder:
        """Its files."""
        return JobFolder(self.folder)

    @property
    def own_code(self) -> bool:
        """Whether the model learns by the code inside its file."""
        return self.model.suffix == ".model"

    @property
    def taught(self) -> bool:
        """Whether it is done."""
        return self.result is not None

    @property
    def report(self) -> ExamReport | None:
        """Its exam, None before it is done or where no slice was set aside."""
        return self.result.report.exam if self.result is not None else None

"""Every way in which napari-dante refuses, in one tree.

::

    DanteError
    ├── VolumeError        an image or label file that cannot be used as it is
    │   └── SeriesChoice   several volumes where one was asked for
    ├── ModelError         a model file that is not one, or does not fit
    │   ├── UnsafeFile     a file that asks for code to be run
    │   └── ForeignCode    a model that only the code inside its file can build
    ├── TeachError         nothing to learn from, or learning failed
    ├── JobError           the background process or its folder failed
    └── ShareError         the server refused, answered nonsense or is not there
        ├── Outdated       the server went on since the model was checked against it
        ├── Unreachable    the connection failed before all was sent; later may do
        └── Uncertain      nobody knows whether the server has what was sent

``sentence`` is for the person at the workstation; ``detail`` is for the log. Neither
holds a patient's name, a path or a DICOM tag that could identify anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "DanteError",
    "ForeignCode",
    "JobError",
    "ModelError",
    "Outdated",
    "SeriesChoice",
    "ShareError",
    "TeachError",
    "Uncertain",
    "Unreachable",
    "UnsafeFile",
    "VolumeError",
]


class DanteError(Exception):
    """A refusal that a clinician can read.

    Parameters
    ----------
    sentence
        One plain sentence: what is wrong and, where there is one, the way out.
    detail
        What a developer needs to know, for the log only.
    """

    def __init__(self, sentence: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.detail = detail


class VolumeError(DanteError):
    """An image or label file that cannot be used as it is."""


class SeriesChoice(VolumeError):
    """Several volumes where one was asked for; ``ids`` are the possible choices."""

    def __init__(self, sentence: str, ids: Sequence[str], detail: str = "") -> None:
        super().__init__(sentence, detail)
        self.ids = tuple(ids)


class ModelError(DanteError):
    """A model file that is not one, or that does not fit what it is used for."""


class UnsafeFile(ModelError):
    """A file that asks for code to be run; nothing of it was executed."""


class ForeignCode(ModelError):
    """A model whose network only the code inside its file can build; it was not run."""


class TeachError(DanteError):
    """Nothing to learn from, or learning failed; the old model is unchanged."""


class JobError(DanteError):
    """The background process or its folder failed."""


class ShareError(DanteError):
    """The server refused, answered nonsense or is not there; nothing was lost."""


class Outdated(ShareError):
    """The server has a newer version than the one that the model was checked against."""


class Unreachable(ShareError):
    """The connection failed before everything was sent: the server cannot have it."""


class Uncertain(ShareError):
    """Everything was sent and no answer came that says whether the server has it."""

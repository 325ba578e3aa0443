"""A network that was fitted to a set of cases, as a value that travels as JSON. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_dante.errors import JobError
from napari_dante.model.spec import ArchitectureSpec

__all__ = ["Configuration"]


@dataclass(frozen=True)
class Configuration:
    """A network that fits, and how it is trained.

    Attributes
    ----------
    spec
        The network.
    batch
        Patches in a step.
    step_bytes
        Estimated memory of a step.
    sentence
        What was chosen and why, for the person.
    """

    spec: ArchitectureSpec
    batch: int
    step_bytes: int
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; :meth:`from_json` gives an equal configuration back."""
        return {
            "spec": self.spec.to_json(),
            "batch": self.batch,
            "step_bytes": self.step_bytes,
            "sentence": self.sentence,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Configuration:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        JobError
            If an entry is missing or has the wrong form.
        """
        try:
            return cls(
                ArchitectureSpec.from_json(data["spec"]),
                int(data["batch"]),
                int(data["step_bytes"]),
                str(data["sentence"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise JobError("The network of this job is damaged.", detail=repr(error)) from error

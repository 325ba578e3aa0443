"""Frozen dataclasses as single lines of JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from napari_dante.errors import JobError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["dump", "load"]

T = TypeVar("T")


def dump(value: DataclassInstance, tag: str) -> str:
    """Return `value` as one line of JSON without a line end; `tag` names its class."""
    return json.dumps({tag: type(value).__name__, **asdict(value)})


def load(line: str | bytes, tag: str, kinds: Mapping[str, type[T]]) -> T:
    """Read what :func:`dump` wrote; lists become tuples.

    Raises
    ------
    JobError
        If the line is not one of `kinds`.
    """
    try:
        data: dict[str, Any] = json.loads(line)
        kind = kinds[data.pop(tag)]
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return kind(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JobError(
            "The viewer and the background process do not understand each other.",
            detail=f"{tag}: {error!r}",
        ) from error

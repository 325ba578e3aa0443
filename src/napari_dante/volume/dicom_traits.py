"""What tells the pictures of one series apart: echo, b-value, phase, time and the like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["ALWAYS", "WHERE_REPEATED", "Traits", "Value", "told", "traits", "words_of"]

Value = float | str | tuple[Any, ...] | None
Traits = Mapping[str, Value]

ALWAYS = ("component", "echo time", "b-value", "stack")
"""Pictures that differ in one of these never belong to one volume."""

WHERE_REPEATED = (
    "time point",
    "trigger",
    "acquisition",
    "echo",
    "direction",
    "inversion time",
    "flip angle",
    "kind",
    "sequence",
)
"""These may differ from slice to slice; they divide a series where positions repeat."""

_COMPONENTS = {
    "M": "magnitude",
    "MAGNITUDE": "magnitude",
    "P": "phase",
    "PHASE": "phase",
    "R": "real",
    "REAL": "real",
    "I": "imaginary",
    "IMAGINARY": "imaginary",
}
_KINDS = {
    "W": "water",
    "WATER": "water",
    "F": "fat",
    "FAT": "fat",
    "IP": "in phase",
    "IN_PHASE": "in phase",
    "OP": "opposed phase",
    "OPP_PHASE": "opposed phase",
    "OUT_PHASE": "opposed phase",
}


def traits(placed: Mapping[str, Any]) -> Traits:
    """Return the traits of a picture from its tags; None where a tag is absent."""

    def number(tag: str, digits: int = 3) -> float | None:
        value = placed.get(tag)
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = value[0] if value else None
        return None if value is None or value == "" else round(float(value), digits)

    words = words_of(placed.get("ImageType"))
    gradient = placed.get("DiffusionGradientOrientation")
    return {
        "component": _component(placed, words),
        "echo time": number("EchoTime"),
        "b-value": number("DiffusionBValue", 1),
        "stack": str(placed["StackID"]) if placed.get("StackID") else None,
        "time point": number("TemporalPositionIdentifier"),
        "trigger": number("TriggerTime"),
        "acquisition": number("AcquisitionNumber"),
        "echo": number("EchoNumbers"),
        "direction": tuple(round(float(part), 4) for part in gradient) if gradient else None,
        "inversion time": number("InversionTime"),
        "flip angle": number("FlipAngle"),
        "kind": tuple(words),
        "sequence": str(placed["SequenceName"]) if placed.get("SequenceName") else None,
    }


def words_of(value: str | Sequence[object] | None) -> list[str]:
    """Return the words of a CS tag such as ImageType."""
    parts = [value] if isinstance(value, str) else list(value or ())
    return [str(part).upper() for part in parts]


def _component(placed: Mapping[str, Any], words: list[str]) -> str | None:
    stated = str(placed.get("ComplexImageComponent") or "").upper()
    if stated in _COMPONENTS:
        return _COMPONENTS[stated]
    # The first two words say ORIGINAL or DERIVED, PRIMARY or SECONDARY.
    for word in words[2:]:
        first = word.replace(" ", "_").split("_")[0]
        if first in _COMPONENTS and word not in _KINDS:
            return _COMPONENTS[first]
    return None


def _kind(value: Value) -> str | None:
    words = value if isinstance(value, tuple) else ()
    return next((_KINDS[word] for word in words[2:] if word in _KINDS), None)


def _unit(before: str, after: str = "") -> Callable[[Value], str | None]:
    def tell(value: Value) -> str | None:
        return f"{before}{value:g}{after}" if isinstance(value, float) else None

    return tell


_TOLD: dict[str, Callable[[Value], str | None]] = {
    "component": lambda value: value if isinstance(value, str) else None,
    "echo time": _unit("TE ", " ms"),
    "b-value": _unit("b "),
    "time point": _unit("time point "),
    "trigger": _unit("trigger ", " ms"),
    "phase": _unit("cardiac phase "),
    "acquisition": _unit("acquisition "),
    "echo": _unit("echo "),
    "inversion time": _unit("TI ", " ms"),
    "flip angle": _unit("flip angle ", " degrees"),
    "kind": _kind,
}


def told(trait: str, value: Value, known: Sequence[Value]) -> str:
    """Return a trait in words that hold no free text of the file.

    Parameters
    ----------
    trait
        Its name.
    value
        Its value.
    known
        All values of the series in their order: what has no words of its own is told by
        its number among them.
    """
    words = _TOLD[trait](value) if trait in _TOLD else None
    if words is not None:
        return words
    return f"without {trait}" if value is None else f"{trait} {known.index(value) + 1}"

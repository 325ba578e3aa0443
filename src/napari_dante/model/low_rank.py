"""How a change of a weight is written as the product of two thin matrices. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from napari_dante.errors import TeachError

__all__ = ["Layout", "LowRank", "Role", "Scaling", "one_of"]

Layout = Literal["kernel_in", "per_tap"]
Scaling = Literal["alpha/r", "rank-stabilised"]
Role = Literal["encoder", "decoder", "head"]
"""Parts of a network; the bottleneck belongs to the encoder."""


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Size and scale of low-rank updates.

    Attributes
    ----------
    rank
        Rank r of the update, capped where its factors would hold more than half as many
        numbers as the layer; a layer that then has room for none is trained whole.
    alpha
        With `scaling` and `rank` the factor before every update, capped or not.
    scaling
        ``"alpha/r"`` (Hu et al., ICLR 2022) or ``"rank-stabilised"``: alpha/√r, which
        keeps the size of a step when the rank changes (Kalajdzievski 2023,
        arXiv:2312.03732).
    layout
        ``"kernel_in"``: one factor over kernel and input channels, the PEFT layout;
        ``"per_tap"``: factors for each kernel tap, Dante's layout.
    """

    rank: int = 16
    alpha: float = 32.0
    scaling: Scaling = "alpha/r"
    layout: Layout = "kernel_in"

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise TeachError("'rank' and 'alpha' must be greater than zero.")
        one_of("scaling", self.scaling, Scaling)
        one_of("layout", self.layout, Layout)

    @property
    def scale(self) -> float:
        """The factor before the product."""
        divisor: float = self.rank if self.scaling == "alpha/r" else self.rank**0.5
        return self.alpha / divisor


def one_of(name: str, value: str, literal: Any) -> None:  # noqa: ANN401
    """Refuse a value that is not one of a ``Literal``.

    Raises
    ------
    TeachError
        With all the values that there are.
    """
    if value not in get_args(literal):
        raise TeachError(f"'{name}' must be one of: {', '.join(get_args(literal))}.")

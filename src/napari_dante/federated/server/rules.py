"""The rules by which a model on the server can be merged. Torch-free.

``half`` is Dafne's own: half of the old version, half of the update. ``cases`` weighs an
update by how many cases it was taught, ``examined`` by what the server's exam says.
:mod:`napari_dante.federated.aggregate` has the arithmetic.
"""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["RULES", "Rule"]

Rule = Literal["half", "cases", "examined"]
RULES: tuple[Rule, ...] = get_args(Rule)

"""What is laid over an image while a new model waits for a decision. Qt-free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_dante.evaluate.colours import MISTAKES
from napari_dante.evaluate.mistakes import GRADES, Mistake
from napari_dante.jobs.comparison import Comparison, When
from napari_dante.jobs.folder import JobFolder
from napari_dante.ui.layers import labels_kwargs
from napari_dante.ui.session import Session
from napari_dante.volume import Label

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["ERRORS", "ERRORS_KEY", "HOLD_KEY", "OLD_MASK", "Overlays"]

ERRORS_KEY, HOLD_KEY = "O", "D"
ERRORS = {"before": "Errors of the old model", "after": "Errors of the new model"}
OLD_MASK = "Old model"
WORDS = {
    Mistake.MISSED: "missed",
    Mistake.EXTRA: "too much",
    Mistake.CONFUSED: "another structure",
}


FAINTEST = 0.2
"""Opacity of the mistakes nearest to the right outline; the gravest are opaque."""


class Overlays:
    """The errors of either model, and the old model's mask while a key is held.

    Both are layers that cannot be painted on and that no other part of the panel takes for
    a mask. A person may remove or rename them, or the mask, at any time.

    Parameters
    ----------
    viewer
        Holds the layers.
    session
        The image that was taught.
    job, comparison
        Its finished job.
    on_change
        Called when what is shown differs.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        session: Session,
        job: JobFolder,
        comparison: Comparison,
        on_change: Callable[[], None],
    ) -> None:
        self._viewer, self._session = viewer, session
        self._job, self._comparison = job, comparison
        self._on_change = on_change
        self._errors: tuple[When, Labels] | None = None
        self._held: Labels | None = None
        self._beneath_errors: list[tuple[Labels, bool]] = []
        self._beneath_held: list[tuple[Labels, bool]] = []
        self._bound: Labels | None = None
        self.which: When = "after"
        self.follow()

    @property
    def errors(self) -> When | None:
        """Whose errors are shown."""
        if self._errors is None or self._errors[1] not in self._viewer.layers:
            return None
        return self._errors[0]

    @property
    def holding(self) -> bool:
        """Whether the old model's mask is shown."""
        return self._held is not None

    @property
    def has_truth(self) -> bool:
        """Whether it is known what would be right on the slice that is shown."""
        tracker = self._session.tracker
        return tracker is not None and (
            tracker.record.axis != self._comparison.case.axis
            or tracker.current in self._comparison.slices
        )

    def follow(self) -> None:
        """Listen to the keys on the mask that is corrected now."""
        labels = self._session.labels
        if labels is self._bound:
            return
        self._unbind()
        self._bound = labels
        if labels is not None:
            labels.bind_key(ERRORS_KEY, lambda _: self.toggle_errors(), overwrite=True)
            labels.bind_key(HOLD_KEY, self._hold_key, overwrite=True)

    def toggle_errors(self) -> None:
        """Show the errors of :attr:`which` model, or take them away."""
        self.show_errors(None if self.errors is not None else self.which)

    def show_errors(self, when: When | None) -> None:
        """Show the errors of the old or the new model on the trusted slices, or none."""
        self.let_go()
        _, layer = self._errors or (None, None)
        self._errors = None
        if layer is not None:
            self._remove(layer)
            self._show_again(self._beneath_errors)
        if when is not None:
            self.which = when
            self._beneath_errors = self._hide(self._session.labels, self._session.shown_preview)
            self._errors = when, self._add_errors(when)
        self._on_change()

    def hold(self) -> None:
        """Show the old model's mask and nothing else until :meth:`let_go`."""
        if self._held is not None:
            return
        errors = self._errors[1] if self._errors is not None else None
        self._beneath_held = self._hide(self._session.labels, self._session.shown_preview, errors)
        spec = self._comparison.spec
        table = dict(enumerate(spec.labels, start=1))
        self._held = self._add(self._job.mask("before"), table, OLD_MASK, 0.5)
        self._on_change()

    def let_go(self) -> None:
        """Show what was there before :meth:`hold`."""
        if self._end_hold():
            self._on_change()

    def close(self) -> None:
        """Take everything away; nobody is told, for there may be nobody left."""
        self._end_hold()
        if self._errors is not None:
            self._remove(self._errors[1])
            self._show_again(self._beneath_errors)
            self._errors = None
        self._unbind()

    def _hold_key(self, _: Labels) -> Iterator[None]:
        self.hold()
        yield
        self.let_go()

    def _end_hold(self) -> bool:
        held, self._held = self._held, None
        if held is None:
            return False
        self._remove(held)
        self._show_again(self._beneath_held)
        return True

    def _unbind(self) -> None:
        if self._bound is not None:
            for key in (ERRORS_KEY, HOLD_KEY):
                self._bound.bind_key(key, None)
        self._bound = None

    def _add_errors(self, when: When) -> Labels:
        """Show a model's errors, the fainter the nearer they are to what would be right."""
        kinds, grades = self._comparison.mistakes(when), self._comparison.grades(when)
        table = _error_table()
        layer = self._add(kinds + len(Mistake) * grades, table, ERRORS[when], 1.0)
        steps = np.linspace(FAINTEST, 1.0, len(GRADES) + 1)
        layer.colormap = {None: "transparent"} | {
            value: (*label.colour, steps[(value - 1) // len(Mistake)])
            for value, label in table.items()
        }
        return layer

    def _add(
        self, data: NDArray[np.uint8], table: dict[int, Label], name: str, opacity: float
    ) -> Labels:
        selected = self._viewer.layers.selection.active
        kwargs = labels_kwargs(self._session.geometry, table, name)
        # Without our mark nothing offers it for correction.
        layer = self._viewer.add_labels(data, **{**kwargs, "metadata": {}, "opacity": opacity})
        layer.editable = False
        if selected is not None:
            self._viewer.layers.selection.active = selected
        return layer

    def _hide(self, *layers: Labels | None) -> list[tuple[Labels, bool]]:
        """Hide layers, whose colours would mix with what is shown; return what they were."""
        found = [(layer, layer.visible) for layer in layers if layer is not None]
        for layer, _ in found:
            layer.visible = False
        return found

    def _show_again(self, found: list[tuple[Labels, bool]]) -> None:
        for layer, visible in found:
            if layer in self._viewer.layers:
                layer.visible = visible
        found.clear()

    def _remove(self, layer: Labels) -> None:
        if layer in self._viewer.layers:
            selected = self._viewer.layers.selection.active
            self._viewer.layers.remove(layer)
            if selected is not layer and selected in self._viewer.layers:
                self._viewer.layers.selection.active = selected


def _error_table() -> dict[int, Label]:
    """Return a name and a colour for each kind and grade of a mistake, kinds first."""
    far = [f"up to {limit:g} mm off" for limit in GRADES] + [f"more than {GRADES[-1]:g} mm off"]
    return {
        kind + grade * len(Mistake): Label(f"{WORDS[kind]}, {words}", _rgb(MISTAKES[kind]))
        for grade, words in enumerate(far)
        for kind in Mistake
    }


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue

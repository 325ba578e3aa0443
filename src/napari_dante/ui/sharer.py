"""Sharing with a Dafne server, and what comes back from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_dante.errors import DanteError, ShareError, TeachError
from napari_dante.evaluate.split import Split
from napari_dante.federated.gate import fit_to_share
from napari_dante.federated.history import Receipt
from napari_dante.federated.outbox import Item, Outbox
from napari_dante.model.library import Library
from napari_dante.ui import share_work
from napari_dante.ui.settings import remember_server
from napari_dante.ui.states import Task
from napari_dante.ui.taker import Taker

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["Sharer"]


class Sharer(Taker):
    """The desk, models from elsewhere, and a server that weights go to and come from."""

    checked = Signal(object)
    pushed = Signal(object)
    retried = Signal(object)
    looked = Signal(object)

    def __init__(
        self, viewer: Viewer, library: Library | None = None, parent: QObject | None = None
    ) -> None:
        self.offer: share_work.Offer | None = None
        self.receipt: Receipt | None = None
        self.news: share_work.News | None = None
        self.outbox: list[Item] = Outbox().items()
        super().__init__(viewer, library, parent)

    @property
    def split(self) -> Split | None:
        """Which slices a model can be examined on."""
        raise NotImplementedError

    def check(self, url: str, key: str | None = None) -> None:
        """Ask the server for its version and whether the chosen model is fit to be shared."""
        model = self._server_model(url)
        if model is None:
            return
        self.offer, self.receipt = None, None

        def done(offer: share_work.Offer) -> None:
            self.offer = offer
            self._remember(url)
            self.checked.emit(offer)

        events = share_work.check(self.engine.worker, url, key, model, self._exam())
        self._run(Task.CHECK, events, done)

    def push(self) -> None:
        """Send the weights of the offer, where no light is red."""
        if self.offer is None or not fit_to_share(self.offer.lights):
            self._refuse(ShareError("This model is not fit to be shared; see the lights."))
            return

        def done(receipt: Receipt) -> None:
            self.receipt = receipt
            self._look_into_outbox()
            self.pushed.emit(receipt)

        self._run(Task.PUSH, share_work.push(self.engine.worker, self.offer), done)

    def retry(self) -> None:
        """Send what waits in the outbox, and look for what was sent."""

        def done(told: tuple[str, ...]) -> None:
            self._look_into_outbox()
            self.notice.emit(" ".join(dict.fromkeys(told)) or "Nothing waits.")
            self.retried.emit(told)

        self._run(Task.RETRY, share_work.retry_all(self.engine.worker), done)

    def look(self, url: str, key: str | None = None) -> None:
        """Fetch and examine a version of the server that is new here; nothing is replaced."""
        model = self._server_model(url)
        if model is None or self.model is None:
            return
        self.news = None

        def done(news: share_work.News | None) -> None:
            self.news = news
            self._remember(url)
            if news is None:
                self.notice.emit("The server has nothing newer.")
            self.looked.emit(news)

        known = self.library.versions(self.model)
        worker, exam = self.engine.worker, self._exam()
        self._run(Task.LOOK, share_work.look(worker, url, key, model, known, exam), done)

    def use_news(self) -> None:
        """Make the server's version the current one; the others stay in the library."""
        news = self.news
        if news is None:
            return
        try:
            self.library.keep(news.file)
        except DanteError as error:
            self._refuse(error)
            return
        self.leave_news()
        self.choose_model(news.name)
        self.notice.emit(f"'{news.name}' is the server's version {news.version} now.")

    def leave_news(self) -> None:
        """Keep the model that is here."""
        if self.news is not None:
            self.news.file.unlink(missing_ok=True)
        self.news = None
        self._later()

    def choose_model(self, name: str) -> None:
        """Predict, teach and share with the current version of model `name`."""
        self.offer, self.receipt = None, None
        super().choose_model(name)

    def _server_model(self, url: str) -> Path | None:
        """Return the file of the chosen model, or refuse and return None."""
        model = self._model_file()
        if self.runs_own_code:
            self._refuse(ShareError("A model that runs by its own code cannot be shared here."))
            return None
        if model is None or not url:
            self._refuse(ShareError("Enter the address of the Dafne server first."))
            return None
        return model

    def _exam(self) -> share_work.Exam | None:
        """Return what models can be examined on, None where nothing is corrected."""
        try:
            split = self.split
        except TeachError:
            return None
        case = self.session.case() if self.session is not None else None
        return share_work.Exam(case, split) if case is not None and split is not None else None

    def _look_into_outbox(self) -> None:
        self.outbox = Outbox().items()

    def _remember(self, url: str) -> None:
        self.settings = replace(self.settings, server=url)
        remember_server(url)

    def _ended(self, task: Task | None, error: DanteError) -> None:
        """Show what a push that failed has left in the outbox."""
        self._look_into_outbox()
        super()._ended(task, error)

"""Talking to a Dafne server: list, inform, download, upload.

Torch-free. What leaves the machine are weights, the model's name and one number (Dice); to a
server that says it takes it, also the number of images that were taught.
The servers' protocol has no authentication header: the key is a field of each request,
so it is sent only over TLS (or to this very computer) and only to the host that the
person named.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx

from napari_dante.errors import ModelError, ShareError, Unreachable
from napari_dante.federated.wire import UPLOADED, Wire, message_of
from napari_dante.files import atomic_path, sha256
from napari_dante.model.file import check_name

__all__ = ["DafneClient", "Fate", "ModelInfo"]

CHUNK = 50 * 1024**2
MAX_DOWNLOAD = 4 * 1024**3
PAUSES = (1.0, 4.0)
"""Seconds before a broken download is tried again."""

_LONGEST = 300


@dataclass(frozen=True)
class ModelInfo:
    """The versions of one model on a server.

    Attributes
    ----------
    timestamps
        Versions, oldest first: Unix seconds as text.
    hashes
        SHA-256 of the file of each version.
    latest
        The current version.
    extensions
        What the server says that it takes beyond Dafne's protocol.
    """

    timestamps: tuple[str, ...]
    hashes: Mapping[str, str]
    latest: str
    extensions: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fate:
    """What a server says of a file that was sent to it.

    Attributes
    ----------
    state
        ``"waiting"``, ``"merged"``, ``"rejected"`` (examined and found worse) or
        ``"quarantined"`` (not fit to be merged).
    reason
        Why it was refused.
    """

    state: str
    reason: str

    @property
    def refused(self) -> bool:
        """Whether the server will never merge it."""
        return self.state in ("rejected", "quarantined")


class DafneClient:
    """One person's access to one Dafne server; a context manager.

    Parameters
    ----------
    url
        Base address such as ``https://www.dafne.network/api``; plain ``http`` only for
        this computer itself.
    api_key
        The key that the server's administrator gave.
    timeout
        Seconds of silence after which the server counts as gone.

    Raises
    ------
    ShareError
        If the address is not acceptable, or the server is not there or not a Dafne one.
    """

    def __init__(self, url: str, api_key: str, *, timeout: float = 60.0) -> None:
        self._wire = Wire(url, api_key, timeout)

    def __repr__(self) -> str:
        return f"DafneClient({self._wire.base!r})"

    def __enter__(self) -> DafneClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wire.close()

    @property
    def host(self) -> str:
        """The server's host name."""
        return self._wire.host

    @property
    def url(self) -> str:
        """The address that routes are appended to."""
        return self._wire.base

    def models(self) -> list[str]:
        """Return the names of the models that the key opens.

        Raises
        ------
        ShareError
            If the server refuses, answers nonsense or is not there.
        """
        names = self._wire.ask("get_available_models").get("models")
        if not isinstance(names, list):
            raise self._wire.nonsense("no list of models")
        return [name for name in names if isinstance(name, str) and _is_name(name)]

    def info(self, name: str) -> ModelInfo:
        """Return the versions of model `name`.

        Raises
        ------
        ModelError
            If `name` cannot be the name of a model.
        ShareError
            If the server refuses, answers nonsense or is not there.
        """
        check_name(name)
        answer = self._wire.ask("info_model", name, model_type=name)
        hashes, latest = answer.get("hashes"), answer.get("latest_timestamp")
        if not isinstance(hashes, dict) or not isinstance(latest, str) or latest not in hashes:
            raise self._wire.nonsense("info without hashes of its versions")
        for timestamp, digest in hashes.items():
            if not re.fullmatch(r"\d{1,19}", timestamp) or not _is_digest(digest):
                raise self._wire.nonsense("info with a malformed version or hash")
        told = answer.get("extensions")
        extensions = told if isinstance(told, list) else []
        return ModelInfo(
            tuple(sorted(hashes, key=int)),
            hashes,
            latest,
            frozenset(one for one in extensions if isinstance(one, str)),
        )

    def fate(self, name: str, digest: str) -> Fate | None:
        """Ask what became of the file with SHA-256 `digest`; None where the server has none.

        Only a server whose :class:`ModelInfo` names the extension ``my_uploads`` knows.

        Raises
        ------
        ShareError
            If the server refuses, answers nonsense or is not there.
        """
        uploads = self._wire.ask("my_uploads", name, model_type=name).get("uploads")
        if not isinstance(uploads, list):
            raise self._wire.nonsense("no list of uploads")
        for upload in uploads:
            if isinstance(upload, dict) and upload.get("sha256") == digest:
                return Fate(_plain(upload.get("state")), _plain(upload.get("reason")))
        return None

    def download(self, name: str, target: Path, timestamp: str | None = None) -> str:
        """Fetch one version of model `name` to `target`; return its timestamp.

        `target` appears only when the file is complete and has the announced SHA-256.

        Parameters
        ----------
        name
            Of the model.
        target
            Where the ``.model`` file goes.
        timestamp
            The version; the current one when None.

        Raises
        ------
        ModelError
            If `name` cannot be the name of a model.
        ShareError
            If there is no such version, the file is not the announced one, or the server
            refuses or is not there.
        """
        info = self.info(name)
        version = info.latest if timestamp is None else timestamp
        if version not in info.hashes:
            raise ShareError(f"The server has no version {version} of '{name}'.")
        with atomic_path(target) as temporary:
            self._fetch(name, version, temporary, info.hashes[version])
        return version

    def _fetch(self, name: str, version: str, target: Path, expected: str) -> None:
        """Download with patience: the servers cannot go on where a connection broke."""
        for pause in (*PAUSES, None):
            try:
                self._fetch_once(name, version, target, expected)
            except Unreachable:
                if pause is None:
                    raise
                time.sleep(pause)
            else:
                return

    def _fetch_once(self, name: str, version: str, target: Path, expected: str) -> None:
        digest = hashlib.sha256()
        with (
            self._wire.fetch("get_model", name, model_type=name, timestamp=version) as response,
            target.open("wb") as stream,
        ):
            for block in self._bounded(response):
                digest.update(block)
                stream.write(block)
        if digest.hexdigest() != expected:
            raise ShareError(
                "The file that arrived is not the one that the server announced; it was thrown "
                "away."
            )

    def _bounded(self, response: httpx.Response) -> Iterator[bytes]:
        size = 0
        for block in response.iter_bytes(1024**2):
            size += len(block)
            if size > MAX_DOWNLOAD:
                raise self._wire.nonsense("the file is too large")
            yield block

    def upload(
        self, name: str, path: Path, dice: float | None = None, cases: int | None = None
    ) -> None:
        """Send a ``.model`` file as an update of model `name`.

        Returning means that the server has said it holds the whole file. One request is
        used, except for a large file to the PHP server, which takes pieces of 50 MiB.

        Parameters
        ----------
        name
            Of the model on the server.
        path
            The file; its name is not sent.
        dice
            Mean Dice of the exam, which servers write to their log.
        cases
            How many images it was taught, for servers with the extension ``cases``.

        Raises
        ------
        ModelError
            If `name` cannot be the name of a model.
        Unreachable
            If the connection failed; the server cannot have the file.
        Uncertain
            If it is not known whether the server has the file.
        ShareError
            If the server refuses; it does not have the file.
        """
        check_name(name)
        digest, size = sha256(path), path.stat().st_size
        if size == 0:
            raise ShareError("The file to share is empty, so it was not sent.")
        piece = CHUNK if self._wire.flavour == "php" else size
        pieces = math.ceil(size / piece)
        fields = {
            "model_type": name,
            "original_hash": digest,
            "hash": digest,
            "total_chunks": str(pieces),
            "filename": f"{uuid.uuid4()}.model",
        }
        if dice is not None:
            fields["dice"] = repr(float(dice))
        if cases is not None:
            fields["cases"] = str(cases)
        with path.open("rb") as stream:
            for index in range(pieces):
                last = index == pieces - 1
                response = self._wire.send(
                    "upload_model",
                    fields | {"chunk_index": str(index)},
                    stream,
                    min(piece, size - index * piece),
                    last=last,
                )
                expected = UPLOADED if last else "chunk received"
                if response.status_code != 200 or message_of(response) != expected:
                    raise self._wire.refusal(response, name)


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ModelError:
        return False
    return True


def _plain(text: object) -> str:
    """Return a sentence of a server as it may be shown and stored."""
    if not isinstance(text, str):
        return ""
    return "".join(letter for letter in text[:_LONGEST] if letter.isprintable())


def _is_digest(digest: object) -> bool:
    return isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) is not None

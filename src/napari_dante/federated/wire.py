"""Requests to a Dafne server and what their failures mean. Torch-free.

The API key is here and nowhere else: no repr, log line or error text shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Literal, cast

import httpx

from napari_dante.errors import ShareError, Uncertain, Unreachable
from napari_dante.federated.address import base_url, followed, is_loopback

__all__ = ["UPLOADED", "Wire", "message_of"]

UPLOADED = "upload successful"
_BINARY = "application/octet-stream"
_PROBE = "get_available_models"
Flavour = Literal["fastapi", "php"]


class _Secret:
    """A key that no log, repr or traceback shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "<key>"

    def reveal(self) -> str:
        return self._text


class _Part:
    """A part of a file on its way, and whether it was handed on to its end."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._size = self._left = size
        self.spent = False

    def read(self, size: int) -> bytes:
        """Return the next bytes; asked beyond the last one, all before is on its way."""
        block = self._stream.read(min(size, self._left))
        self._left -= len(block)
        self.spent = not block
        return block

    def tell(self) -> int:
        """Return how much was read."""
        return self._size - self._left

    def seek(self, _: int, whence: int = 0) -> int:
        """Tell the size, which is all that the library goes to the end for."""
        return self._size if whence == 2 else self.tell()


class Wire:
    """A connection to one server; see :class:`~napari_dante.federated.client.DafneClient`."""

    def __init__(self, url: str, api_key: str, timeout: float) -> None:
        self._key = _Secret(api_key)
        self._base = base_url(url)
        # A proxy is for the world outside: a request to this computer never takes it.
        self._http = httpx.Client(timeout=timeout, trust_env=not is_loopback(self._base.host))
        with ExitStack() as stack:
            stack.callback(self._http.close)
            self.flavour: Flavour = self._probe()
            stack.pop_all()

    def __repr__(self) -> str:
        return f"Wire({str(self._base)!r})"

    @property
    def base(self) -> str:
        """The address that routes are appended to."""
        return str(self._base)

    @property
    def host(self) -> str:
        """The server's host name."""
        return self._base.host

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, route: str, name: str = "", **fields: str) -> dict[str, Any]:
        """Send a JSON query and return the JSON object of the answer."""
        with self._errors("Nothing was sent or lost."):
            response = self._http.post(
                self._base.join(route), json=fields | {"api_key": self._key.reveal()}
            )
        if response.status_code != 200:
            raise self.refusal(response, name)
        answer = _json(response)
        if not isinstance(answer, dict):
            raise self.nonsense(f"{route}: not a JSON object")
        return answer

    def send(
        self,
        route: str,
        fields: Mapping[str, str],
        stream: IO[bytes],
        size: int,
        *,
        last: bool = True,
    ) -> httpx.Response:
        """Send a form with the next `size` bytes of a file; return the answer that settles it.

        Parameters
        ----------
        route, fields
            Where to and what else; ``filename`` is the name of the file.
        stream, size
            The file and how much of it.
        last
            Whether the server has the whole file when it has this part.

        Raises
        ------
        Unreachable
            If the connection failed and the server cannot have the whole file.
        Uncertain
            If all was sent, and the answer is missing or says neither yes nor no.
        """
        part = _Part(stream, size)
        try:
            response = self._http.post(
                self._base.join(route),
                data={**fields, "api_key": self._key.reveal()},
                files={"model_binary": (fields["filename"], cast("IO[bytes]", part), _BINARY)},
            )
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            if last and part.spent:
                raise self._uncertain(_told(error)) from None
            raise self._unreachable(error, "The server cannot have the whole file.") from None
        if last and part.spent and not _settles(response):
            raise self._uncertain(f"{response.status_code} {message_of(response)}")
        return response

    @contextmanager
    def fetch(self, route: str, name: str, **fields: str) -> Iterator[httpx.Response]:
        """Send a JSON query and give the answer to be read piece by piece."""
        query = fields | {"api_key": self._key.reveal()}
        with (
            self._errors("The download was given up and nothing was changed."),
            self._http.stream("POST", self._base.join(route), json=query) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise self.refusal(response, name)
            yield response

    def _probe(self) -> Flavour:
        """Find the final address and the kind of server, without the key."""
        for _ in range(5):
            with self._errors("Nothing was sent or lost."):
                response = self._http.get(self._base.join(_PROBE))
            if response.next_request is None:
                break
            self._base = followed(self._base, response.next_request.url, _PROBE)
        answer = _json(response)
        if response.status_code == 405 and isinstance(answer, dict) and "detail" in answer:
            return "fastapi"
        if response.status_code == 401 and isinstance(answer, dict) and "message" in answer:
            return "php"
        raise self.nonsense(f"probe: {response.status_code}")

    @contextmanager
    def _errors(self, outcome: str) -> Iterator[None]:
        # `from None`: the library's error carries the request, and with it the key.
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._unreachable(error, outcome) from None

    def _unreachable(self, error: Exception, outcome: str) -> Unreachable:
        detail = self._clean(_told(error))
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            sentence = f"The server at {self.host} does not answer; nothing was sent or lost."
        else:
            sentence = f"The connection to the server at {self.host} broke. {outcome}"
        return Unreachable(sentence, detail)

    def _uncertain(self, detail: str) -> Uncertain:
        return Uncertain(
            f"The server at {self.host} did not say whether it has the file. It is not known "
            "whether it arrived; it is kept here and not sent again.",
            self._clean(detail),
        )

    def refusal(self, response: httpx.Response, name: str) -> ShareError:
        """Return the error that tells of an answer other than the expected one."""
        message = message_of(response)
        detail = self._clean(f"{response.request.url.path}: {response.status_code} {message}")
        if response.is_redirect:
            return ShareError(f"The server at {self.host} has moved; nothing was sent on.", detail)
        if response.status_code == 401:
            return ShareError(f"The server at {self.host} does not accept this API key.", detail)
        if response.status_code == 403:
            return ShareError(f"Your API key gives no access to '{name}' on {self.host}.", detail)
        if response.status_code == 413:
            return ShareError(f"The file is larger than the server at {self.host} takes.", detail)
        about = f" what concerns '{name}'" if name else ""
        return ShareError(f"The server at {self.host} refused{about}.", detail)

    def nonsense(self, detail: str) -> ShareError:
        """Return the error that tells of an answer that makes no sense."""
        return ShareError(
            f"The server at {self.host} does not answer like a Dafne server.", self._clean(detail)
        )

    def _clean(self, text: str) -> str:
        return text.replace(self._key.reveal() or "\0", "<key>")[:300]


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _settles(response: httpx.Response) -> bool:
    """Tell whether an answer to a whole file says yes or no.

    A server error without a message can be one after the file was stored, and so can the
    answer of a proxy that got tired of waiting.
    """
    status, answer = response.status_code, _json(response)
    if 300 <= status < 500:
        return True
    if status == 200 and isinstance(answer, list):
        return True
    message = message_of(response)
    return message == UPLOADED if status == 200 else status == 500 and bool(message)


def _json(response: httpx.Response) -> Any:  # noqa: ANN401
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def message_of(response: httpx.Response) -> str:
    """Return the text of ``{"message": text}``, or an empty one."""
    answer = _json(response)
    message = answer.get("message") if isinstance(answer, dict) else None
    return message if isinstance(message, str) else ""

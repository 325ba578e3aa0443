"""Reading an upload as it arrives: the fields first, then the file, piece by piece.

Nothing of a file is kept before the key that came before it has been checked.
"""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from napari_dante.federated.server.refused import Refused

__all__ = ["Form"]

FILE = "model_binary"
_MAX_FIELDS, _MAX_FIELD = 16, 4096


class Form:
    """A form of text fields and one file.

    Attributes
    ----------
    fields
        Text fields that have arrived.
    before
        Those that came before the file; only they say whose it is. None before it begins.
    ended
        Whether the form is complete.

    Raises
    ------
    Refused
        If `content_type` is not that of such a form.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise _broken()
        self.fields: dict[str, str] = {}
        self.before: dict[str, str] | None = None
        self.ended = False
        self._file = bytearray()
        self._header = (bytearray(), bytearray())
        self._name: str | None = None
        self._value: bytearray | None = None
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": lambda data, a, b: self._header[0].extend(data[a:b]),
                "on_header_value": lambda data, a, b: self._header[1].extend(data[a:b]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Take the next piece of the request.

        Raises
        ------
        Refused
            If it is not a form, or has too many or too long fields.
        """
        try:
            self._parser.write(data)
        except FormParserError:
            raise _broken() from None

    @property
    def waiting(self) -> int:
        """How many bytes of the file have arrived and were not taken."""
        return len(self._file)

    def take(self) -> bytes:
        """Return them."""
        taken = bytes(self._file)
        self._file.clear()
        return taken

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if name.lower() == b"content-disposition":
            self._disposition = value

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            if name != FILE or self.before is not None:
                raise _broken()
            self.before = dict(self.fields)
            self._name, self._value = None, None
            return
        if not name or name in self.fields or len(self.fields) >= _MAX_FIELDS:
            raise _broken()
        self._name, self._value = name, bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._value is None:
            self._file.extend(data[start:end])
            return
        self._value.extend(data[start:end])
        if len(self._value) > _MAX_FIELD:
            raise _broken()

    def _part_end(self) -> None:
        if self._name is not None and self._value is not None:
            self.fields[self._name] = self._value.decode("utf-8", "replace")
        self._name, self._value = None, None

    def _end(self) -> None:
        self.ended = True


def _broken() -> Refused:
    return Refused(400, "file upload error")

"""Reading the pickle inside a Dafne ``.model`` file as data, never as a program.

A pickle is a list of calls. Here the calls are only written down: each global on the
allow-list becomes a :class:`_Call` that keeps its arguments, and nothing foreign runs
while the stream is read. Afterwards the notes are turned into tensors, arrays and UUIDs
by the functions of this module, which check every number first. A global that is not on
the list ends the reading.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.errors import ModelError, UnsafeFile

__all__ = ["load"]

_LEGACY_STORAGE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    RecursionError,
    RuntimeError,
    struct.error,
)


def load(stream: IO[bytes]) -> Any:  # noqa: ANN401
    """Return what a Dafne pickle describes, in plain values.

    Parameters
    ----------
    stream
        Open binary file.

    Returns
    -------
    object
        dict, list, tuple, str, bytes, numbers, None, :class:`uuid.UUID`,
        :class:`torch.Tensor` (CPU, contiguous, own memory) and :class:`numpy.ndarray`.

    Raises
    ------
    UnsafeFile
        If the file asks for anything else to be called; nothing of it was.
    ModelError
        If it is truncated or not a pickle.
    """
    try:
        return _Values().value(_Reader(stream).load())
    except _BROKEN as error:
        raise damaged(repr(error)) from error


def damaged(detail: str) -> ModelError:
    """Return the refusal of a file that cannot be read."""
    return ModelError("This file is not a Dafne model, or it is damaged.", detail=detail)


def _unsafe(detail: str) -> UnsafeFile:
    return UnsafeFile(
        "This file asks for code to be run, so it was not opened; nothing of it was executed.",
        detail=detail,
    )


class _Call:
    """One call that the file asks for, noted and not made.

    Every attribute is a slot and every state goes through ``__setstate__``, so a stream
    cannot change the class.
    """

    __slots__ = ("args", "state")
    what = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: object) -> _Call:
        call = super().__new__(cls)
        call.args = args
        call.state = None
        return call

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Dict(OrderedDict[Any, Any]):
    """The ``OrderedDict`` of a state dict; its ``_metadata`` attribute is dropped."""

    def __setstate__(self, state: object) -> None:
        pass


_ALLOWED = {
    ("collections", "OrderedDict"): "dict",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch._utils", "_rebuild_parameter"): "parameter",
    ("torch.storage", "_load_from_bytes"): "storage",
    ("uuid", "UUID"): "uuid",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("dill._dill", "_create_array"): "dill_array",
    ("_codecs", "encode"): "encode",
    **{
        (f"numpy.{core}.multiarray", name): what
        for core in ("core", "_core")
        for name, what in (("_reconstruct", "array"), ("scalar", "scalar"))
    },
}


# The reader written in Python: the one in C fills memory for a forged memo index, and
# the weights are a few large blocks, so it is as fast.
class _Reader(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        what = _ALLOWED.get((module, name))
        if what is None:
            raise _unsafe(f"global {module[:80]}.{name[:80]}")
        if what == "dict":
            return _Dict
        return type(what, (_Call,), {"__slots__": (), "what": what})


class _Values:
    """From notes to values; what is shared in the file is shared in the result."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._makers: dict[str, Callable[[_Call], Any]] = {
            "tensor": self._tensor,
            "parameter": lambda call: self._expect(call.args[0], torch.Tensor),
            "storage": self._storage,
            "uuid": self._uuid,
            "dtype": self._dtype,
            "array": lambda call: self._array(call.state),
            "dill_array": lambda call: self._array(call.args[2]),
            "scalar": self._scalar,
            "encode": lambda call: self._encode(*call.args),
        }

    def value(self, node: Any) -> Any:  # noqa: ANN401
        """Return the value of `node` and all that is in it."""
        if node is None or isinstance(node, bool | int | float | complex | str | bytes):
            return node
        if id(node) not in self._done:
            self._done[id(node)] = self._make(node)
        return self._done[id(node)]

    def _make(self, node: Any) -> Any:  # noqa: ANN401
        if isinstance(node, _Call):
            if node.what not in self._makers:
                raise damaged(f"unexpected {node.what}")
            return self._makers[node.what](node)
        if isinstance(node, dict):
            return {self._key(key): self.value(item) for key, item in node.items()}
        if isinstance(node, list | tuple | set | frozenset):
            return type(node)([self.value(item) for item in node])
        if isinstance(node, bytearray):
            return bytes(node)
        raise damaged(f"unexpected {type(node).__name__}")

    def _key(self, key: Any) -> Any:  # noqa: ANN401
        if not isinstance(key, str | int | float | bool | bytes | tuple | None):
            raise damaged(f"dictionary key of type {type(key).__name__}")
        return self.value(key)

    def _expect(self, node: Any, kind: type) -> Any:  # noqa: ANN401
        result = self.value(node)
        if not isinstance(result, kind):
            raise damaged(f"{type(result).__name__} where {kind.__name__} is expected")
        return result

    def _storage(self, call: _Call) -> torch.storage.TypedStorage:
        (blob,) = call.args
        blob = self._expect(blob, bytes)
        if not blob.startswith(_LEGACY_STORAGE):
            raise _unsafe("a tensor's numbers are not stored as numbers")
        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                storage = torch.load(BytesIO(blob), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise _unsafe(f"inside a tensor's numbers: {str(error)[:200]}") from error
        if not isinstance(storage, torch.storage.TypedStorage):
            raise damaged("a tensor's numbers are not a storage")
        return storage

    def _tensor(self, call: _Call) -> torch.Tensor:
        storage = self._expect(call.args[0], torch.storage.TypedStorage)
        (offset,) = _counts((call.args[1],))
        size, stride = _counts(call.args[2]), _counts(call.args[3])
        length = storage._untyped_storage.nbytes() // storage.dtype.itemsize
        _check_view(length, offset, size, stride)
        view = torch.empty(0, dtype=storage.dtype)
        view.set_(storage._untyped_storage, offset, size, stride)
        return view.clone(memory_format=torch.contiguous_format)

    def _uuid(self, call: _Call) -> uuid.UUID:
        if call.state is not None:
            return uuid.UUID(int=self.value(call.state)["int"])
        return uuid.UUID(self._expect(call.args[0], str))

    def _dtype(self, call: _Call) -> np.dtype[Any]:
        code = self._expect(call.args[0], str)
        order = "=" if call.state is None else self.value(call.state)[1]
        if not re.fullmatch(r"[biufc]\d{1,2}", code) or order not in ("<", ">", "=", "|"):
            raise damaged(f"numbers of type {code[:20]}")
        dtype: np.dtype[Any] = np.dtype(code).newbyteorder(order)
        return dtype

    def _array(self, state: Any) -> NDArray[Any]:  # noqa: ANN401
        _, shape, dtype, fortran, raw = (self.value(part) for part in state)
        if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes):
            raise damaged("an array without numbers")
        flat = np.frombuffer(raw, dtype)
        return flat.reshape(shape, order="F" if fortran else "C").copy(order="K")

    def _scalar(self, call: _Call) -> Any:  # noqa: ANN401
        dtype, raw = (self.value(argument) for argument in call.args)
        if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes):
            raise damaged("a number without its value")
        (number,) = np.frombuffer(raw, dtype)
        return number

    def _encode(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise damaged("bytes in an unknown encoding")
        return text.encode("latin1")


def _counts(values: object) -> tuple[int, ...]:
    whole = isinstance(values, tuple) and all(isinstance(n, int) and n >= 0 for n in values)
    if not isinstance(values, tuple) or not whole:
        raise damaged("a tensor without a proper shape")
    return values


def _check_view(length: int, offset: int, size: Sequence[int], stride: Sequence[int]) -> None:
    """Refuse a tensor that reaches outside its storage or unfolds to more than it."""
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > length or (count and last >= length):
        raise damaged("a tensor is larger than its numbers")

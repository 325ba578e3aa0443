"""Reading the pickle inside a Dafne ``.model`` file as data, never as a program.

A pickle is a list of calls. Here the calls are only written down: each global on the
allow-list becomes a :class:`_Call` that keeps its arguments, and nothing foreign runs
while the stream is read. What a few bytes could make large or endless is bounded: the
number of steps, announced lengths, dictionary keys, and numbers that many tensors share.
Afterwards the notes are turned into tensors, arrays and UUIDs
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
from typing import IO, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dante.errors import ModelError, UnsafeFile

__all__ = ["load"]

_LEGACY_STORAGE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
MAX_STEPS = 2_000_000
"""Steps of a pickle: a network has some thousand, each makes at most a small object."""

MAX_SHARED = 4
"""How often the numbers of a file may be unfolded, on average: tied weights share theirs."""

_SPARE = 2**20
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
        size = stream.seek(0, 2)
        stream.seek(0)
        return _Values().value(_Reader(stream, size).load())
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

    def __init__(self) -> None:
        super().__init__()

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
        (f"numpy.{core}.{module}", name): what
        for core in ("core", "_core")
        for module, name, what in (
            ("multiarray", "_reconstruct", "array"),
            ("multiarray", "scalar", "scalar"),
            ("numeric", "_frombuffer", "buffer"),
        )
    },
}


# The reader written in Python: the one in C fills memory for a forged memo index, and
# the weights are a few large blocks, so it is as fast.
class _Reader(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: IO[bytes], size: int) -> None:
        super().__init__(stream)
        self._size = size
        vars(self)["dispatch"] = _Steps(self.dispatch)

    def load_bytearray8(self) -> None:
        """Read no more than there is: the original first makes room for what is announced."""
        (length,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        if length > self._size:
            raise pickle.UnpicklingError("more bytes are announced than the file has")
        self.append(bytes(self.read(length)))  # type: ignore[attr-defined]

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_setitem(self) -> None:
        """Set one item of a dictionary."""
        _check_hashable(self.stack[-2:-1])  # type: ignore[attr-defined]
        super().load_setitem()  # type: ignore[misc]

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Set some items of a dictionary."""
        _check_hashable(self.stack[::2])  # type: ignore[attr-defined]
        super().load_setitems()  # type: ignore[misc]

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        """Make a dictionary of some items."""
        _check_hashable(self.stack[::2])  # type: ignore[attr-defined]
        super().load_dict()  # type: ignore[misc]

    dispatch[pickle.DICT[0]] = load_dict

    def load_additems(self) -> None:
        """Put some items into a set."""
        _check_hashable(self.stack)  # type: ignore[attr-defined]
        super().load_additems()  # type: ignore[misc]

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_frozenset(self) -> None:
        """Make a set of some items."""
        _check_hashable(self.stack)  # type: ignore[attr-defined]
        super().load_frozenset()  # type: ignore[misc]

    dispatch[pickle.FROZENSET[0]] = load_frozenset

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        what = _ALLOWED.get((module, name))
        if what is None:
            raise _unsafe(f"global {module[:80]}.{name[:80]}")
        if what == "dict":
            return _Dict
        return type(what, (_Call,), {"__slots__": (), "what": what})


class _Steps(dict[int, Any]):
    """The steps that a reader knows; it takes no more of them than :data:`MAX_STEPS`."""

    def __init__(self, steps: dict[int, Any]) -> None:
        super().__init__(steps)
        self._left = MAX_STEPS

    def __getitem__(self, opcode: int) -> Any:  # noqa: ANN401
        self._left -= 1
        if self._left < 0:
            raise pickle.UnpicklingError("too many steps")
        return super().__getitem__(opcode)


def _check_hashable(keys: Sequence[Any]) -> None:
    """Refuse keys that could take for ever to hash: tuples of tuples of tuples."""
    for key in keys:
        for part in key if isinstance(key, tuple) else (key,):
            if not isinstance(part, str | int | float | bytes | None):
                raise pickle.UnpicklingError(f"a key of type {type(part).__name__}")


class _Values:
    """From notes to values; what is shared in the file is shared in the result."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._stored = self._unfolded = 0
        self._makers: dict[str, Callable[[_Call], Any]] = {
            "tensor": self._tensor,
            "parameter": lambda call: self._expect(call.args[0], torch.Tensor),
            "storage": self._storage,
            "uuid": self._uuid,
            "dtype": self._dtype,
            "array": lambda call: self._array(call.state),
            "dill_array": lambda call: self._array(call.args[2]),
            "buffer": self._buffer,
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
        self._stored += len(blob)
        return storage

    def _unfold(self, size: int) -> None:
        """Account for numbers that are copied out of what is stored."""
        self._unfolded += size
        if self._unfolded > MAX_SHARED * self._stored + _SPARE:
            raise damaged("too many tensors share the same numbers")

    def _tensor(self, call: _Call) -> torch.Tensor:
        storage = self._expect(call.args[0], torch.storage.TypedStorage)
        (offset,) = _counts((call.args[1],))
        size, stride = _counts(call.args[2]), _counts(call.args[3])
        length = storage._untyped_storage.nbytes() // storage.dtype.itemsize
        _check_view(length, offset, size, stride)
        self._unfold(math.prod(size) * storage.dtype.itemsize)
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
        return self._filled(raw, dtype, shape, "F" if fortran else "C")

    def _buffer(self, call: _Call) -> NDArray[Any]:
        raw, dtype, shape, order, *axes = (self.value(part) for part in call.args)
        if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes) or order not in "CFK":
            raise damaged("an array without numbers")
        array = self._filled(raw, dtype, shape, "F" if order == "F" else "C")
        return array.transpose(axes[0]) if axes and axes[0] is not None else array

    def _filled(
        self,
        raw: bytes,
        dtype: np.dtype[Any],
        shape: Any,  # noqa: ANN401
        order: Literal["C", "F"],
    ) -> NDArray[Any]:
        if raw and id(raw) not in self._done:
            self._done[id(raw)] = raw
            self._stored += len(raw)
        self._unfold(len(raw))
        return np.frombuffer(raw, dtype).reshape(shape, order=order).copy(order="K")

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
    whole = isinstance(values, tuple) and all(isinstance(n, int) and 0 <= n < 2**40 for n in values)
    if not isinstance(values, tuple) or not whole:
        raise damaged("a tensor without a proper shape")
    return values


def _check_view(length: int, offset: int, size: Sequence[int], stride: Sequence[int]) -> None:
    """Refuse a tensor that reaches outside its storage or unfolds to more than it."""
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > length or (count and last >= length):
        raise damaged("a tensor is larger than its numbers")

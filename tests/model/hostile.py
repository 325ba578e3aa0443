"""Files that would do harm if they were believed, one function each, byte by byte."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from napari_dante.model.dafne import to_dafne
from tests.federated.tiny import MODEL_ID, tiny_model

GALLERY: dict[str, Callable[[str], bytes]] = {}


def hostile(build: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """Add a file; it gets a shell command that leaves a trace."""
    GALLERY[build.__name__.replace("_", " ")] = build
    return build


def entries(**change: Any) -> dict[str, Any]:
    """What a file of ours holds, with something else in it."""
    model = to_dafne(tiny_model())
    found = {
        "model_id": model.model_id,
        "weights": OrderedDict(model.weights),
        "timestamp_id": model.timestamp,
        "is_delta": False,
        "data_dimensionality": 3,
        "type": "DynamicTorchModel",
        "metadata": model.metadata,
        **model.sources,
    }
    return found | change


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments, *(() if state is None else (state,)))

    def __reduce__(self) -> Any:
        return self.reduced


def around(evil: bytes, before: bytes = b"\x80\x04") -> bytes:
    """Put raw steps, which leave one value, into the metadata of a file."""
    whole = pickle.dumps(entries(metadata="HERE"), 2)[2:]
    here = b"X\x04\x00\x00\x00HERE"
    assert whole.count(here) == 1
    return before + whole.replace(here, evil)


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


@hostile
def reduce_by_GLOBAL(command: str) -> bytes:
    return around(b"cos\nsystem\n(" + text(command) + b"tR")


@hostile
def reduce_by_STACK_GLOBAL(command: str) -> bytes:
    return around(text("os") + text("system") + b"\x93(" + text(command) + b"tR")


@hostile
def instance_by_INST(command: str) -> bytes:
    return around(b"(" + text(command) + b"ios\nsystem\n")


@hostile
def instance_by_OBJ(command: str) -> bytes:
    return around(b"(cos\nsystem\n" + text(command) + b"o")


@hostile
def new_object_by_NEWOBJ(command: str) -> bytes:
    return around(b"csubprocess\nPopen\n(" + text(command) + b"t\x81")


@hostile
def new_object_by_NEWOBJ_EX(command: str) -> bytes:
    return around(b"csubprocess\nPopen\n(" + text(command) + b"t}" + text("shell") + b"\x88s\x92")


@hostile
def state_by_BUILD(command: str) -> bytes:
    return around(b"csite\n_Printer\n)\x81}" + text("x") + text(command) + b"sb")


@hostile
def state_of_an_allowed_class(_: str) -> bytes:
    return around(b"ccollections\nOrderedDict\n}" + text("pop") + b"Nsb")


@hostile
def extension_by_EXT1(_: str) -> bytes:
    return around(b"\x82\x01")


@hostile
def extension_by_EXT4(_: str) -> bytes:
    return around(b"\x84\x01\x00\x00\x00")


@hostile
def persistent_id_as_text(command: str) -> bytes:
    return around(b"P" + command.encode() + b"\n")


@hostile
def persistent_id_from_the_stack(command: str) -> bytes:
    return around(text(command) + b"Q")


@hostile
def eval_in_builtins(command: str) -> bytes:
    return pickle.dumps(
        entries(metadata={"a": Call(eval, f"__import__('os').system({command!r})")})
    )


@hostile
def dotted_name_into_an_allowed_module(command: str) -> bytes:
    steps = text("collections") + text("OrderedDict.fromkeys.__self__") + b"\x93)R"
    return around(
        steps + b"0" + text("torch.storage") + text("os.system") + b"\x93(" + text(command) + b"tR"
    )


@hostile
def protocol_0_text(command: str) -> bytes:
    return b"cos\nsystem\n(S" + repr(command).encode() + b"\ntR."


@hostile
def result_as_a_function(command: str) -> bytes:
    system = b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(" + text("os") + b"tR"
    return around(system + text("system") + b"tR(" + text(command) + b"tR")


@hostile
def dill_function(_: str) -> bytes:
    return around(b"cdill._dill\n_create_function\n)R")


@hostile
def dill_import(_: str) -> bytes:
    return around(b"cdill._dill\n_import_module\n(" + text("antigravity") + b"tR")


@hostile
def numpy_of_objects(command: str) -> bytes:
    array = np.empty(1, object)
    array[0] = Call(os.system, command)
    return pickle.dumps(entries(metadata={"a": array}), 4)


@hostile
def numpy_load(command: str) -> bytes:
    return around(b"cnumpy\nload\n(" + text(command) + b"tR")


def storage(blob: bytes) -> bytes:
    function, (_, *others) = torch.zeros(3).__reduce_ex__(4)  # type: ignore[no-untyped-call]
    call = Call(function, Call(torch.storage._load_from_bytes, blob), *others)
    return pickle.dumps(entries(weights={"a": call}), 4)


@hostile
def code_in_a_nested_storage(command: str) -> bytes:
    return storage(pickle.dumps(Call(os.system, command)))


@hostile
def code_behind_the_magic_of_a_storage(command: str) -> bytes:
    buffer = io.BytesIO()
    magic = torch.serialization.MAGIC_NUMBER
    for part in (magic, 1001, {"little_endian": True}, Call(os.system, command)):
        pickle.dump(part, buffer, 2)
    return storage(buffer.getvalue())


@hostile
def storage_in_a_storage(command: str) -> bytes:
    return storage(storage(pickle.dumps(Call(os.system, command))))


@hostile
def zip_with_code_as_a_storage(command: str) -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": Call(os.system, command)}, buffer)
    return storage(buffer.getvalue())


@hostile
def zip_bomb_as_a_storage(_: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(2**28))
    return storage(buffer.getvalue())


@hostile
def zip_whose_names_lead_out(command: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../../../tmp/napari-dante-hostile", command)
        archive.writestr("/etc/cron.d/x", command)
    return buffer.getvalue()


@hostile
def torch_save_as_a_model(command: str) -> bytes:
    buffer = io.BytesIO()
    torch.save(entries(metadata=Call(os.system, command)), buffer)
    return buffer.getvalue()


def forged_storage(numbers: int) -> bytes:
    """A storage that announces more numbers than it has."""
    buffer = io.BytesIO()
    three = torch.zeros(3)._typed_storage()  # type: ignore[no-untyped-call]
    torch.save(three, buffer, _use_new_zipfile_serialization=False)
    blob = buffer.getvalue()
    place = blob.rindex(b"K\x03")
    return storage(blob[:place] + b"\x8a\x08" + struct.pack("<q", numbers) + blob[place + 2 :])


@hostile
def storage_of_a_terabyte(_: str) -> bytes:
    return forged_storage(2**38)


@hostile
def storage_of_two_gigabytes(_: str) -> bytes:
    return forged_storage(2**29)


@hostile
def storage_of_a_negative_size(_: str) -> bytes:
    return forged_storage(-5)


def tensor(*arguments: Any) -> bytes:
    function, (numbers, *_) = torch.arange(6.0).__reduce_ex__(4)  # type: ignore[no-untyped-call]
    call = Call(function, numbers, *arguments, False, OrderedDict())
    return pickle.dumps(entries(weights={"a": call}), 4)


@hostile
def tensor_of_a_huge_shape(_: str) -> bytes:
    return tensor(0, (2**20, 2**20), (0, 0))


@hostile
def tensor_of_nothing_times_a_huge_shape(_: str) -> bytes:
    return tensor(0, (0, 2**62), (1, 1))


@hostile
def tensor_with_strides_beyond_its_numbers(_: str) -> bytes:
    return tensor(0, (2, 3), (2**40, 1))


@hostile
def tensor_with_an_offset_beyond_its_numbers(_: str) -> bytes:
    return tensor(2**33, (1,), (1,))


@hostile
def tensor_before_its_numbers(_: str) -> bytes:
    return tensor(-1, (3,), (1,))


@hostile
def a_thousand_tensors_of_the_same_numbers(_: str) -> bytes:
    function, (numbers, *_) = torch.zeros(2**18).__reduce_ex__(4)  # type: ignore[no-untyped-call]
    weights = {
        str(index): Call(function, numbers, 0, (2**18,), (1,), False, OrderedDict())
        for index in range(2000)
    }
    return pickle.dumps(entries(weights=weights), 4)


@hostile
def a_thousand_arrays_of_the_same_bytes(_: str) -> bytes:
    function, arguments, state = np.zeros(2**18, np.uint8).__reduce__()  # type: ignore[misc]
    calls = [Call(function, *arguments, state=state) for _ in range(2000)]
    return pickle.dumps(entries(metadata={"a": calls}), 4)


@hostile
def bytes_that_are_announced_only(_: str) -> bytes:
    return around(b"\x8e" + struct.pack("<Q", 2**33))


@hostile
def bytearray_that_is_announced_only(_: str) -> bytes:
    return around(b"\x96" + struct.pack("<Q", 2**30), b"\x80\x05")


@hostile
def frame_that_is_announced_only(_: str) -> bytes:
    return b"\x80\x04\x95" + struct.pack("<Q", 2**33) + b"N."


@hostile
def memo_index_that_is_huge(_: str) -> bytes:
    return around(b"Nr\xff\xff\xff\x7f")


@hostile
def memo_that_doubles(_: str) -> bytes:
    """Billion laughs: forty pairs of pairs, hashed as a key."""
    steps = b"K\x01"
    for _ in range(40):
        steps += b"q\xc8h\xc8\x86"
    return around(b"}" + steps + b"Ns")


@hostile
def memo_that_doubles_in_a_set(_: str) -> bytes:
    steps = b"K\x01"
    for _ in range(40):
        steps += b"q\xc8h\xc8\x86"
    return around(b"\x8f(" + steps + b"\x90")


@hostile
def memo_that_doubles_through_OrderedDict(_: str) -> bytes:
    steps = b"K\x01"
    for _ in range(40):
        steps += b"q\xc8h\xc8\x86"
    return around(b"ccollections\nOrderedDict\n]" + steps + b"N\x86a\x85R")


@hostile
def deep_nesting(_: str) -> bytes:
    return around(b"]" * 100_000 + b"a" * 99_999)


@hostile
def ten_million_lists(_: str) -> bytes:
    return b"\x80\x04(" + b"]" * 10_000_000 + b"l."


@hostile
def list_in_itself(_: str) -> bytes:
    return around(b"]q\xc8h\xc8a")


@hostile
def truncated(_: str) -> bytes:
    whole = pickle.dumps(entries(), 4)
    return whole[: len(whole) // 2]


@hostile
def empty(_: str) -> bytes:
    return b""


@hostile
def not_a_number(_: str) -> bytes:
    weights = dict(to_dafne(tiny_model()).weights)
    key = next(iter(weights))
    weights[key] = torch.full_like(weights[key], torch.nan)
    return pickle.dumps(entries(weights=OrderedDict(weights)), 4)


@hostile
def identity_that_is_a_number(_: str) -> bytes:
    return pickle.dumps(entries(model_id=7), 4)


@hostile
def identity_with_a_line_end(_: str) -> bytes:
    return pickle.dumps(entries(model_id=MODEL_ID + "\nx-header: 1"), 4)


@hostile
def identity_that_is_no_uuid(_: str) -> bytes:
    return around(b"cuuid\nUUID\n(" + text("../../etc/passwd") + b"tR").replace(
        pickle.dumps(MODEL_ID, 2)[2:-1], text("x")
    )


@hostile
def type_that_is_a_path(_: str) -> bytes:
    return pickle.dumps(entries(type="../../os"), 4)


@hostile
def network_of_another_library(_: str) -> bytes:
    metadata = dict(to_dafne(tiny_model()).metadata)
    ours = metadata["napari_dante"]
    metadata["napari_dante"] = ours | {"spec": ours["spec"] | {"network": "os.system"}}
    return pickle.dumps(entries(metadata=metadata), 4)


@hostile
def function_that_is_no_text(_: str) -> bytes:
    return pickle.dumps(entries(apply_model_function=b"\x00"), 4)


def harmless() -> bytes:
    """The same file without anything in it, so that the gallery is not refused for its frame."""
    return pickle.dumps(entries(), 4)


def same_layout_of_another_model() -> bytes:
    model = replace(to_dafne(tiny_model()), model_id="another")
    return pickle.dumps(entries(model_id=model.model_id), 4)

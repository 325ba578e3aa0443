"""Reading and writing Dafne's .model files: nothing runs, nothing is lost."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import sys
import uuid
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dante.errors import ModelError, UnsafeFile
from napari_dante.model import dafne_pickle
from napari_dante.model.dafne import DafneModel, from_dafne, read_dafne, to_dafne, write_dafne
from tests.federated.tiny import MODEL_ID, SPEC, tiny_model

MINIMAL: dict[str, Any] = {
    "model_id": MODEL_ID,
    "type": "DynamicTorchModel",
    "data_dimensionality": 3,
    "timestamp_id": 5,
    "weights": {"a": torch.arange(6.0).reshape(2, 3)},
}


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments, *(() if state is None else (state,)))

    def __reduce__(self) -> Any:
        return self.reduced

    def __call__(self) -> None:
        """Only so that pickle takes the result of one call as the function of the next."""


def written(tmp_path: Path, entries: Any, protocol: int = 4) -> Path:
    path = tmp_path / "made.model"
    path.write_bytes(pickle.dumps(entries, protocol))
    return path


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return list(first) == list(second) and all(
        first[key].dtype == second[key].dtype and torch.equal(first[key], second[key])
        for key in first
    )


def test_our_model_comes_back_bit_equal(tmp_path: Path) -> None:
    model = tiny_model(3)
    path = tmp_path / "tiny.model"
    write_dafne(path, to_dafne(model))
    back = from_dafne(read_dafne(path), "Another name")
    assert back.spec == SPEC
    assert back.lineage == replace(model.lineage, name="Another name")
    assert list(back.weights) == list(model.weights)
    for key, value in model.weights.items():
        assert back.weights[key].dtype == value.dtype
        np.testing.assert_array_equal(back.weights[key], value)


def test_file_has_the_order_and_types_of_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "tiny.model"
    write_dafne(path, to_dafne(tiny_model()))
    entries = pickle.loads(path.read_bytes())
    assert list(entries) == [
        "model_id",
        "weights",
        "timestamp_id",
        "is_delta",
        "data_dimensionality",
        "type",
        "metadata",
        "init_model_function",
        "apply_model_function",
        "incremental_learn_function",
    ]
    assert type(entries["weights"]) is OrderedDict
    assert entries["data_dimensionality"] == 3
    assert path.read_bytes()[:2] == b"\x80\x04"
    names = {
        argument
        for opcode, argument, _ in pickletools.genops(path.read_bytes())
        if opcode.name == "GLOBAL"
    }
    assert names == set()


def test_a_view_is_written_without_its_storage(tmp_path: Path) -> None:
    big = torch.zeros(1000, 1000)
    path = tmp_path / "view.model"
    write_dafne(path, DafneModel("id", "DynamicTorchModel", 3, 1, {"w": big[:2, :2]}))
    assert path.stat().st_size < 10_000


def test_not_finite_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "nan.model"
    model = DafneModel("id", "DynamicTorchModel", 3, 1, {"w": torch.tensor([1.0, torch.nan])})
    with pytest.raises(ModelError, match="not finite"):
        write_dafne(path, model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool],
)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_of_every_type_and_protocol(
    tmp_path: Path, dtype: torch.dtype, protocol: int
) -> None:
    tensor = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype)
    weights = OrderedDict(a=tensor, b=tensor.t(), c=tensor[1, 1], d=tensor[:0])
    back = read_dafne(written(tmp_path, MINIMAL | {"weights": weights}, protocol))
    assert same(back.weights, dict(weights))
    assert all(value.is_contiguous() for value in back.weights.values())


def test_parameters_and_state_dicts_are_read(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    for weights in (network.state_dict(), OrderedDict(network.named_parameters())):
        back = read_dafne(written(tmp_path, MINIMAL | {"weights": weights}))
        assert same(back.weights, {key: value.detach() for key, value in weights.items()})


def test_uuid_and_text_identities_stay_apart(tmp_path: Path) -> None:
    for identity in (uuid.UUID(MODEL_ID), MODEL_ID):
        for protocol in (2, 4):
            back = read_dafne(written(tmp_path, MINIMAL | {"model_id": identity}, protocol))
            assert back.model_id == identity
            assert type(back.model_id) is type(identity)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        np.array([True, False]),
        np.array(3.5),
        np.float64(2.5),
        np.int64(-4),
    ],
)
def test_numpy_in_metadata(tmp_path: Path, array: Any, protocol: int) -> None:
    path = written(tmp_path, MINIMAL | {"metadata": {"fisher": {"x": array}}}, protocol)
    back = read_dafne(path).metadata["fisher"]["x"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    old = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert protocol > 3 or b"numpy.core" in old
    if protocol < 4:
        path.write_bytes(old)
        np.testing.assert_array_equal(read_dafne(path).metadata["fisher"]["x"], array)


def test_dill_arrays_are_read_without_dill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dill, inner = ModuleType("dill"), ModuleType("dill._dill")

    def _create_array(*_: Any) -> None:
        raise AssertionError

    _create_array.__module__ = "dill._dill"
    _create_array.__qualname__ = "_create_array"
    inner._create_array = _create_array  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dill", dill)
    monkeypatch.setitem(sys.modules, "dill._dill", inner)
    array = np.arange(4.0)
    reduced: Any = array.__reduce__()
    function, arguments, state = reduced
    call = Call(_create_array, function, arguments, state, None)
    back = read_dafne(written(tmp_path, MINIMAL | {"metadata": {"x": call}}))
    np.testing.assert_array_equal(back.metadata["x"], array)


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL | {"metadata": {"x": np.array([None, "a"], object)}})
    with pytest.raises(ModelError):
        read_dafne(path)


def test_source_stays_text(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    text = f"open({str(canary)!r}, 'w').close()\ndef f(): pass\n"
    entries = MINIMAL | {"apply_model_function": text, "init_model_function": None, "more": [1]}
    back = read_dafne(written(tmp_path, entries))
    assert back.sources == {"apply_model_function": text, "init_model_function": None}
    assert back.extra == {"more": [1]}
    assert not canary.exists()


def evil_storage(command: str) -> Call:
    return Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, command)))


def evil_behind_magic(command: str) -> Call:
    buffer = io.BytesIO()
    magic = torch.serialization.MAGIC_NUMBER
    for part in (magic, 1001, {"little_endian": True}, Call(os.system, command)):
        pickle.dump(part, buffer, 2)
    return Call(torch.storage._load_from_bytes, buffer.getvalue())


def evil_zip(command: str) -> Call:
    buffer = io.BytesIO()
    torch.save({"x": Call(os.system, command)}, buffer)
    return Call(torch.storage._load_from_bytes, buffer.getvalue())


ATTACKS = {
    "os.system": lambda command: Call(os.system, command),
    "eval": lambda command: Call(eval, f"__import__('os').system({command!r})"),
    "exec": lambda command: Call(exec, f"import os; os.system({command!r})"),
    "getattr": lambda command: Call(Call(getattr, Call(__import__, "os"), "system"), command),
    "import": lambda _: Call(__import__, "antigravity"),
    "torch.load": lambda _: Call(torch.load, "x"),
    "partial": lambda command: Call(__import__("functools").partial, os.system, command),
    "storage blob": evil_storage,
    "storage blob behind its magic": evil_behind_magic,
    "storage blob as zip": evil_zip,
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("where", ["weights", "metadata", "model_id", "whole"])
def test_a_file_that_asks_for_code_runs_nothing(tmp_path: Path, attack: str, where: str) -> None:
    canary = tmp_path / "canary"
    evil = ATTACKS[attack](f"touch '{canary}'")
    entries = evil if where == "whole" else MINIMAL | {where: {"a": evil}}
    path = written(tmp_path, entries)
    with pytest.raises(UnsafeFile, match="nothing of it was executed"):
        read_dafne(path)
    assert not canary.exists()


def test_numbers_in_a_compressed_container_are_refused(tmp_path: Path) -> None:
    """A zip could unfold to a thousand times its size."""
    buffer = io.BytesIO()
    torch.save(torch.zeros(3).untyped_storage(), buffer)
    blob = Call(torch.storage._load_from_bytes, buffer.getvalue())
    function, (_, *others) = torch.zeros(3).__reduce_ex__(4)  # type: ignore[no-untyped-call]
    call = Call(function, blob, *others)
    with pytest.raises(UnsafeFile):
        read_dafne(written(tmp_path, MINIMAL | {"weights": {"a": call}}))


def test_the_attacks_are_real(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for attack in ("os.system", "eval", "exec", "getattr", "storage blob"):
        with suppress(RuntimeError):
            pickle.loads(pickle.dumps(ATTACKS[attack](f"touch '{canary}'")))
        assert canary.exists(), attack
        canary.unlink()


def test_a_stream_cannot_change_a_class(tmp_path: Path) -> None:
    before = dict(vars(uuid.UUID))
    for state in ({"x": 1}, (None, {"__str__": "x"})):
        target = b"\x80\x04cuuid\nUUID\n" + pickle.dumps(state, 4)[2:-1] + b"b."
        path = tmp_path / "class.model"
        path.write_bytes(target)
        with pytest.raises(ModelError):
            read_dafne(path)
    assert dict(vars(uuid.UUID)) == before


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)),
        (3, (4,), (1,)),
        (0, (1 << 40,), (0,)),
        (0, (2, 2), (5, 1)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, [2], (1,)),
    ],
)
def test_a_tensor_cannot_reach_outside_its_numbers(
    tmp_path: Path, offset: int, size: Any, stride: Any
) -> None:
    function, (storage, *_) = torch.arange(6.0).__reduce_ex__(4)  # type: ignore[no-untyped-call]
    call = Call(function, storage, offset, size, stride, False, OrderedDict())
    with pytest.raises(ModelError):
        read_dafne(written(tmp_path, MINIMAL | {"weights": {"a": call}}))


def test_forged_lengths_and_cycles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "forged.model"
    cycle: list[Any] = []
    cycle.append(cycle)
    for data in (
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x04Nr\xff\xff\xff\xff.",
        pickle.dumps(MINIMAL | {"metadata": {"x": cycle}}),
    ):
        path.write_bytes(data)
        with pytest.raises(ModelError):
            read_dafne(path)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [torch.zeros(1)]},
        {"weights": {}},
        {"weights": {"a": 1}},
        {"weights": {1: torch.zeros(1)}},
        {"weights": None},
        {"model_id": 7},
        {"model_id": None},
        {"type": "../x"},
        {"timestamp_id": "1"},
        {"metadata": [1]},
        {"is_delta": 3},
        {"data_dimensionality": "3"},
        {"apply_model_function": 4},
    ],
)
def test_entries_of_another_type_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        read_dafne(written(tmp_path, MINIMAL | change))


def test_absent_and_large_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="no such"):
        read_dafne(tmp_path / "none.model")
    monkeypatch.setattr("napari_dante.model.dafne.MAX_BYTES", 10)
    with pytest.raises(ModelError, match="too large"):
        read_dafne(written(tmp_path, MINIMAL))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_always_a_model_error(data: st.DataObject) -> None:
    whole = pickle.dumps(MINIMAL, 4)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ModelError):
        dafne_pickle.load(io.BytesIO(whole[:cut]))
    place, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    changed = whole[:place] + bytes([value]) + whole[place + 1 :]
    try:
        dafne_pickle.load(io.BytesIO(changed))
    except ModelError as error:
        assert error.sentence  # noqa: PT017


@settings(max_examples=100, deadline=None)
@given(noise=st.binary(max_size=200))
def test_noise_is_always_a_model_error_or_data(noise: bytes) -> None:
    try:
        dafne_pickle.load(io.BytesIO(noise))
    except ModelError as error:
        assert error.sentence  # noqa: PT017


def test_an_update_carries_all_but_weights_and_time() -> None:
    base = replace(
        to_dafne(tiny_model(0)),
        model_id=uuid.UUID(MODEL_ID),
        sources={"apply_model_function": "theirs"},
        extra={"x": 1},
        timestamp=4_000_000_000,
    )
    update = to_dafne(tiny_model(1), base)
    for name in ("model_id", "kind", "dimensionality", "metadata", "sources", "extra", "is_delta"):
        assert getattr(update, name) is getattr(base, name)
    assert update.timestamp > base.timestamp
    assert same(update.weights, to_dafne(tiny_model(1)).weights)


def test_an_update_of_another_model_is_refused() -> None:
    base = to_dafne(tiny_model())
    with pytest.raises(ModelError, match="another model"):
        to_dafne(tiny_model(), replace(base, model_id="other"))
    with pytest.raises(ModelError, match="layout"):
        to_dafne(tiny_model(), replace(base, weights=dict(list(base.weights.items())[1:])))


def test_history_is_dropped_after_a_merge() -> None:
    model = tiny_model()
    taught = replace(model, lineage=replace(model.lineage, exam={"before": 0.1, "after": 0.9}))
    dafne = to_dafne(taught)
    assert from_dafne(dafne, "A").lineage.exam == {"before": 0.1, "after": 0.9}
    merged = from_dafne(replace(dafne, timestamp=dafne.timestamp + 1), "A")
    assert merged.lineage.exam is None
    assert merged.lineage.model_id == MODEL_ID


def test_a_foreign_architecture_is_not_guessed() -> None:
    dafne = replace(to_dafne(tiny_model()), metadata={"categories": [["x"]]})
    with pytest.raises(ModelError, match="not recognised"):
        from_dafne(dafne, "A")

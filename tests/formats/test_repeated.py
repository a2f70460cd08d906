"""Distributed tensors that are recognised by their bytes are those that the machine makes opcode by opcode.

Covers `formats/torch/pickle/repeated.py`.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, NamedTuple

import pytest

from tests.hostile.containers import Entry, zipped
from wconv.formats.sources import MemorySource
from wconv.formats.torch.archive import ZipStorages
from wconv.formats.torch.objects import Record, TensorPart
from wconv.formats.torch.pickle.machine import Machine
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.torch.pickle.repeated import shortcuts
from wconv.formats.torch.pickle.state import MissingValue
from wconv.formats.zip.directory import ZipDirectory


class Name(NamedTuple):
    module: str
    name: str


class Called:
    """A call, or with `new` an instance, of what a name stands for."""

    def __init__(self, function: Name, args: tuple[Any, ...], state: Any = None, new: bool = False) -> None:
        self.function, self.args, self.state, self.new = function, args, state, new


class Stored(NamedTuple):
    key: str


class Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes names that cannot be imported, as torch's own pickler writes them."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if id(obj) in self.memo or not isinstance(obj, Name | Called | Stored):
            super().save(obj, save_persistent_id)
        elif isinstance(obj, Name):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
            self.memoize(obj)
        elif isinstance(obj, Stored):
            super().save(("storage", FLOAT, obj.key, "cpu", 8))
            self.write(pickle.BINPERSID)
        else:
            self.save(obj.function)
            self.save(obj.args)
            self.write(pickle.NEWOBJ if obj.new else pickle.REDUCE)
            self.memoize(obj)
            if obj.state is not None:
                self.save(obj.state)
                self.write(pickle.BUILD)


FLOAT = Name("torch", "FloatStorage")
DENSE = Name("torch._utils", "_rebuild_tensor_v2")
FROM_TYPE = Name("torch._tensor", "_rebuild_from_type_v2")
WRAPPER = Name("torch._utils", "_rebuild_wrapper_subclass")
DTENSOR = Name("torch.distributed.tensor", "DTensor")
SPEC = Name("torch.distributed.tensor._dtensor_spec", "DTensorSpec")
SHARD = Name("torch.distributed.tensor.placement_types", "Shard")
DEVICE, DTYPE = Name("torch", "device"), Name("torch", "float32")
ORDERED = Name("collections", "OrderedDict")
MESH = Called(Name("torch.distributed.device_mesh", "DeviceMesh"), (), {"axes": (2,)}, new=True)


def fresh(*lengths: int) -> tuple[int, ...]:
    """A tuple that no other part of the pickle shares."""
    return lengths


def tensor(key: str, axis: int) -> Called:
    shape = (4, 4) if axis == 0 else (2, 8)
    hooks = Called(ORDERED, ())
    local = Called(DENSE, (Stored(key), 0, fresh(2, 4), fresh(4, 1), False, hooks))
    spec = Called(SPEC, (), None, new=True)
    placements = (Called(SHARD, (), {"dim": axis}, new=True),)
    spec.state = {"mesh": MESH, "placements": placements, "more": (axis, fresh(7, 300))}
    args = (DTENSOR, DTYPE, fresh(*shape), fresh(shape[1], 1), 0, None, Called(DEVICE, ("cpu",)), False)
    return Called(FROM_TYPE, (WRAPPER, DTENSOR, args, (None, {"_local_tensor": local, "_spec": spec})))


def written(values: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    # entries of the memo below 256 are written in another way
    Pickler(out, protocol=2).dump({"names": [[] for _ in range(256)], **values})
    return out.getvalue()


def run(program: bytes, count: int, *, fast: bool) -> tuple[dict[str, Any], list[Any]]:
    data = zipped(Entry(f"data/{key}", bytes(32)) for key in range(count))
    storages = ZipStorages(ZipDirectory(MemorySource(data, "model.bin")), "data/", swap=False)
    machine = Machine(
        MemorySource(program, "model.bin"), NAMES, storages, shortcuts=shortcuts(storages) if fast else None
    )
    storages.machine = machine
    return machine.run(), machine.memo


def told(value: Any) -> Any:
    """What is to be known of a part, without regard to what several share."""
    if isinstance(value, TensorPart):
        return value.reason, value.local.storage.key, value.local.shape, value.shape, told(value.spec)
    if isinstance(value, Record):
        return value.class_name, told(value.args), told(value.state)
    if isinstance(value, dict):
        return {key: told(item) for key, item in value.items()}
    return [told(item) for item in value] if isinstance(value, tuple | list) else value


def omitted(memo: list[Any]) -> int:
    return sum(isinstance(value, MissingValue) for value in memo)


def test_they_are_what_the_machine_makes() -> None:
    many = {f"w{at}": tensor(str(at), at % 3 // 2) for at in range(40)}
    program = written({**many, "tied": many["w7"]})
    found, memo = run(program, 40, fast=True)
    slow, whole = run(program, 40, fast=False)
    assert told(found) == told(slow)
    assert found["tied"] is found["w7"]
    assert len(memo) == len(whole)
    assert omitted(memo) > 39 * 15
    specs = {id(found[f"w{at}"].spec) for at in range(40)}
    # the first tensor names all that the others get, so its bytes are others
    assert len(specs) == 3


def test_a_spec_that_is_asked_for_later_is_there() -> None:
    many = {f"w{at}": tensor(str(at), 0) for at in range(10)}
    spec = many["w5"].args[3][1]["_spec"]
    program = written({**many, "later": spec})
    found, memo = run(program, 10, fast=True)
    assert told(found) == told(run(program, 10, fast=False)[0])
    assert found["later"] is found["w5"].spec
    # only the tensors within are made by a shortcut now
    assert 0 < omitted(memo) < 10 * 8


@pytest.mark.parametrize("change", ["first", "between"])
def test_a_spec_that_is_changed_changes_no_other(change: str) -> None:
    many: dict[str, Any] = {f"w{at}": tensor(str(at), 0) for at in range(6)}
    spec = many["w1" if change == "first" else "w3"].args[3][1]["_spec"]
    program = written({**many, "again": spec})
    at = program.rindex(b"j")
    program = program[: at + 5] + b"}X\x04\0\0\0morescb".replace(b"sc", b"K\x05s") + program[at + 5 :]
    found, _ = run(program, 6, fast=True)
    assert told(found) == told(run(program, 6, fast=False)[0])


def test_other_bytes_are_left_to_the_machine() -> None:
    many = {f"w{at}": tensor(str(at), 0) for at in range(6)}
    program = written(many)
    last = program.rindex(b"K\x07M\x2c\x01")
    program = program[:last] + b"K\x08" + program[last + 2 :]
    found, _ = run(program, 6, fast=True)
    assert found["w5"].spec.attributes["more"] == (0, (8, 300))
    assert found["w4"].spec.attributes["more"] == (0, (7, 300))

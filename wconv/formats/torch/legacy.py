"""torch.save's streams from before 1.6: five pickles back to back, then the storages' bytes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, Literal

from wconv.errors import FormatError
from wconv.formats.sources import Source
from wconv.formats.torch.objects import OrderedDict, Storage, shown
from wconv.formats.torch.pickle.machine import Machine
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.torch.pickle.reading import plain
from wconv.formats.torch.pickle.repeated import shortcuts
from wconv.formats.torch.pickle.state import MachineState
from wconv.formats.torch.tensors import checked_part, is_count, storage_dtype

MAGIC = 0x1950A86A20F9469CFC6C

_START = re.compile(
    rb"\x80.(?:\x95.{8})?\x8a\x0a" + re.escape(MAGIC.to_bytes(10, "little")) + rb"\.", re.DOTALL
)
"""A protocol, a frame from protocol 4 on, the number and STOP."""

_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")

STORAGES_LIMIT = 10_000_000
"""Storages in one stream."""


def recognise(source: Source) -> bool:
    """Whether the first pickle is the magic number, in whatever protocol it was written."""
    start = source.read(0, min(64, source.size))
    return _START.match(start) is not None or start.startswith(str(MAGIC).encode("ascii"), 1)


class LegacyStorages:
    """Answers the persistent ids of a stream, and remembers the storages until their bytes are reached."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self.views: dict[tuple[str, int, int], Storage] = {}
        self.machine: MachineState | None = None

    def __call__(self, pid: Any) -> Any:
        machine = self.machine
        assert machine is not None
        if type(pid) is tuple and len(pid) == 4 and pid[0] == "module":
            return pid[1]
        if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage":
            raise machine.damaged(f"persistent id {shown(pid, 80)} is no storage's")
        root = self.storage(machine, *pid[1:5])
        return root if len(pid) == 5 or pid[5] is None else self._view(machine, root, pid[5])

    def storage(
        self, machine: MachineState, storage_class: Any, key: Any, location: Any, numel: Any
    ) -> Storage:
        """The storage that a persistent id names; its bytes are found later."""
        key = str(key) if type(key) is int else key
        if type(key) is not str or type(location) is not str or not is_count(numel):
            raise machine.damaged(f"storage {shown(key, 40)} is not described")
        name, dtype = storage_dtype(machine, storage_class)
        root = self.storages.get(key)
        if root is None:
            machine.charge(300)
            root = self.storages[key] = Storage(key, name, dtype, numel, location)
        elif (root.name, root.numel) != (name, numel):
            raise machine.damaged(f"storage {shown(key, 40)} is described in two ways")
        return root

    def _view(self, machine: MachineState, root: Storage, view: Any) -> Storage:
        """A storage that is a part of another one: `(key, offset, size)`, in elements."""
        offset, numel = checked_part(machine, root, view)
        found = self.views.get((root.key, offset, numel))
        if found is None:
            machine.charge(300)
            key = f"{root.key}[{offset}:{offset + numel}]"
            found = Storage(key, root.name, root.dtype, numel, root.location)
            self.views[root.key, offset, numel] = found
        return found

    def place(self, source: Source, keys: list[str], at: int, little: bool) -> int:
        """Finds each storage's bytes: for every key a count of eight bytes, then the elements.

        torch itself writes little-endian on every machine, whatever `little` (its system's order, as the
        stream has it) says; other writers of big-endian machines did not. The counts, which the pickle holds
        too, tell which it is.

        Returns:
            The place behind the last one.

        Raises:
            FormatError: the stream ends early, or a count is not what the pickle said.
        """
        order = "little" if little else ""
        for key in keys:
            storage = self.storages.get(key)
            if storage is None:
                raise FormatError(f"{source.where} is damaged: nothing uses its storage {shown(key, 40)}")
            counted = source.read(at, 8)
            found = {name for name in _ORDERS if int.from_bytes(counted, name) == storage.numel}
            if (order and order not in found) or not found:
                raise FormatError(
                    f"{source.where} is damaged: storage {shown(key, 40)} should have"
                    f" {storage.numel:,} elements and has {int.from_bytes(counted, 'little'):,}"
                )
            if not order and len(found) == 1:
                order = next(iter(found))
            at += 8
            if at + storage.nbytes > source.size:
                raise FormatError(f"{source.where} is truncated: it ends within a storage; download it again")
            storage.source, storage.start = source, at
            at += storage.nbytes
        swap = (order or "big") != sys.byteorder
        for storage in (*self.storages.values(), *self.views.values()):
            storage.swap = swap
        for (key, offset, _), view in self.views.items():
            root = self.storages[key]
            view.source, view.start = root.source, root.start + offset * root.dtype.itemsize
        missing = [key for key, storage in self.storages.items() if storage.source is None]
        if missing:
            raise FormatError(
                f"{source.where} is truncated: storage {shown(missing[0], 40)} is missing; download it again"
            )
        return at


def load(source: Source, read_nested: Callable[[Source], Any]) -> tuple[Any, int]:
    """The object that torch.save was given, and where the stream ends; another one may follow.

    Raises:
        FormatError: the stream is damaged or truncated.
    """
    at = 0
    header = []
    for _ in range(3):
        machine = Machine(source, NAMES, at=at)
        header.append(machine.run())
        at = machine.end
    magic, version, system = header
    if magic != MAGIC or version != 1001:
        raise FormatError(f"{source.where} is a PyTorch stream of another version ({shown(version, 40)})")
    little = system.get("little_endian", True) if type(system) in (dict, OrderedDict) else None
    if type(little) is not bool:
        raise FormatError(f"{source.where} is damaged: it does not say on what machine it was written")
    storages = LegacyStorages()
    machine = Machine(source, NAMES, storages, at, shortcuts(storages), read_nested)
    storages.machine = machine
    root = machine.run()
    machine = Machine(source, NAMES, at=machine.end)
    keys = machine.run()
    if type(keys) is not list or len(keys) > STORAGES_LIMIT:
        raise FormatError(f"{source.where} is damaged: its list of storages is none")
    names = [str(key) if type(key) is int else plain(key) for key in keys]
    if not all(type(name) is str for name in names) or len(set(names)) != len(names):
        raise FormatError(f"{source.where} is damaged: its list of storages is none")
    return root, storages.place(source, names, machine.end, little)

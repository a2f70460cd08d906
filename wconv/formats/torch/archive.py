"""torch.save's zip archives (since 1.6): `<root>/data.pkl` and one member per storage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from wconv.errors import FormatError
from wconv.formats.sources import Source
from wconv.formats.torch.objects import Storage, shown
from wconv.formats.torch.pickle.machine import Machine
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.torch.pickle.repeated import shortcuts
from wconv.formats.torch.pickle.state import MachineState
from wconv.formats.torch.tensors import checked_part, storage_dtype
from wconv.formats.zip.directory import ZipDirectory

ReadNested = Callable[[Source], Any]
"""What reads a checkpoint that lies within another."""

SMALL = 1 << 20
"""Bytes of a member that is a word or two: byteorder, version."""


class ZipStorages:
    """Answers the persistent ids of one pickle of an archive: `('storage', class, key, location, numel)`.

    Args:
        directory: the archive.
        folder: what the members' names start with ("model/data/").
        swap: the archive was written on a machine of the other byte order.
    """

    def __init__(self, directory: ZipDirectory, folder: str, swap: bool) -> None:
        self.directory = directory
        self.folder = folder
        self.swap = swap
        self.storages: dict[str, Storage] = {}
        self.parts: dict[tuple[Storage, int, int], Storage] = {}
        self.places: dict[str, tuple[Source, int, int]] = {}
        self.machine: MachineState | None = None

    def __call__(self, pid: Any) -> Storage:
        machine = self.machine
        assert machine is not None
        if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage":
            raise machine.damaged(f"persistent id {shown(pid, 80)} is no storage's")
        whole = self.storage(machine, *pid[1:5])
        # archives of before 1.4 say as legacy streams do, in a sixth item, which part of it is meant
        return whole if len(pid) == 5 or pid[5] is None else self._part(machine, whole, pid[5])

    def _part(self, machine: MachineState, whole: Storage, view: Any) -> Storage:
        offset, numel = checked_part(machine, whole, view)
        found = self.parts.get((whole, offset, numel))
        if found is None:
            machine.budget -= 300
            key = f"{whole.key}[{offset}:{offset + numel}]"
            start = whole.start + offset * whole.dtype.itemsize
            found = Storage(
                key, whole.name, whole.dtype, numel, whole.location, whole.source, start, self.swap
            )
            self.parts[whole, offset, numel] = found
        return found

    def storage(
        self, machine: MachineState, storage_class: Any, key: Any, location: Any, numel: Any
    ) -> Storage:
        """The storage that a persistent id names, checked against the archive."""
        if type(key) is not str or type(location) is not str or type(numel) is not int:
            raise machine.damaged(f"storage {shown(key, 40)} is not described")
        name, dtype = storage_dtype(machine, storage_class)
        found = self.storages.get(key)
        if found is not None and found.numel == numel and found.name == name:
            return found
        source, start, size = self.place(key)
        if not 0 <= numel * dtype.itemsize <= size:
            raise FormatError(
                f"{self.directory.source.where} is damaged: storage {shown(key, 40)} should have"
                f" {shown(numel)} elements of {dtype.itemsize} bytes and has {size:,} bytes"
            )
        machine.budget -= 300
        made = Storage(key, name, dtype, numel, location, source, start, self.swap)
        # described in two ways, it is two storages over the same bytes
        self.storages.setdefault(key, made)
        return made

    def place(self, key: str) -> tuple[Source, int, int]:
        """A storage's bytes: their source, where in it they start, and how many they are."""
        name = self.folder + key
        found = self.places.get(name) if self.places else None
        if found is None:
            found = self.directory.open(name)
            if found[0] is not self.directory.source:
                # a deflated member keeps its inflater's states, so there must be one of it
                self.places[name] = found
        return found


def run(directory: ZipDirectory, name: str, folder: str, swap: bool, read_nested: ReadNested) -> Any:
    """The object of one pickled member whose storages are the members under `folder`."""
    storages = ZipStorages(directory, folder, swap)
    machine = Machine(
        directory.part(name),
        NAMES,
        storages,
        shortcuts=shortcuts(storages),
        read_nested=read_nested,
    )
    storages.machine = machine
    return machine.run()


def swapped(directory: ZipDirectory, folder: str) -> bool:
    """Whether the archive's bytes are in the other order than this machine's.

    Raises:
        FormatError: it names an order that does not exist.
    """
    name = folder + "byteorder"
    if name not in directory.entries:
        return sys.byteorder == "big"
    order = directory.read(name, SMALL).decode("latin-1").strip()
    if order not in ("little", "big"):
        raise FormatError(f"{directory.source.where} is damaged: byte order {order!r:.40} does not exist")
    return order != sys.byteorder


def load(directory: ZipDirectory, folder: str, read_nested: ReadNested) -> Any:
    """The object that torch.save was given."""
    swap = swapped(directory, folder)
    return run(directory, folder + "data.pkl", folder + "data/", swap, read_nested)

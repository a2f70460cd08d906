"""The thirty-odd opcodes that torch's pickler writes for a dense tensor, recognised in one step.

A shortcut of the pickle machine, not another reader: it applies only where the bytes are exactly what the
machine would have executed to the same end, checks what the machine would have checked through the same
functions, and leaves everything else to it. Values that nothing refers to again (the tuple of arguments, the
hooks) are not made; if the pickle does refer to one after all, the machine starts over without the shortcut.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from wconv.formats.torch.objects import Storage, TorchTensor
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.torch.pickle.state import OMITTED, MachineState
from wconv.formats.torch.tensors import view
from wconv.tensors.lazy import Shape, is_shape


class Storages(Protocol):
    """What answers a container's persistent ids."""

    def storage(
        self, machine: MachineState, storage_class: Any, key: Any, location: Any, numel: Any
    ) -> Storage:
        """The storage of a persistent id.

        Args:
            machine: what runs the pickle; it names the file in errors.
            storage_class: as the pickle names it: its dtype.
            key: the name of the entry that holds the bytes.
            location: the device that it was saved from.
            numel: its elements.

        Raises:
            FormatError: there are no such bytes, or not as many.
        """
        ...


_GET = rb"(h.|j.{4})"
_NUMBER = rb"(?:K.|M..|J.{4})"
_PUT = rb"(q.|r.{4}|\x94)"
_LENGTHS = rb"(" + _NUMBER + rb"{1,3}[\x85-\x87]|\(" + _NUMBER + rb"{4,8}t)"

TRIGGER = NAMES["torch._utils", "_rebuild_tensor_v2"]
"""The name after whose GET the shortcut is tried."""

PATTERN = re.compile(
    rb"\(\(%(get)s%(get)s(?:X(.)\x00\x00\x00|\x8c(.))([0-9]{1,20})%(put)s%(get)s(%(number)s)N?t%(put)sQ(%(number)s)"
    rb"%(lengths)s%(put)s%(lengths)s%(put)s([\x88\x89])%(get)s\)R%(put)st%(put)sR%(put)s"
    % {b"get": _GET, b"put": _PUT, b"number": _NUMBER, b"lengths": _LENGTHS},
    re.DOTALL,
)
"""((storage class key device numel) offset size stride requires_grad OrderedDict()), each part memoized."""

_PUTS_FROM_0 = int.from_bytes(b"".join(b"r" + bytes([at, 0, 0, 0]) for at in range(7)), "little")
_PUTS_STEP = int.from_bytes(b"\0\1\0\0\0" * 7, "little")
# seven LONG_BINPUTs one after another, read as one number, are `_PUTS_FROM_0 + first * _PUTS_STEP`
_ALL_MEMOIZED = b"\x94" * 7
_ORDERED_DICT = NAMES["collections", "OrderedDict"]

CACHED = 10_000
"""Different shapes and strides that are remembered."""


def shortcut(storages: Storages) -> Callable[[MachineState, bytes, int], int]:
    """The function that the machine tries after a GET of `TRIGGER`: takes its window and the place in it;
    pushes the tensor and returns the place after it, or returns the same place."""
    match_at = PATTERN.match
    known: dict[tuple[bytes, bytes], tuple[Shape, Shape, int] | None] = {}

    def attempt(machine: MachineState, data: bytes, at: int) -> int:
        match = match_at(data, at)
        if match is None:
            return at
        (
            word,
            kind,
            length,
            short_length,
            key,
            put_key,
            device,
            numel,
            put_id,
            offset,
            shape,
            put_shape,
            stride,
            put_stride,
            grad,
            hooks,
            put_hooks,
            put_args,
            put_tensor,
        ) = match.groups()
        memo = machine.memo
        puts = put_key + put_id + put_shape + put_stride + put_hooks + put_args + put_tensor
        if (
            int.from_bytes(puts, "little") != _PUTS_FROM_0 + len(memo) * _PUTS_STEP and puts != _ALL_MEMOIZED
        ) or (length or short_length)[0] != len(key):
            return at
        try:
            view_of = known[shape, stride]
        except KeyError:
            if len(known) > CACHED:
                known.clear()
            view_of = known[shape, stride] = _view(shape, stride)
        if view_of is None or _get(memo, word) != "storage" or _get(memo, hooks) is not _ORDERED_DICT:
            return at
        sizes, steps, reach = view_of
        text = str(key, "ascii")
        storage = storages.storage(machine, _get(memo, kind), text, _get(memo, device), _number(numel))
        start = _number(offset)
        if 0 <= start < storage.numel - reach:
            tensor = TorchTensor(storage, start, sizes, steps, storage.dtype, grad == b"\x88")
        else:
            tensor = view(machine, storage, start, sizes, steps, storage.dtype, grad == b"\x88")
        memo += (text, OMITTED, OMITTED, OMITTED, OMITTED, OMITTED, tensor)
        machine.stack.append(tensor)
        return match.end()

    return attempt


def _view(shape: bytes, stride: bytes) -> tuple[Shape, Shape, int] | None:
    """Shape, strides, and how far the last element lies from the first; None for what the machine refuses."""
    sizes, steps = _lengths(shape), _lengths(stride)
    if sizes is None or steps is None or len(sizes) != len(steps) or not is_shape(sizes):
        return None
    if any(step < 0 for step in steps):
        return None
    # an empty tensor reaches nowhere, wherever it starts: `view` knows
    reach = sum((length - 1) * step for length, step in zip(sizes, steps, strict=True))
    return sizes, steps, 2**63 if 0 in sizes else reach


def _get(memo: list[Any], code: bytes) -> Any:
    return memo[code[1] if len(code) == 2 else int.from_bytes(code[1:], "little")]


def _number(code: bytes) -> int:
    if len(code) == 2:
        return code[1]
    return int.from_bytes(code[1:], "little", signed=len(code) == 5)


def _lengths(code: bytes) -> Shape | None:
    """The numbers of a tuple, when it takes as many as were pushed."""
    numbers: list[int] = []
    at = int(code[0] == 0x28)
    while len(code) - at > 1:
        width = {0x4B: 2, 0x4D: 3, 0x4A: 5}[code[at]]
        numbers.append(_number(code[at : at + width]))
        at += width
    return tuple(numbers) if code[-1] in (0x74, 0x84 + len(numbers)) else None

"""The thirty-odd opcodes that torch's pickler writes for a dense tensor, recognised in one step.

A shortcut of the pickle machine, not another reader: it applies only where the bytes are exactly what the
machine would have executed to the same end, checks what the machine would have checked through the same
functions, and leaves everything else to it. Values that nothing refers to again (the tuple of arguments, the
hooks) are not made; if the pickle does refer to one after all, the machine starts over without the shortcut.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Protocol

from wconv.formats.objects import Storage
from wconv.formats.pickle_contract import SKIPPED
from wconv.formats.pickle_machine import Machine
from wconv.formats.torch_names import NAMES, view
from wconv.tensor import Shape


class Storages(Protocol):
    """What answers a container's persistent ids."""

    def storage(self, machine: Machine, kind: Any, key: Any, location: Any, numel: Any) -> Storage: ...


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

_PUTS = struct.Struct("<BIBIBIBIBIBIBI")
_ALL_MEMOIZED = b"\x94" * 7
_ORDERED_DICT = NAMES["collections", "OrderedDict"]

CACHED = 10_000
"""Different shapes and strides that are remembered."""


def shortcut(storages: Storages) -> Callable[[Machine, bytes, int], int]:
    """The function that the machine tries after a GET of `TRIGGER`: takes its window and the place in it;
    pushes the tensor and returns the place after it, or returns the same place."""
    match_at = PATTERN.match
    lengths_of: dict[bytes, Shape | None] = {}

    def attempt(machine: Machine, data: bytes, at: int) -> int:
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
        n = len(memo)
        puts = put_key + put_id + put_shape + put_stride + put_hooks + put_args + put_tensor
        if puts != _ALL_MEMOIZED and puts != _PUTS.pack(
            114, n, 114, n + 1, 114, n + 2, 114, n + 3, 114, n + 4, 114, n + 5, 114, n + 6
        ):
            return at
        if (length or short_length)[0] != len(key) or _get(memo, word) != "storage":
            return at
        sizes, steps = lengths_of.get(shape), lengths_of.get(stride)
        if sizes is None:
            sizes = lengths_of[shape] = _lengths(shape)
        if steps is None:
            steps = lengths_of[stride] = _lengths(stride)
        if sizes is None or steps is None or _get(memo, hooks) is not _ORDERED_DICT:
            return at
        if len(lengths_of) > CACHED:
            lengths_of.clear()
        text = key.decode("ascii")
        storage = storages.storage(machine, _get(memo, kind), text, _get(memo, device), _number(numel))
        tensor = view(machine, storage, _number(offset), sizes, steps, storage.dtype, grad == b"\x88")
        memo.extend((text, SKIPPED, SKIPPED, SKIPPED, SKIPPED, SKIPPED, tensor))
        machine.stack.append(tensor)
        return match.end()

    return attempt


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

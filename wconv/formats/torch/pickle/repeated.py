"""Distributed tensors that a pickle describes again and again, recognised by the description's bytes.

Two tensors of one shape that are spread in one way take a hundred equal opcodes each, around the thirty of
the tensor that is the rank's part; the bytes differ only in the memo entries, which count up. The machine
runs the first; where the next one's bytes are the same but for the count, its description is taken from it.
That applies only where the bytes would have made an equal object. Entries of the memo that the two then share
are not given out: if the pickle asks for one after all, the machine starts over without this shortcut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from wconv.formats.torch.objects import TorchTensor
from wconv.formats.torch.pickle import codes
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.torch.pickle.shortcut import TRIGGER as DENSE
from wconv.formats.torch.pickle.shortcut import Storages, shortcut
from wconv.formats.torch.pickle.state import OMITTED, Constructor, MachineState, Shortcut
from wconv.formats.torch.tensors import from_type

TRIGGER = NAMES["torch._tensor", "_rebuild_from_type_v2"]
"""The name after whose GET the shortcut is tried."""

LEARNED = 100
"""Times that a description is looked at to be remembered."""

_TEXT = b"|".join(b"%c\0\0\0.{%d}" % (length, length) for length in range(1, 17))
_TOKEN = rb"(?:h.|[rjJ].{4}|K.|M..|X(?:%s)|[\x28-\x29NRQbstu\x7d\x5d\x81\x85-\x89])" % _TEXT
_TENSOR = rb"(?:h.|j.{4})\(\((?:h.|j.{4})(?:h.|j.{4})[X\x8c]"

TOKENS = re.compile(_TOKEN, re.DOTALL)
HEAD = re.compile(rb"\((?:%s){4,100}?(?=%s)" % (_TOKEN, _TENSOR), re.DOTALL)
"""From the mark of the arguments to the tensor that is the rank's part."""

TAIL = re.compile(rb"(?:%s){4,200}?u\x86r.{4}tr.{4}Rr.{4}" % _TOKEN, re.DOTALL)
"""From behind that tensor: the rest of the state, the pair it is in, the arguments, the call."""

_MARKS = {b"(": 1, b"t": -1, b"u": -1}


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes with memo entries that count up: as one number, they are `zero + first * step`."""

    length: int
    puts: int
    zero: int
    step: int

    def is_at(self, data: bytes, at: int, first: int) -> bool:
        return int.from_bytes(data[at : at + self.length], "little") == self.zero + first * self.step


@dataclass(slots=True)
class _Description:
    """What surrounds a part, and in the memo the place from which on the machine put what it made of it."""

    head: _Part
    tail: _Part
    first: int
    inner: int
    arguments: tuple[Any, ...] | None = None


def shortcuts(storages: Storages) -> dict[Constructor, Shortcut]:
    """The machine's shortcuts for a container: for dense tensors, and for distributed ones around them."""
    dense = shortcut(storages)
    return {DENSE: dense, TRIGGER: repeated(dense)}


def repeated(dense: Shortcut) -> Callable[[MachineState, bytes, int], int]:
    """The function that the machine tries after a GET of `TRIGGER`.

    Args:
        dense: the shortcut for the tensor within.
    """
    known: dict[bytes, list[_Description]] = {}
    tries = 0

    def part(machine: MachineState, data: bytes, at: int) -> int:
        """Pushes the rank's part; the same place where that is not to be had in one step."""
        code = data[at]
        width = 2 if code == codes.BINGET else 5
        index = data[at + 1] if width == 2 else int.from_bytes(data[at + 1 : at + 5], "little")
        if machine.memo[index] is not DENSE:
            return at
        after = dense(machine, data, at + width)
        return after if after != at + width else at

    def attempt(machine: MachineState, data: bytes, at: int) -> int:
        nonlocal tries
        memo = machine.memo
        first = len(memo)
        for found in known.get(data[at : data.find(b"r", at, at + 100)], ()):
            if found.head.is_at(data, at, first):
                middle = at + found.head.length
                memo += [OMITTED] * found.head.puts
                after = part(machine, data, middle)
                if after != middle and found.tail.is_at(data, after, first):
                    made = _made(machine, found)
                    if made is not None:
                        memo += [OMITTED] * (found.tail.puts - 1)
                        memo.append(made)
                        machine.stack[-1] = made
                        machine.budget -= 800
                        return after + found.tail.length
                del memo[first:]
                if after != middle:
                    machine.stack.pop()
        if tries < LEARNED:
            tries += 1
            learn(machine, data, at)
        return at

    def learn(machine: MachineState, data: bytes, at: int) -> None:
        """Remembers the bytes of a description; the machine makes the object."""
        memo, head = machine.memo, HEAD.match(data, at)
        first = len(memo)
        before = _part(head[0], 0) if head else None
        if head is None or before is None:
            return
        memo += [OMITTED] * before.puts
        after = part(machine, data, head.end())
        inner = len(memo)
        del memo[first:]
        if after == head.end():
            return
        machine.stack.pop()
        tail = TAIL.match(data, after)
        behind = _part(tail[0], inner - first) if tail else None
        if tail is None or behind is None or not _is_closed(head[0], tail[0]):
            return
        found = _Description(before, behind, first, inner - 1)
        if before.is_at(data, at, first) and behind.is_at(data, after, first):
            known.setdefault(data[at : data.find(b"r", at, at + 100)], []).append(found)

    return attempt


def _part(text: bytes, index: int) -> _Part | None:
    """Bytes whose memo entries count up from `index` beyond the first."""
    zero, step, puts = bytearray(), bytearray(), 0
    for token in TOKENS.findall(text):
        if token[:1] == b"r":
            zero += b"r" + (index + puts).to_bytes(4, "little")
            step += b"\0\1\0\0\0"
        else:
            zero += token
            step += bytes(len(token))
        puts += token[:1] == b"r"
    if len(zero) != len(text):
        return None
    return _Part(len(text), puts, int.from_bytes(zero, "little"), int.from_bytes(step, "little"))


def _is_closed(head: bytes, tail: bytes) -> bool:
    """Whether the mark with which the head begins is the one that the tail's last tuple ends at."""
    depth = 0
    tokens: Sequence[bytes] = [*TOKENS.findall(head), *TOKENS.findall(tail)]
    end = len(tokens) - 1 - tokens[::-1].index(b"t")
    for at, token in enumerate(tokens):
        depth += _MARKS.get(token, 0)
        if (depth <= 0) != (at >= end):
            return False
    return depth == 0


def _made(machine: MachineState, found: _Description) -> Any:
    """The object that a description says of the part that is on the stack; None where it cannot be told."""
    if machine.overwritten or machine.wary:
        return None
    if found.arguments is None:
        found.arguments = _arguments(machine.memo, found)
    if not found.arguments:
        return None
    function, cls, arguments, (empty, state) = found.arguments
    local = machine.stack[-1]
    return from_type(machine, (function, cls, arguments, (empty, {**state, "_local_tensor": local})))


def _arguments(memo: list[Any], found: _Description) -> tuple[Any, ...]:
    """What the machine called for the first one; empty where that is no distributed tensor."""
    last = found.inner + found.tail.puts
    called = memo[last - 1]
    if type(called) is not tuple or len(called) != 4 or type(called[3]) is not tuple or len(called[3]) != 2:
        return ()
    empty, state = called[3]
    local = memo[found.inner]
    if empty is not None or type(state) is not dict or type(local) is not TorchTensor:
        return ()
    if state.get("_local_tensor") is not local:
        return ()
    for index in (*range(found.first, found.inner), *range(found.inner + 1, last)):
        memo[index] = OMITTED
    return called

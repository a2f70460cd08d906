"""The state of the pickle machine: its stack, memo, window and budget, and what may be done to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wconv.errors import FormatError, UnsafeError
from wconv.formats.sources import Source
from wconv.formats.torch.objects import (
    Fields,
    Global,
    LayoutName,
    MetaTensor,
    NestedTensor,
    NumpyArray,
    OrderedDict,
    Record,
    Size,
    SparseTensor,
    Storage,
    TorchTensor,
    plain_number,
)
from wconv.formats.torch.pickle.contract import (
    BINDING,
    BUDGET,
    KEY_DEPTH,
    KEY_FLOAT,
    KEY_INTEGER,
    KEY_NODES,
    KEY_NUMBERS,
    KEY_PART_INTEGER,
    MARGIN,
    PAYLOAD,
    PROGRAM_LIMIT,
    WINDOW,
    is_forbidden,
    printable,
)
from wconv.formats.torch.pickle.reading import READING, OldText, Value, text_or_bytes, with_plain_ids
from wconv.tensors.dtypes import DType


class Constructor:
    """A function of wconv that stands for a class or function which files name.

    Attributes:
        name: the dotted path in the file.
        call: takes the machine and the arguments as the file gives them, and checks them.
    """

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[[MachineState, Sequence[Any]], Any]) -> None:
        self.name = name
        self.call = call

    def __repr__(self) -> str:
        return f"<{self.name}>"


class PickleEnd(Exception):  # noqa: N818
    """STOP was reached."""


class MissingValue:
    """What a memo holds in place of a value."""


UNSET = MissingValue()
"""Nothing was put there."""

OMITTED = MissingValue()
"""A shortcut did not make the value. When it is asked for after all, the machine starts over without it."""


class OmittedValueNeeded(Exception):  # noqa: N818
    """A value that a shortcut left out is needed: the machine starts over without the shortcut."""


SCALARS = frozenset({str, bool, type(None), bytes, OldText, LayoutName, DType, Global, Record, Constructor})
"""Types that are always fit to be keys: Python hashes text with a secret, the others by identity or value."""


_BY_IDENTITY = frozenset({TorchTensor, Storage, NumpyArray, Fields})

Shortcut = Callable[["MachineState", bytes, int], int]


class MachineState:
    """What a pickle has made so far, and what it may still spend; the opcodes work on it.

    Args:
        source: the bytes; those after the pickle are not looked at.
        names: what `(module, name)` pairs stand for: `Constructor`s or values.
        persistent: turns a persistent id into an object; None where the format has none.
        at: where the pickle starts.
        shortcuts: names' values, each with a function that is tried after each GET of it. It is given the
            machine, its window and the place in it, and returns the same place, or a later one when it did
            what the opcodes up to there say, the GET included.
        read_nested: reads a checkpoint that lies within the pickle as bytes; without it there may be none.

    Attributes:
        end: where the pickle ended, after `run`.
        nested: bytes of checkpoints within this pickle that were read.
        wary: a name was told that may not be called, so that calls are looked at.
        overwritten: an entry of the memo was put again.
        program: how many bytes of it are program; the number of its objects is below that.
    """

    def __init__(
        self,
        source: Source,
        names: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any], Any] | None = None,
        at: int = 0,
        shortcuts: Mapping[Constructor, Shortcut] | None = None,
        read_nested: Callable[[Source], Any] | None = None,
    ) -> None:
        self.source = source
        how = READING.get()
        self.names = names if how is None else {**names, **how.names}
        self.persistent = persistent if how is None or persistent is None else with_plain_ids(persistent)
        self.old_text = text_or_bytes if how is None else how.old_text
        self.shortcuts = dict(shortcuts or {})
        self.read_nested = read_nested
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.budget = BUDGET
        self.key_numbers = 0
        self.nested = 0
        self.wary = False
        self.overwritten = False
        self.end = at
        self.program = 0
        self.base = at
        self.window = b""
        self.safe = 0

    def damaged(self, why: str) -> FormatError:
        """The error for a pickle that cannot be right."""
        return FormatError(f"{self.source.where} holds a damaged pickle: {why}")

    def charge(self, count: int) -> None:
        """Counts `count` bytes against the budget. Raises `UnsafeError` when it is spent."""
        self.budget -= count
        if self.budget < 0:
            raise UnsafeError(
                f"{self.source.where} makes objects of more than {BUDGET >> 20} MiB"
                " beside its tensors: refused"
            )

    def refill(self, at: int) -> int:
        """Reads the window that starts at `at` of the current one; returns the new place, 0."""
        start = self.base + at
        count = max(min(WINDOW, self.source.size - start), 0)
        self.program += at
        if self.program > PROGRAM_LIMIT:
            raise UnsafeError(
                f"{self.source.where} holds a pickle of more than {PROGRAM_LIMIT >> 20} MiB: refused"
            )
        if start > self.source.size:
            raise self.damaged("it ends early")
        self.budget -= 9 * (len(self.stack) + len(self.memo)) + 40 * len(self.marks)
        self.charge(0)
        self.budget += 9 * (len(self.stack) + len(self.memo)) + 40 * len(self.marks)
        self.base = start
        self.window = self.source.read(start, count)
        last = start + count == self.source.size
        self.safe = count if last else count - MARGIN
        return 0

    def skip(self, at: int, count: int) -> int:
        """Goes on after `count` bytes from `at` that were not read as program."""
        if at + count <= len(self.window):
            return at + count
        self.program += at
        self.base += at + count
        self.refill(0)
        return 0

    def take(self, at: int, count: int) -> bytes:
        """`count` bytes at `at` of the window, or beyond it."""
        if at + count <= len(self.window):
            return self.window[at : at + count]
        if self.base + at + count > self.source.size:
            raise self.damaged("it ends within a string")
        self.charge(2 * count)
        return self.source.read(self.base + at, count)

    def long_text(self, at: int, count: int) -> int:
        """Pushes a text that may be longer than the window; where reading goes on."""
        self.charge(count)
        self.stack.append(str(self.take(at, count), "utf-8", "surrogatepass"))
        return self.skip(at, count)

    def payload(self, at: int, count: int) -> int:
        """Pushes a byte string: as bytes, or as a `Source` when it is long enough to be left in the file."""
        if count < PAYLOAD:
            self.budget -= 64 + count
            self.stack.append(self.take(at, count))
        else:
            if self.base + at + count > self.source.size:
                raise self.damaged("it ends within a byte string")
            self.charge(500)
            self.stack.append(self.source.part(self.base + at, count))
        return self.skip(at, count)

    def line(self, at: int) -> tuple[bytes, int]:
        """The text up to the next newline, and the place after it."""
        stop = self.window.find(b"\n", at, at + MARGIN)
        if stop < 0:
            raise self.damaged("a line has no end")
        return self.window[at:stop], stop + 1

    def put(self, index: int, at: int) -> None:
        """MEMO: `index` may lie beyond the end (Python 2 counted from 1), never beyond the program read."""
        memo = self.memo
        if index >= len(memo):
            if index > self.program + at:
                raise UnsafeError(f"{self.source.where} holds a pickle with memo entry {index:,}: refused")
            memo.extend([UNSET] * (index + 1 - len(memo)))
        elif memo[index] is not UNSET:
            self.overwritten = True
        memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        """Pushes what the memo holds at a place."""
        value = self.memo[index]
        if type(value) is MissingValue:
            self.missing(value)
        self.stack.append(value)

    def missing(self, value: MissingValue) -> None:
        """A GET found no value in the memo."""
        if value is OMITTED:
            raise OmittedValueNeeded
        raise self.damaged("it gets a memo entry that was never put")

    def pop_mark(self) -> list[Any]:
        """The values above the topmost mark, removed with it."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def find(self, module: str, name: str) -> Any:
        """What a name stands for: an entry of the table, or an inert `Global`."""
        found = self.names.get((module, name))
        if found is not None:
            return found
        self.wary = self.wary or is_forbidden(module, name)
        self.charge(200 + len(module) + len(name))
        return Global(module, name)

    def construct(self, function: Any, args: Any) -> Any:
        """What calling `function` stands for: a constructor's result, or a record of the call.

        Raises:
            UnsafeError: it is a function that no weights need, or is given one.
        """
        if self.wary:
            self.check_call(function, args)
        if type(function) is Constructor:
            if type(args) is not tuple:
                raise self.damaged(f"{function.name} is given no tuple of arguments")
            return function.call(self, args)
        self.charge(400)
        return Record(function, args)

    def check_call(self, function: Any, args: Any) -> None:
        """Refuses a call that has to do with a forbidden name. Raises `UnsafeError`."""
        arguments = list(args[:KEY_NODES]) if type(args) in (tuple, list) else []
        if type(function) is Record and type(function.args) is tuple:
            # what was bound to a function is called with it
            arguments.extend(function.args[:KEY_NODES])
        elif type(function) is Global and function.path in BINDING:
            arguments = []
        for value in (function, *arguments):
            if type(value) is Global and is_forbidden(value.module, value.name):
                raise UnsafeError(
                    f"{self.source.where} asks for {printable(value.module)}.{printable(value.name)},"
                    " which no weights need: refused"
                )

    def key(self, key: Any, largest: int = KEY_INTEGER) -> Any:
        """`key` when it can be hashed and compared in constant time, and not made to collide at will.

        Raises:
            FormatError: it is of a kind that is no key.
            UnsafeError: it is nested, or a number that was made to collide.
        """
        key = plain_number(key)
        kind = type(key)
        if kind in SCALARS or kind in _BY_IDENTITY:
            return key
        if kind is int:
            if abs(key) < largest:
                return key
            raise UnsafeError(f"{self.source.where} has a number for a key that no weights need: refused")
        if kind is float and not KEY_FLOAT <= abs(key) < math.inf:
            return key
        if kind is tuple or kind is Size:
            self._check_tuple(key)
            return key
        if kind is Value:
            self.key(key.plain, largest)
            return key
        raise self.damaged(f"a {kind.__name__} serves as a key")

    def frozen(self, items: Sequence[Any]) -> frozenset[Any]:
        """A frozenset; it is never a key itself, so that none is within another."""
        self.charge(216 + 50 * len(items))
        return frozenset([self.key(item) for item in items])

    def _check_tuple(self, key: tuple[Any, ...]) -> None:
        pending: list[tuple[Any, int]] = [(key, 0)]
        seen = numbers = 0
        while pending:
            value, depth = pending.pop()
            seen += 1
            if seen > KEY_NODES or depth > KEY_DEPTH:
                raise UnsafeError(f"{self.source.where} has a key of tuples in tuples: refused")
            kind = type(value)
            if kind is tuple or kind is Size:
                pending.extend((item, depth + 1) for item in value[: KEY_NODES + 1])
            else:
                self.key(value, KEY_PART_INTEGER)
                kind = type(value.plain) if kind is Value else kind
                numbers += 1 if kind is int else 4 if kind is float else 0
        self.charge(64 * seen)
        self.key_numbers += numbers
        if self.key_numbers > KEY_NUMBERS:
            raise UnsafeError(
                f"{self.source.where} has more than {KEY_NUMBERS:,} numbers in tuples as keys: refused"
            )

    def set_items(self, target: Any, items: list[Any]) -> None:
        """SETITEMS: keys and values in turn."""
        if type(target) is dict or type(target) is OrderedDict:
            into = target
        elif type(target) is Record:
            into = target.items
        else:
            raise self.damaged(f"it sets items of a {type(target).__name__}")
        if len(items) % 2:
            raise self.damaged("a key has no value")
        self.charge(50 * len(items))
        for at in range(0, len(items), 2):
            key = items[at]
            into[key if type(key) is str else self.key(key)] = items[at + 1]

    def extend(self, target: Any, items: list[Any]) -> None:
        """APPENDS and ADDITEMS."""
        if type(target) is list:
            self.charge(9 * len(items))
            target.extend(items)
        elif type(target) is set:
            self.charge(100 * len(items))
            target.update([self.key(item) for item in items])
        elif type(target) is Record:
            self.charge(9 * len(items))
            target.elements.extend(items)
        else:
            raise self.damaged(f"it appends to a {type(target).__name__}")

    def build(self, target: Any, state: Any) -> None:
        """BUILD: remembers the state, on the few things that can have one."""
        if type(target) is Record:
            target.state = state
        elif type(target) is OrderedDict:
            target.attributes = state
        elif type(target) is TorchTensor:
            target.state = state
        elif hasattr(type(target), "set_state"):
            target.set_state(self, state)
        elif not isinstance(target, (dict, list, set, Storage, SparseTensor, NestedTensor, MetaTensor)):
            raise self.damaged(f"it sets the state of a {type(target).__name__}")

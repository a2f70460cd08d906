"""A pickle machine that cannot run code.

The contract, which the code below keeps and the tests check:

1. The opcodes in `pickle_opcodes` and in `Machine._loop` are all that exist (protocols 0 to 5, without the
   extension registry and out-of-band buffers). Any other byte ends the reading.
2. A name (GLOBAL, STACK_GLOBAL, INST) is looked up in the table that the caller passes, and nowhere else:
   nothing is imported, no attribute of anything is fetched by a name from the file.
3. Only a `Constructor` of that table is ever called (REDUCE, NEWOBJ, OBJ, INST), and those are functions of
   wconv that check their arguments. Calling anything else makes a `Record`, which only remembers.
   BUILD, APPENDS, SETITEMS and ADDITEMS touch exact dicts, lists, sets and the classes of `objects`.
4. Names of modules that act on the machine (`pickle_contract.FORBIDDEN`) may be told, as hyper-parameters
   are; to call one, or to hand one to a call, is refused outright, to say what the file tried.
5. Memory is taken only for bytes that the file has: lengths are checked first; the memo is a list that
   cannot be longer than the program read so far; everything else that is made is charged against
   `BUDGET`. The program itself is read in windows and may have `PROGRAM_LIMIT` bytes.
6. Keys of dicts and members of sets are hashed only when they are scalars, names, records (by identity) or
   shallow tuples of those, so that no nesting can overflow the stack or double the work; numbers whose
   hashes could be made to collide are refused.
7. Bad input raises `FormatError` or `UnsafeError`, nothing else.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wconv.errors import FormatError, UnsafeError
from wconv.formats.sources import MemorySource, Source
from wconv.formats.torch.objects import (
    Global,
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
    MARKS,
    PAYLOAD,
    PROGRAM_LIMIT,
    SCALARS,
    SKIPPED,
    UNSET,
    WINDOW,
    Absent,
    Again,
    Constructor,
    Stop,
    is_forbidden,
    printable,
)
from wconv.formats.torch.pickle.opcodes import HANDLERS, from_python2
from wconv.formats.torch.pickle.reading import READING, Value, with_plain_ids

_BY_IDENTITY = frozenset({TorchTensor, Storage, NumpyArray})

Shortcut = Callable[["Machine", bytes, int], int]


def _no_shortcut(machine: Machine, window: bytes, at: int) -> int:
    return at


class Machine:
    """One run over one pickle.

    Args:
        source: the bytes; those after the pickle are not looked at.
        names: what `(module, name)` pairs stand for: `Constructor`s or values.
        persistent: turns a persistent id into an object; None where the format has none.
        at: where the pickle starts.
        shortcut: a name's value and a function that is tried after each GET of it. It is given the machine,
            its window and the place in it, and returns the same place, or a later one when it did what the
            opcodes up to there say, the GET included.

    Attributes:
        end: where the pickle ended, after `run`.
        nested: bytes of checkpoints within this pickle that were read.
        wary: a name was told that may not be called, so that calls are looked at.
        program: how many bytes of it are program; the number of its objects is below that.
    """

    def __init__(
        self,
        source: Source,
        names: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any], Any] | None = None,
        at: int = 0,
        shortcut: tuple[Any, Shortcut] | None = None,
    ) -> None:
        self.source = source
        how = READING.get()
        self.names = names if how is None else {**names, **how.names}
        self.persistent = persistent if how is None or persistent is None else with_plain_ids(persistent)
        self.old_text = from_python2 if how is None else how.old_text
        self.shortcut = shortcut
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.budget = BUDGET
        self.key_numbers = 0
        self.nested = 0
        self.wary = False
        self.end = at
        self.program = 0
        self.base = at
        self.window = b""
        self.safe = 0

    def run(self) -> Any:
        """The object that the pickle describes.

        Raises:
            FormatError: the pickle is damaged, truncated, or uses something that does not exist.
            UnsafeError: it asks for something that no weights need.
        """
        start = self.base
        try:
            return self._run()
        except Again:
            self.stack, self.marks, self.memo = [], [], []
            self.budget, self.nested, self.key_numbers = BUDGET, 0, 0
            self.base, self.program, self.shortcut = start, 0, None
            return self._run()

    def _run(self) -> Any:
        try:
            self._refill(0)
            self._loop()
        except Stop:
            return self.stack[-1]
        except (IndexError, struct.error):
            raise self.damaged("it ends early or uses what is not there") from None
        except UnicodeDecodeError:
            raise self.damaged("a string is not valid text") from None
        raise AssertionError("the loop ends by an exception")

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

    def _loop(self) -> None:
        # the opcodes that every tensor takes several times are handled here, the others by the table
        handlers = HANDLERS
        stack, marks, memo = self.stack, self.marks, self.memo
        push = stack.append
        trigger, shortcut = self.shortcut or (_no_shortcut, _no_shortcut)
        data, safe, at = self.window, self.safe, 0
        while True:
            if at > safe:
                at = self._refill(at)
                data, safe = self.window, self.safe
            code = data[at]
            at += 1
            if code == 0x72 or code == 0x71:  # LONG_BINPUT, BINPUT
                if code == 0x72:
                    index = int.from_bytes(data[at : at + 4], "little")
                    at += 4
                else:
                    index = data[at]
                    at += 1
                if index == len(memo):
                    memo.append(stack[-1])
                else:
                    self.put(index, at)
            elif code == 0x68:  # BINGET
                value = memo[data[at]]
                at += 1
                if value is trigger:
                    after = shortcut(self, data, at)
                    if after != at:
                        # the function is not pushed: its result is there already
                        at = after
                        continue
                elif type(value) is Absent:
                    self.absent(value)
                push(value)
            elif code == 0x4B:  # BININT1
                push(data[at])
                at += 1
            elif code == 0x28:  # MARK
                marks.append(len(stack))
                if len(marks) > MARKS:
                    raise UnsafeError(f"{self.source.where} holds objects in {MARKS:,} others: refused")
            elif code == 0x74:  # TUPLE
                mark = marks.pop()
                items = tuple(stack[mark:])
                stack[mark:] = (items,)
                self.budget -= 56 + 8 * len(items)
            elif code == 0x58:  # BINUNICODE
                count = int.from_bytes(data[at : at + 4], "little")
                stop = at + 4 + count
                if count < MARGIN // 2:
                    text = data[at + 4 : stop]
                    if len(text) != count:
                        raise self.damaged("it ends within a string")
                    push(str(text, "utf-8", "surrogatepass"))
                    self.budget -= 56 + count
                    at = stop
                else:
                    at = self.long_text(at + 4, count)
                    data, safe = self.window, self.safe
            elif code == 0x52:  # REDUCE
                args = stack.pop()
                function = stack[-1]
                if type(function) is Constructor and type(args) is tuple and not self.wary:
                    stack[-1] = function.call(self, args)
                else:
                    stack[-1] = self.construct(function, args)
            else:
                at = handlers[code](self, at)
                if self.window is not data:
                    data, safe = self.window, self.safe

    def _refill(self, at: int) -> int:
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
        self._refill(0)
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
        memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        value = self.memo[index]
        if type(value) is Absent:
            self.absent(value)
        self.stack.append(value)

    def absent(self, value: Absent) -> None:
        """A GET found no value in the memo."""
        if value is SKIPPED:
            raise Again
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
        given = list(args[:KEY_NODES]) if type(args) in (tuple, list) else []
        if type(function) is Record and type(function.args) is tuple:
            # what was bound to a function is called with it
            given.extend(function.args[:KEY_NODES])
        elif type(function) is Global and function.path in BINDING:
            given = []
        for one in (function, *given):
            if type(one) is Global and is_forbidden(one.module, one.name):
                raise UnsafeError(
                    f"{self.source.where} asks for {printable(one.module)}.{printable(one.name)},"
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


def as_source(data: Any, where: str) -> Source | None:
    """A byte string from a pickle as a source, whichever form it has; None when it is none."""
    if isinstance(data, Source):
        return data
    if isinstance(data, (bytes, bytearray)):
        return MemorySource(bytes(data), where)
    if isinstance(data, str) and data.isascii():
        return MemorySource(data.encode("ascii"), where)
    return None

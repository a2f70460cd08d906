"""A pickle machine that cannot run code.

The contract, which the code below keeps and the tests check:

1. The opcodes in `HANDLERS` and in the loop of `Machine.run` are all that exist (protocols 0 to 5, without
   the extension registry and out-of-band buffers). Any other byte ends the reading.
2. A name (GLOBAL, STACK_GLOBAL, INST) is looked up in the table that the caller passes, and nowhere else:
   nothing is imported, no attribute of anything is fetched by a name from the file.
3. Only a `Constructor` of that table is ever called (REDUCE, NEWOBJ, OBJ, INST), and those are functions of
   wconv that check their arguments. Calling anything else makes a `Record`, which only remembers.
   BUILD, APPENDS, SETITEMS and ADDITEMS touch exact dicts, lists, sets and the classes of `objects`.
4. Names of modules that act on the machine (`FORBIDDEN`) are refused outright, to say what the file tried.
5. Memory is taken only for bytes that the file has: lengths are checked first; the memo is a list that
   cannot be longer than the program read so far; everything else that is made is charged against
   `BUDGET`. The program itself is read in windows and may have `PROGRAM_LIMIT` bytes.
6. Keys of dicts and members of sets are hashed only when they are scalars, names, records (by identity) or
   shallow tuples of those, so that no nesting can overflow the stack or double the work.
7. Bad input raises `FormatError` or `UnsafeError`, nothing else.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wconv.dtypes import DType
from wconv.errors import FormatError, UnsafeError
from wconv.formats.objects import (
    Global,
    MetaTensor,
    NestedTensor,
    NumpyArray,
    OrderedDict,
    Record,
    SparseTensor,
    Storage,
    TorchTensor,
)
from wconv.formats.sources import MemorySource, Source

WINDOW = 8 << 20
"""Bytes of the program that are in memory at a time."""

MARGIN = 64 << 10
"""Bytes that an opcode may be sure to find ahead of it, unless the file ends; the longest name or line."""

PROGRAM_LIMIT = 1 << 30
"""Bytes that a pickle's program may have, arrays of `PAYLOAD` bytes and more within it not counted."""

BUDGET = 512 << 20
"""Bytes of objects that a pickle may make beside what one opcode each accounts for."""

PAYLOAD = 64 << 10
"""A byte string of this length is left in the file and read by range."""

NUMBER_LIMIT = 1000
"""Characters or bytes of one number."""

KEY_NODES = 1000
"""Values within one tuple that serves as a key."""

KEY_DEPTH = 20
"""Tuples within tuples in one key."""

KEY_INTEGER = 2**61 - 1
"""Integers that serve as keys are below: above, any number of them can have the same hash."""

FORBIDDEN = frozenset(
    """os posix nt posixpath ntpath subprocess sys shutil socket pty runpy importlib imp ctypes _ctypes code codeop
    pickle _pickle cPickle marshal shelve dill cloudpickle joblib webbrowser commands popen2 platform pdb bdb
    profile cProfile timeit trace multiprocessing threading _thread asyncio concurrent signal resource fcntl mmap
    tempfile glob io _io fileinput urllib urllib2 http httplib requests ftplib smtplib telnetlib ssl xmlrpc
    pip setuptools distutils pkgutil zipimport site sysconfig venv ensurepip gc inspect atexit sqlite3 pydoc doctest
    linecache tokenize logging.config antigravity idlelib test unittest""".split()
)
"""Top-level modules that no weights need."""

FORBIDDEN_BUILTINS = frozenset(
    """eval exec execfile compile open file input raw_input __import__ reload globals locals vars exit quit help
    breakpoint setattr delattr apply memoryview print""".split()
)

FORBIDDEN_NAMES = frozenset(
    {
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.hub", "_load_local"),
        ("torch.serialization", "load"),
        ("torch.jit", "load"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy", "memmap"),
        ("operator", "attrgetter"),
        ("operator", "methodcaller"),
        ("builtins", "exec"),
    }
)

BUILTINS = ("builtins", "__builtin__")


class Constructor:
    """A function of wconv that stands for a class or function which files name.

    Attributes:
        name: the dotted path in the file.
        call: takes the machine and the arguments as the file gives them, and checks them.
    """

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[[Machine, Sequence[Any]], Any]) -> None:
        self.name = name
        self.call = call

    def __repr__(self) -> str:
        return f"<{self.name}>"


class _Stop(Exception):
    """STOP was reached."""


class _Unset:
    """What a memo holds where nothing was put."""


_UNSET = _Unset()

SCALARS = frozenset({str, int, float, bool, type(None), bytes, complex, DType, Global, Record, Constructor})
"""Types that hash in constant time."""


class Machine:
    """One run over one pickle.

    Args:
        source: the bytes; those after the pickle are not looked at.
        names: what `(module, name)` pairs stand for: `Constructor`s or values.
        persistent: turns a persistent id into an object; None where the format has none.
        at: where the pickle starts.

    Attributes:
        end: where the pickle ended, after `run`.
        program: how many bytes of it are program; the number of its objects is below that.
    """

    def __init__(
        self,
        source: Source,
        names: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any], Any] | None = None,
        at: int = 0,
    ) -> None:
        self.source = source
        self.names = names
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self.budget = BUDGET
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
        try:
            self._refill(0)
            self._loop()
        except _Stop:
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
                if value is _UNSET:
                    raise self.damaged(f"memo entry {data[at]} was never put")
                push(value)
                at += 1
            elif code == 0x4B:  # BININT1
                push(data[at])
                at += 1
            elif code == 0x28:  # MARK
                marks.append(len(stack))
            elif code == 0x74:  # TUPLE
                mark = marks.pop()
                items = tuple(stack[mark:])
                stack[mark:] = (items,)
            elif code == 0x58:  # BINUNICODE
                count = int.from_bytes(data[at : at + 4], "little")
                stop = at + 4 + count
                if count < MARGIN // 2:
                    text = data[at + 4 : stop]
                    if len(text) != count:
                        raise self.damaged("it ends within a string")
                    push(str(text, "utf-8", "surrogatepass"))
                    at = stop
                else:
                    at = self.long_text(at + 4, count)
                    data, safe = self.window, self.safe
            elif code == 0x52:  # REDUCE
                args = stack.pop()
                function = stack[-1]
                if type(function) is Constructor and type(args) is tuple:
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
            memo.extend([_UNSET] * (index + 1 - len(memo)))
        memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        value = self.memo[index]
        if value is _UNSET:
            raise self.damaged(f"memo entry {index} was never put")
        self.stack.append(value)

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
        top = module.split(".", 1)[0]
        if (
            top in FORBIDDEN
            or (module, name) in FORBIDDEN_NAMES
            or (module in BUILTINS and name.split(".", 1)[0] in FORBIDDEN_BUILTINS)
        ):
            raise UnsafeError(
                f"{self.source.where} asks for {printable(module)}.{printable(name)}, which no weights need: refused"
            )
        self.charge(200 + len(module) + len(name))
        return Global(module, name)

    def construct(self, function: Any, args: Any) -> Any:
        """What calling `function` stands for: a constructor's result, or a record of the call."""
        if type(function) is Constructor:
            if type(args) is not tuple:
                raise self.damaged(f"{function.name} is given no tuple of arguments")
            return function.call(self, args)
        self.charge(400)
        return Record(function, args)

    def key(self, key: Any) -> Any:
        """`key` when it can be hashed safely."""
        kind = type(key)
        if kind is str:
            return key
        if kind is int:
            if abs(key) < KEY_INTEGER:
                return key
        elif kind in SCALARS:
            return key
        elif kind is tuple:
            self._check_tuple(key)
            return key
        elif kind in (TorchTensor, Storage, NumpyArray, frozenset):
            return key  # hashed by identity; a frozenset's members were checked when it was made
        raise self.damaged(f"a {kind.__name__} serves as a key")

    def _check_tuple(self, key: tuple[Any, ...]) -> None:
        pending: list[tuple[Any, int]] = [(key, 0)]
        seen = 0
        while pending:
            value, depth = pending.pop()
            seen += 1
            if seen > KEY_NODES or depth > KEY_DEPTH:
                raise UnsafeError(
                    f"{self.source.where} holds a pickle with a key of tuples in tuples: refused"
                )
            if type(value) is tuple:
                pending.extend((item, depth + 1) for item in value[: KEY_NODES + 1])
            else:
                self.key(value)

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
            target.extend(items)
        elif type(target) is set:
            self.charge(100 * len(items))
            target.update([self.key(item) for item in items])
        elif type(target) is Record:
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


def printable(text: str) -> str:
    """A name from a file, fit for one line."""
    return text[:100].encode("unicode_escape").decode("ascii")


def _fixed(push_format: str) -> Callable[[Machine, int], int]:
    """A handler for a number of fixed size."""
    number = struct.Struct(push_format)

    def handler(machine: Machine, at: int) -> int:
        machine.stack.append(number.unpack_from(machine.window, at)[0])
        return at + number.size

    return handler


def _constant(value: Any) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, at: int) -> int:
        machine.stack.append(value)
        return at

    return handler


def _container(make: Callable[[], Any], cost: int) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, at: int) -> int:
        machine.charge(cost)
        machine.stack.append(make())
        return at

    return handler


def _short_tuple(count: int) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, at: int) -> int:
        stack = machine.stack
        if len(stack) < count:
            raise IndexError
        machine.budget -= 64
        if machine.budget < 0:
            machine.charge(0)
        stack[-count:] = (tuple(stack[-count:]),)
        return at

    return handler


def _sized(width: int, push: Callable[[Machine, int, int], int]) -> Callable[[Machine, int], int]:
    """A handler for a string whose length comes first, in `width` bytes."""

    def handler(machine: Machine, at: int) -> int:
        head = machine.window[at : at + width]
        if len(head) != width:
            raise IndexError
        return push(machine, at + width, int.from_bytes(head, "little"))

    return handler


def _text(machine: Machine, at: int, count: int) -> int:
    if count >= MARGIN // 2:
        return machine.long_text(at, count)
    machine.stack.append(str(machine.take(at, count), "utf-8", "surrogatepass"))
    return at + count


def _payload(machine: Machine, at: int, count: int) -> int:
    return machine.payload(at, count)


def _old_text(machine: Machine, at: int, count: int) -> int:
    """A Python 2 string: text where it is text, bytes where it is not."""
    at = machine.payload(at, count)
    machine.stack[-1] = _from_python2(machine.stack[-1])
    return at


def _from_python2(data: Any) -> Any:
    if type(data) is not bytes:
        return data
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        return data


def _bytearray(machine: Machine, at: int, count: int) -> int:
    data = machine.take(at, count)
    machine.charge(count)
    machine.stack.append(bytearray(data))
    return machine.skip(at, count)


def _long_integer(machine: Machine, at: int, count: int) -> int:
    if count > NUMBER_LIMIT:
        raise UnsafeError(f"{machine.source.where} holds an integer of {count:,} bytes: refused")
    machine.stack.append(int.from_bytes(machine.take(at, count), "little", signed=True))
    return at + count


def _frame(machine: Machine, at: int, count: int) -> int:
    if count > machine.source.size - machine.base - at:
        raise machine.damaged("a frame is longer than the file")
    return at


def _protocol(machine: Machine, at: int) -> int:
    if machine.window[at] > 5:
        raise machine.damaged(f"protocol {machine.window[at]} does not exist")
    return at + 1


def _stop(machine: Machine, at: int) -> int:
    if not machine.stack:
        raise IndexError
    machine.end = machine.base + at
    machine.program += at
    raise _Stop


def _number_line(parse: Callable[[str], Any]) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, at: int) -> int:
        text, at = machine.line(at)
        if len(text) > NUMBER_LIMIT:
            raise UnsafeError(f"{machine.source.where} holds a number of {len(text):,} digits: refused")
        try:
            machine.stack.append(parse(text.decode("ascii")))
        except ValueError:
            raise machine.damaged("a number is not a number") from None
        return at

    return handler


def _int(text: str) -> Any:
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


def _long(text: str) -> int:
    return int(text.removesuffix("L"))


def _string(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    text = text.strip()
    if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
        raise machine.damaged("a string has no quotes")
    try:
        data, _ = codecs.escape_decode(text[1:-1])  # type: ignore[attr-defined]
    except ValueError:
        raise machine.damaged("a string has a wrong escape") from None
    machine.stack.append(_from_python2(data))
    return at


def _unicode(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    machine.stack.append(codecs.raw_unicode_escape_decode(text)[0])
    return at


def _global(machine: Machine, at: int) -> int:
    module, at = machine.line(at)
    name, at = machine.line(at)
    machine.stack.append(machine.find(module.decode("utf-8"), name.decode("utf-8")))
    return at


def _stack_global(machine: Machine, at: int) -> int:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise machine.damaged("a name is not text")
    machine.stack.append(machine.find(module, name))
    return at


def _instance(machine: Machine, at: int) -> int:
    module, at = machine.line(at)
    name, at = machine.line(at)
    args = tuple(machine.pop_mark())
    machine.stack.append(machine.construct(machine.find(module.decode("utf-8"), name.decode("utf-8")), args))
    return at


def _object(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(machine.construct(items[0], tuple(items[1:])))
    return at


def _new_object(machine: Machine, at: int) -> int:
    args, kind = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.construct(kind, args))
    return at


def _new_object_named(machine: Machine, at: int) -> int:
    named, args, kind = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    if type(kind) is Constructor and not named:
        machine.stack.append(machine.construct(kind, args))
    else:
        machine.charge(400)
        machine.stack.append(Record(kind, (args, named)))
    return at


def _build(machine: Machine, at: int) -> int:
    state = machine.stack.pop()
    machine.build(machine.stack[-1], state)
    return at


def _persistent(machine: Machine, pid: Any) -> None:
    if machine.persistent is None:
        raise machine.damaged("it refers to tensors outside of it, which a plain pickle has not")
    machine.stack.append(machine.persistent(pid))


def _persistent_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    _persistent(machine, text.decode("ascii"))
    return at


def _persistent_binary(machine: Machine, at: int) -> int:
    _persistent(machine, machine.stack.pop())
    return at


def _put_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    machine.put(_index(machine, text), at)
    return at


def _get_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    machine.get(_index(machine, text))
    return at


def _index(machine: Machine, text: bytes) -> int:
    if len(text) > 20 or not text.isdigit():
        raise machine.damaged("a memo index is no number")
    return int(text)


def _long_get(machine: Machine, at: int) -> int:
    machine.get(int.from_bytes(machine.window[at : at + 4], "little"))
    return at + 4


def _memoize(machine: Machine, at: int) -> int:
    machine.memo.append(machine.stack[-1])
    return at


def _set_item(machine: Machine, at: int) -> int:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items(machine.stack[-1], [key, value])
    return at


def _set_items(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.set_items(machine.stack[-1], items)
    return at


def _append(machine: Machine, at: int) -> int:
    value = machine.stack.pop()
    machine.extend(machine.stack[-1], [value])
    return at


def _extend(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.extend(machine.stack[-1], items)
    return at


def _dict(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.charge(64)
    machine.stack.append({})
    machine.set_items(machine.stack[-1], items)
    return at


def _list(machine: Machine, at: int) -> int:
    machine.charge(56)
    machine.stack.append(machine.pop_mark())
    return at


def _frozenset(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.charge(216 + 50 * len(items))
    machine.stack.append(frozenset([machine.key(item) for item in items]))
    return at


def _pop(machine: Machine, at: int) -> int:
    # as in Python's own: popping right above a mark removes the mark
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()
    return at


def _pop_to_mark(machine: Machine, at: int) -> int:
    machine.pop_mark()
    return at


def _duplicate(machine: Machine, at: int) -> int:
    machine.stack.append(machine.stack[-1])
    return at


def _refused(machine: Machine, at: int) -> int:
    code = machine.window[at - 1]
    if code in (0x82, 0x83, 0x84):
        raise UnsafeError(
            f"{machine.source.where} uses pickle's extension registry, which no weights need: refused"
        )
    if code in (0x97, 0x98):
        raise machine.damaged("its buffers are kept elsewhere (out-of-band)")
    raise machine.damaged(f"opcode 0x{code:02x} at byte {machine.base + at - 1:,} does not exist")


_TABLE: dict[bytes, Callable[[Machine, int], int]] = {
    b"\x80": _protocol,
    b"\x95": _sized(8, _frame),
    b".": _stop,
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"J": _fixed("<i"),
    b"M": _fixed("<H"),
    b"G": _fixed(">d"),
    b"\x8a": _sized(1, _long_integer),
    b"\x8b": _sized(4, _long_integer),
    b"I": _number_line(_int),
    b"L": _number_line(_long),
    b"F": _number_line(float),
    b"S": _string,
    b"V": _unicode,
    b"U": _sized(1, _old_text),
    b"T": _sized(4, _old_text),
    b"\x8c": _sized(1, _text),
    b"\x8d": _sized(8, _text),
    b"C": _sized(1, _payload),
    b"B": _sized(4, _payload),
    b"\x8e": _sized(8, _payload),
    b"\x96": _sized(8, _bytearray),
    b")": _constant(()),
    b"]": _container(list, 56),
    b"}": _container(dict, 64),
    b"\x8f": _container(set, 216),
    b"\x85": _short_tuple(1),
    b"\x86": _short_tuple(2),
    b"\x87": _short_tuple(3),
    b"l": _list,
    b"d": _dict,
    b"\x91": _frozenset,
    b"a": _append,
    b"e": _extend,
    b"\x90": _extend,
    b"s": _set_item,
    b"u": _set_items,
    b"0": _pop,
    b"1": _pop_to_mark,
    b"2": _duplicate,
    b"p": _put_line,
    b"\x94": _memoize,
    b"g": _get_line,
    b"j": _long_get,
    b"c": _global,
    b"\x93": _stack_global,
    b"i": _instance,
    b"o": _object,
    b"\x81": _new_object,
    b"\x92": _new_object_named,
    b"b": _build,
    b"P": _persistent_line,
    b"Q": _persistent_binary,
}

HANDLERS: list[Callable[[Machine, int], int]] = [_TABLE.get(bytes([code]), _refused) for code in range(256)]
"""What each opcode does that the loop does not do itself: takes the place after it, returns the next one's."""


def as_source(data: Any, where: str) -> Source | None:
    """A byte string from a pickle as a source, whichever form it has; None when it is none."""
    if isinstance(data, Source):
        return data
    if isinstance(data, (bytes, bytearray)):
        return MemorySource(bytes(data), where)
    if isinstance(data, str) and data.isascii():
        return MemorySource(data.encode("ascii"), where)
    return None

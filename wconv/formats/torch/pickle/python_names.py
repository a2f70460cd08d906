"""Python's own containers and conversions in pickles: functions for the table of `torch_names`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wconv.formats.torch.objects import OrderedDict, Record, shown
from wconv.formats.torch.pickle.state import MachineState
from wconv.formats.torch.tensors import check_count


def codecs_encode(machine: MachineState, args: Sequence[Any]) -> bytes:
    """`_codecs.encode(text, 'latin1')`: how protocol 2 spells bytes."""
    if len(args) not in (1, 2) or type(args[0]) is not str:
        raise machine.damaged("_codecs.encode is given no text")
    encoding = args[1] if len(args) == 2 else "utf-8"
    machine.charge(len(args[0]) + 33)
    try:
        if encoding in ("latin1", "latin-1", "iso-8859-1"):
            return args[0].encode("latin-1")
        if encoding in ("utf-8", "utf8", "ascii"):
            return args[0].encode("utf-8")
    except UnicodeEncodeError:
        raise machine.damaged("bytes that were spelled as text are no bytes") from None
    raise machine.damaged(f"encoding {shown(encoding, 40)} is not one that pickles use")


def _items(machine: MachineState, args: Sequence[Any]) -> list[Any]:
    """The members that a container is made from, when they are those of another container."""
    if not args:
        return []
    if len(args) != 1 or type(args[0]) not in (list, tuple, set, frozenset, dict, OrderedDict):
        raise machine.damaged("a container is made from something else")
    machine.charge(56 + 8 * len(args[0]))
    return list(args[0])


def ordered_dict(machine: MachineState, args: Sequence[Any]) -> OrderedDict:
    """`collections.OrderedDict([pairs])`."""
    made = OrderedDict()
    made.attributes = None
    machine.budget -= 80
    if args:
        _fill_dict(machine, made, args)
    elif machine.budget < 0:
        machine.charge(0)
    return made


def plain_dict(machine: MachineState, args: Sequence[Any]) -> dict[Any, Any]:
    """`dict`, `collections.Counter`: from pairs or another dict."""
    machine.charge(64)
    made: dict[Any, Any] = {}
    _fill_dict(machine, made, args)
    return made


def _fill_dict(machine: MachineState, into: dict[Any, Any], args: Sequence[Any]) -> None:
    if args and type(args[0]) in (dict, OrderedDict):
        machine.set_items(into, [part for pair in args[0].items() for part in pair])
        return
    for pair in _items(machine, args):
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise machine.damaged("a dict is made from something that is no pair")
        machine.set_items(into, list(pair))


def default_dict(machine: MachineState, args: Sequence[Any]) -> dict[Any, Any]:
    """`collections.defaultdict(factory[, items])`, without the factory."""
    return plain_dict(machine, args[1:])


def a_list(machine: MachineState, args: Sequence[Any]) -> list[Any]:
    """`list(items)`."""
    return _items(machine, args)


def a_tuple(machine: MachineState, args: Sequence[Any]) -> tuple[Any, ...]:
    """`tuple(items)`, `torch.Size(items)`."""
    return tuple(_items(machine, args))


def a_set(machine: MachineState, args: Sequence[Any]) -> set[Any]:
    """`set(items)`."""
    made: set[Any] = set()
    machine.charge(216)
    machine.extend(made, _items(machine, args))
    return made


def a_frozenset(machine: MachineState, args: Sequence[Any]) -> frozenset[Any]:
    """`frozenset(items)`."""
    return machine.frozen(_items(machine, args))


def a_bytearray(machine: MachineState, args: Sequence[Any]) -> bytearray:
    """`bytearray(data)` or `bytearray(text, 'latin-1')`."""
    if not args:
        return bytearray()
    data = codecs_encode(machine, args) if type(args[0]) is str else args[0]
    if type(data) is not bytes:
        raise machine.damaged("a bytearray is made from something else")
    machine.charge(len(data) + 57)
    return bytearray(data)


def a_bytes(machine: MachineState, args: Sequence[Any]) -> bytes:
    """`bytes()`, which is how protocol 2 spells empty ones."""
    if args and type(args[0]) is bytes:
        return args[0]
    if args and not (type(args[0]) in (list, tuple) and not args[0]):
        raise machine.damaged("bytes are made from something else")
    return b""


def a_complex(machine: MachineState, args: Sequence[Any]) -> complex:
    """`complex(real, imaginary)`."""
    if len(args) != 2 or any(type(part) not in (int, float) for part in args):
        raise machine.damaged("a complex number is made from something else")
    try:
        return complex(*args)
    except OverflowError:
        raise machine.damaged("a complex number is too large") from None


def integers(kind: Callable[..., Any]) -> Callable[[MachineState, Sequence[Any]], Any]:
    """`slice(start, stop, step)`, `range(start, stop, step)`."""

    def call(machine: MachineState, args: Sequence[Any]) -> Any:
        if not 1 <= len(args) <= 3 or any(part is not None and type(part) is not int for part in args):
            raise machine.damaged(f"a {kind.__name__} is made from something else")
        try:
            return kind(*args)
        except (TypeError, ValueError):
            raise machine.damaged(f"a {kind.__name__} is made from something else") from None

    return call


def reconstructor(machine: MachineState, args: Sequence[Any]) -> Record:
    """`copyreg._reconstructor(class, base, state)`: how protocols 0 and 1 make instances."""
    check_count(machine, args, 1, 3, "_reconstructor")
    if machine.wary:
        machine.check_call(args[0], ())
    machine.charge(400)
    return Record(args[0], ())


def new_object(machine: MachineState, args: Sequence[Any]) -> Any:
    """`copyreg.__newobj__(class, *args)`."""
    check_count(machine, args, 1, 1000, "__newobj__")
    return machine.construct(args[0], tuple(args[1:]))

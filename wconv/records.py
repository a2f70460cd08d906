"""The standard dataclass with slots, made as late as can be: a command makes few of the hundred it imports.

`dataclasses.dataclass` compiles six functions for each class, half a millisecond; that was a quarter of the
time to start. Here the slots are made at once, comparison and printing need no compiling, `__init__` is
compiled when the first object is made, and `dataclasses.fields` when somebody asks. All else is as there:
`replace`, `asdict`, `fields`, pickles, signatures and what `help` prints.
"""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field
from operator import attrgetter
from reprlib import recursive_repr
from types import FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Callable[[type], type] | type:
        """`dataclasses.dataclass`, late where the class has slots."""
        return made(cls, **options) if cls is not None else lambda cls: made(cls, **options)


LATE = "__late_dataclass__"
"""The attribute of a class made here that tells its fields and options."""


class Parameter:
    """A field as `__init__` sees it."""

    __slots__ = ("annotation", "compare", "default", "factory", "keyword", "name", "printed")

    def __init__(self, name: str, annotation: Any, value: Any, keyword: bool) -> None:
        self.name, self.annotation = name, annotation
        self.default = value
        self.factory: Any = MISSING
        self.keyword, self.compare, self.printed = keyword, True, True
        if isinstance(value, Field):
            self.default, self.factory = value.default, value.default_factory
            self.compare, self.printed = value.compare, value.repr
            if value.kw_only is not MISSING:
                self.keyword = value.kw_only


class Late:
    """What is left to do for a class.

    Attributes:
        original: the class without slots, as it was written.
        parameters: its fields by name, those of its bases first.
    """

    __slots__ = ("frozen", "keyword", "made", "original", "parameters")

    def __init__(
        self, original: type, parameters: dict[str, Parameter], *, frozen: bool, keyword: bool
    ) -> None:
        self.original, self.parameters = original, parameters
        self.frozen, self.keyword = frozen, keyword
        self.made: type = original

    def complete(self) -> None:
        """Puts the standard library's description of the fields into the class, once."""
        with LOCK:
            if isinstance(self.made.__dict__[DESCRIPTIONS[0]], _Description):
                self._complete()

    def _complete(self) -> None:
        options = {"init": False, "repr": False, "eq": False, "frozen": self.frozen, "kw_only": self.keyword}
        make: Any = dataclasses.dataclass
        standard = make(**options)(self.original)
        for name in DESCRIPTIONS:
            setattr(self.made, name, getattr(standard, name))


LOCK = threading.RLock()
DESCRIPTIONS = ("__dataclass_fields__", "__dataclass_params__")


class _Description:
    """One of the two attributes by which the standard library knows a dataclass, until it is asked for."""

    __slots__ = ("late", "name")

    def __init__(self, late: Late, name: str) -> None:
        self.late, self.name = late, name

    def __get__(self, instance: object, owner: type) -> Any:
        self.late.complete()
        return getattr(owner, self.name)


class _Init:
    """`__init__`, until it is asked for."""

    __slots__ = ("late",)

    def __init__(self, late: Late) -> None:
        self.late = late

    def __get__(self, instance: object, owner: type) -> Any:
        made: Any = self.late.made
        if made.__dict__["__init__"] is self:  # not another thread's
            made.__init__ = compiled_init(self.late)
        return made.__init__.__get__(instance, owner)


def made(
    cls: type,
    *,
    frozen: bool = False,
    eq: bool = True,
    repr: bool = True,
    slots: bool = False,
    kw_only: bool = False,
    unsafe_hash: bool = False,
) -> type:
    """The dataclass of a class; the standard library's own where it has no slots or is of an unusual kind."""
    usual = slots and not unsafe_hash and "__init__" not in cls.__dict__
    parameters = parameters_of(cls, kw_only) if usual else None
    if parameters is None:
        standard: Any = dataclasses.dataclass
        options = {"frozen": frozen, "eq": eq, "repr": repr, "slots": slots, "kw_only": kw_only}
        whole: type = standard(**options, unsafe_hash=unsafe_hash)(cls)
        return whole
    late = Late(cls, parameters, frozen=frozen, keyword=kw_only)
    given = cls.__dict__
    body = {name: value for name, value in given.items() if name not in parameters}
    inherited = {slot for base in cls.__mro__[1:-1] for slot in slots_of(base)}
    body["__slots__"] = tuple(name for name in parameters if name not in inherited)
    for name in ("__dict__", "__weakref__"):
        body.pop(name, None)
    body |= {
        LATE: late,
        "__qualname__": cls.__qualname__,
        "__init__": _Init(late),
        **{name: _Description(late, name) for name in DESCRIPTIONS},
    }
    every = parameters.values()
    body.setdefault("__match_args__", tuple(one.name for one in every if not one.keyword))
    if repr:
        body.setdefault("__repr__", printing(tuple(one.name for one in every if one.printed)))
    if eq:
        comparing(body, tuple(one.name for one in every if one.compare), hashed=frozen, given=given)
    if frozen:
        body.setdefault("__getstate__", _state)
        body.setdefault("__setstate__", _set_state)
        freezing(body, late)
    late.made = type(cls)(cls.__name__, cls.__bases__, body)
    return late.made


def parameters_of(cls: type, keyword: bool) -> dict[str, Parameter] | None:
    """The fields of a class; None where a base is a dataclass made elsewhere, or a field is unusual."""
    found: dict[str, Parameter] = {}
    for base in cls.__mro__[-1:0:-1]:
        if LATE in base.__dict__:
            found |= base.__dict__[LATE].parameters
        elif DESCRIPTIONS[0] in base.__dict__:
            return None
    for name, annotation in inspect.get_annotations(cls).items():
        if not isinstance(annotation, str) or annotation.startswith(("InitVar", "dataclasses.", "KW_ONLY")):
            return None
        if annotation.startswith(("ClassVar", "typing.ClassVar")):
            continue
        value = getattr(cls, name, MISSING)
        if isinstance(value, MemberDescriptorType):
            value = MISSING  # a base's slot
        if isinstance(value, Field) and (not value.init or value.hash is not None):
            return None
        if not isinstance(value, Field) and value.__class__.__hash__ is None:
            raise ValueError(f"{name}: a default that can change needs default_factory")
        found[name] = Parameter(name, annotation, value, keyword)
    return found


def slots_of(cls: type) -> tuple[str, ...]:
    """The slots of a class itself."""
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def compiled_init(late: Late) -> FunctionType:
    """`__init__` of a class, as the standard library would write it."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_FACTORY": _FACTORY}
    arguments: list[str] = []
    keywords: list[str] = []
    lines = []
    for name, one in late.parameters.items():
        value = name
        argument = name
        if one.factory is not MISSING:
            known[f"_factory_{name}"] = one.factory
            argument = f"{name}=_FACTORY"
            value = f"_factory_{name}() if {name} is _FACTORY else {name}"
        elif one.default is not MISSING:
            known[f"_default_{name}"] = one.default
            argument = f"{name}=_default_{name}"
        (keywords if one.keyword else arguments).append(argument)
        lines.append(f" _set(self, {name!r}, {value})" if late.frozen else f" self.{name} = {value}")
    if hasattr(late.made, "__post_init__"):
        lines.append(" self.__post_init__()")
    listed = ", ".join(["self", *arguments, *(["*", *keywords] if keywords else [])])
    exec(f"def __init__({listed}):\n" + ("\n".join(lines) or " pass"), known)
    init: FunctionType = known["__init__"]
    init.__qualname__ = f"{late.made.__qualname__}.__init__"
    init.__module__ = late.made.__module__
    init.__annotations__ = {**{one.name: one.annotation for one in late.parameters.values()}, "return": None}
    return init


class _Factory:
    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()
"""Stands for a value that is made anew for each object, as signatures show it."""


def printing(names: tuple[str, ...]) -> Callable[[Any], str]:
    """`__repr__` of these fields."""

    @recursive_repr()
    def __repr__(self: Any) -> str:  # noqa: N807
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.__class__.__qualname__}({fields})"

    return __repr__


def comparing(body: dict[str, Any], names: tuple[str, ...], *, hashed: bool, given: Any) -> None:
    """Puts `__eq__` and `__hash__` of these fields into a class's body, where it has none of its own."""
    values: Callable[[Any], Any] = attrgetter(*names) if len(names) > 1 else _few(names)

    def __eq__(self: Any, other: object) -> bool:  # noqa: N807
        if other.__class__ is not self.__class__:
            return NotImplemented
        return bool(values(self) == values(other))

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    own = given.get("__hash__", MISSING)
    body.setdefault("__eq__", __eq__)
    if own is MISSING or (own is None and "__eq__" in given):
        body["__hash__"] = __hash__ if hashed else None


def _few(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda one: tuple(getattr(one, name) for name in names)


def freezing(body: dict[str, Any], late: Late) -> None:
    """Puts the refusals of a frozen class into its body."""
    above: Any = super

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        if type(self) is late.made or name in late.parameters:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        above(late.made, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is late.made or name in late.parameters:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        above(late.made, self).__delattr__(name)

    body.update(__setattr__=__setattr__, __delattr__=__delattr__)


def _names(one: Any) -> Iterator[str]:
    return iter(getattr(type(one), LATE).parameters)


def _state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in _names(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for name, value in zip(_names(self), state, strict=True):
        object.__setattr__(self, name, value)

"""The late dataclass is the standard library's in all that can be seen of it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, ClassVar

import pytest

from wconv import records

Decorator = Callable[..., Any]


def classes(dataclass: Decorator) -> dict[str, Any]:
    """The same classes, made by either decorator."""

    @dataclass(frozen=True, slots=True)
    class Base:
        """One."""

        kind: ClassVar[str] = "?"
        name: str
        parts: tuple[int, ...] = ()
        found: Mapping[str, int] = field(default_factory=dict)
        note: str = field(default="", compare=False)
        when: int | None = field(default=None, kw_only=True)

        def __post_init__(self) -> None:
            if self.name == "wrong":
                raise ValueError("wrong")

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        """Two."""

        kind: ClassVar[str] = "two"
        more: int = 3
        hidden: str = field(default="h", repr=False)

    @dataclass(slots=True)
    class Changing:
        """Three."""

        value: int
        other: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True, eq=False, repr=False)
    class Plain:
        """Four."""

        value: int

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Keywords:
        """Five."""

        value: int
        second: int = 2

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Keywords) and other.value == self.value

    @dataclass(frozen=True, slots=True)
    class Empty:
        """Six."""

    @dataclass(frozen=True, slots=True)
    class Unusual:
        """Seven."""

        value: int
        made: int = field(init=False, default=1)

    return {one.__name__: one for one in (Base, Derived, Changing, Plain, Keywords, Empty, Unusual)}


OURS, THEIRS = classes(records.dataclass), classes(dataclasses.dataclass)

MAKE: list[Callable[[Mapping[str, Any]], Any]] = [
    lambda of: of["Base"]("a"),
    lambda of: of["Base"]("a", (1,), {"b": 2}, "n", when=4),
    lambda of: of["Base"](),
    lambda of: of["Base"]("a", (), {}, "", 1),
    lambda of: of["Base"]("wrong"),
    lambda of: of["Derived"]("a", more=5),
    lambda of: of["Derived"].kind + of["Base"].kind,
    lambda of: of["Derived"]("a") == of["Derived"]("a", note="other"),
    lambda of: of["Derived"]("a") == of["Base"]("a"),
    lambda of: hash(of["Base"]("a", found=None)) == hash(of["Base"]("a", found=None, note="n")),
    lambda of: hash(of["Base"]("a")),
    lambda of: {of["Keywords"](value=1): 2},
    lambda of: hash(of["Changing"](1)),
    lambda of: of["Changing"](1, [2]) == of["Changing"](1, [2]),
    lambda of: of["Keywords"](value=1) == of["Keywords"](value=1, second=3),
    lambda of: of["Keywords"](1),
    lambda of: of["Plain"](1) == of["Plain"](1),
    lambda of: of["Empty"]() == of["Empty"](),
    lambda of: (of["Empty"](), len({of["Empty"](), of["Empty"]()})),
    lambda of: of["Unusual"](3),
    lambda of: setattr(of["Base"]("a"), "name", 1),
    lambda of: setattr(of["Base"]("a"), "unknown", 1),
    lambda of: delattr(of["Base"]("a"), "name"),
    lambda of: of["Changing"](1).__dict__,
    lambda of: dataclasses.replace(of["Derived"]("a"), more=7, when=1),
    lambda of: dataclasses.replace(of["Base"]("a"), unknown=7),
    lambda of: dataclasses.asdict(of["Changing"](1, [2])),
    lambda of: copy.copy(of["Base"]("a", (1,))),
    lambda of: copy.deepcopy(of["Changing"](1, [2])),
    lambda of: [(one.name, one.compare, one.kw_only, one.type) for one in dataclasses.fields(of["Derived"])],
    *(lambda of, name=name: str(inspect.signature(of[name])) for name in OURS),
    *(lambda of, name=name: of[name].__match_args__ for name in OURS),
    *(lambda of, name=name: of[name].__slots__ for name in OURS),
    *(lambda of, name=name: (of[name].__doc__, of[name].__qualname__) for name in OURS),
    *(lambda of, name=name: dataclasses.is_dataclass(of[name]) for name in OURS),
]


def shown(make: Callable[[Mapping[str, Any]], Any], of: Mapping[str, Any]) -> str:
    """What comes of it, or how it fails."""
    try:
        return repr(make(of)) if make(of).__class__.__name__ != "Plain" else "a Plain"
    except (AttributeError, TypeError, ValueError) as error:
        # to set what is no field of a frozen class with slots fails in the standard library by accident
        return f"{type(error).__name__}: {error}" if "super" not in str(error) else "AttributeError"


@pytest.mark.parametrize("make", MAKE)
def test_it_is_what_the_standard_library_makes(make: Callable[[Mapping[str, Any]], Any]) -> None:
    ours, theirs = shown(make, OURS), shown(make, THEIRS)
    assert ours == theirs or (theirs == "AttributeError" and ours.startswith("FrozenInstanceError"))


def test_init_is_compiled_when_an_object_is_made() -> None:
    @records.dataclass(frozen=True, slots=True)
    class One:
        value: int

    assert type(One.__dict__["__init__"]) is records._Init
    assert One(3) == One(value=3)
    assert inspect.isfunction(One.__dict__["__init__"])


@records.dataclass(frozen=True, slots=True)
class Pickled:
    """Found by its name."""

    value: int
    other: str = "o"


def test_objects_can_be_pickled() -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(Pickled(3, "p"), protocol)) == Pickled(3, "p")


def test_a_standard_class_can_derive_from_a_late_one() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Child(Pickled):
        third: int = 0

    @records.dataclass(frozen=True, slots=True)
    class Grandchild(Child):
        fourth: int = 0

    assert repr(Grandchild(1, "b", 2, 3)).endswith("Grandchild(value=1, other='b', third=2, fourth=3)")


def test_a_default_that_can_change_is_refused() -> None:
    with pytest.raises(ValueError, match="value: a default that can change needs default_factory"):

        @records.dataclass(slots=True)
        class _Wrong:
            value: list[int] = []  # noqa: RUF012

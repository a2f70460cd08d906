"""The primitives that every layout is written in: small frozen records, each with one lazy effect.

A rule sees a state, the ordered mapping of names to entries, and returns the next one. Nothing is read: the
entries hold lazy tensors. Rules are made by the functions at the end of this file, so that a table reads as a
list of sentences.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from wconv.errors import LayoutError
from wconv.layouts.conditions import Context, Option, Setting, When
from wconv.layouts.patterns import Match, Pattern, check_target, compile_pattern
from wconv.quantized.names import UNCHANGED
from wconv.tensors import dtypes, operations
from wconv.tensors.dtypes import DTypeLike
from wconv.tensors.lazy import LazyTensor

Verdict = Literal["source", "final"]

ROLES: Mapping[str, tuple[int, ...]] = {
    "conv1d": (0, 2, 1),
    "conv2d": (0, 2, 3, 1),
    "conv3d": (0, 2, 3, 4, 1),
    "conv_transpose1d": (1, 2, 0),
    "conv_transpose2d": (1, 2, 3, 0),
    "matrix": (1, 0),
}
"""The order of axes that MLX wants, in terms of torch's; `swap_last` exchanges the last two of any number."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor on its way: what it is by now and which source tensors it comes from."""

    tensor: LazyTensor
    sources: tuple[str, ...]


State = dict[str, Entry]


@dataclass(frozen=True, slots=True)
class Rule:
    """What all rules share: names they apply to, and under which condition."""

    source: str
    when: When | None = field(default=None, kw_only=True)

    verb: ClassVar[str] = "?"

    @property
    def pattern(self) -> Pattern:
        return compile_pattern(self.source)

    @property
    def targets(self) -> tuple[str, ...]:
        """The patterns of names that this rule gives; empty when it keeps names."""
        return ()

    def active(self, context: Context) -> bool:
        return self.when is None or self.when.holds(context)

    @property
    def judges(self) -> bool:
        """Whether a tensor can show that this rule is still to be applied, or that it has been."""
        return bool(self.targets)

    @property
    def by_name(self) -> bool:
        """Whether its name alone shows that, by `source` and `targets`."""
        return self.judges

    def verdict(self, name: str, entry: Entry, context: Context) -> Verdict | None:
        """Whether this tensor shows that the rule is still to be applied, or that it has been."""
        if self.targets and self.pattern.match(name):
            return "source"
        if any(compile_pattern(target).match(name) for target in self.targets):
            return "final"
        return None

    def apply(self, state: State, context: Context) -> State:
        """The state after this rule. Raises LayoutError where the tensors do not fit it."""
        after: State = {}
        pattern = self.pattern
        for name, entry in state.items():
            match = pattern.match(name)
            if match is None:
                put(after, {name: entry}, self)
                continue
            try:
                new = self.outputs(name, entry, match, context)
            except UNFIT:
                raise unfit(self, name, entry) from None
            put(after, new, self)
        return after

    def concerns(self, state: State) -> bool:
        """Whether there is a tensor that the rule says something of."""
        return self.pattern.fits_any(state)

    def outputs(self, name: str, entry: Entry, match: Match, context: Context) -> State:
        """What becomes of one tensor that the pattern matches."""
        raise NotImplementedError

    def __str__(self) -> str:
        condition = f" when {self.when}" if self.when else ""
        return f"{self.verb} {self.source}{self.detail()}{condition}"

    def detail(self) -> str:
        return f" → {', '.join(self.targets)}" if self.targets else ""


@dataclass(frozen=True, slots=True)
class Drop(Rule):
    """Leaves tensors out. With `beyond`, only those whose first `#` is at least that setting.

    Attributes:
        same_as: names, the first that is there, of the tensor that the consumer uses in their place.
    """

    reason: str
    beyond: Setting | None = None
    same_as: tuple[str, ...] = field(default=(), kw_only=True)

    verb: ClassVar[str] = "drop"

    def dropping(self, context: Context) -> Callable[[str], bool]:
        """Whether a name is one of those left out, for this config."""
        pattern = self.pattern
        if self.beyond is None:
            return pattern.fits
        limit = self.beyond.number(context)

        def drops(name: str) -> bool:
            match = pattern.match(name)
            return match is not None and pattern.numbers(match)[0] >= limit

        return drops

    def drops(self, name: str, context: Context) -> bool:
        return self.dropping(context)(name)

    def apply(self, state: State, context: Context) -> State:
        drops = self.dropping(context)
        return {name: entry for name, entry in state.items() if not drops(name)}

    def detail(self) -> str:
        limit = f" from {self.beyond} on" if self.beyond else ""
        return f"{limit}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Rename(Rule):
    """Gives tensors another name; names that a pattern of `but` matches stay."""

    target: str
    but: tuple[str, ...] = ()

    verb: ClassVar[str] = "rename"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    def outputs(self, name: str, entry: Entry, match: Match, context: Context) -> State:
        if self.stays(name):
            return {name: entry}
        return {compile_pattern(self.target).render(match, self.pattern): entry}

    @property
    def by_name(self) -> bool:
        return not self.but

    def verdict(self, name: str, entry: Entry, context: Context) -> Verdict | None:
        return None if self.stays(name) else Rule.verdict(self, name, entry, context)

    def stays(self, name: str) -> bool:
        """Whether a name is one of those that keep theirs."""
        return any(compile_pattern(one).match(name) for one in self.but)

    def detail(self) -> str:
        return f" → {self.target}" + (f" (but not {', '.join(self.but)})" if self.but else "")


@dataclass(frozen=True, slots=True)
class Transpose(Rule):
    """Puts axes in the order of `role`.

    Attributes:
        last: the length that the last axis has once this is done (and axis 1 before it), by which a converted
            checkpoint is told from one that is still to be converted when names do not tell.
        only: an axis and its length: tensors of another length there have the right order already.
        undo: from the consumer's order back to torch's.
    """

    role: str
    last: int | Setting | None = None
    only: tuple[int, Setting] | None = None
    undo: bool = False

    verb: ClassVar[str] = "transpose"

    @property
    def judges(self) -> bool:
        return self.last is not None

    @property
    def by_name(self) -> bool:
        return False

    def verdict(self, name: str, entry: Entry, context: Context) -> Verdict | None:
        shape = entry.tensor.shape
        if self.last is None or len(shape) != len(self.order(entry)) or not self.pattern.match(name):
            return None
        last = self.last if isinstance(self.last, int) else self.last.number(context)
        if (shape[1] == last) == (shape[-1] == last):
            return None
        return "source" if shape[1] == last else "final"

    def order(self, entry: Entry) -> tuple[int, ...]:
        if self.role == "swap_last":
            axes = tuple(range(max(entry.tensor.ndim, 2)))
            return (*axes[:-2], axes[-1], axes[-2])
        order = ROLES[self.role]
        return tuple(order.index(axis) for axis in range(len(order))) if self.undo else order

    def outputs(self, name: str, entry: Entry, match: Match, context: Context) -> State:
        order = self.order(entry)
        if entry.tensor.ndim != len(order):
            raise LayoutError(
                f"{name} has the shape {entry.tensor.shape}, expected {len(order)} axes ({self.role})"
            )
        if self.only is not None and not self._wanted(name, entry.tensor, self.only, context):
            return {name: entry}
        return {name: Entry(entry.tensor.transpose(order), entry.sources)}

    def _wanted(self, name: str, tensor: LazyTensor, only: tuple[int, Setting], context: Context) -> bool:
        axis, length = only
        check_axis(name, tensor, axis)
        if len(set(tensor.shape[-2:])) == 1:
            raise LayoutError(f"{name} has the shape {tensor.shape}, which does not tell its axes apart")
        return tensor.shape[axis] == length.number(context)

    def detail(self) -> str:
        where = f" where axis {self.only[0]} is {self.only[1]}" if self.only else ""
        return f" {'back from' if self.undo else 'as'} {self.role}{where}"


@dataclass(frozen=True, slots=True)
class Split(Rule):
    """Cuts a tensor along an axis into several: equal parts, parts of given sizes, or every n-th element."""

    into: tuple[str, ...]
    axis: int
    sizes: tuple[Setting, ...] = ()
    interleaved: bool = False

    verb: ClassVar[str] = "split"

    @property
    def targets(self) -> tuple[str, ...]:
        return self.into

    def outputs(self, name: str, entry: Entry, match: Match, context: Context) -> State:
        names = [compile_pattern(target).render(match, self.pattern) for target in self.into]
        parts = self._parts(name, entry.tensor, context)
        return {new: Entry(part, entry.sources) for new, part in zip(names, parts, strict=True)}

    def _parts(self, name: str, tensor: LazyTensor, context: Context) -> Iterable[LazyTensor]:
        count = len(self.into)
        sizes = [size.number(context) for size in self.sizes]
        check_axis(name, tensor, self.axis)
        if not sizes and tensor.shape[self.axis] % count:
            raise LayoutError(f"{name} has the shape {tensor.shape}, which has no {count} equal parts")
        if self.interleaved:
            length = tensor.shape[self.axis]
            return [tensor.slice(self.axis, at, length, count) for at in range(count)]
        if sizes and sum(sizes) != tensor.shape[self.axis]:
            raise LayoutError(f"{name} has the shape {tensor.shape}, which has no parts of {sizes}")
        return tensor.split(sizes or count, self.axis)

    def detail(self) -> str:
        how = "interleaved" if self.interleaved else ", ".join(map(str, self.sizes)) or "equal"
        return f" on axis {self.axis} ({how}) → {', '.join(self.into)}"


@dataclass(frozen=True, slots=True)
class Stack(Rule):
    """Puts the tensors that differ in `{e}` side by side on a new first axis, 0, 1, 2 … without a gap."""

    target: str
    count: Setting | None = None

    verb: ClassVar[str] = "stack"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    def apply(self, state: State, context: Context) -> State:
        groups: dict[str, dict[int, tuple[str, Entry]]] = {}
        after: State = {}
        pattern, target = self.pattern, compile_pattern(self.target)
        for name, entry in state.items():
            match = pattern.match(name)
            if match is None:
                put(after, {name: entry}, self)
                continue
            new = target.render(match, pattern)
            members = groups.setdefault(new, {})
            if not members:
                put(after, {new: entry}, self)  # holds the place in the order
            if match.index in members:
                raise LayoutError(
                    f"{members[match.index][0]} and {name} are both number {match.index} of {new}"
                )
            members[match.index] = (name, entry)
        for new, members in groups.items():
            after[new] = self._stacked(members, context)
        return after

    def _stacked(self, members: Mapping[int, tuple[str, Entry]], context: Context) -> Entry:
        wanted = len(members) if self.count is None else self.count.number(context)
        first = next(iter(members.values()))[0]
        # never a loop as long as `wanted`, which config.json says
        gap = next(at for at in range(len(members) + 1) if at not in members)
        wrong = gap if gap < wanted else min((at for at in members if at >= wanted), default=None)
        if wrong is not None:
            raise LayoutError(f"{first} is one of a stack of {wanted}: number {wrong} is missing or too many")
        entries = [members[at][1] for at in range(wanted)]
        try:
            tensor = operations.stack([entry.tensor for entry in entries])
        except ValueError as error:
            raise LayoutError(f"{first} and its like cannot be stacked: {error}") from None
        return Entry(tensor, tuple(source for entry in entries for source in entry.sources))


@dataclass(frozen=True, slots=True)
class Add(Rule):
    """Adds a number to 1-D tensors, rounded in the source's dtype."""

    value: float

    verb: ClassVar[str] = "add"

    def outputs(self, name: str, entry: Entry, match: Match, context: Context) -> State:
        if entry.tensor.ndim != 1:
            return {name: entry}
        return {name: Entry(entry.tensor.add(self.value), entry.sources)}

    def detail(self) -> str:
        return f": {self.value:+}"


@dataclass(frozen=True, slots=True)
class Copy(Rule):
    """Writes a tensor a second time under `target`, unless the checkpoint has that name."""

    target: str

    verb: ClassVar[str] = "copy"

    def apply(self, state: State, context: Context) -> State:
        after = dict(state)
        for name, entry in state.items():
            if match := self.pattern.match(name):
                after.setdefault(compile_pattern(self.target).render(match, self.pattern), entry)
        return after

    def detail(self) -> str:
        return f" → {self.target} if missing"


@dataclass(frozen=True, slots=True)
class Reshape(Rule):
    """Gives tensors another shape; lengths are numbers, settings, `0` for an axis' own, `-1` for the rest.

    Attributes:
        back: the shape that they had, written alike, for the way back.
    """

    shape: tuple[int | Setting, ...]
    back: tuple[int | Setting, ...] = ()

    verb: ClassVar[str] = "reshape"

    def outputs(self, name: str, entry: Entry, match: Match, context: Context) -> State:
        shape = [length if isinstance(length, int) else length.number(context) for length in self.shape]
        shape = [
            length or old or 0
            for length, old in itertools.zip_longest(shape, entry.tensor.shape[: len(shape)])
        ]
        try:
            return {name: Entry(entry.tensor.reshape(shape), entry.sources)}
        except ValueError as error:
            raise LayoutError(f"{name}: {error}: {UNCHANGED}") from None

    def detail(self) -> str:
        return f" to ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True, slots=True)
class View(Rule):
    """Reads the same bytes as another dtype and joins the last two axes.

    Attributes:
        back: the dtype and the length of the last axis that they had, for the way back.
    """

    dtype: str
    back: tuple[str, int] | None = None

    verb: ClassVar[str] = "view"

    def outputs(self, name: str, entry: Entry, match: Match, context: Context) -> State:
        try:
            seen = entry.tensor.view(self.dtype)
        except ValueError as error:
            raise LayoutError(f"{name}: {error}") from None
        return {name: Entry(seen.reshape((*seen.shape[:-2], -1)), entry.sources)}

    def detail(self) -> str:
        return f" as {self.dtype}, last two axes joined"


@dataclass(frozen=True, slots=True)
class KeepDtype(Rule):
    """Tensors that a cast of the model leaves alone, by their final names."""

    verb: ClassVar[str] = "keep dtype of"

    def apply(self, state: State, context: Context) -> State:
        return state


@dataclass(frozen=True, slots=True)
class Compute(Rule):
    """A step that is no primitive: `function` makes it out of one tensor and its companion.

    Attributes:
        companion: the name, in terms of `source`, of the tensor that is used up with it.
    """

    companion: str
    name: str
    function: Callable[[LazyTensor, LazyTensor], LazyTensor]

    verb: ClassVar[str] = "compute"

    def apply(self, state: State, context: Context) -> State:
        after = dict(state)
        for name, entry in state.items():
            match = self.pattern.match(name)
            other = match and compile_pattern(self.companion).render(match, self.pattern)
            if not other or other not in state:
                continue
            scale = after.pop(other)
            try:
                tensor = self._computed(name, entry.tensor, scale.tensor)
            except UNFIT:
                raise unfit(self, name, entry) from None
            after[name] = Entry(tensor, (*entry.sources, *scale.sources))
        return after

    def _computed(self, name: str, tensor: LazyTensor, companion: LazyTensor) -> LazyTensor:
        try:
            return self.function(tensor, companion)
        except LayoutError as error:
            raise LayoutError(f"{name}: {error}: {UNCHANGED}") from None

    def detail(self) -> str:
        return f" {self.name} with {self.companion}"


UNFIT = (ValueError, IndexError, ArithmeticError, TypeError)
"""What comes of a rule for tensors whose axes or lengths it can do nothing with."""


def unfit(rule: Rule, name: str, entry: Entry) -> LayoutError:
    """The error that names a tensor which a rule can do nothing with."""
    return LayoutError(
        f"{name} ({entry.tensor.dtype.name} {entry.tensor.shape}) does not fit the rule: {rule}"
    )


def check_axis(name: str, tensor: LazyTensor, axis: int) -> None:
    """Raises LayoutError where a tensor has no such axis."""
    if not -tensor.ndim <= axis < tensor.ndim:
        raise LayoutError(f"{name} has the shape {tensor.shape}, which has no axis {axis}")


def put(state: State, new: Mapping[str, Entry], rule: Rule) -> None:
    """Adds entries whose names must not be taken. Raises LayoutError when one is."""
    for name, entry in new.items():
        if name in state:
            ours, theirs = entry.sources[0], state[name].sources[0]
            raise LayoutError(f"{theirs} and {ours} would both become {name} ({rule})")
        state[name] = entry


def drop(
    source: str,
    reason: str,
    *,
    beyond: Setting | None = None,
    same_as: tuple[str, ...] = (),
    when: When | None = None,
) -> Drop:
    return Drop(source, reason, beyond, same_as=same_as, when=when)


def rename(source: str, target: str, *, but: tuple[str, ...] = (), when: When | None = None) -> Rename:
    check_target(source, target)
    return Rename(source, target, but, when=when)


def transpose(
    source: str,
    role: str,
    *,
    last: int | Setting | None = None,
    only: tuple[int, Setting] | None = None,
    when: When | None = None,
) -> Transpose:
    if role != "swap_last" and role not in ROLES:
        raise LayoutError(f"{role!r} is no order of axes: one of {', '.join(ROLES)}, swap_last")
    return Transpose(source, role, last, only, when=when)


def split(
    source: str,
    into: tuple[str, ...],
    axis: int,
    *,
    sizes: tuple[Setting, ...] = (),
    interleaved: bool = False,
    when: When | None = None,
) -> Split:
    for target in into:
        check_target(source, target)
    return Split(source, into, axis, sizes, interleaved, when=when)


def stack(source: str, target: str, *, count: Setting | None = None, when: When | None = None) -> Stack:
    check_target(source, target)
    return Stack(source, target, count, when=when)


def add_one(source: str, *, when: When | None = None) -> Add:
    return Add(source, 1.0, when=when)


def copy_if_missing(source: str, target: str, *, when: When | None = None) -> Copy:
    check_target(source, target)
    return Copy(source, target, when=when)


def reshape(
    source: str,
    shape: tuple[int | Setting, ...],
    *,
    back: tuple[int | Setting, ...] = (),
    when: When | None = None,
) -> Reshape:
    return Reshape(source, shape, back, when=when)


def view_flat(
    source: str, dtype: DTypeLike, *, back: tuple[str, int] | None = None, when: When | None = None
) -> View:
    return View(source, dtypes.of(dtype).name, back, when=when)


def keep_dtype(source: str) -> KeepDtype:
    return KeepDtype(source)


def compute(
    source: str, companion: str, name: str, function: Callable[[LazyTensor, LazyTensor], LazyTensor]
) -> Compute:
    check_target(source, companion)
    return Compute(source, companion, name, function)


def unless(option: str) -> When:
    """The caller did not ask for `option`."""
    return When(Option(option), True, negated=True)

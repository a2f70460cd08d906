"""Rules that re-arrange the elements of tensors: axes, parts, stacks, shapes and views."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from wconv.errors import LayoutError
from wconv.layouts.conditions import Context, Setting
from wconv.layouts.patterns import Match, compile_pattern
from wconv.layouts.rule import Rule, Side, State, TracedTensor, add_new, check_axis
from wconv.quantized.names import UNCHANGED
from wconv.tensors import operations
from wconv.tensors.lazy import LazyTensor

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
class TransposeRule(Rule):
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
    def is_recognisable(self) -> bool:
        return self.last is not None

    @property
    def is_recognisable_by_name(self) -> bool:
        return False

    def side_of(self, name: str, entry: TracedTensor, context: Context) -> Side | None:
        shape = entry.tensor.shape
        if self.last is None or len(shape) != len(self.order(entry)) or not self.pattern.match(name):
            return None
        last = self.last if isinstance(self.last, int) else self.last.number(context)
        if (shape[1] == last) == (shape[-1] == last):
            return None
        return "source" if shape[1] == last else "final"

    def order(self, entry: TracedTensor) -> tuple[int, ...]:
        """For each new axis the old one, for a tensor of that many axes."""
        if self.role == "swap_last":
            axes = tuple(range(max(entry.tensor.ndim, 2)))
            return (*axes[:-2], axes[-1], axes[-2])
        order = ROLES[self.role]
        return tuple(order.index(axis) for axis in range(len(order))) if self.undo else order

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        order = self.order(entry)
        if entry.tensor.ndim != len(order):
            raise LayoutError(
                f"{name} has the shape {entry.tensor.shape}, expected {len(order)} axes ({self.role})"
            )
        if self.only is not None and not self._wanted(name, entry.tensor, self.only, context):
            return {name: entry}
        return {name: TracedTensor(entry.tensor.transpose(order), entry.sources)}

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
class SplitRule(Rule):
    """Cuts a tensor along an axis into several: equal parts, parts of given sizes, or every n-th element."""

    into: tuple[str, ...]
    axis: int
    sizes: tuple[Setting, ...] = ()
    interleaved: bool = False

    verb: ClassVar[str] = "split"

    @property
    def targets(self) -> tuple[str, ...]:
        return self.into

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        names = [compile_pattern(target).render(match, self.pattern) for target in self.into]
        parts = self._parts(name, entry.tensor, context)
        return {new: TracedTensor(part, entry.sources) for new, part in zip(names, parts, strict=True)}

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
class StackRule(Rule):
    """Puts the tensors that differ in `{e}` side by side on a new first axis, 0, 1, 2 … without a gap."""

    target: str
    count: Setting | None = None

    verb: ClassVar[str] = "stack"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    def apply(self, state: State, context: Context) -> State:
        groups: dict[str, dict[int, tuple[str, TracedTensor]]] = {}
        after: State = {}
        pattern, target = self.pattern, compile_pattern(self.target)
        for name, entry in state.items():
            match = pattern.match(name)
            if match is None:
                add_new(after, {name: entry}, self)
                continue
            new = target.render(match, pattern)
            members = groups.setdefault(new, {})
            if not members:
                add_new(after, {new: entry}, self)  # holds the place in the order
            if match.index in members:
                raise LayoutError(
                    f"{members[match.index][0]} and {name} are both number {match.index} of {new}"
                )
            members[match.index] = (name, entry)
        for new, members in groups.items():
            after[new] = self._stacked(members, context)
        return after

    def _stacked(self, members: Mapping[int, tuple[str, TracedTensor]], context: Context) -> TracedTensor:
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
        return TracedTensor(tensor, tuple(source for entry in entries for source in entry.sources))


@dataclass(frozen=True, slots=True)
class ReshapeRule(Rule):
    """Gives tensors another shape; lengths are numbers, settings, `0` for an axis' own, `-1` for the rest.

    Attributes:
        back: the shape that they had, written alike, for the way back.
    """

    shape: tuple[int | Setting, ...]
    back: tuple[int | Setting, ...] = ()

    verb: ClassVar[str] = "reshape"

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        shape = [length if isinstance(length, int) else length.number(context) for length in self.shape]
        shape = [
            length or old or 0
            for length, old in itertools.zip_longest(shape, entry.tensor.shape[: len(shape)])
        ]
        try:
            return {name: TracedTensor(entry.tensor.reshape(shape), entry.sources)}
        except ValueError as error:
            raise LayoutError(f"{name}: {error}: {UNCHANGED}") from None

    def detail(self) -> str:
        return f" to ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True, slots=True)
class ViewRule(Rule):
    """Reads the same bytes as another dtype and joins the last two axes.

    Attributes:
        back: the dtype and the length of the last axis that they had, for the way back.
    """

    dtype: str
    back: tuple[str, int] | None = None

    verb: ClassVar[str] = "view"

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        try:
            seen = entry.tensor.view(self.dtype)
        except ValueError as error:
            raise LayoutError(f"{name}: {error}") from None
        return {name: TracedTensor(seen.reshape((*seen.shape[:-2], -1)), entry.sources)}

    def detail(self) -> str:
        return f" as {self.dtype}, last two axes joined"

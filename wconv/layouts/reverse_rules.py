"""The primitives that undo others: a join undoes a split, an unstack a stack, blocks a flat view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wconv.errors import LayoutError
from wconv.layouts.conditions import Context, Setting, When
from wconv.layouts.patterns import Match, check_target, compile_pattern
from wconv.layouts.rules import Rule, Side, State, TracedTensor, add_new
from wconv.tensors import dtypes, operations
from wconv.tensors.lazy import LazyTensor

MOST_ROWS = 1 << 16
"""Rows of a stack that become tensors of their own at most."""


@dataclass(frozen=True, slots=True)
class JoinRule(Rule):
    """Makes one tensor of several along an axis: one after another, or taking an element of each in turn.

    Attributes:
        others: the names of the further parts, in order, in terms of `source`, which is the first.
        target: the name of the whole.
        sizes: the parts' lengths, for the way back; equal ones where there are none.
    """

    others: tuple[str, ...]
    target: str
    axis: int
    sizes: tuple[Setting, ...] = ()
    interleaved: bool = False

    verb: ClassVar[str] = "join"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    def side_of(self, name: str, entry: TracedTensor, context: Context) -> Side | None:
        if any(compile_pattern(part).match(name) for part in (self.source, *self.others)):
            return "source"
        return "final" if compile_pattern(self.target).match(name) else None

    def concerns(self, state: State) -> bool:
        return Rule.concerns(self, state) or any(map(self._is_part, state))

    def apply(self, state: State, context: Context) -> State:
        after: State = {}
        used: dict[str, str] = {}
        for name, entry in state.items():
            match = self.pattern.match(name)
            if match is None:
                continue
            others = [compile_pattern(other).render(match, self.pattern) for other in self.others]
            missing = next((other for other in others if other not in state), None)
            if missing is not None:
                raise LayoutError(f"{name} is to be joined with {missing}, which is not there ({self})")
            whole = compile_pattern(self.target).render(match, self.pattern)
            add_new(after, {whole: self._joined(name, [entry, *(state[other] for other in others)])}, self)
            used.update(dict.fromkeys((name, *others), whole))
        orphan = next((name for name in state if name not in used and self._is_part(name)), None)
        if orphan is not None:
            raise LayoutError(f"{orphan} is to be joined with others, which are not there ({self})")
        result: State = {}
        for name, entry in state.items():
            if name not in used:
                add_new(result, {name: entry}, self)
            elif used[name] in after:
                add_new(result, {used[name]: after.pop(used[name])}, self)
        return result

    def _is_part(self, name: str) -> bool:
        return any(compile_pattern(other).fits(name) for other in self.others)

    def _joined(self, name: str, entries: list[TracedTensor]) -> TracedTensor:
        tensors = [entry.tensor for entry in entries]
        try:
            axis = range(tensors[0].ndim)[self.axis]
            if self.interleaved:
                tensor = operations.stack(tensors, axis + 1)
                shape = (*tensor.shape[:axis], -1, *tensor.shape[axis + 2 :])
                tensor = operations.reshape(tensor, shape)
            else:
                tensor = operations.concat(tensors, axis)
        except (ValueError, IndexError) as error:
            raise LayoutError(f"{name} and its like cannot be joined: {error}") from None
        return TracedTensor(
            tensor, tuple(dict.fromkeys(source for entry in entries for source in entry.sources))
        )

    def detail(self) -> str:
        how = " in turn" if self.interleaved else ""
        return f", {', '.join(self.others)} on axis {self.axis}{how} → {self.target}"


@dataclass(frozen=True, slots=True)
class UnstackRule(Rule):
    """Makes of each row of the first axis a tensor of its own, its number in place of `{e}`."""

    target: str
    count: Setting | None = None

    verb: ClassVar[str] = "unstack"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        shape = entry.tensor.shape
        wanted = self.count.number(context) if self.count is not None else None
        if not shape or (wanted is not None and shape[0] != wanted):
            expected = f"{wanted} rows" if wanted is not None else "rows"
            raise LayoutError(f"{name} has the shape {shape}, expected a stack of {expected}")
        if shape[0] > MOST_ROWS:
            raise LayoutError(
                f"{name} has the shape {shape}: a stack of more than {MOST_ROWS:,} rows is refused"
            )
        target = compile_pattern(self.target)
        return {
            target.render(Match(match.slots, at), self.pattern): TracedTensor(
                _row(entry.tensor, at), entry.sources
            )
            for at in range(shape[0])
        }


@dataclass(frozen=True, slots=True)
class BlocksRule(Rule):
    """Cuts the last axis into blocks and reads the same bytes as another dtype: a flat view undone.

    Attributes:
        length: elements of the new dtype in a block.
    """

    dtype: str
    length: int

    verb: ClassVar[str] = "view"

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        tensor, to = entry.tensor, dtypes.by_name(self.dtype)
        step = self.length * to.bits // tensor.dtype.bits
        try:
            blocks = tensor.reshape((*tensor.shape[:-1], tensor.shape[-1] // step, step))
            return {name: TracedTensor(blocks.view(to), entry.sources)}
        except (ValueError, IndexError, ZeroDivisionError):
            raise LayoutError(
                f"{name} ({tensor.dtype.name} {tensor.shape}) has no blocks of {self.length} {self.dtype}"
            ) from None

    def detail(self) -> str:
        return f" as {self.dtype}, last axis in blocks of {self.length}"


@dataclass(frozen=True, slots=True)
class UncopyRule(Rule):
    """Leaves out the tensor `target` where it holds what `source` holds: it was copied from there.

    The one rule that reads: both tensors as far as they are alike.
    """

    target: str

    verb: ClassVar[str] = "drop copies of"

    def apply(self, state: State, context: Context) -> State:
        copies = set()
        for name, entry in state.items():
            match = self.pattern.match(name)
            other = compile_pattern(self.target).render(match, self.pattern) if match else ""
            if other in state and same_bits(entry.tensor, state[other].tensor):
                copies.add(other)
        return {name: entry for name, entry in state.items() if name not in copies}

    def detail(self) -> str:
        return f" in {self.target}"


def same_bits(first: LazyTensor, second: LazyTensor) -> bool:
    """Whether two tensors are equal in dtype, shape and every bit; reads until they differ."""
    if first.dtype is not second.dtype or first.shape != second.shape:
        return False
    step = max((1 << 20) // first.dtype.itemsize, 1)
    return all(
        first.read_range(at, min(at + step, first.size)).tobytes()
        == second.read_range(at, min(at + step, first.size)).tobytes()
        for at in range(0, first.size, step)
    )


def _row(tensor: LazyTensor, at: int) -> LazyTensor:
    return tensor.slice(0, at, at + 1).reshape(tensor.shape[1:])


def join(
    source: str,
    others: tuple[str, ...],
    target: str,
    axis: int,
    *,
    sizes: tuple[Setting, ...] = (),
    interleaved: bool = False,
    when: When | None = None,
) -> JoinRule:
    """Puts tensors one after another along an axis: what undoes `split`, with the same arguments.

    >>> import numpy as np
    >>> from wconv.layouts.rules import apply_rules
    >>> tensors = {"0.q": np.ones((2, 5)), "0.k": np.ones((3, 5))}
    >>> apply_rules(tensors, join("#.q", ("#.k",), "#.qk", 0))["0.qk"].shape
    (5, 5)
    """
    for pattern in (*others, target):
        check_target(source, pattern)
    return JoinRule(source, others, target, axis, sizes, interleaved, when=when)


def unstack(
    source: str, target: str, *, count: Setting | None = None, when: When | None = None
) -> UnstackRule:
    """Takes the first axis apart into tensors whose names have its number for `{e}`: what undoes `stack`.

    >>> import numpy as np
    >>> from wconv.layouts.rules import apply_rules
    >>> tensors = {"experts.w": np.ones((2, 4))}
    >>> {name: one.shape for name, one in apply_rules(tensors, unstack("experts.w", "{e}.w")).items()}
    {'0.w': (4,), '1.w': (4,)}
    """
    check_target(source, target)
    return UnstackRule(source, target, count, when=when)

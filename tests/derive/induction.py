"""A model's checkpoints as traced, the rules in the making, and what is said of one tensor by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.derive.fields import Fields
from tests.derive.names import general
from tests.derive.renames import renamed
from tests.derive.trace import Origin, Shape, UntraceableError
from wconv.layouts.conditions import Setting
from wconv.layouts.rules import ROLES, AddRule, RenameRule, ReshapeRule, Rule, TransposeRule


@dataclass(frozen=True)
class Traced:
    """A checkpoint and what sanitize made of it.

    Attributes:
        shapes: the source's tensors.
        origins: by the program's names.
        final: the shapes of the program's parameters.
        owners: the class of module that holds each.
        config: what the model was made from.
    """

    shapes: Mapping[str, Shape]
    origins: Mapping[str, Origin]
    final: Mapping[str, Shape]
    owners: Mapping[str, str]
    config: Mapping[str, Any]


@dataclass
class Made:
    """Rules in the making, by kind, in the order in which they will be applied."""

    drops: list[Rule] = field(default_factory=list)
    renames: list[RenameRule] = field(default_factory=list)
    before: dict[str, list[Rule]] = field(default_factory=lambda: defaultdict(list))
    structure: list[Rule] = field(default_factory=list)
    after: list[Rule] = field(default_factory=list)
    copies: list[Rule] = field(default_factory=list)


class Induction:
    """One model's rules."""

    def __init__(self, traces: Sequence[Traced], whole: bool) -> None:
        self.whole = whole
        self.traces = traces
        self.trace = traces[0]
        self.fields = Fields([trace.config for trace in traces])
        self.made = Made()
        self.others = [_by_pattern(trace) for trace in traces]

    def what(self, step: tuple[Any, ...], pattern: str) -> tuple[Any, ...]:
        if step[0] == "order":
            return self.order(step[1], pattern)
        if step[0] == "reshape":
            return self._reshape(pattern)
        raise UntraceableError(f"{pattern}: {step[0]} has no rule")

    def order(self, axes: tuple[int, ...], pattern: str) -> tuple[Any, ...]:
        owner = self.owner(pattern)
        role = next((name for name, order in ROLES.items() if order == axes), None)
        swapped = (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2)
        if axes == swapped and not (role == "conv1d" and "Conv" in owner) and role != "matrix":
            role = "swap_last"
        if role is None:
            raise UntraceableError(f"{pattern}: axes in the order {axes}, which no role has")
        last = self._last(pattern, role) if role in ("conv1d", "conv2d", "conv3d") else None
        return ("order", role, last)

    def _last(self, pattern: str, role: str) -> int | Setting | None:
        """The length by which a convolution's weight shows whether it has been transposed."""
        lengths = [found[pattern][1][-1] for found in self.others if pattern in found]
        if len(set(lengths)) == 1 and lengths[0] in (1, 3):
            return int(lengths[0])
        return self.fields.of(lengths, "channels") if len(lengths) == len(self.others) else None

    def _reshape(self, pattern: str) -> tuple[Any, ...]:
        pairs = [(found[pattern][0], found[pattern][1]) for found in self.others if pattern in found]
        there = self._lengths([before for before, _ in pairs], [after for _, after in pairs], pattern)
        back = self._lengths([after for _, after in pairs], [before for before, _ in pairs], pattern)
        return ("reshape", there, back)

    def _lengths(self, before: list[Shape], after: list[Shape], pattern: str) -> tuple[int | Setting, ...]:
        result: list[int | Setting] = []
        for axis in range(len(after[0])):
            lengths = [shape[axis] for shape in after]
            if all(
                axis < len(shape) and shape[axis] == length
                for shape, length in zip(before, lengths, strict=True)
            ):
                result.append(0)
            elif set(lengths) == {1}:
                result.append(1)
            else:
                result.append(self.fields.of(lengths) or -1)
        if result.count(-1) > 1:
            raise UntraceableError(f"{pattern}: lengths {after[0]} that no field of config.json explains")
        return tuple(result)

    def owner(self, pattern: str) -> str:
        return next((cls for name, cls in self.trace.owners.items() if general(name) == pattern), "")

    def what_of_part(self, step: tuple[Any, ...], target: str) -> tuple[Any, ...]:
        if step[0] == "order":
            return self.order(step[1], target)
        raise UntraceableError(f"{target}: a part that is reshaped")

    def name_now(self, source: str) -> str:
        """What a source is called, as a pattern, once the renamings are done."""
        now = renamed(source, self.made.renames)
        if now != source:
            return general(now)
        return general(source)


def _by_pattern(trace: Traced) -> dict[str, tuple[Shape, Shape]]:
    """By final pattern: the shape of the one source, and the final shape."""
    return {
        general(name): (trace.shapes[origin.sources[0]], trace.final[name])
        for name, origin in trace.origins.items()
        if name in trace.final
    }


def shapeless(steps: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple((step[0],) if step[0] == "reshape" else step for step in steps)


def slice_of(origin: Origin) -> tuple[Any, ...]:
    return slice_of_steps(origin.steps)


def slice_of_steps(steps: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return next(step for step in steps if step[0] == "slice")


def single(what: tuple[Any, ...], pattern: str) -> Rule:
    """The rule for something done to each tensor by itself."""
    if what[0] == "order":
        return TransposeRule(pattern, what[1], what[2])
    if what[0] == "reshape":
        return ReshapeRule(pattern, what[1], what[2])
    return AddRule(pattern, what[1])

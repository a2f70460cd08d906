"""From the origins of a program's parameters to the rules that make them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.derive.fields import Fields
from tests.derive.names import general, grouped, merged, numbered
from tests.derive.plain_rules import drops, fits
from tests.derive.renames import renamed, renames
from tests.derive.trace import Origin, Shape, UntraceableError
from wconv.layouts.conditions import Setting
from wconv.layouts.reverse_rules import JoinRule, UnstackRule
from wconv.layouts.rules import (
    ROLES,
    AddRule,
    CopyRule,
    RenameRule,
    ReshapeRule,
    Rule,
    SplitRule,
    StackRule,
    TransposeRule,
)


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


def rules(traces: Sequence[Traced], *, whole: bool = False) -> list[Rule]:
    """The rules that make a program's parameters of the first trace's checkpoint; the others tell numbers.

    Raises:
        UntraceableError: something that no rule writes.
    """
    return Induction(traces, whole).rules()


class Induction:
    """One model's rules."""

    def __init__(self, traces: Sequence[Traced], whole: bool) -> None:
        self.whole = whole
        self.traces = traces
        self.trace = traces[0]
        self.fields = Fields([trace.config for trace in traces])
        self.made = Made()
        self.others = [_by_pattern(trace) for trace in traces]

    def rules(self) -> list[Rule]:
        trace, made = self.trace, self.made
        simple, slices, stacks, joins = self._sorted()
        first: dict[str, str] = {}
        copies: dict[str, str] = {}
        for name, origin in simple.items():
            source = origin.sources[0]
            if source in slices:
                raise UntraceableError(f"{source} is used whole and in part")
            if source in first:
                copies[name] = first[source]
            else:
                first[source] = name
        # the copy is the name that differs from the source's
        wanted = dict(first)
        made.renames = renames(wanted, whole=self.whole)
        used = {source for origin in trace.origins.values() for source in origin.sources}
        made.drops = drops(trace.shapes, used)
        self._after(simple, copies)
        self._copies(copies)
        self._slices(slices)
        self._stacks(stacks)
        self._joins(joins)
        before = [rule for rows in made.before.values() for rule in rows]
        return [*made.drops, *made.renames, *before, *made.structure, *made.after, *made.copies]

    def _sorted(self) -> tuple[dict[str, Origin], dict[str, list[str]], dict[str, Origin], dict[str, Origin]]:
        simple: dict[str, Origin] = {}
        slices: dict[str, list[str]] = defaultdict(list)
        stacks: dict[str, Origin] = {}
        joins: dict[str, Origin] = {}
        for name, origin in self.trace.origins.items():
            verbs = [step[0] for step in origin.steps]
            if "stack" in verbs:
                stacks[name] = origin
            elif "join" in verbs or "stack join" in verbs:
                joins[name] = origin
            elif "slice" in verbs:
                slices[origin.sources[0]].append(name)
            else:
                simple[name] = origin
        return simple, slices, stacks, joins

    def _after(self, simple: Mapping[str, Origin], copies: Mapping[str, str]) -> None:
        """What is done to single tensors, by their final names."""
        steps = {name: (origin.steps, origin.added) for name, origin in simple.items() if name not in copies}
        found = grouped(steps, lambda value: (_shapeless(value[0]), value[1]))
        rows: dict[tuple[Any, ...], list[str]] = defaultdict(list)
        for pattern, (done, added) in found.items():
            for step in done:
                rows[self._what(step, pattern)].append(pattern)
            if added:
                rows["add", added].append(pattern)
        for what, patterns in rows.items():
            for (pattern,) in merged((one,) for one in patterns):
                self.made.after.append(_single(what, pattern))

    def _what(self, step: tuple[Any, ...], pattern: str) -> tuple[Any, ...]:
        if step[0] == "order":
            return self._order(step[1], pattern)
        if step[0] == "reshape":
            return self._reshape(pattern)
        raise UntraceableError(f"{pattern}: {step[0]} has no rule")

    def _order(self, axes: tuple[int, ...], pattern: str) -> tuple[Any, ...]:
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

    def _copies(self, copies: Mapping[str, str]) -> None:
        pairs = {general(source): [] for source in copies.values()}
        for name, source in copies.items():
            if general(name) not in pairs[general(source)]:
                pairs[general(source)].append(general(name))
        for source, targets in pairs.items():
            for target in targets:
                if target.count("#") != source.count("#"):
                    raise UntraceableError(f"{source} is copied to a place for each number")
                self.made.copies.append(CopyRule(source, target))

    def _slices(self, slices: Mapping[str, list[str]]) -> None:
        """Splits, by the source's name as the renamings leave it."""
        items = {}
        slices = self._unstacked(slices)
        for source, names in slices.items():
            origins = [self.trace.origins[name] for name in names]
            parts = sorted(zip(names, origins, strict=True), key=lambda one: (_slice_of(one[1])[2], one[0]))
            items[source] = (tuple(general(name) for name, _ in parts), tuple(one.steps for _, one in parts))
        found = grouped(items, lambda value: (value[0], [_shapeless(steps) for steps in value[1]]))
        rows: dict[tuple[Any, ...], list[tuple[str, ...]]] = defaultdict(list)
        for source, (targets, steps) in found.items():
            first = next(name for name in slices if general(name) == source)
            key = self._split_key(first, source, targets, steps)
            rows[key].append((self._name_now(first), *targets))
        self._splits(rows)

    def _unstacked(self, slices: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """Writes rules for tensors that are cut into numbered ones, and gives the others."""
        left, made = {}, dict[tuple[str, str], tuple[tuple[Any, ...], ...]]()
        for source, names in slices.items():
            names = sorted(names, key=lambda name: _slice_of(self.trace.origins[name])[2])
            steps = [self.trace.origins[name].steps for name in names]
            target = numbered(names)
            if (
                target is None
                or len({one[1:] for one in steps}) > 1
                or any(one[0][:2] != ("slice", 0) for one in steps)
            ):
                left[source] = names
            else:
                made[self._name_now(source), target] = steps[0][1:]
        counts = [
            max((len(names) for names in _cut_by_source(trace).values()), default=0) for trace in self.traces
        ]
        for (source, target), after in made.items():
            count = self.fields.of(counts, "expert")
            widths = [
                trace.shapes[name][-1]
                for trace in self.traces
                for name in trace.shapes
                if _leads(source, name)
            ]
            inner = self.fields.of(widths[: len(self.traces)])
            if count is None or inner is None:
                raise UntraceableError(f"{source} is cut into numbers that no field of config.json explains")
            self.made.structure.append(ReshapeRule(source, (count, -1, inner), (-1, inner)))
            self.made.structure.append(UnstackRule(source, target, count))
            for step in after:
                self.made.structure.append(
                    _single(self._what_of_part(step, general_of(target)), general_of(target))
                )
        return left

    def _splits(self, rows: Mapping[tuple[Any, ...], list[tuple[str, ...]]]) -> None:
        for (reshaped, axis, sizes, interleaved, after), members in rows.items():
            for source, *targets in merged(members):
                if reshaped:
                    self.made.structure.append(ReshapeRule(source, reshaped[0], reshaped[1]))
                self.made.structure.append(SplitRule(source, tuple(targets), axis, sizes, interleaved))
                for target, what in zip(targets, after, strict=True):
                    self.made.structure.extend(_single(one, target) for one in what)

    def _split_key(
        self, first: str, source: str, targets: Sequence[str], steps: Sequence[tuple[tuple[Any, ...], ...]]
    ) -> tuple[Any, ...]:
        shape = self.trace.shapes[first]
        reshaped: Any = None
        lead = steps[0][0]
        if lead[0] == "reshape":
            reshaped = self._reshaped_source(first, source, lead[1])
            shape = lead[1]
            steps = [one[1:] for one in steps]
        cuts = [one[0] for one in steps]
        axis = cuts[0][1]
        if any(cut[0] != "slice" or cut[1] != axis for cut in cuts):
            raise UntraceableError(f"{source} is cut along several axes")
        sizes, interleaved = self._sizes(source, targets, cuts, shape[axis])
        after = tuple(
            tuple(self._what_of_part(step, target) for step in one[1:])
            for one, target in zip(steps, targets, strict=True)
        )
        return (reshaped, axis - len(shape), sizes, interleaved, after)

    def _what_of_part(self, step: tuple[Any, ...], target: str) -> tuple[Any, ...]:
        if step[0] == "order":
            return self._order(step[1], target)
        raise UntraceableError(f"{target}: a part that is reshaped")

    def _reshaped_source(self, first: str, source: str, shape: Shape) -> tuple[Any, Any]:
        count = [
            next(
                (
                    origin.steps[0][1][0]
                    for origin in trace.origins.values()
                    if origin.sources[0] == first and origin.steps and origin.steps[0][0] == "reshape"
                ),
                0,
            )
            for trace in self.traces
        ]
        heads = self.fields.of(count, "head")
        inner = self.fields.of([trace.shapes[first][-1] for trace in self.traces if first in trace.shapes])
        if heads is None or inner is None or len(shape) != 3:
            raise UntraceableError(
                f"{source} is taken apart into {shape}, which no field of config.json explains"
            )
        return (heads, -1, inner), (-1, inner)

    def _sizes(
        self, source: str, targets: Sequence[str], cuts: Sequence[tuple[Any, ...]], whole: int
    ) -> tuple[tuple[Setting, ...], bool]:
        lengths = [(stop - start) // step for _, _, start, stop, step in cuts]
        if sum(lengths) != whole:
            raise UntraceableError(f"a part of {source} is left out")
        if cuts[0][4] > 1:
            if [cut[2] for cut in cuts] != list(range(len(cuts))):
                raise UntraceableError(f"{source} is cut in an order of its own")
            return (), True
        if len(set(lengths)) == 1:
            return (), False
        found = []
        for target, length in zip(targets, lengths, strict=True):
            values = [length, *(self._length_elsewhere(other, target) for other in self.traces[1:])]
            setting = self.fields.of(values)
            if setting is None:
                raise UntraceableError(
                    f"{source} is cut into {lengths}, which no field of config.json explains"
                )
            found.append(setting)
        return tuple(found), False

    def _length_elsewhere(self, trace: Traced, target: str) -> int:
        for name, origin in trace.origins.items():
            if general(name) == target:
                cut = next((step for step in origin.steps if step[0] == "slice"), None)
                if cut is not None:
                    return int((cut[3] - cut[2]) // cut[4])
        return -1

    def _name_now(self, source: str) -> str:
        """What a source is called, as a pattern, once the renamings are done."""
        now = renamed(source, self.made.renames)
        if now != source:
            return general(now)
        return general(source)

    def _stacks(self, stacks: Mapping[str, Origin]) -> None:
        items = {name: self._stack_of(origin) for name, origin in stacks.items()}
        found = grouped(items, lambda value: (value[0], _shapeless(value[1])))
        whole: dict[str, list[tuple[str, tuple[tuple[Any, ...], ...]]]] = defaultdict(list)
        rows = []
        after: dict[tuple[Any, ...], list[str]] = defaultdict(list)
        for target, (source, steps) in found.items():
            if any(step[0] == "slice" for step in steps):
                whole[source].append((target, steps))
                continue
            rows.append((source, target))
            for step in steps:
                after[self._stacked_what(step, target)].append(target)
        cut: dict[tuple[Any, ...], list[tuple[str, ...]]] = defaultdict(list)
        for source, parts in whole.items():
            between = source.replace(".{e}", "")
            rows.append((source, between))
            parts.sort(key=lambda one: (_slice_of_steps(one[1])[2], one[0]))
            cuts = [_slice_of_steps(steps) for _, steps in parts]
            shape = self.trace.shapes[next(name for name in self.trace.shapes if fits(source, name))]
            targets = [target for target, _ in parts]
            sizes, interleaved = self._sizes(source, targets, cuts, shape[cuts[0][1]])
            then = tuple(
                tuple(self._stacked_what(step, target) for step in steps if step[0] != "slice")
                for target, steps in parts
            )
            cut[None, cuts[0][1] - len(shape), sizes, interleaved, then].append((between, *targets))
        count = self._count(stacks)
        for source, target in merged(rows):
            self.made.structure.append(StackRule(source, target, count))
        self._splits(cut)
        for what, patterns in after.items():
            for (pattern,) in merged((one,) for one in patterns):
                self.made.structure.append(_single(what, pattern))

    def _stacked_what(self, step: tuple[Any, ...], target: str) -> tuple[Any, ...]:
        if step[0] == "order" and step[1] == (1, 0):
            return ("order", "swap_last", None)
        raise UntraceableError(f"{target}: tensors that are rearranged before they are stacked")

    def _stack_of(self, origin: Origin) -> tuple[str, tuple[tuple[Any, ...], ...]]:
        names = [renamed(source, self.made.renames) for source in origin.sources]
        pattern = numbered(names)
        if pattern is None:
            raise UntraceableError(
                f"{names[0]} and {len(names) - 1} more are stacked, which do not count from 0"
            )
        return pattern, origin.steps[:-1]

    def _count(self, stacks: Mapping[str, Origin]) -> Setting | None:
        counts = []
        for trace in self.traces:
            sizes = {
                len(origin.sources) for origin in trace.origins.values() if origin.steps[-1:] == (("stack",),)
            }
            if len(sizes) != 1:
                return None
            counts.append(sizes.pop())
        return self.fields.of(counts, "expert") if len(counts) > 1 and stacks else None

    def _joins(self, joins: Mapping[str, Origin]) -> None:
        items = {name: self._join_of(name, origin) for name, origin in joins.items()}
        found = grouped(items, lambda value: value)
        stacks, plain = [], defaultdict(list)
        for target, (parts, axis, stacked) in found.items():
            sources = parts
            if stacked:
                sources = tuple(part.replace(".{e}", "") for part in parts)
                stacks.extend(zip(parts, sources, strict=True))
            plain[axis, len(parts)].append((sources[0], *sources[1:], target))
        for source, target in merged(stacks):
            self.made.structure.append(StackRule(source, target, self._count_joined()))
        for (axis, _), rows in plain.items():
            for source, *others, target in merged(rows):
                self.made.structure.append(JoinRule(source, tuple(others), target, axis))

    def _count_joined(self) -> Setting | None:
        counts = []
        for trace in self.traces:
            sizes = {
                len(origin.sources) // origin.steps[-1][2]
                for origin in trace.origins.values()
                if origin.steps and origin.steps[-1][0] == "stack join"
            }
            if len(sizes) != 1:
                return None
            counts.append(sizes.pop())
        return self.fields.of(counts, "expert") if len(counts) > 1 else None

    def _join_of(self, name: str, origin: Origin) -> tuple[tuple[str, ...], int, bool]:
        step = origin.steps[-1]
        names = [renamed(source, self.made.renames) for source in origin.sources]
        if step[0] == "join":
            shapes = {self.trace.shapes[source][step[1]] for source in origin.sources}
            if len(shapes) != 1:
                raise UntraceableError(f"{name} is joined of parts of several lengths")
            if len(names) > 16:
                raise UntraceableError(f"{name} is joined of {len(names)} tensors")
            return tuple(general(one) for one in names), step[1], False
        per = step[2]
        columns = [numbered(names[at::per]) for at in range(per)]
        if None in columns:
            raise UntraceableError(f"{name} is made of {len(names)} tensors that do not count from 0")
        return tuple(str(column) for column in columns), step[1], True


def _cut_by_source(trace: Traced) -> dict[str, list[str]]:
    """For each source that is cut along its first axis, the names of its parts."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, origin in trace.origins.items():
        if origin.steps and origin.steps[0][:2] == ("slice", 0):
            found[origin.sources[0]].append(name)
    return found


def _leads(pattern: str, name: str) -> bool:
    """Whether a source's name ends as a pattern does, which renamings of its beginning leave."""
    return general(name).split(".")[-3:] == pattern.split(".")[-3:]


def general_of(pattern: str) -> str:
    """The pattern with any number in place of the one that is counted."""
    return pattern.replace("{e}", "#")


def _by_pattern(trace: Traced) -> dict[str, tuple[Shape, Shape]]:
    """By final pattern: the shape of the one source, and the final shape."""
    return {
        general(name): (trace.shapes[origin.sources[0]], trace.final[name])
        for name, origin in trace.origins.items()
        if name in trace.final
    }


def _shapeless(steps: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple((step[0],) if step[0] == "reshape" else step for step in steps)


def _slice_of(origin: Origin) -> tuple[Any, ...]:
    return _slice_of_steps(origin.steps)


def _slice_of_steps(steps: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return next(step for step in steps if step[0] == "slice")


def _single(what: tuple[Any, ...], pattern: str) -> Rule:
    """The rule for something done to each tensor by itself."""
    if what[0] == "order":
        return TransposeRule(pattern, what[1], what[2])
    if what[0] == "reshape":
        return ReshapeRule(pattern, what[1], what[2])
    return AddRule(pattern, what[1])

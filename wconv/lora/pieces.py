"""Which rows of which modules a module consists of, after rules that split, join and rename."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wconv.errors import LayoutError
from wconv.layouts.apply import run_rules
from wconv.layouts.conditions import Context
from wconv.layouts.patterns import compile_pattern
from wconv.layouts.reverse_rules import JoinRule
from wconv.layouts.rules import Rule, State, TracedTensor
from wconv.tensors import dtypes
from wconv.tensors.lazy import Array, LazyTensor
from wconv.tensors.nodes import ConcatNode, SliceNode, UnaryNode, ZerosNode

ABSENT = ""
"""Stands for a module that is not there."""


@dataclass(frozen=True, slots=True)
class ModuleRows:
    """Rows of a module or tensor, under whatever name it is known."""

    base: str
    row: int
    rows: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Marked(UnaryNode):
    """A tensor that can be told among the parts that rules make of it."""

    name: str

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)


def pieces(tensor: LazyTensor) -> tuple[ModuleRows, ...] | None:
    """The rows of marked tensors that one made of them by splitting and joining consists of."""
    find = _BY_TYPE.get(type(tensor))
    return find(tensor) if find is not None else None


def _of_marked(tensor: Marked) -> tuple[ModuleRows, ...]:
    return (ModuleRows(tensor.name, 0, tensor.shape[0]),)


def _of_slice(tensor: SliceNode) -> tuple[ModuleRows, ...] | None:
    """Consecutive rows of what the parent consists of."""
    found = pieces(tensor.parent)
    if found is None or tensor.axis or tensor.step != 1:
        return None
    cut: list[ModuleRows] = []
    begin = 0
    for piece in found:
        first, last = max(tensor.start, begin), min(tensor.stop, begin + piece.rows)
        if first < last:
            cut.append(ModuleRows(piece.base, piece.row + first - begin, last - first))
        begin += piece.rows
    return tuple(cut)


def _of_concat(tensor: ConcatNode) -> tuple[ModuleRows, ...] | None:
    found = [pieces(part) for part in tensor.parts]
    if tensor.axis or None in found:
        return None
    return _run_together([piece for one in found for piece in one or ()])


_BY_TYPE: dict[type[LazyTensor], Callable[[Any], tuple[ModuleRows, ...] | None]] = {
    Marked: _of_marked,
    SliceNode: _of_slice,
    ConcatNode: _of_concat,
}
"""Nodes that keep rows whole; of all others nothing is known."""


def _run_together(found: Sequence[ModuleRows]) -> tuple[ModuleRows, ...]:
    """Neighbours that follow each other in the same tensor become one piece."""
    joined: list[ModuleRows] = []
    for piece in found:
        last = joined[-1] if joined else None
        if last is not None and last.base == piece.base and last.row + last.rows == piece.row:
            joined[-1] = ModuleRows(last.base, last.row, last.rows + piece.rows)
        else:
            joined.append(piece)
    return tuple(joined)


def arranged(rules: Sequence[Rule], rows: Mapping[str, int]) -> dict[str, tuple[ModuleRows, ...]]:
    """What each module that `rules` make of some others consists of.

    Args:
        rows: modules, each with the number of its weight's rows. Where a join lacks some of its parts, those
            are pieces of a module `ABSENT`.

    Raises:
        LayoutError: rows that are to be split have no such parts, or something else than rows is moved.
    """
    state: State = {
        f"{module}.weight": TracedTensor(Marked(_zeros(count), module), (module,))
        for module, count in rows.items()
    }
    for rule in rules:
        if isinstance(rule, JoinRule):
            _add_absent(rule, state)
        state = run_rules((rule,), state, Context(), {})
    made: dict[str, tuple[ModuleRows, ...]] = {}
    for name, entry in state.items():
        found = pieces(entry.tensor)
        if found is None or not name.endswith(".weight"):
            raise LayoutError(f"{entry.sources[0]} is no layer to which an adapter can be added")
        made[name.removesuffix(".weight")] = found
    return made


def _zeros(rows: int) -> LazyTensor:
    return ZerosNode((rows, 1), dtypes.by_name("float32"))


def _add_absent(rule: JoinRule, state: State) -> None:
    """Puts in what the join lacks of the parts that go with those that are there, all of one length."""
    parts = [compile_pattern(part) for part in (rule.source, *rule.others)]
    for name, entry in list(state.items()):
        for part in parts:
            match = part.match(name)
            for other in parts if match is not None else ():
                assert match is not None
                absent = TracedTensor(Marked(_zeros(entry.tensor.shape[0]), ABSENT), ())
                state.setdefault(other.render(match, part), absent)

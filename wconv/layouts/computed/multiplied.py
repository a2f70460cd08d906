"""Weights multiplied with numbers of config.json, as programs that fold such numbers into weights do it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import ComputedOverflowError, LayoutError
from wconv.layouts.conditions import Context, Setting
from wconv.layouts.patterns import Match
from wconv.layouts.rule import Rule, State, TracedTensor
from wconv.tensors import casts
from wconv.tensors.lazy import Array
from wconv.tensors.nodes import UnaryNode, by_blocks


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Multiplied(UnaryNode):
    """The parent times a number, or its rows times one each, in the parent's dtype: rounded as MLX does.

    Attributes:
        factor: rounded to the dtype before it is used, as a Python scalar is.
        rows: number and count of rows, in order; all rows together. Each is rounded to the dtype, then its
            product with `factor`.
    """

    factor: float
    rows: tuple[tuple[float, int], ...] = ()

    @property
    def block_size(self) -> int:
        return math.lcm(self.parent.block_size, self._columns) if self.rows else self.parent.block_size

    @property
    def _columns(self) -> int:
        return max(self.size // self.shape[0], 1) if self.shape[0] else 1

    def read_into(self, start: int, stop: int, out: Array) -> None:
        if self.rows:
            by_blocks(start, stop, out, self._columns, self._some_rows)
            return
        self.parent.read_into(start, stop, out)
        self._times(out, _rounded(self.factor, out))

    def _some_rows(self, first: int, last: int, out: Array) -> None:
        columns = self._columns
        self.parent.read_into(first * columns, last * columns, out)
        ends = np.cumsum([count for _, count in self.rows])
        which = np.searchsorted(ends, np.arange(first, last), side="right")
        numbers = _rounded([number for number, _ in self.rows], out) * _rounded(self.factor, out)
        self._times(out.reshape(last - first, columns), numbers[which][:, None])

    def _times(self, out: Array, by: Array) -> None:
        before = casts.count_not_finite(out)
        with np.errstate(all="ignore"):
            np.multiply(out, by, out=out)
        if casts.count_not_finite(out) > before:
            raise ComputedOverflowError(f"multiplied with a number of config.json it overflows {self.dtype}")


def _rounded(numbers: float | list[float], like: Array) -> Array:
    """Numbers in an array's dtype; by way of float32, as MLX makes them."""
    with np.errstate(all="ignore"):  # what is infinite then is told of the products
        rounded: Array = np.asarray(numbers, np.float32).astype(like.dtype)
    return rounded


@dataclass(frozen=True, slots=True)
class ScaleRule(Rule):
    """Multiplies tensors with numbers of config.json, rounded in the source's dtype.

    Attributes:
        by: the fields whose product is the number for the whole tensor.
        rows: a field and how many rows are multiplied with it, besides; in order, for all rows.
    """

    by: tuple[Setting, ...] = ()
    rows: tuple[tuple[Setting, int | Setting], ...] = ()

    verb: ClassVar[str] = "scale"

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        tensor = entry.tensor
        factor = math.prod(setting.factor(context) for setting in self.by)
        rows = tuple(
            (number.factor(context), count if isinstance(count, int) else count.number(context))
            for number, count in self.rows
        )
        if not tensor.dtype.is_floating or tensor.dtype.bits < 16:
            raise LayoutError(f"{name} ({tensor.dtype.name}) is to be multiplied with numbers ({self})")
        if rows and tensor.shape[:1] != (sum(count for _, count in rows),):
            raise LayoutError(
                f"{name} has the shape {tensor.shape}, and config.json has multipliers for"
                f" {sum(count for _, count in rows)} rows ({self})"
            )
        if factor == 1.0 and all(number == 1.0 for number, _ in rows):
            return {name: entry}
        return {name: TracedTensor(Multiplied(tensor, factor, rows), entry.sources)}

    def detail(self) -> str:
        each = [f"{number} for {count} rows" for number, count in self.rows]
        return f" by {', '.join([*map(str, self.by), *each])}"

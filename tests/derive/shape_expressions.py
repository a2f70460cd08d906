"""Solves for the expression of config's fields that gives a length in every sample."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from wconv.consumers.shapes import UNCHECKED, lookup, value_of

if TYPE_CHECKING:
    from tests.derive.shapes import Sample


def solve(points: Sequence[tuple[Sample, int]], numbers: Sequence[str], frozen: Mapping[str, int]) -> str:
    """The expression of fields that gives a length in every sample; `?` where there is none."""
    first, base = points[0]
    fields = []
    for path in numbers:
        near = [
            (lookup(sample.config, path), length)
            for sample, length in points
            if len(sample.changes) == 1 and sample.changes[0].path == path
        ]
        if any(length != base for _, length in near):
            fields.append((path, near))
    if len(fields) > 6:
        return UNCHECKED
    if not fields:
        if any(length != base for _, length in points) or _hidden(base, frozen):
            return UNCHECKED
        return str(base)
    choices = [_exponents(lookup(first.config, path), base, near) for path, near in fields]
    products = list(itertools.product(*choices))
    if len(products) > 100:
        return UNCHECKED
    rows, lengths = [], []
    for sample, length in points:
        values = [lookup(sample.config, path) for path, _ in fields]
        if any(type(value) is not int or value <= 0 for value in values):
            continue
        if not all(
            _regular(value, lookup(first.config, path))
            for value, (path, _) in zip(values, fields, strict=True)
        ):
            continue
        made = [_product(values, powers) for powers in products]
        if all(one.denominator == 1 for one in made):
            rows.append(made)
            lengths.append(length)
    if len(rows) < 3:
        return UNCHECKED
    solution = _solved(rows, lengths)
    if solution is None:
        return UNCHECKED
    if any(_hidden(abs(one.numerator), frozen) for one in solution if one):
        return UNCHECKED
    paths = [path for path, _ in fields]
    for expression in _written(paths, products, solution):
        told = [(value_of(expression, sample.config), length) for sample, length in points]
        if all(value is None or value == length for value, length in told):
            return expression
    return UNCHECKED


def _hidden(number: int, frozen: Mapping[str, int]) -> bool:
    """Whether a number could stand for a field that could not be varied."""
    return number > 1 and any(number % value == 0 for value in frozen.values())


def _exponents(value: int, base: int, near: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """To which powers a field may stand in a length, from how the length follows it alone."""
    whole = [(x, y) for x, y in near if _regular(x, value) and x != value] or list(near)
    if all(y * value == base * x for x, y in whole):
        return (1,)
    if all(y * x == base * value for x, y in whole):
        return (-1,)
    slopes = {Fraction(y - base, x - value) for x, y in whole if x != value}
    if len(slopes) == 1:
        return (0, 1)
    inverse = {Fraction(y - base) / (Fraction(1, x) - Fraction(1, value)) for x, y in whole if x != value}
    return (0, -1) if len(inverse) == 1 else (0, 1, 2)


def _regular(value: int, base: int) -> bool:
    """Whether a field is larger by a power of two, so that what was divided by it still can be."""
    return base > 0 and value % base == 0 and (value // base).bit_count() == 1


def _product(values: Sequence[int], powers: Sequence[int]) -> Fraction:
    result = Fraction(1)
    for value, power in zip(values, powers, strict=True):
        result *= Fraction(value) ** power
    return result


def _solved(rows: Sequence[Sequence[Fraction]], lengths: Sequence[int]) -> list[Fraction] | None:
    """The fewest products, with their numbers, that give every length."""
    matrix = np.array([[float(one) for one in row] for row in rows])
    wanted = np.array(lengths, float)
    columns = list(range(matrix.shape[1]))
    for most in (1, 2, 3):
        if len(columns) > 40 and most > 2:
            break
        for chosen in itertools.combinations(columns, most):
            part = matrix[:, chosen]
            if len(rows) < most + 2 or np.linalg.matrix_rank(part) < most:
                continue
            found, *_ = np.linalg.lstsq(part, wanted, rcond=None)
            if np.abs(part @ found - wanted).max() > 1e-6 * wanted.max():
                continue
            numbers = [Fraction(float(one)).limit_denominator(16) for one in found]
            if all(numbers) and all(
                sum(number * row[at] for number, at in zip(numbers, chosen, strict=True)) == length
                for row, length in zip(rows, lengths, strict=True)
            ):
                result = [Fraction(0)] * len(columns)
                for number, at in zip(numbers, chosen, strict=True):
                    result[at] = number
                return result
    return None


def _written(
    fields: Sequence[str], products: Sequence[Sequence[int]], numbers: Sequence[Fraction]
) -> Iterator[str]:
    """The ways to write a sum: divisions may come early, and be undone, where a program drops a remainder."""
    written: list[list[str]] = []
    signs = []
    for powers, number in sorted(zip(products, numbers, strict=True), key=lambda one: one[1] < 0):
        if not number:
            continue
        above = [name for name, power in zip(fields, powers, strict=True) for _ in range(max(power, 0))]
        below = [name for name, power in zip(fields, powers, strict=True) for _ in range(max(-power, 0))]
        size = abs(number)
        if size.denominator != 1:
            below.append(str(size.denominator))
        written.append(
            list(_orders(above, below, size.numerator, [one for one in fields if one not in below]))
        )
        signs.append(" - " if number < 0 else " + ")
    if not written or signs[0] == " - ":
        return
    for chosen in itertools.islice(itertools.product(*written), 200):
        yield "".join(sign + term for sign, term in zip(signs, chosen, strict=True)).removeprefix(" + ")


def _orders(above: list[str], below: list[str], number: int, fields: Sequence[str]) -> Iterator[str]:
    """A product, with its divisions after one of its factors; then with a division that is undone."""
    start = [str(number)] if number != 1 or not above else []
    for at in range(max(len(above), 1)):
        moved = [*above[at : at + 1], *above[:at], *above[at + 1 :]]
        if not below:
            yield "*".join([*start, *moved])
            break
        first, *rest = moved or [str(number)]
        yield "*".join([first + "".join(f"/{one}" for one in below), *rest, *(start if moved else [])])
        yield "*".join([*start, *moved]) + "".join(f"/{one}" for one in below)
    if not below:
        for undone, first in itertools.product(fields, above):
            if undone != first:
                rest = list(above)
                rest.remove(first)
                yield "*".join([f"{first}/{undone}", undone, *start, *rest])

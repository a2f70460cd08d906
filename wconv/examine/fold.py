"""Names of repeated blocks as one line: `model.layers.{0-27}.mlp.up_proj.weight`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

HOLE = "\0"
"""Stands for a number in what names have in common."""

_NUMBER = re.compile(r"(?<![^.])\d{1,9}(?![^.])")


def pattern_of(name: str) -> tuple[str, tuple[int, ...]]:
    """A name with `HOLE` in the place of each number between dots, and the numbers."""
    if HOLE in name:
        return name, ()
    return _NUMBER.sub(HOLE, name), tuple(int(found) for found in _NUMBER.findall(name))


def spans(numbers: Iterable[int]) -> str:
    """Numbers as "0-3,7"."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def fold(names: Iterable[str]) -> dict[str, list[str]]:
    """Names that differ in numbers only, under the one line that stands for them; the order is kept.

    Several numbers in a name are folded one by one only as far as all their combinations are there: a line
    never stands for a name that is not there.

    >>> list(fold(["a.0.w", "a.1.w", "a.3.w", "b"]))
    ['a.{0-1,3}.w', 'b']
    """
    groups: dict[str, list[tuple[tuple[int, ...], str]]] = {}
    for name in names:
        pattern, numbers = pattern_of(name)
        groups.setdefault(pattern, []).append((numbers, name))
    folded: dict[str, list[str]] = {}
    for pattern, members in groups.items():
        for line, found in _fold(pattern, members):
            folded[line] = found
    return folded


def _fold(pattern: str, members: Sequence[tuple[tuple[int, ...], str]]) -> Iterable[tuple[str, list[str]]]:
    count = len(members[0][0])
    if len(members) == 1 or not count:
        for _, name in members:
            yield name, [name]
        return
    every = [sorted({numbers[at] for numbers, _ in members}) for at in range(count)]
    product = 1
    for values in every:
        product *= len(values)
    if product == len(members):
        yield _filled(pattern, every), [name for _, name in members]
        return
    # not all combinations are there: apart by the first number that has several
    first = next(at for at, values in enumerate(every) if len(values) > 1)
    rest: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    parts: dict[int, list[tuple[tuple[int, ...], str]]] = {}
    for numbers, name in members:
        parts.setdefault(numbers[first], []).append((numbers, name))
    # those that hold the same further numbers are told together
    for number, part in parts.items():
        key = tuple(sorted((*numbers[:first], *numbers[first + 1 :]) for numbers, _ in part))
        rest.setdefault(key, []).append(number)
    for together in rest.values():
        joined = [member for number in together for member in parts[number]]
        if len(rest) == 1:
            for _, name in joined:
                yield name, [name]
        else:
            yield from _fold(pattern, joined)


def _filled(pattern: str, every: Sequence[Sequence[int]]) -> str:
    texts = [str(values[0]) if len(values) == 1 else f"{{{spans(values)}}}" for values in every]
    literals = pattern.split(HOLE)
    return "".join(part for pair in zip(literals, [*texts, ""], strict=True) for part in pair)

"""Names of tensors as patterns: numbers become wildcards, and rules that differ in one word become one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

Segments = tuple[str, ...]
T = TypeVar("T")


REPEATED = re.compile(r"(layers?|blocks?|h|experts|resblocks|stages?|\w+_(layers?|blocks?))")
"""What lists of like modules are called; after other words, numbers may stand for unlike modules."""

LITERAL: set[str] = set()
"""Beginnings of names whose next number stays as it is, for the model in hand."""


class UnlikeError(ValueError):
    """Tensors that differ in a number alone are not treated alike."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f"{pattern} is not treated alike in every layer")
        self.pattern = pattern


def general(name: str) -> str:
    """The name with `#` for its numbers."""
    parts: list[str] = []
    for part in name.split("."):
        parts.append("#" if part.isdigit() and ".".join(parts) not in LITERAL else part)
    return ".".join(parts)


def keep_numbers(pattern: str) -> bool:
    """Whether names like this one could be told apart by keeping a number; from now on it is kept."""
    parts = pattern.split(".")
    for at in reversed(range(1, len(parts))):
        if parts[at] == "#" and not REPEATED.fullmatch(parts[at - 1]):
            LITERAL.add(".".join(parts[:at]))
            return True
    return False


def numbered(names: Sequence[str]) -> str | None:
    """The pattern with `{e}` for names that count from 0 in one place; None when they do not."""
    parts = [name.split(".") for name in names]
    if len({len(one) for one in parts}) != 1 or len(names) < 2:
        return None
    differing = [at for at, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    if len(differing) != 1:
        return None
    at = differing[0]
    if [one[at] for one in parts] != [str(number) for number in range(len(names))]:
        return None
    whole = general(names[0]).split(".")
    return ".".join("{e}" if place == at else part for place, part in enumerate(whole))


def merged(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows of patterns; those that differ in one word of the first column, answered in every other, as one.

    A row is (source, target, …); all its columns have the wildcards of the first.
    """
    done = [tuple(column.split(".") for column in row) for row in rows]
    changed = True
    while changed:
        changed = False
        for at in reversed(range(max((len(row[0]) for row in done), default=0))):
            groups: dict[object, list[tuple[list[str], ...]]] = {}
            for row in done:
                groups.setdefault(_key(row, at), []).append(row)
            result = []
            for members in groups.values():
                one = _joined(members, at) if len(members) > 1 else None
                result.extend([one] if one else members)
            if len(result) < len(done):
                done, changed = result, True
    return [tuple(".".join(column) for column in row) for row in done]


def _key(row: tuple[list[str], ...], at: int) -> object:
    """What must be the same for rows to be merged at a place: everything but the word there."""
    first = row[0]
    if at >= len(first) or not _plain(first[at]):
        return ("alone", tuple(map(tuple, row)))
    blank = []
    for column in row:
        places = _places(first, column, at)
        if places is None:
            return ("alone", tuple(map(tuple, row)))
        blank.append(tuple("?" if place == places else part for place, part in enumerate(column)))
    return tuple(blank)


def _places(first: list[str], column: list[str], at: int) -> int | None:
    """The place in another column that answers the place in the first: as far from the end, or the start."""
    if column is first:
        return at
    back = len(column) - (len(first) - at)
    for place in (back, at):
        if 0 <= place < len(column) and _plain(column[place]) and _order(column, place) == _order(first, at):
            return place
    return None


def _order(column: list[str], at: int) -> int:
    """How many wildcards stand before a place."""
    return sum(not _plain(part) and part != "{e}" for part in column[:at])


def _plain(part: str) -> bool:
    return not any(sign in part for sign in "#*(){}|")


def _joined(members: list[tuple[list[str], ...]], at: int) -> tuple[list[str], ...] | None:
    columns = []
    first = members[0][0]
    for number in range(len(members[0])):
        lists = [row[number] for row in members]
        place = _places(first, members[0][number], at)
        if place is None:
            return None
        words = [one[place] for one in lists]
        column = list(lists[0])
        if len(set(words)) == 1 and number and len({row[0][at] for row in members}) > 1:
            return None
        column[place] = words[0] if len(words) == 1 else f"({'|'.join(words)})"
        columns.append(column)
    return tuple(columns)


def grouped(items: Mapping[str, T], key: Callable[[T], object]) -> dict[str, T]:
    """For each general name its value, where all of that name agree.

    Raises:
        UnlikeError: two layers' tensors of the same name are treated differently.
    """
    found: dict[str, T] = {}
    for name, value in items.items():
        pattern = general(name)
        if pattern in found and key(found[pattern]) != key(value):
            raise UnlikeError(pattern)
        found.setdefault(pattern, value)
    return found

"""Regular expressions over tensor names, found in linear time: without backtracking, whatever the expression.

An expression is walked once for many names. The names stand in one text, and what has matched so far is a set
of places in it, kept as the bits of one integer: a step along the expression moves all places at once. So the
time depends on the lengths of the expression and the names, not on the ways in which one fits the other.
Only whether a name matches is asked, hence greedy and lazy repeats are the same.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from wconv.errors import WconvError
from wconv.layouts.places import after_run, before_run
from wconv.layouts.places import of as place_set

LONGEST = 20_000
"""Characters of an expression at most."""

DEEPEST = 50
"""Groups and repeats within each other at most."""

MOST_REPEATS = 1_000
"""How often a counted repeat, with those around it, goes over its part at most."""

CHUNK = 1 << 16
"""Characters of names that are looked through at once."""

STEPS = 200_000
"""Steps over a chunk at most; a repeat of a single character is one step."""

REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
LEAVES = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)
UNSUPPORTED = {
    _constants.GROUPREF: "refers back to a group",
    _constants.GROUPREF_EXISTS: "depends on whether a group matched",
    _constants.ATOMIC_GROUP: "has an atomic group",
    _constants.POSSESSIVE_REPEAT: "has a possessive repeat",
}


class NameFilter:
    """An expression that is searched in names; it is checked when it is made.

    >>> NameFilter(r"layers\\.(0|1)\\.", "--include").matching(["layers.1.w", "layers.11.w"])
    {'layers.1.w'}
    """

    def __init__(self, text: str, option: str) -> None:
        """Reads an expression that `option` gave.

        Raises:
            WconvError: it is no regular expression, or holds what cannot be searched in linear time.
        """
        self.text = text
        self._option = option
        if len(text) > LONGEST:
            raise WconvError(f"{option} has {len(text):,} characters: more than {LONGEST:,} are refused")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = _parser.parse(text)
        except RecursionError:
            raise WconvError(f"{option} {text!r:.60} has too many groups within each other") from None
        except (re.error, OverflowError, ValueError) as error:
            raise WconvError(f"{option} {text!r:.60} is no regular expression: {error}") from None
        self._tree = tree
        self._flags = tree.state.flags
        self._leaves: dict[tuple[int, int], re.Pattern[str]] = {}
        self._check(tree, 0, 1)

    def _check(self, items: Iterable[Any], depth: int, repeats: int) -> None:
        if depth > DEEPEST:
            raise WconvError(f"{self._option} {self.text!r:.60} has too many groups within each other")
        for kind, value in items:
            if kind in UNSUPPORTED:
                raise WconvError(
                    f"{self._option} {self.text!r:.60} {UNSUPPORTED[kind]}, which is not supported:"
                    " write out what it stands for"
                )
            counted = repeats
            if kind in REPEATS:
                least, most, _ = value
                counted *= max(least, 1 if most is _constants.MAXREPEAT else most, 1)
                if counted > MOST_REPEATS:
                    raise WconvError(
                        f"{self._option} {self.text!r:.60} repeats a part {counted:,} times:"
                        f" more than {MOST_REPEATS:,} are refused"
                    )
            for part in _parts(kind, value):
                self._check(part, depth + 1, counted)

    def matching(self, names: Collection[str]) -> set[str]:
        """The names in which the expression is found.

        Raises:
            WconvError: it repeats parts within each other so often that looking for it would take minutes.
        """
        found: set[str] = set()
        for chunk in _chunks(names):
            search = _Search(self, chunk)
            found.update(search.found())
        return found

    def leaf(self, item: Any, flags: int) -> re.Pattern[str]:
        """What matches the one character that a part of the expression stands for."""
        key = (id(item), flags)
        if key not in self._leaves:
            state = _parser.State()
            state.flags = flags
            self._leaves[key] = _compiler.compile(_parser.SubPattern(state, [item]))
        return self._leaves[key]

    @property
    def parsed(self) -> tuple[Any, int]:
        """The expression's parts and its flags."""
        return self._tree, self._flags

    def too_slow(self) -> WconvError:
        """The error for an expression that may take more than linear time."""
        return WconvError(
            f"{self._option} {self.text!r:.60} repeats parts within each other, which takes too long:"
            " write it more simply"
        )


class _Search:
    """One look for an expression in some names.

    A place is a number from 0 to the text's length: bit n of a set stands before character n.
    """

    def __init__(self, expression: NameFilter, names: Sequence[str]) -> None:
        self._expression = expression
        self._names = names
        self._text = "\0".join(names)
        self._size = len(self._text)
        self._all = (1 << (self._size + 1)) - 1
        self._starts = list(itertools.accumulate((len(name) + 1 for name in names[:-1]), initial=0))
        self._begin = place_set(self._starts, self._size + 1)
        # behind each name but the last stands a separator, which nothing matches
        self._end = (self._begin >> 1) | (1 << self._size)
        self._between = self._end & ~(1 << self._size)
        self._masks: dict[tuple[int, int], int] = {}
        self._characters = set(self._text)
        self._steps = 0

    def found(self) -> Iterator[str]:
        """The names in which the expression is found, in order."""
        tree, flags = self._expression.parsed
        ends = self._sequence(tree, self._all, flags, back=False)
        marks = bin(ends)[:1:-1]
        for name, start in zip(self._names, self._starts, strict=True):
            if marks.find("1", start, start + len(name) + 1) >= 0:
                yield name

    def _sequence(self, items: Sequence[Any], places: int, flags: int, *, back: bool) -> int:
        """Where one gets from `places` over the parts one after another; `back`: against the text."""
        for at in range(len(items)):
            if not places:
                break
            places = self._step(items[-1 - at if back else at], places, flags, back=back)
        return places

    def _step(self, item: Any, places: int, flags: int, *, back: bool) -> int:
        self._steps += 1
        if self._steps > STEPS:
            raise self._expression.too_slow()
        kind, value = item
        if kind in LEAVES:
            mask = self._mask(item, flags)
            return (places >> 1) & mask if back else (places & mask) << 1
        if kind is _constants.SUBPATTERN:
            _, added, removed, part = value
            return self._sequence(part, places, (flags | added) & ~removed, back=back)
        if kind is _constants.BRANCH:
            ends = 0
            for part in value[1]:
                ends |= self._sequence(part, places, flags, back=back)
            return ends
        if kind in REPEATS:
            return self._repeat(value, places, flags, back=back)
        if kind is _constants.AT:
            return places & self._anchor(value, flags)
        if kind in (_constants.ASSERT, _constants.ASSERT_NOT):
            direction, part = value
            # from where one gets somewhere by going on is where one gets to by coming back from anywhere
            there = self._sequence(part, self._all, flags, back=direction > 0)
            return places & (there if kind is _constants.ASSERT else self._all ^ there)
        if kind is _constants.FAILURE:
            return 0
        raise WconvError(f"{self._expression.text!r:.60} holds {str(kind).lower()}, which is not supported")

    def _repeat(self, value: Any, places: int, flags: int, *, back: bool) -> int:
        least, most, part = value
        for _ in range(least):
            places = self._sequence(part, places, flags, back=back)
            if not places:
                return 0
        if most is _constants.MAXREPEAT:
            if len(part) == 1 and part[0][0] in LEAVES:
                mask = self._mask(part[0], flags)
                return before_run(places, mask, self._size) if back else after_run(places, mask)
            most = least + self._size + 1
        reached = new = places
        for _ in range(most - least):
            new = self._sequence(part, new, flags, back=back) & ~reached
            if not new:
                break
            reached |= new
        return reached

    def _mask(self, item: Any, flags: int) -> int:
        """The characters that a part stands for, as places before them."""
        key = (id(item), flags)
        if key not in self._masks:
            kind, value = item
            if kind is _constants.LITERAL and not flags & re.IGNORECASE:
                fits = {chr(value)} & self._characters
            else:
                leaf = self._expression.leaf(item, flags)
                fits = {sign for sign in self._characters if leaf.fullmatch(sign)}
            self._masks[key] = self._where(fits) & ~self._between
        return self._masks[key]

    def _where(self, signs: Collection[str]) -> int:
        if not signs:
            return 0
        table = {ord(sign): "1" if sign in signs else "0" for sign in self._characters}
        return int(self._text[::-1].translate(table), 2)

    def _anchor(self, kind: Any, flags: int) -> int:
        newlines = self._where({"\n"} & self._characters)
        if kind is _constants.AT_BEGINNING_STRING or kind is _constants.AT_BEGINNING:
            lines = newlines << 1 if kind is _constants.AT_BEGINNING and flags & re.MULTILINE else 0
            return self._begin | lines
        if kind is _constants.AT_END_STRING:
            return self._end
        if kind is _constants.AT_END:
            return self._end | (newlines if flags & re.MULTILINE else newlines & (self._end >> 1))
        words = self._where({sign for sign in self._characters if _is_word(sign, flags)}) & ~self._between
        edges = words ^ (words << 1)
        return edges if kind is _constants.AT_BOUNDARY else self._all ^ edges


def _is_word(sign: str, flags: int) -> bool:
    return (sign.isalnum() or sign == "_") and (sign.isascii() or not flags & re.ASCII)


def _parts(kind: Any, value: Any) -> Iterator[Sequence[Any]]:
    """The parts of an expression that another is made of."""
    if kind is _constants.SUBPATTERN:
        yield value[3]
    elif kind is _constants.BRANCH:
        yield from value[1]
    elif kind in REPEATS:
        yield value[2]
    elif kind in (_constants.ASSERT, _constants.ASSERT_NOT):
        yield value[1]


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    """The names in lists of about `CHUNK` characters."""
    chunk: list[str] = []
    size = 0
    for name in names:
        chunk.append(name)
        size += len(name) + 1
        if size > CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk

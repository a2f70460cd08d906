"""Matching a pattern without backtracking: what each wildcard stands for, in linear time.

Backwards, the places from which the rest of the pattern fits to the end of the name; then forwards, each
wildcard as long as the places after it allow. So a match is what an expression of greedy groups finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from wconv.layouts import places

RUNS = {"*": re.compile(r"[^.]+"), "#": re.compile(r"\d+"), "{e}": re.compile(r"\d+")}
"""Wildcards that stand for one or more characters of a kind."""


def slots(parts: Sequence[tuple[str, tuple[str, ...]]], name: str) -> list[str] | None:
    """What the wildcards of a pattern stand for, in order; None when it does not match the whole name.

    Args:
        parts: each a wildcard ("**", "*", "#", "{e}") and no words, or "" and the words that may stand there;
            of a literal there is one.
    """
    size = len(name)
    rests = [1 << size]
    for kind, words in reversed(parts):
        rests.append(_before(kind, words, name, rests[-1]))
        if not rests[-1]:
            return None
    rests.reverse()
    if not rests[0] & 1:
        return None
    found: list[str] = []
    at = 0
    for (kind, words), rest in zip(parts, rests[1:], strict=True):
        end = _end(kind, words, name, at, rest)
        if kind or len(words) > 1:
            found.append(name[at:end])
        at = end
    return found


def _before(kind: str, words: tuple[str, ...], name: str, rest: int) -> int:
    """The places from which one part leads to those of `rest`."""
    if kind == "**":
        return (1 << rest.bit_length()) - 1
    size = len(name)
    if kind:
        spans = (found.span() for found in RUNS[kind].finditer(name))
        mask = places.of((at for start, end in spans for at in range(start, end)), size)
        return places.before_run((rest >> 1) & mask, mask, size)
    return sum_of(
        places.of(_occurrences(word, name), size + 1) & (rest >> len(word)) for word in dict.fromkeys(words)
    )


def sum_of(sets: Iterator[int]) -> int:
    """All places that are in one of the sets."""
    whole = 0
    for one in sets:
        whole |= one
    return whole


def _occurrences(word: str, name: str) -> Iterator[int]:
    at = name.find(word)
    while at >= 0:
        yield at
        at = name.find(word, at + 1)


def _end(kind: str, words: tuple[str, ...], name: str, at: int, rest: int) -> int:
    """Where the part ends that begins at `at`: as late as `rest` allows, and of words the first that fits."""
    if kind == "**":
        return rest.bit_length() - 1
    if kind:
        run = RUNS[kind].match(name, at)
        assert run is not None
        return (rest & ((1 << (run.end() + 1)) - 1)).bit_length() - 1
    return next(
        at + len(word) for word in words if name.startswith(word, at) and rest >> (at + len(word)) & 1
    )

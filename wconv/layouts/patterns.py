"""Patterns over tensor names: short, readable in a table, and reversible.

| written | matches |
|---|---|
| `#` | a whole number |
| `*` | anything without a dot, at least one character |
| `**` | anything, also nothing |
| `(a\\|b)` | one of the words |
| `{e}` | the number that a stack runs over |

Everything else stands for itself. A target has the same wildcards in the same order as its source, and lists
of words of the same length: `experts.{e}.(w1|w3).weight` → `switch.(gate|up).weight` takes w1 to gate and
w3 to up. So every renaming also reads from right to left.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from wconv.errors import LayoutError

TOKEN = re.compile(r"\*\*|\*|#|\{e\}|\([^()]*\)")
EXPRESSIONS = {"#": r"(\d+)", "**": r"(.*)", "*": r"([^.]+)", "{e}": r"(?P<e>\d+)"}


@dataclass(frozen=True, slots=True)
class Match:
    """What the wildcards of a pattern stood for; `index` is `{e}`'s number, or -1."""

    slots: tuple[str, ...]
    index: int = -1


@dataclass(frozen=True)
class Pattern:
    """A pattern in its parts; made by `compile_pattern`.

    Attributes:
        text: as written.
        parts: literal texts and wildcards in order.
        wildcards: the wildcards alone, without `{e}`.
    """

    text: str
    parts: tuple[str, ...]
    wildcards: tuple[str, ...]

    @functools.cached_property
    def expression(self) -> re.Pattern[str]:
        """Compiled when it is needed: one layout of all the tables' is used at a time."""
        return re.compile("".join(_expression(part) for part in self.parts))

    def __str__(self) -> str:
        return self.text

    def match(self, name: str) -> Match | None:
        """What the wildcards stand for when the whole of `name` matches."""
        found = self.expression.fullmatch(name)
        if found is None:
            return None
        groups = found.groups()
        if "e" not in self.expression.groupindex:
            return Match(groups)
        at = self.expression.groupindex["e"] - 1
        return Match(groups[:at] + groups[at + 1 :], int(groups[at]))

    def numbers(self, match: Match) -> tuple[int, ...]:
        """The values of the `#` wildcards of a match."""
        pairs = zip(self.wildcards, match.slots, strict=True)
        return tuple(int(value) for wildcard, value in pairs if wildcard == "#")

    def render(self, match: Match, source: Pattern) -> str:
        """The name that this pattern gives to what `source` matched."""
        values = iter(zip(source.wildcards, match.slots, strict=True))
        pieces = []
        for part in self.parts:
            if not is_wildcard(part):
                pieces.append(part)
            elif part == "{e}":
                pieces.append(str(match.index))
            else:
                wildcard, value = next(values)
                pieces.append(_translated(wildcard, value, part))
        return "".join(pieces)


def is_wildcard(part: str) -> bool:
    """Whether a part of a pattern stands for more than itself."""
    return TOKEN.fullmatch(part) is not None


def words(wildcard: str) -> list[str]:
    """The words of `(a|b)`."""
    return wildcard[1:-1].split("|")


@functools.cache
def compile_pattern(text: str) -> Pattern:
    """The pattern that `text` writes."""
    parts: list[str] = []
    at = 0
    for token in TOKEN.finditer(text):
        parts.extend((text[at : token.start()], token.group()))
        at = token.end()
    parts.append(text[at:])
    kept = tuple(part for part in parts if part)
    wildcards = tuple(part for part in kept if is_wildcard(part) and part != "{e}")
    return Pattern(text, kept, wildcards)


SAMPLES = {"#": "0", "**": "x", "*": "x", "{e}": "0"}


def sample(pattern: str) -> tuple[str, ...]:
    """Names that a pattern matches: one for each choice of its words."""
    return _written_out(SAMPLES.get(part, part) for part in compile_pattern(pattern).parts)


@functools.cache
def written_out(pattern: str) -> tuple[str, ...]:
    """A pattern with its lists of words written out; its other wildcards stay."""
    return _written_out(compile_pattern(pattern).parts)


def _written_out(parts: Iterable[str]) -> tuple[str, ...]:
    texts = [""]
    for part in parts:
        choices = words(part) if part.startswith("(") and is_wildcard(part) else [part]
        texts = [text + choice for text in texts for choice in choices]
    return tuple(texts)


def check_target(source: str, target: str) -> None:
    """Refuses a target whose wildcards do not answer the source's one for one.

    Raises:
        LayoutError: they do not.
    """
    ours, theirs = compile_pattern(source).wildcards, compile_pattern(target).wildcards
    if [_kind(one) for one in ours] != [_kind(one) for one in theirs]:
        raise LayoutError(f"{target!r} must have the same wildcards, in the same order, as {source!r}")


def _expression(part: str) -> str:
    if not is_wildcard(part):
        return re.escape(part)
    if part in EXPRESSIONS:
        return EXPRESSIONS[part]
    return "(" + "|".join(re.escape(word) for word in words(part)) + ")"


def _kind(wildcard: str) -> str:
    return f"({len(words(wildcard))} words)" if wildcard.startswith("(") else wildcard


def _translated(source: str, value: str, target: str) -> str:
    return words(target)[words(source).index(value)] if source.startswith("(") else value

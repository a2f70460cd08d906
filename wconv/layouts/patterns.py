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
import itertools
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from wconv.errors import LayoutError
from wconv.layouts import matching
from wconv.tensors.name_kinds import may_contain

TOKEN = re.compile(r"\*\*|\*|#|\{e\}|\([^()]*\)")
RUNS = {"#": r"\d+", "*": r"[^.]+", "{e}": r"\d+"}

SHORT = 256
"""Characters of a name that an expression is tried on; where it could try many ways, only of shorter ones."""

TRIALS = 1 << 16
"""Ways in which an expression may come to fit a name at most."""

LONGEST, MOST_WILDCARDS, MOST_CHOICES = 2_000, 100, 10_000
"""Characters, wildcards, and names without wildcards that a pattern of a rules file may have."""


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
        return re.compile("".join(_expression(self.parts, at) for at in range(len(self.parts))))

    @functools.cached_property
    def short(self) -> int:
        """Up to what length of a name the expression is matched; longer names are matched in linear time."""
        several = [len(words(part)) for part in self.parts if _is_list(part) and not _apart(words(part))]
        loose = sum(_is_loose(self.parts, at) for at in range(len(self.parts)))
        trials = TRIALS // math.prod(several)
        return min(SHORT, int(trials ** (1 / loose)) if loose else SHORT if trials else 0)

    @functools.cached_property
    def steps(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The parts as `matching.slots` takes them."""
        return tuple(
            (part, ()) if part in ("**", *RUNS) else ("", tuple(words(part)) if _is_list(part) else (part,))
            for part in self.parts
        )

    @functools.cached_property
    def literal(self) -> str:
        """The longest text that is in every name that matches: to look for it is faster than to match."""
        return max((part for part in self.parts if not is_wildcard(part)), key=len, default="")

    @functools.cached_property
    def _number(self) -> int:
        """Which of the wildcards `{e}` is; -1 where there is none."""
        numbered = [part for part in self.parts if is_wildcard(part)]
        return numbered.index("{e}") if "{e}" in numbered else -1

    def __str__(self) -> str:
        return self.text

    def fits(self, name: str) -> bool:
        """Whether the whole of `name` matches."""
        if self.literal not in name:
            return False
        if len(name) > self.short:
            return matching.slots(self.steps, name) is not None
        return self.expression.fullmatch(name) is not None

    def fits_any(self, names: Collection[str]) -> bool:
        """Whether one of the names matches as a whole."""
        if not any(map(is_wildcard, self.parts)):
            return self.text in names
        literal = self.literal
        if not may_contain(names, (literal,)):
            return False
        return any(self.fits(name) for name in names if literal in name)

    def match(self, name: str) -> Match | None:
        """What the wildcards stand for when the whole of `name` matches."""
        if self.literal not in name:
            return None
        if len(name) > self.short:
            slots = matching.slots(self.steps, name)
            if slots is None:
                return None
            groups = tuple(slots)
        else:
            found = self.expression.fullmatch(name)
            if found is None:
                return None
            groups = found.groups()
        at = self._number
        return Match(groups) if at < 0 else Match(groups[:at] + groups[at + 1 :], int(groups[at]))

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
        choices = words(part) if _is_list(part) else [part]
        texts = [text + choice for text in texts for choice in choices]
    return tuple(texts)


def check_target(source: str, target: str) -> None:
    """Refuses a target whose wildcards do not answer the source's one for one.

    Raises:
        LayoutError: they do not.
    """
    source_wildcards, target_wildcards = compile_pattern(source).wildcards, compile_pattern(target).wildcards
    if [_kind(one) for one in source_wildcards] != [_kind(one) for one in target_wildcards]:
        raise LayoutError(f"{target!r} must have the same wildcards, in the same order, as {source!r}")


def _is_list(part: str) -> bool:
    return part.startswith("(") and is_wildcard(part)


def _is_loose(parts: tuple[str, ...], at: int) -> bool:
    """Whether a wildcard could end in several places for all that the part behind it says."""
    part, after = parts[at], parts[at + 1] if at + 1 < len(parts) else ""
    if part == "**":
        return bool(after)
    if part not in RUNS or not after:
        return False
    return is_wildcard(after) or re.match(RUNS[part], after) is not None


def _apart(choices: list[str]) -> bool:
    """Whether no word begins with another of the list."""
    pairs = itertools.permutations(choices, 2)
    return not any(other.startswith(one) for one, other in pairs)


def _expression(parts: tuple[str, ...], at: int) -> str:
    part = parts[at]
    if part == "**":
        return "((?s:.*))"
    if part in RUNS:
        # a possessive repeat never comes back to try a shorter one
        return f"({RUNS[part]}{'' if _is_loose(parts, at) else '+'})"
    if _is_list(part):
        return "(" + "|".join(re.escape(word) for word in words(part)) + ")"
    return re.escape(part)


def check_bounds(text: str) -> None:
    """Refuses a pattern that is beyond all measure.

    Raises:
        LayoutError: naming what there is too much of.
    """
    if len(text) > LONGEST:
        raise LayoutError(f"{text!r:.40} has {len(text):,} characters: a pattern has {LONGEST:,} at most")
    pattern = compile_pattern(text)
    if len(pattern.wildcards) > MOST_WILDCARDS:
        raise LayoutError(
            f"{text!r:.40} has {len(pattern.wildcards)} wildcards: a pattern has {MOST_WILDCARDS} at most"
        )
    if math.prod(len(words(part)) for part in pattern.wildcards if _is_list(part)) > MOST_CHOICES:
        raise LayoutError(
            f"{text!r:.40} stands for more than {MOST_CHOICES:,} names: use * in place of some words"
        )


def _kind(wildcard: str) -> str:
    return f"({len(words(wildcard))} words)" if wildcard.startswith("(") else wildcard


def _translated(source: str, value: str, target: str) -> str:
    return words(target)[words(source).index(value)] if source.startswith("(") else value

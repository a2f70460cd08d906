"""Patterns over names: what an expression of greedy groups finds, in linear time whatever the pattern.

Covers `layouts/places.py`.
"""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Iterator

import pytest

from wconv.consumers.registry import automatic_names, tables
from wconv.errors import LayoutError
from wconv.layouts import matching
from wconv.layouts.apply import matches
from wconv.layouts.patterns import SHORT, Match, check_bounds, compile_pattern, is_wildcard, words

GREEDY = {"#": r"(\d+)", "**": r"((?s:.*))", "*": r"([^.]+)", "{e}": r"(\d+)"}
PIECES = ("#", "*", "**", "(a|b)", "(a|ab|b)", "(|a)", "(a|a)", "a", "b", ".", "1", "ab", ".a")


def greedy(text: str, name: str) -> list[str] | None:
    """What an expression that may backtrack finds."""
    parts = compile_pattern(text).parts
    listed = ["(" + "|".join(map(re.escape, words(part))) + ")" if part[0] == "(" else "" for part in parts]
    expression = [one or GREEDY.get(part) or re.escape(part) for one, part in zip(listed, parts, strict=True)]
    found = re.fullmatch("".join(expression), name)
    return None if found is None else list(found.groups())


def linear(text: str, name: str) -> list[str] | None:
    return matching.slots(compile_pattern(text).steps, name)


def test_both_ways_find_what_greedy_groups_find() -> None:
    random_ = random.Random(3)
    found = 0
    for _ in range(4000):
        text = "".join(random_.choices(PIECES, k=random_.randrange(1, 7)))
        name = "".join(random_.choices("ab.1\n", k=random_.randrange(0, 10)))
        expected = greedy(text, name)
        found += expected is not None
        assert linear(text, name) == expected, (text, name)
        assert compile_pattern(text).match(name) == (None if expected is None else Match(tuple(expected)))
        assert compile_pattern(text).fits(name) is (expected is not None)
        assert matches((text, "zz"), name) is (expected is not None)
    assert found > 100


def test_the_number_of_a_stack_is_found_in_long_names_too() -> None:
    pattern = compile_pattern("**.experts.{e}.(w1|w3)")
    for length in (3, SHORT + 3):
        name = "m" * length + ".experts.12.w3"
        assert pattern.match(name) == Match(("m" * length, "w3"), 12)


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """What is timed is matching, and no look through all that other tests left."""
    gc.disable()
    yield
    gc.enable()


def patterns_of_tables() -> set[str]:
    layouts = [layout for consumer in automatic_names() for layout in tables(consumer)]
    rules = [rule for layout in layouts for rule in (*layout.alias_rules, *layout.rules)]
    return {text for layout in layouts for text in layout.names} | {rule.source for rule in rules}


def test_every_pattern_of_the_tables_is_within_bounds_and_fast_on_names_of_models() -> None:
    for text in patterns_of_tables():
        check_bounds(text)
        assert compile_pattern(text).short == SHORT, text


HOSTILE = (
    "**.a" * 40,
    "#*" * 40 + "x",
    "(a|aa)" * 40 + "b",
    "(a|a)" * 40 + "b",
    "(|a)" * 40 + "b",
    "**" * 50 + "b",
    "**1#",
    "***x",
    "**a**b**c",
    "*a*a*a*ab",
    "#1#1#1#b",
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("length", [40, 256, 2000])
def test_no_pattern_takes_long(text: str, length: int) -> None:
    names = [
        "a" * length,
        ".a" * (length // 2) + ".b",
        "1" * length,
        "1" * length + "x",
        "ab" * (length // 2),
    ]
    pattern = compile_pattern(text)
    began = time.process_time()
    for name in names:
        pattern.match(name)
        matches((text,), name)
    assert time.process_time() - began < 0.2


def test_random_patterns_take_no_longer() -> None:
    random_ = random.Random(5)
    names = [sign * SHORT for sign in ("a", "1", ".a", "1a", "a.")]
    names += [name[:at] for name in names for at in (20, 60, SHORT - 1)]
    for _ in range(300):
        text = "".join(random_.choices(PIECES, k=random_.randrange(1, 40)))
        began = time.process_time()
        for name in names:
            compile_pattern(text).fits(name)
        assert time.process_time() - began < 0.3, text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a" * 3000, "3,000 characters"),
        ("#." * 101, "101 wildcards"),
        ("(a|b)" * 40, "more than 10,000 names"),
    ],
)
def test_a_pattern_beyond_all_measure_is_refused(text: str, why: str) -> None:
    with pytest.raises(LayoutError, match=why):
        check_bounds(text)


def test_wildcards_are_told_from_texts() -> None:
    assert [part for part in compile_pattern("a.#.(b|c).**.d").parts if is_wildcard(part)] == [
        "#",
        "(b|c)",
        "**",
    ]

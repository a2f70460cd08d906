"""The examples in the docstrings of rules, consumers and files run as they are written."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "wconv.layouts.rules",
    "wconv.layouts.reverse_rules",
    "wconv.layouts.conditions",
    "wconv.layouts.computed.rotary",
    "wconv.consumers.registry",
    "wconv.writing.file_formats",
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


def test_every_word_of_the_vocabulary_has_an_example() -> None:
    rules = importlib.import_module("wconv.layouts.rules")
    words = [
        name for name in rules.__all__ if name.islower() and getattr(rules, name).__module__ == rules.__name__
    ]
    assert len(words) > 10
    assert all(">>>" in (getattr(rules, name).__doc__ or "") for name in words)

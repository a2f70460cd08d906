"""The row of the conformance table, and how the chapters declare them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One call.

    Attributes:
        name: unique; where the row is stored.
        call: takes the torch module, returns tensors and plain data; or raises.
        close: sums, products and transcendental functions: equal to within the last places.
        strides: compare strides too.
    """

    name: str
    call: Callable[[Any], Any]
    close: bool = False
    strides: bool = True


def rows(chapter: str, calls: dict[str, Callable[[Any], Any]], **options: bool) -> list[Row]:
    """A chapter of rows out of `{what: call}`."""
    return [Row(f"{chapter}: {what}", call, **options) for what, call in calls.items()]


def each(chapter: str, names: list[str], call: Callable[[Any, str], Any], **options: bool) -> list[Row]:
    """One row for each name (of a dtype, of a function)."""
    return [Row(f"{chapter}: {name}", lambda t, name=name: call(t, name), **options) for name in names]

"""Caches of arrays that lazy tensors share while they are read: they end with the conversion."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
Argument = TypeVar("Argument")

_caches: list[Callable[[], None]] = []


def array_cache(maxsize: int) -> Callable[[Callable[[Argument], Result]], Callable[[Argument], Result]]:
    """As `functools.lru_cache`, for a function that reads arrays: `clear` lets go of them."""

    def cached(function: Callable[[Argument], Result]) -> Callable[[Argument], Result]:
        remembering = functools.lru_cache(maxsize)(function)
        _caches.append(remembering.cache_clear)
        return remembering

    return cached


def cleared(forget: Callable[[], None]) -> None:
    """Has `clear` call a function that lets go of arrays."""
    _caches.append(forget)


def clear() -> None:
    """Forgets every array; who reads on, in another thread, computes it again."""
    for forget in _caches:
        forget()

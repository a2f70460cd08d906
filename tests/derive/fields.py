"""Which field of config.json a number is: the one that has its value in every config that was probed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wconv.layouts.conditions import NESTED, Setting

PREFERRED = ("expert", "head", "rank", "dim", "size", "channels")


class Fields:
    """The numbers in the configs that a model was probed with."""

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        tables = [dict(_numbers(config)) for config in configs]
        self._values = {
            path: tuple(table[path] for table in tables)
            for path in tables[0]
            if all(path in table for table in tables)
        }

    def of(self, values: Sequence[int], word: str = "") -> Setting | None:
        """The field with these values, one in each config; `word` is in its name, where there is one."""
        found = [path for path, numbers in self._values.items() if numbers == tuple(values)]
        found.sort(key=lambda path: (word not in path, path.count("."), _rank(path), len(path), path))
        if word and found and word not in found[0]:
            return None
        return Setting(found[0]) if found else None


def _rank(path: str) -> int:
    return next((at for at, word in enumerate(PREFERRED) if word in path), len(PREFERRED))


def _numbers(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            inner = "" if not prefix and key in NESTED else f"{prefix}{key}."
            yield from ((path, number) for path, number in _numbers(value, inner))
        elif type(value) is int:
            yield f"{prefix}{key}", value

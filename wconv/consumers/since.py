"""Versions of a program that lay a model type out otherwise than its tables do, or do not know it.

`python -m tests.derive.since` writes each program's `since.json`, out of older versions of it.
"""

from __future__ import annotations

import functools
import json
from importlib import resources


@functools.cache
def _read(folder: str) -> dict[str, str]:
    place = resources.files("wconv.consumers").joinpath(folder, "since.json")
    found: dict[str, str] = json.loads(place.read_text("utf-8"))["since"] if place.is_file() else {}
    return {model_type.lower(): version for model_type, version in found.items()}


def since(program: str, model_type: str) -> str:
    """The first of the compared versions from which on all agree with the table; "" where all do."""
    return _read(program.replace("-", "_")).get(model_type.lower(), "")

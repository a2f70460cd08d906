"""What several processes of one test run need, made by one of them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from typing import Any

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, as JSON: under `pytest -n` the first process makes it, and all others wait."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return make()
    place = factory.getbasetemp().parent
    with open(place / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = place / f"{name}.json"
        if not made.exists():
            made.write_text(json.dumps(make()))
        found: dict[str, Any] = json.loads(made.read_text())
        return found

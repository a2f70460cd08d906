"""Programs that tests compare with: skipped where they are missing, required in CI."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest


def oracle(name: str) -> ModuleType:
    """The module `name`; a missing one skips the test, and fails it when the environment says CI."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(f"the oracle {name} is missing in CI: {error}")
        pytest.skip(f"{name} is not installed")

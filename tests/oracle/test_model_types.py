"""What wconv knows of the consumers' model types is what the installed ones have."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.oracle


def test_the_model_types_are_those_of_the_installed_consumers() -> None:
    from tests.oracle import model_types

    for path, content in model_types.gathered().items():
        assert json.loads(path.read_text()) == content, path

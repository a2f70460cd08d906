"""What the tests of writing share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.making import write_directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory with one small tensor."""
    return write_directory(tmp_path / "model", [{"a": np.arange(6, dtype=np.float32)}])

"""What the comparisons with several programs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle import no_torch


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed packages without torch's, for a Python that cannot find it."""
    return no_torch.packages(tmp_path_factory.mktemp("without") / "site-packages")

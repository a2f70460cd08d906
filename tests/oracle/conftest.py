"""What the comparisons with several programs share."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from tests.oracle import no_torch


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed packages without torch's, for a Python that cannot find it."""
    return no_torch.packages(tmp_path_factory.mktemp("without") / "site-packages")


@pytest.fixture(autouse=True)
def layers_as_mlx_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model puts in the place of a layer's function, for all that use it, goes when its test ends."""
    if importlib.util.find_spec("mlx") is not None:
        layer = importlib.import_module("mlx.nn").LayerNorm
        monkeypatch.setattr(layer, "__call__", layer.__call__)

"""The consumers' own `convert -q` quantizes just what `choose` says, and writes the same config.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle.mlx_lm import language, language_moe
from tests.oracle.mlx_vlm import vision
from tests.oracle.quantized_layers import compare
from tests.oracle.tiny import Tiny, as_published, save
from wconv.consumers import layout_choice

pytestmark = pytest.mark.oracle

TEXT = [*language.MODELS, *language_moe.MODELS]
BOTH = [
    one
    for one in (*language.PLAIN, *language_moe.MODELS)
    if "mlx-vlm" in layout_choice.layout_of_model_type(one.model_type).consumers
]


@pytest.mark.parametrize("tiny", TEXT, ids=str)
def test_mlx_lm_quantizes_the_same_layers(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    assert compare("mlx-lm", source, tmp_path, monkeypatch) == []


@pytest.mark.parametrize("tiny", [*BOTH, *vision.MODELS], ids=str)
def test_mlx_vlm_quantizes_the_same_layers(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    assert compare("mlx-vlm", source, tmp_path, monkeypatch) == []

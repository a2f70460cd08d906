"""A directory that wconv quantizes is the consumer's own: every parameter, config.json, the logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracle.consumers import (
    assert_same_logits,
    assert_same_parameters,
    logits,
    mlx_lm_model,
    mlx_vlm_model,
    stored,
    text_logits,
)
from tests.oracle.mlx_lm import language, language_moe
from tests.oracle.mlx_vlm import vision
from tests.oracle.quantized_layers import RECIPES, quantized
from tests.oracle.tiny import Tiny, as_published, save
from tests.oracles import oracle
from wconv.consumers.quantization import Quantize
from wconv.errors import WconvError

pytestmark = pytest.mark.oracle

ALL_WAYS = ("llama", "qwen3_moe")
"""Models that are compared by every recipe; the others by two."""

TEXT = [*language.PLAIN, *language_moe.MODELS]


def recipes(consumer: str, tiny: Tiny) -> tuple[Quantize, ...]:
    return RECIPES[consumer] if tiny.model_type in ALL_WAYS else RECIPES[consumer][:2]


def with_group_sizes(field: dict[str, Any]) -> dict[str, Any]:
    """The field with 64 where mlx-lm's mixed recipes write null, which it reads as 64."""
    return {
        name: {**value, "group_size": value["group_size"] or 64} if isinstance(value, dict) else value
        for name, value in field.items()
    }


def assert_same_directory(
    consumer: str, source: Path, scratch: Path, recipe: Quantize, *, wide: bool = False
) -> None:
    theirs, ours = scratch / "theirs", scratch / "ours"
    refusal = quantized(consumer, source, theirs, recipe)
    if refusal is not None:
        pytest.skip(f"{consumer} refuses: {refusal[:80]}")
    try:
        wconv.convert(source, ours, layout=consumer, dtype="float16", quantize=recipe)
    except WconvError as error:
        raise AssertionError(f"{recipe}: {error}") from None
    assert_same_parameters(stored(ours), stored(theirs))
    configs = [json.loads((path / "config.json").read_text()) for path in (ours, theirs)]
    for field in ("quantization", "quantization_config"):
        assert configs[0][field] == with_group_sizes(configs[1][field])
    if consumer == "mlx-lm":
        assert_same_logits(logits(mlx_lm_model(ours), wide=wide), logits(mlx_lm_model(theirs), wide=wide))
    else:
        assert_same_logits(
            text_logits(mlx_vlm_model(ours), wide=True), text_logits(mlx_vlm_model(theirs), wide=True)
        )


@pytest.mark.parametrize("tiny", TEXT, ids=str)
def test_mlx_lm(tiny: Tiny, tmp_path: Path) -> None:
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    for at, recipe in enumerate(recipes("mlx-lm", tiny)):
        assert_same_directory("mlx-lm", source, tmp_path / str(at), recipe, wide=tiny in language_moe.MODELS)


@pytest.mark.parametrize("tiny", vision.MODELS, ids=str)
def test_mlx_vlm(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle("mlx_vlm.utils"), "load_processor", lambda *_, **__: object())
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    for at, recipe in enumerate(recipes("mlx-vlm", tiny)[:1]):
        assert_same_directory("mlx-vlm", source, tmp_path / str(at), recipe)

"""Models that a consumer has by name and cannot load: refused by wconv, or passed on as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv
from tests.derive.programs import importable
from tests.oracle.consumers import (
    assert_same_logits,
    assert_same_parameters,
    logits,
    mlx_lm_conversion,
    mlx_lm_model,
    mlx_vlm_model,
    parameters,
    stored,
)
from tests.oracle.mlx_lm import language
from tests.oracle.mlx_vlm import vision
from tests.oracle.tiny import Tiny, as_published, save

pytestmark = pytest.mark.oracle

MISTRAL3 = next(one for one in vision.MODELS if one.model_type == "mistral3")
LLAVA = Tiny(
    "llava",
    {**MISTRAL3.config, "vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
    vision.TEXT_HUB,
    vision.AUTO,
    sized=False,
)
"""Pixtral as transformers saves it: a llava with another vision encoder."""

OLMO = Tiny("olmo", {**language.ROPE, **language.UNTIED}, language.THETA)


def test_a_llava_with_pixtrals_encoder_is_refused_for_mlx_vlm_and_its_text_runs_in_mlx_lm(
    tmp_path: Path,
) -> None:
    modern = save(LLAVA, tmp_path / "modern")
    published = as_published(modern, LLAVA, tmp_path / "published")
    with pytest.raises(ValueError, match="Unsupported model type: pixtral"):
        mlx_vlm_model(published)
    theirs = mlx_lm_conversion(published, tmp_path / "theirs")
    for source in (modern, published):
        with pytest.raises(wconv.WconvError, match="mlx-vlm knows no such tensors in llava") as told:
            wconv.convert(source, tmp_path / "refused")
        assert str(told.value).endswith("--layout mlx-lm takes the part that it loads")
        assert "\n" not in str(told.value)
        assert not (tmp_path / "refused").exists()
        converted = tmp_path / f"{source.name}-ours"
        wconv.convert(source, converted, dtype="float16", layout="mlx-lm")
        assert_same_parameters(stored(converted), stored(theirs))
        ours, model = mlx_lm_model(converted), mlx_lm_model(theirs)
        assert_same_parameters(parameters(ours), parameters(model))
        assert_same_logits(logits(ours), logits(model))


def test_olmo_passes_with_its_names_since_no_consumer_loads_it_from_transformers(
    tmp_path: Path,
) -> None:
    source = save(OLMO, tmp_path / "source")
    wconv.convert(source, tmp_path / "ours")
    assert_same_parameters(stored(tmp_path / "ours"), stored(source))
    with importable("hf_olmo"):  # mlx-lm ends the process without
        for load in (mlx_lm_model, mlx_vlm_model):
            for path in (source, tmp_path / "ours"):
                with pytest.raises(TypeError, match="'d_model', 'n_layers'"):
                    load(path)

"""Every language model with a table, and three without: mlx-lm sees what its own conversion would give it."""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv
from tests.oracle.consumers import (
    assert_same_logits,
    assert_same_parameters,
    assert_transformers_reads_the_same,
    logits,
    mlx_lm_conversion,
    mlx_lm_model,
    mlx_vlm_model,
    parameters,
    stored,
    text_logits,
)
from tests.oracle.mlx_lm import language, language_moe
from tests.oracle.tiny import Tiny, as_published, save
from wconv.consumers import layout_choice

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("tiny", [*language.MODELS, *language_moe.MODELS], ids=str)
def test_mlx_lm_loads_what_its_own_conversion_gives(tiny: Tiny, tmp_path: Path) -> None:
    modern = save(tiny, tmp_path / "modern")
    published = as_published(modern, tiny, tmp_path / "published")
    theirs = mlx_lm_model(mlx_lm_conversion(published, tmp_path / "theirs"))
    expected, wide = parameters(theirs), tiny in language_moe.MODELS
    said = logits(theirs, wide=wide)
    for source in (modern, published):
        converted = tmp_path / f"{source.name}-ours"
        wconv.convert(source, converted, dtype="float16")
        assert_transformers_reads_the_same(converted, source)
        if tiny not in language.WITHOUT_A_TABLE:
            assert_same_parameters(stored(converted), stored(tmp_path / "theirs"))
        ours = mlx_lm_model(converted)
        assert_same_parameters(parameters(ours), expected)
        assert_same_logits(logits(ours, wide=wide), said)


@pytest.mark.parametrize(
    "tiny",
    [
        tiny
        for tiny in (*language.PLAIN, *language_moe.MODELS)
        if "mlx-vlm" in layout_choice.layout_of_model_type(tiny.model_type).consumers
    ],
    ids=str,
)
def test_mlx_vlm_computes_the_same_where_a_table_says_so(tiny: Tiny, tmp_path: Path) -> None:
    wconv.convert(save(tiny, tmp_path / "source"), tmp_path / "ours", dtype="float16")
    said = logits(mlx_lm_model(tmp_path / "ours"), wide=True)
    assert_same_logits(text_logits(mlx_vlm_model(tmp_path / "ours"), wide=True), said)

"""Every language model with a table, and three without: mlx-lm sees what its own conversion would give it."""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv
from tests.oracle.consumers import (
    assert_same_logits,
    assert_same_parameters,
    logits,
    mlx_lm_conversion,
    mlx_lm_model,
)
from tests.oracle.language import MODELS
from tests.oracle.tiny import Tiny, as_published, save

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("tiny", MODELS, ids=str)
def test_mlx_lm_loads_what_its_own_conversion_gives(tiny: Tiny, tmp_path: Path) -> None:
    modern = save(tiny, tmp_path / "modern")
    published = as_published(modern, tiny, tmp_path / "published")
    theirs = mlx_lm_model(mlx_lm_conversion(published, tmp_path / "theirs"))
    for source in (modern, published):
        converted = tmp_path / f"{source.name}-ours"
        wconv.convert(source, converted, dtype="float16")
        ours = mlx_lm_model(converted)
        assert_same_parameters(ours, theirs)
        assert_same_logits(logits(ours), logits(theirs))

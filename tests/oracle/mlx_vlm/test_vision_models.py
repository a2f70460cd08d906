"""Every vision-language model with a table: mlx-vlm, old and new, and mlx-lm see their own conversion."""

from __future__ import annotations

import os
import subprocess
import sys
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
    mlx_vlm_conversion,
    mlx_vlm_model,
    parameters,
    silence,
    stored,
    text_logits,
)
from tests.oracle.mlx_vlm.vision import FIXTURE as FIXTURE_MODEL
from tests.oracle.mlx_vlm.vision import MODELS
from tests.oracle.tiny import FIXTURE, Tiny, as_published, save
from tests.oracles import directory_of, oracle
from wconv.consumers import layout_choice

pytestmark = pytest.mark.oracle

IN_MLX_LM = [
    one for one in MODELS if "mlx-lm" in layout_choice.layout_of_model_type(one.model_type).consumers
]
"""Models whose language part mlx-lm runs from the same directory, as their tables say."""

WITH_A_HEAD = ("gemma3",)
"""Models to which mlx-vlm adds an output layer that mlx-lm can do without."""

SPLIT_ON_LOADING = ("mistral4",)
"""Models whose `kv_b_proj` mlx-vlm keeps whole, and mlx-lm splits as it loads them."""

NEWER = ("internvl", "llava_onevision", "gemma4")
"""Models that mlx-vlm 0.6 does not have, or has in another form than today's."""


@pytest.mark.parametrize("tiny", MODELS, ids=str)
def test_mlx_vlm_loads_what_its_own_conversion_gives(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modern = save(tiny, tmp_path / "modern")
    published = as_published(modern, tiny, tmp_path / "published")
    theirs = mlx_vlm_model(mlx_vlm_conversion(published, tmp_path / "theirs", monkeypatch))
    expected, wide = parameters(theirs), has_experts(tiny)
    said = text_logits(theirs, wide=wide)
    for source in (modern, published):
        converted = tmp_path / f"{source.name}-ours"
        wconv.convert(source, converted, dtype="float16")
        assert_transformers_reads_the_same(converted, source)
        assert_same_parameters(stored(converted), stored(tmp_path / "theirs"))
        ours = mlx_vlm_model(converted)
        assert_same_parameters(parameters(ours), expected)
        assert_same_logits(text_logits(ours, wide=wide), said)


@pytest.mark.parametrize("tiny", IN_MLX_LM, ids=str)
def test_mlx_lm_runs_the_same_directory(tiny: Tiny, tmp_path: Path) -> None:
    modern = save(tiny, tmp_path / "modern")
    published = as_published(modern, tiny, tmp_path / "published")
    theirs = mlx_lm_model(mlx_lm_conversion(published, tmp_path / "theirs"))
    expected, wide = parameters(theirs), has_experts(tiny)
    said = logits(theirs, wide=wide)
    for source in (modern, published):
        converted = tmp_path / f"{source.name}-ours"
        wconv.convert(source, converted, dtype="float16")
        ours = mlx_lm_model(converted)
        got = parameters(ours)
        if tiny.model_type in WITH_A_HEAD:
            assert got.pop("language_model.lm_head.weight") is not None
        assert_same_parameters(got, expected)
        assert_same_logits(logits(ours, wide=wide), said)


@pytest.mark.parametrize("tiny", IN_MLX_LM, ids=str)
def test_the_language_model_alone_is_what_mlx_lm_keeps(tiny: Tiny, tmp_path: Path) -> None:
    modern = save(tiny, tmp_path / "modern")
    published = as_published(modern, tiny, tmp_path / "published")
    theirs = mlx_lm_conversion(published, tmp_path / "theirs")
    for source in (modern, published):
        converted = tmp_path / f"{source.name}-ours"
        wconv.convert(source, converted, dtype="float16", layout="mlx-lm")
        assert_same_parameters(parameters(mlx_lm_model(converted)), parameters(mlx_lm_model(theirs)))
        if tiny.variant not in SPLIT_ON_LOADING:
            assert_same_parameters(stored(converted), stored(theirs))


def test_mlx_vlm_0_6_which_trusts_the_format_loads_them_all(tmp_path: Path) -> None:
    directory = directory_of("mlx-vlm 0.6.0")
    tried = [one for one in MODELS if one.model_type not in NEWER]
    pairs = []
    for tiny in tried:
        modern = save(tiny, tmp_path / str(tiny) / "modern")
        pairs.append(str(as_published(modern, tiny, tmp_path / str(tiny) / "published")))
        pairs.append(str(tmp_path / str(tiny) / "ours"))
        wconv.convert(modern, pairs[-1], dtype="float16")
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("old_mlx_vlm.py")), *pairs],
        env={**os.environ, "PYTHONPATH": directory},
        capture_output=True,
        text=True,
        check=False,
    )
    said = dict(zip(map(str, tried), ran.stdout.splitlines(), strict=False))
    assert said == {str(tiny): "the same" for tiny in tried}, ran.stderr[-2000:]


def test_the_fixture_answers_about_an_image_as_after_mlx_vlms_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = as_published(FIXTURE, FIXTURE_MODEL, tmp_path / "published")
    wconv.convert(FIXTURE, tmp_path / "ours", dtype="float16")
    theirs = answer(mlx_vlm_conversion(source, tmp_path / "theirs", monkeypatch), tmp_path)
    assert answer(tmp_path / "ours", tmp_path) == theirs
    assert len(theirs) == 5


def has_experts(tiny: Tiny) -> bool:
    return bool({"num_experts", "n_routed_experts"} & tiny.config["text_config"].keys())


def answer(path: Path, scratch: Path) -> list[int]:
    """Five tokens about a picture."""
    picture = scratch / "picture.png"
    if not picture.exists():
        oracle("PIL.Image").effect_noise((84, 56), 60).convert("RGB").save(picture)
    model, processor = oracle("mlx_vlm").load(str(path))
    words = [{"type": "image"}, {"type": "text", "text": "hi the"}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": words}], add_generation_prompt=True, tokenize=False
    )
    with silence():
        result = oracle("mlx_vlm").generate(model, processor, prompt, image=str(picture), max_tokens=5)
    return list(result.token_ids)

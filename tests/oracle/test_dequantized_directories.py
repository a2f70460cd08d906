"""`-d` of a quantized directory gives what the consumer's own `-d` gives: bits, config, logits."""

from __future__ import annotations

import json
import sys
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
    silence,
    stored,
    text_logits,
)
from tests.oracle.mlx_lm import language, language_moe
from tests.oracle.mlx_vlm import vision
from tests.oracle.quantized_layers import MODULES, RECIPES, quantized
from tests.oracle.tiny import Tiny, as_published, save
from tests.oracles import oracle
from wconv.consumers.quantization import Quantize

pytestmark = pytest.mark.oracle

MODES = (Quantize(mode="mxfp4"), Quantize(mode="mxfp8"), Quantize(bits=3, group_size=32))
SAID = ("architectures", "hidden_size", "model_type", "tie_word_embeddings", "vocab_size")
"""Fields of config.json that decide what model is built."""

ALL_WAYS = ("llama", "qwen3_moe")
"""Models that are compared in every mode and dtype."""


def dequantized(consumer: str, source: Path, to: Path, dtype: str | None) -> dict[str, Any]:
    """What the consumer's own `-d` writes.

    mlx-lm leaves matrices of heads (`embed_q`, `unembed_out`) quantized in a directory whose config.json no
    longer says so, and which it cannot load: these are decoded here.
    """
    mx = oracle("mlx.core")
    with silence():
        oracle(MODULES[consumer]).convert(str(source), str(to), dequantize=True, dtype=dtype)
    tensors = stored(to)
    said = json.loads((source / "config.json").read_text())["quantization"]
    for stem in [name.removesuffix(".scales") for name in tensors if name.endswith(".scales")]:
        assert stem.endswith(("embed_q", "unembed_out")), stem
        how = {**said, **said.get(stem, {})}
        parts = [tensors.pop(f"{stem}.{part}", None) for part in ("weight", "scales", "biases")]
        tensors[f"{stem}.weight"] = mx.dequantize(*parts, how["group_size"], how["bits"], how["mode"])
    return tensors


def assert_same(consumer: str, source: Path, scratch: Path, dtype: str | None, mode: str) -> None:
    mx = oracle("mlx.core")
    theirs = dequantized(consumer, source, scratch / "theirs", dtype)
    wconv.convert(source, scratch / "ours", dequantize=True, dtype=dtype)
    ours, before = stored(scratch / "ours"), stored(source)
    if mode != "affine" and dtype is not None:
        # mlx's decoded small floats are bfloat16 whatever the dtype that is asked for: here they are cast
        theirs = {
            name: array.astype(getattr(mx, dtype))
            if f"{name.removesuffix('.weight')}.scales" in before
            else array
            for name, array in theirs.items()
        }
    assert_same_parameters(ours, theirs)
    configs = [json.loads((scratch / one / "config.json").read_text()) for one in ("ours", "theirs")]
    for field in SAID:
        assert configs[0].get(field) == configs[1].get(field), field
    assert not configs[0].keys() & {"quantization", "quantization_config", "quantized_as"}


@pytest.mark.parametrize("tiny", [*language.PLAIN, *language_moe.MODELS], ids=str)
def test_mlx_lm(tiny: Tiny, tmp_path: Path) -> None:
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    every = (*RECIPES["mlx-lm"], *MODES) if tiny.model_type in ALL_WAYS else RECIPES["mlx-lm"][:4]
    dtypes = (None, "float16", "bfloat16", "float32") if tiny.model_type in ALL_WAYS else (None, "float32")
    for at, recipe in enumerate(every):
        scratch = tmp_path / str(at)
        refusal = quantized("mlx-lm", source, scratch / "quantized", recipe)
        if refusal is not None:
            continue
        for dtype in dtypes:
            (scratch / str(dtype)).mkdir()
            assert_same("mlx-lm", scratch / "quantized", scratch / str(dtype), dtype, recipe.mode)
        if at == 0 and not tiny.model_type.startswith("deepseek"):
            got, expected = (
                logits(mlx_lm_model(scratch / "None" / one), wide=tiny in language_moe.MODELS)
                for one in ("ours", "theirs")
            )
            assert_same_logits(got, expected)


@pytest.mark.parametrize("tiny", vision.MODELS, ids=str)
def test_mlx_vlm(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle("mlx_vlm.utils"), "load_processor", lambda *_, **__: object())
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    for at, recipe in enumerate((Quantize(), Quantize(predicate="mixed_3_5"), Quantize(mode="mxfp4"))):
        scratch = tmp_path / str(at)
        refusal = quantized("mlx-vlm", source, scratch / "quantized", recipe)
        if refusal is not None:
            continue
        for dtype in (None, "bfloat16"):
            (scratch / str(dtype)).mkdir()
            assert_same("mlx-vlm", scratch / "quantized", scratch / str(dtype), dtype, recipe.mode)
        if at == 0:
            got = text_logits(mlx_vlm_model(scratch / "None" / "ours"), wide=True)
            try:
                theirs = mlx_vlm_model(scratch / "None" / "theirs")
            except ValueError:  # its config.json still says that routers are quantized
                assert "Missing" in str(sys.exc_info()[1])
                continue
            assert_same_logits(got, text_logits(theirs, wide=True))

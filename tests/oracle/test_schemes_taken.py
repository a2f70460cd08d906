"""Which schemes mlx-lm and mlx-vlm take, held against the code of their loaders, and against what they load.

Covers `consumers/mlx/schemes.py`.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracles import oracle
from wconv.consumers import registry
from wconv.quantized.schemes import AWQ, FP8_BLOCKS, MLX, MXFP4, MXFP8, NVFP4

pytestmark = pytest.mark.oracle

METHODS = {
    AWQ.name: {"awq"},
    "bitnet": {"bitnet"},
    NVFP4.name: {"modelopt", "compressed-tensors"},
    MXFP4.name: {"mxfp4", "compressed-tensors"},
    MXFP8.name: {"mxfp8", "fp8", "modelopt"},
    FP8_BLOCKS.name: {"fp8"},
}
"""By which `quant_method` a loader knows each scheme."""


def methods(source: str) -> set[str]:
    """The values that a loader compares `quant_method` with."""
    compared = re.findall(r'quant_method"?\)?\s*(?:==|in|!=)\s*(\([^)]*\)|"[\w-]+")', source)
    return {name for text in compared for name in re.findall(r'"([\w-]+)"', text)}


@pytest.mark.parametrize(("consumer", "module", "function"), [
    ("mlx-lm", "mlx_lm.utils", "load_model"),
    ("mlx-vlm", "mlx_vlm.utils", "load_model"),
])  # fmt: skip
def test_each_scheme_has_a_branch_in_the_loader(consumer: str, module: str, function: str) -> None:
    loader = oracle(module)
    found = methods(inspect.getsource(loader))
    known = registry.find_consumer(consumer)
    assert known is not None
    assert hasattr(loader, function)
    for scheme in known.schemes - {MLX.name}:
        assert METHODS[scheme] & found, scheme
    if consumer == "mlx-vlm":
        assert "is not supported in mlx_vlm.load_model()" in inspect.getsource(loader)
        assert "bitnet" not in found
        assert not {AWQ.name, "bitnet"} & known.schemes
    else:
        assert {"awq", "bitnet"} <= found


HIDDEN = 64
CONFIG = {
    "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": HIDDEN, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 32,
    "tie_word_embeddings": True,
}  # fmt: skip
LINEAR = [
    *(f"model.layers.0.self_attn.{one}_proj." for one in "qkvo"),
    *(f"model.layers.0.mlp.{one}_proj." for one in ("gate", "up", "down")),
]


def parts(kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A layer in a scheme, and what its config says."""
    import ml_dtypes

    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (HIDDEN, HIDDEN // 2), dtype=np.uint8)
    if kind.startswith("awq"):
        words = random.integers(-(2**31), 2**31, (HIDDEN, HIDDEN // 8)).astype(np.int32)
        made = {
            "qweight": words,
            "qzeros": words[:2],
            "scales": np.full((2, HIDDEN), 0.01, np.float16),
        }
        method = "awq" if kind == "awq" else "auto-round"
        return made, {
            "quant_method": method,
            "bits": 4,
            "group_size": 32,
            "packing_format": "auto_round:auto_awq",
        }
    if kind == "nvfp4":
        scales = np.full((HIDDEN, HIDDEN // 16), 0.01, ml_dtypes.float8_e4m3fn)
        made = {"weight": codes, "weight_scale": scales, "weight_scale_2": np.array(0.5, np.float32)}
        return made, {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    if kind == "mxfp4":
        scales = np.full((HIDDEN, HIDDEN // 32), 120, np.uint8)
        return {"weight_packed": codes, "weight_scale": scales}, {
            "quant_method": "compressed-tensors",
            "format": "mxfp4-pack-quantized",
        }
    whole = np.ones((HIDDEN, HIDDEN), ml_dtypes.float8_e4m3fn)
    grid = np.full((2, 2), 0.125, ml_dtypes.float8_e8m0fnu)
    return {"weight": whole, "weight_scale_inv": grid}, {
        "quant_method": "fp8",
        "weight_block_size": [32, 32],
        "scale_fmt": "ue8m0",
    }


@pytest.mark.parametrize("kind", ["awq", "awq of AutoRound", "nvfp4", "mxfp4", "fp8 blocks"])
def test_what_is_left_as_it_is_loads(kind: str, tmp_path: Path) -> None:
    """In a model whose modules know no scheme; what mlx-lm does not take there is decoded or repacked."""
    loader, core = oracle("mlx_lm.utils"), oracle("mlx.core")
    made, said = parts(kind)
    tensors = {stem + end: part for stem in LINEAR for end, part in made.items()}
    tensors["model.embed_tokens.weight"] = np.ones((32, HIDDEN), np.float16)
    for norm in ("model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"):
        tensors[f"{norm}.weight"] = np.ones(HIDDEN, np.float16)
    source = tmp_path / "m"
    source.mkdir()
    wconv.save(tensors, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": said}))
    report = wconv.convert(source, tmp_path / "auto")
    logits = []
    for directory in (report.output, wconv.convert(source, tmp_path / "dense", dequantize=True).output):
        model, _ = loader.load_model(directory)
        logits.append(np.array(model(core.arange(8)[None]).astype(core.float32)))
    assert np.allclose(*logits, atol=0.02 * np.abs(logits[1]).max())
    if kind == "awq":
        assert any(name.endswith("qweight") for name in wconv.open(report.output))
    else:
        with pytest.raises(ValueError, match="parameters not in model"):
            loader.load_model(source)

"""Models in few bits whose layers are stacked, split and turned: through mlx-lm, decoded and packed.

Decoded, mlx-lm holds what it makes of the dense values itself; packed, its own dequantizing gives them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracle.consumers import (
    IDS,
    assert_same_parameters,
    logits,
    mlx_lm_model,
    mlx_vlm_model,
    parameters,
    text_logits,
)
from tests.oracle.mlx_lm.language import ROPE, THETA, UNTIED
from tests.oracle.mlx_lm.language_moe import EXPERTS, MLA, ROUTED
from tests.oracle.packed_sources import PACKINGS, fuse_nvfp4, pack, write
from tests.oracle.test_stored_in_8_bits import GPT_OSS
from tests.oracle.tiny import FIXTURE, Tiny, as_published, save
from tests.oracles import oracle
from wconv.mlx import to_mlx
from wconv.quantized.recognition import find_weights

pytestmark = pytest.mark.oracle

MODELS = {
    "qwen3_moe": Tiny(
        "qwen3_moe", {**ROPE, **UNTIED, **EXPERTS, "head_dim": 16}, {**THETA, "num_experts": 4}
    ),
    "mixtral": Tiny(
        "mixtral",
        {**ROPE, **UNTIED, "num_local_experts": 4, "sliding_window": None, "intermediate_size": 64},
        THETA,
    ),
    "deepseek_v3": Tiny(
        "deepseek_v3",
        {
            **ROPE,
            **UNTIED,
            **MLA,
            **ROUTED,
            "q_lora_rank": 32,
            "kv_lora_rank": 32,
            "v_head_dim": 16,
            "intermediate_size": 64,
        },
        THETA,
    ),
    "phi3": Tiny("phi3", {**ROPE, "intermediate_size": 64, "pad_token_id": 0}, THETA),
}
DENSE = {"deepseek_v3": 2}
"""Weights that the layout turns, in each of which an axis is exchanged with the packed one."""

CASES = [
    (model, scheme)
    for model in MODELS
    for scheme in PACKINGS
    # no blocks of 32 rows in a latent of 40; mlx-lm takes AWQ's dense layers as they are
    if (model, scheme) not in {("deepseek_v3", "fp8"), ("phi3", "awq")}
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            save(MODELS[name], place / "saved")
            made[name] = as_published(place / "saved", MODELS[name], place / "source")
        return made[name]

    return get


def dequantized(module: Any) -> Any:
    mx = oracle("mlx.core")
    return mx.dequantize(
        module.weight,
        module.scales,
        module.get("biases"),
        group_size=module.group_size,
        bits=module.bits,
        mode=module.mode,
        dtype=module.scales.dtype if module.mode == "affine" else mx.bfloat16,
    )


@pytest.mark.parametrize(("model", "scheme"), CASES, ids=[f"{one}-{other}" for one, other in CASES])
def test_a_model_in_few_bits(model: str, scheme: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    source = saved(model)
    values = pack(source, tmp_path / "packed", scheme)
    dense = checked_dense(source, values, tmp_path)
    kept = checked_packed(dense, PACKINGS[scheme][2], tmp_path)
    plain = dict(dense.named_modules())
    projections = {name for name in plain if name.endswith(("_proj", "with_mqa", "embed_q", "unembed_out"))}
    assert len(projections - kept) == DENSE.get(model, 0)


def checked_dense(source: Path, values: dict[str, Any], tmp_path: Path, *, wconv_first: bool = False) -> Any:
    """The model decoded by wconv, which holds what mlx-lm makes of the values itself.

    Args:
        wconv_first: mlx-lm does not load the original.
    """
    wconv.convert(tmp_path / "packed", tmp_path / "dense", dequantize=True)
    dense = mlx_lm_model(tmp_path / "dense")
    reference = write(source, values, tmp_path / "theirs")
    if wconv_first:
        reference = wconv.convert(reference, tmp_path / "laid-out").output
    assert_same_parameters(parameters(dense), parameters(mlx_lm_model(reference)))
    return dense


def checked_packed(dense: Any, mode: str, tmp_path: Path) -> set[str]:
    """The modules that wconv keeps packed: their values are those of `dense`, and so are the logits."""
    mx = oracle("mlx.core")
    report = wconv.convert(tmp_path / "packed", tmp_path / "kept")
    assert report.layout == "mlx-lm"
    settings = json.loads((tmp_path / "kept" / "config.json").read_text())["quantization"]
    assert settings["mode"] == mode
    kept, plain = mlx_lm_model(tmp_path / "kept"), dict(dense.named_modules())
    packed = {
        name: module
        for name, module in kept.named_modules()
        if hasattr(module, "bits") and hasattr(module, "scales")
    }
    for name, module in packed.items():
        assert mx.array_equal(dequantized(module), plain[name].weight), name
    one, other = logits(kept, wide=True), logits(dense, wide=True)
    assert float(mx.abs(other).max()) > 1
    assert mx.allclose(one, other, rtol=0, atol=1e-5)  # products are summed in another order
    return set(packed)


def test_fused_experts_that_lie_the_other_way(tmp_path: Path) -> None:
    """ModelOpt's gpt-oss: gates and ups in turns, inputs before outputs."""
    save(GPT_OSS, tmp_path / "saved")
    source = as_published(tmp_path / "saved", GPT_OSS, tmp_path / "source")
    values = fuse_nvfp4(source, tmp_path / "packed")
    dense = checked_dense(source, values, tmp_path, wconv_first=True)
    kept = checked_packed(dense, "nvfp4", tmp_path)
    assert {name.rpartition(".")[2] for name in kept} == {"gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("model", MODELS)
def test_transformers_computes_the_same(model: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """From the source in few bits to logits, against transformers with the values that it means."""
    mx, torch, transformers = oracle("mlx.core"), oracle("torch"), oracle("transformers")
    values = pack(saved(model), tmp_path / "packed", "compressed-tensors")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        write(saved(model), values, tmp_path / "theirs"), dtype=torch.float32
    )
    with torch.no_grad():
        expected = mx.array(theirs(torch.tensor(IDS)).logits.numpy())
    wconv.convert(tmp_path / "packed", tmp_path / "kept")
    assert mx.allclose(logits(mlx_lm_model(tmp_path / "kept"), wide=True), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scheme", ["gptq", "compressed-tensors"])
def test_scales_that_no_form_holds(scheme: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """As published models have them: all becomes dense, with the values that the scheme means."""
    values = pack(saved("qwen3_moe"), tmp_path / "packed", scheme, short=False)
    report = wconv.convert(tmp_path / "packed", tmp_path / "out")
    assert any("are decoded: no form of MLX's holds every value" in note for note in report.notes), (
        report.notes
    )
    theirs = mlx_lm_model(write(saved("qwen3_moe"), values, tmp_path / "theirs"))
    assert_same_parameters(parameters(mlx_lm_model(tmp_path / "out")), parameters(theirs))


def test_mlx_lm_makes_the_same_of_awq_itself(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Its loader repacks AWQ's words, too, where nothing is stacked: the same codes, scales and biases."""
    pack(saved("phi3"), tmp_path / "packed", "awq")
    theirs = parameters(mlx_lm_model(tmp_path / "packed"))
    opened = wconv.open(tmp_path / "packed")
    scheme = find_weights(opened, opened.config)
    assert scheme is not None
    mx = oracle("mlx.core")
    for name, weight in scheme.weights.items():
        form = weight.packed() if weight.packed is not None else None
        assert form is not None
        assert form.biases is not None
        for end, part in (("weight", form.weight), ("scales", form.scales), ("biases", form.biases)):
            assert mx.array_equal(to_mlx(part.numpy()), theirs[f"{name.removesuffix('weight')}{end}"]), name


@pytest.mark.parametrize("scheme", PACKINGS)
def test_a_model_that_sees_through_mlx_vlm(scheme: str, tmp_path: Path) -> None:
    mx = oracle("mlx.core")
    pack(FIXTURE, tmp_path / "packed", scheme)
    report = wconv.convert(tmp_path / "packed", tmp_path / "kept")
    assert report.layout == "mlx-vlm"
    wconv.convert(tmp_path / "packed", tmp_path / "dense", dequantize=True)
    kept, dense = mlx_vlm_model(tmp_path / "kept"), mlx_vlm_model(tmp_path / "dense")
    packed = [name for name, module in kept.named_modules() if hasattr(module, "scales")]
    assert len(packed) == 14
    one, other = text_logits(kept, wide=True), text_logits(dense, wide=True)
    assert float(mx.abs(other).max()) > 1
    assert mx.allclose(one, other, rtol=0, atol=1e-5)

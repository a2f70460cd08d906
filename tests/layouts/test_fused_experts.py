"""Experts that transformers 5 saved in one tensor for each layer become what single ones become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import bits, random, write_directory
from wconv.consumers import registry
from wconv.errors import WconvError
from wconv.layouts.conditions import Setting
from wconv.layouts.rules import stack

H, INNER, EXPERTS = 6, 4, 3
COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
W123 = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
EXPERT_COUNT = Setting("num_experts|num_local_experts|n_routed_experts")
STACK = stack(
    "model.layers.#.mlp.experts.{e}.(gate|up|down)_proj.(weight|scales|biases)",
    "model.layers.#.mlp.switch_mlp.(gate|up|down)_proj.(weight|scales|biases)",
    count=EXPERT_COUNT,
)
STACK_W123 = stack(
    "model.layers.#.block_sparse_moe.experts.{e}.(w1|w2|w3).(weight|scales|biases)",
    "model.layers.#.block_sparse_moe.switch_mlp.(gate_proj|down_proj|up_proj).(weight|scales|biases)",
    count=EXPERT_COUNT,
)
TABLES = {
    model_type: layout
    for layout in registry.tables("mlx-lm")
    for model_type in layout.model_types
    if STACK in layout.rules or STACK_W123 in layout.rules
}


def single(part: str) -> dict[str, Any]:
    shapes = {"gate_proj": (INNER, H), "up_proj": (INNER, H), "down_proj": (H, INNER)}
    named = W123 if part == "block_sparse_moe" else {name: name for name in shapes}
    return {
        f"model.layers.0.{part}.experts.{at}.{named[name]}.weight": random(shape, seed=10 * at + len(name))
        + np.float32(at).astype(random((1,)).dtype)
        for at in range(EXPERTS)
        for name, shape in shapes.items()
    }


def fused(part: str) -> dict[str, Any]:
    given = single(part)
    named = W123 if part == "block_sparse_moe" else {name: name for name in W123}
    gate, up, down = (
        np.stack([given[f"model.layers.0.{part}.experts.{at}.{named[name]}.weight"] for at in range(EXPERTS)])
        for name in ("gate_proj", "up_proj", "down_proj")
    )
    experts = "model.layers.0.mlp.experts"
    return {f"{experts}.gate_up_proj": np.concatenate([gate, up], 1), f"{experts}.down_proj": down}


def config_of(model_type: str) -> dict[str, Any]:
    more = {"num_attention_heads": 2, "kv_lora_rank": 2, "qk_nope_head_dim": 2, "v_head_dim": 2}
    counts = dict.fromkeys(COUNTS, EXPERTS)
    return {"model_type": model_type, "num_hidden_layers": 1, "tie_word_embeddings": True, **counts, **more}


def test_there_are_such_tables() -> None:
    assert {
        "qwen3_moe",
        "qwen2_moe",
        "olmoe",
        "mixtral",
        "phimoe",
        "deepseek_v3",
        "glm4_moe",
    } <= TABLES.keys()


@pytest.mark.parametrize("model_type", TABLES)
def test_fused_experts_become_the_same_as_single_ones(model_type: str, tmp_path: Path) -> None:
    part = "block_sparse_moe" if STACK_W123 in TABLES[model_type].rules else "mlp"
    gate = random((EXPERTS, H), seed=99)
    results = []
    for name, tensors in (
        ("single", {**single(part), f"model.layers.0.{part}.gate.weight": gate}),
        (
            "fused",
            {
                **fused(part),
                f"model.layers.0.mlp.{'router' if model_type == 'phimoe' else 'gate'}.weight": gate,
            },
        ),
    ):
        source = write_directory(tmp_path / name, [tensors], config_of(model_type))
        report = wconv.convert(source, tmp_path / f"{name}-out", layout="mlx-lm")
        assert report.layout == "mlx-lm"
        results.append({key: bits(array) for key, array in wconv.load(report.output).items()})
    assert results[0] == results[1]
    assert len(results[0]) == 4
    assert any("switch_mlp.gate_proj.weight" in key for key in results[0])


def test_the_way_back_gives_single_experts_as_the_hub_has_them(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "m", [fused("mlp")], config_of("qwen3_moe"))
    there = wconv.convert(source, tmp_path / "there").output
    back = wconv.load(wconv.convert(there, tmp_path / "back", layout="hf").output)
    assert {key: bits(array) for key, array in back.items()} == {
        key: bits(array) for key, array in single("mlp").items()
    }


def test_a_stack_of_another_number_of_experts_is_refused(tmp_path: Path) -> None:
    config = {**config_of("qwen3_moe"), "num_experts": EXPERTS + 1}
    with pytest.raises(WconvError, match=rf"expected a stack of {EXPERTS + 1} rows"):
        wconv.convert(write_directory(tmp_path / "m", [fused("mlp")], config), tmp_path / "out")

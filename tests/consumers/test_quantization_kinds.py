"""Layers that differ in numbers alone are asked for once, and the answers are those of each by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from wconv.consumers.quantization import Quantize, choose_layers
from wconv.consumers.quantization import choice as choosing
from wconv.consumers.quantization.choice import sizes

CONFIG = {"num_hidden_layers": 12, "text_config": {"num_hidden_layers": 12}}
KINDS = (
    "self_attn.q_proj",
    "self_attn.v_proj",
    "self_attn.kv_a_proj_with_mqa",
    "self_attn.g_proj",
    "mlp.gate",
    "mlp.down_proj",
    "mlp.experts.0.down_proj",
    "mlp.experts.1.down_proj",
    "mlp.experts.11.fc1",
    "blocks.3.img_mod_linear",
    "input_layernorm",
)
RULES = (r"layers\.(0|11)\.=6:32", "v_proj=8", r"experts\.1\.=none", "layers.1.=3")


def tensors(layers: int = 12, prefix: str = "model.") -> dict[str, tuple[tuple[int, ...], str]]:
    found: dict[str, tuple[tuple[int, ...], str]] = {
        f"{prefix}embed_tokens.weight": ((256, 64), "bfloat16"),
        "lm_head.weight": ((256, 64), "bfloat16"),
        "vision_tower.blocks.1.mlp.down_proj.weight": ((64, 64), "bfloat16"),
    }
    for layer in range(layers):
        for kind in KINDS:
            shape = (64,) if kind.endswith("norm") else (64, 96 if layer == 5 else 128)
            found[f"{prefix}layers.{layer}.{kind}.weight"] = shape, "bfloat16"
        found[f"{prefix}layers.{layer}.self_attn.q_proj.bias"] = (64,), "bfloat16"
    return found


def cases() -> Iterator[tuple[str, str, Quantize]]:
    for rules in ((), RULES):
        for model in ("llama", "qwen3_moe", "bailing_moe_v3", "kimi_k2", "deepseek_v3"):
            yield "mlx-lm", model, Quantize(rules=rules)
            yield "mlx-lm", model, Quantize(predicate="mixed_3_6", rules=rules)
        for model in ("qwen2_5_vl", "gemma4", "phi4mm"):
            yield "mlx-vlm", model, Quantize(rules=rules)
            yield "mlx-vlm", model, Quantize(predicate="mixed_4_8", rules=rules)
        yield "mflux", "qwen/transformer", Quantize(bits=4, rules=rules)


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_all_together_are_as_each_alone(
    case: tuple[str, str, Quantize], monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer, model, recipe = case
    together = choose_layers(consumer, model, CONFIG, tensors(), recipe)
    assert sizes(consumer, model, CONFIG, tensors(), [recipe]) == [together.bytes]

    def alone(self: Any, kinds: list[list[str]]) -> Iterator[list[str]]:
        yield from ([name] for names in kinds for name in names)

    monkeypatch.setattr(choosing._Chooser, "alike", alone)
    each = choose_layers(consumer, model, CONFIG, tensors(), recipe)
    assert (together.quantized, together.left) == (each.quantized, each.left)
    assert list(together.quantized) == list(each.quantized)
    assert (together.config, together.bytes, together.elements) == (each.config, each.bytes, each.elements)
    assert (together.unmatched, together.overruled) == (each.unmatched, each.overruled)


def test_sizes_of_a_hundred_thousand_tensors_take_milliseconds() -> None:
    many = tensors(8_000)
    assert len(many) > 95_000
    recipes = [Quantize(bits=bits, rules=("lm_head=8",)) for bits in (3, 4, 5, 6, 8)]
    began = time.process_time()
    found = sizes("mlx-lm", "qwen3_moe", CONFIG, many, recipes)
    assert time.process_time() - began < 3  # 0.4 s
    assert found == sorted(size for size in found if size is not None)


def test_a_recipe_that_does_not_fit_has_no_size() -> None:
    recipes = [Quantize(), Quantize(predicate="mixed_9_9")]
    assert sizes("mlx-lm", "llama", CONFIG, tensors(), recipes)[1] is None


def test_a_number_beyond_all_layers_is_none() -> None:
    name = f"model.layers.{'9' * 5_000}.mlp.down_proj.weight"
    shapes: dict[str, tuple[tuple[int, ...], str]] = {**tensors(2), name: ((64, 64), "bfloat16")}
    choice = choose_layers("mlx-lm", "llama", CONFIG, shapes, Quantize(predicate="mixed_2_6"))
    assert choice.quantized[name].bits in (2, 6)

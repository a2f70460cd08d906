"""Which weights are quantized, from names and shapes: the users' rules, the limits, what is told.

Covers `consumers/quantization/`.
"""

from __future__ import annotations

from typing import Any

import pytest

from wconv.consumers.quantization import LayerChoice, Quantize, choose_layers, parse_rule
from wconv.errors import WconvError
from wconv.tensors.quantize import Quantization

TENSORS: dict[str, tuple[tuple[int, ...], str]] = {
    "model.embed_tokens.weight": ((256, 64), "bfloat16"),
    "model.layers.0.self_attn.v_proj.weight": ((32, 64), "bfloat16"),
    "model.layers.0.self_attn.v_proj.bias": ((32,), "bfloat16"),
    "model.layers.0.mlp.gate.weight": ((4, 64), "bfloat16"),
    "model.layers.0.mlp.switch_mlp.down_proj.weight": ((4, 64, 96), "bfloat16"),
    "model.layers.0.mlp.switch_mlp.up_proj.weight": ((4, 96, 64), "bfloat16"),
    "model.layers.0.input_layernorm.weight": ((64,), "bfloat16"),
    "model.layers.0.conv1d.weight": ((64, 4, 64), "bfloat16"),
    "lm_head.weight": ((256, 64), "bfloat16"),
}
GATE, DOWN = "model.layers.0.mlp.gate.weight", "model.layers.0.mlp.switch_mlp.down_proj.weight"
V_PROJ = "model.layers.0.self_attn.v_proj.weight"


def chosen(*rules: str, model: str = "qwen3_moe", consumer: str = "mlx-lm", **recipe: Any) -> LayerChoice:
    return choose_layers(
        consumer, model, {}, TENSORS, Quantize(**recipe, rules=tuple(parse_rule(rule) for rule in rules))
    )


def test_every_tensor_is_quantized_or_has_a_reason() -> None:
    choice = chosen()
    assert choice.quantized.keys() | choice.left.keys() == TENSORS.keys()
    assert not choice.quantized.keys() & choice.left.keys()
    assert choice.quantized["lm_head.weight"] == Quantization("affine", 4, 64)
    assert choice.left["model.layers.0.conv1d.weight"] == "not a matrix: the weight of a convolution"
    assert choice.left["model.layers.0.input_layernorm.weight"] == "not a matrix of weights"


def test_routers_have_8_bits_and_an_entry_of_their_own() -> None:
    choice = chosen(mode="mxfp4")
    assert choice.quantized[GATE] == Quantization("affine", 8, 64)
    assert choice.config["quantization"] == {
        "group_size": 32,
        "bits": 4,
        "mode": "mxfp4",
        "model.layers.0.mlp.gate": {"group_size": 64, "bits": 8},
    }
    assert choice.config["quantization_config"] == choice.config["quantization"]


def test_a_router_that_is_a_bare_matrix_stays_dense() -> None:
    assert "bare matrix" in chosen(model="deepseek_v3").left[GATE]
    assert "bare matrix" in chosen("gate$=8", model="deepseek_v3").left[GATE]


def test_rows_that_no_group_divides_stay_dense_and_are_told() -> None:
    choice = chosen()
    assert choice.left[DOWN] == "no group of 64 divides its rows of 96"
    assert choice.undivided() == (DOWN,)
    assert chosen(group_size=32).undivided() == ()


def test_the_consumers_groups_of_64_do_not_stop_it_where_32_were_asked_for() -> None:
    shapes = {"lm_head.weight": ((8, 96), "float16")}
    choice = choose_layers("mlx-lm", "granite", {}, shapes, Quantize(group_size=32))
    assert choice.left == {"lm_head.weight": "no group of 64 divides its rows of 96"}
    assert choice.config["quantization"] == {"group_size": 32, "bits": 4, "mode": "affine"}


def test_of_several_rules_the_last_that_fits_holds() -> None:
    choice = chosen("proj=8", "v_proj=6:32", "up_proj=none")
    assert choice.quantized[V_PROJ] == Quantization("affine", 6, 32)
    assert choice.config["quantization"][V_PROJ.removesuffix(".weight")] == {
        "group_size": 32,
        "bits": 6,
        "mode": "affine",
    }
    assert (
        choice.left["model.layers.0.mlp.switch_mlp.up_proj.weight"] == "the rule up_proj=none keeps it dense"
    )
    assert choice.overruled == ()
    assert chosen("v_proj=8", "v_proj=6").overruled == ("v_proj=8",)


def test_a_rule_goes_before_what_the_consumer_would_do() -> None:
    assert GATE in chosen(r"mlp\.gate$=none").left
    assert chosen(r"mlp\.gate$=4").quantized[GATE] == Quantization("affine", 4, 64)
    assert chosen("down_proj=4:32").quantized[DOWN] == Quantization("affine", 4, 32)


def test_a_rule_that_found_nothing_is_told() -> None:
    assert chosen("lm_haed=8", "lm_head=8").unmatched == ("lm_haed=8",)
    assert chosen("bias=8").unmatched == ("bias=8",)


@pytest.mark.parametrize(
    ("rule", "mode", "expected"),
    [
        ("lm_head=4", "nvfp4", Quantization("nvfp4", 4, 16)),
        ("lm_head=8", "nvfp4", Quantization("affine", 8, 64)),
        ("lm_head=4:32", "nvfp4", Quantization("affine", 4, 32)),
        ("lm_head=8:32:mxfp8", "affine", Quantization("mxfp8", 8, 32)),
        ("lm_head=8", "mxfp8", Quantization("mxfp8", 8, 32)),
    ],
)
def test_a_rules_mode_is_the_recipes_where_that_can(rule: str, mode: str, expected: Quantization) -> None:
    assert chosen(rule, mode=mode).quantized["lm_head.weight"] == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("lm_head", "the quantization rule 'lm_head' is not PATTERN=BITS[:GROUP[:MODE]] or PATTERN=none"),
        ("=4", "the quantization rule '=4' is not PATTERN=BITS"),
        ("a=four", "the quantization rule 'a=four' has 'four' after its '='"),
        ("a=4:32:affine:1", "the quantization rule 'a=4:32:affine:1' has '4:32:affine:1' after its '='"),
        ("a=7", "the quantization rule a=7: affine does not have bits 7: it has 2, 3, 4, 5, 6, 8"),
        ("a=4:16", "the quantization rule a=4:16: affine does not have groups of 16"),
        ("a=8:32:", "the quantization rule 'a=8:32:' has '8:32:' after its '='"),
        ("a=8:32:mxfp4", "the quantization rule a=8:32:mxfp4: mxfp4 does not have bits 8: it has 4"),
        ("a=4:32:fp4", "the quantization rule a=4:32:fp4: 'fp4' is not a quantization mode"),
        ("(=4", "the pattern of a quantization rule '(' is no regular expression"),
    ],
)
def test_a_rule_that_nothing_could_follow_is_refused(rule: str, message: str) -> None:
    with pytest.raises(WconvError) as caught:
        parse_rule(rule)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("consumer", "recipe", "message"),
    [
        ("mlx-lm", {"bits": 7}, "affine does not have bits 7"),
        ("mlx-lm", {"mode": "mxfp4", "bits": 8}, "mxfp4 does not have bits 8: it has 4"),
        (
            "mlx-lm",
            {"predicate": "mixed_3_5"},
            "mlx-lm does not have the mixed recipe 'mixed_3_5': it has mixed",
        ),
        ("mlx-lm", {"predicate": "mixed_3_4", "mode": "nvfp4"}, "mixed_3_4 is for the affine mode alone"),
        (
            "mflux",
            {"predicate": "mixed_3_4"},
            "mflux does not have the mixed recipe 'mixed_3_4': it has none",
        ),
        ("mflux", {"mode": "mxfp4"}, "mflux stores affine quantization alone, not mxfp4"),
        ("mflux", {"bits": 2}, "mflux does not have bits 2: it has 3, 4, 5, 6, 8"),
        ("mflux", {"group_size": 32}, "mflux stores groups of 64, not of 32"),
        ("vllm", {}, "'vllm' does not read quantized models"),
    ],
)
def test_what_a_mode_or_a_consumer_does_not_have_is_refused(
    consumer: str, recipe: dict[str, Any], message: str
) -> None:
    with pytest.raises(WconvError) as caught:
        chosen(consumer=consumer, **recipe)
    assert str(caught.value).startswith(message)


def test_a_mixed_recipe_needs_layers_of_its_kind() -> None:
    shapes = {"lm_head.weight": ((8, 64), "float16")}
    with pytest.raises(WconvError, match="has none: use --q-rule instead"):
        choose_layers("mlx-lm", "gpt2", {}, shapes, Quantize(predicate="mixed_3_4"))


def test_a_mixed_recipe_gives_more_bits_to_some_layers() -> None:
    shapes = {
        f"model.layers.{at}.{part}.weight": ((64, 64), "float16")
        for at in range(16)
        for part in ("self_attn.v_proj", "self_attn.k_proj", "mlp.down_proj")
    }
    choice = choose_layers("mlx-lm", "llama", {}, shapes, Quantize(predicate="mixed_3_6"))
    six = [at for at in range(16) if choice.quantized[f"model.layers.{at}.mlp.down_proj.weight"].bits == 6]
    assert six == [0, 1, 4, 7, 10, 13, 14, 15]
    assert {how.bits for name, how in choice.quantized.items() if "k_proj" in name} == {3}


@pytest.mark.parametrize(("asked", "said"), [(None, 64), (32, 32)])
def test_a_mixed_recipe_says_the_group_size_in_every_entry(asked: int | None, said: int) -> None:
    shapes = {f"model.layers.0.mlp.{part}_proj.weight": ((64, 64), "float16") for part in ("up", "down")}
    choice = choose_layers("mlx-lm", "llama", {}, shapes, Quantize(predicate="mixed_3_4", group_size=asked))
    assert choice.config["quantization"]["model.layers.0.mlp.up_proj"] == {
        "group_size": said,
        "bits": 3,
        "mode": "affine",
    }
    assert {how.group_size for how in choice.quantized.values()} == {said}


def test_mlx_vlm_leaves_the_vision_tower_dense_unless_a_rule_says_otherwise() -> None:
    shapes = {"vision_tower.blocks.0.fc1.weight": ((64, 64), "float16")}
    choice = choose_layers("mlx-vlm", "qwen2_5_vl", {}, shapes, Quantize())
    assert "images and sound" in choice.left["vision_tower.blocks.0.fc1.weight"]
    asked = choose_layers("mlx-vlm", "qwen2_5_vl", {}, shapes, Quantize(rules=(parse_rule("vision=8"),)))
    assert asked.quantized == {"vision_tower.blocks.0.fc1.weight": Quantization("affine", 8, 64)}


def test_what_is_quantized_already_stays() -> None:
    shapes = {
        "lm_head.weight": ((8, 64), "uint32"),
        "lm_head.scales": ((8, 8), "float16"),
        "x.weight": ((8, 64), "float16"),
    }
    before = {"quantization": {"group_size": 64, "bits": 4}}
    choice = choose_layers("mlx-lm", "llama", before, shapes, Quantize(bits=8))
    assert choice.left["lm_head.weight"] == "its numbers are uint32, which is not quantized"
    assert choice.config["quantization"] == {
        "group_size": 64,
        "bits": 4,
        "x": {"group_size": 64, "bits": 8, "mode": "affine"},
    }


def test_bytes_and_bits_per_weight() -> None:
    shapes = {"a.weight": ((64, 64), "bfloat16"), "a.bias": ((64,), "float32")}
    choice = choose_layers("mlx-lm", "llama", {}, shapes, Quantize())
    assert choice.bytes == 64 * 64 // 2 + 64 * 4 + 64 * 4
    assert choice.bits_per_weight == choice.bytes * 8 / (64 * 64 + 64)
    assert (
        choose_layers("mlx-lm", "llama", {}, shapes, Quantize(mode="nvfp4")).bytes == 2048 + 64 * 4 + 64 * 4
    )


def test_mflux_keeps_a_family_s_sensitive_layers() -> None:
    shapes = {"blocks.0.img_mod_linear.weight": ((64, 64), "bfloat16"), "b.weight": ((64, 64), "bfloat16")}
    choice = choose_layers("mflux", "qwen/transformer", {}, shapes, Quantize(bits=4))
    assert {name: how.bits for name, how in choice.quantized.items()} == {
        "blocks.0.img_mod_linear.weight": 8,
        "b.weight": 4,
    }
    assert choice.config == {}
    assert not choose_layers("mflux", "qwen/text_encoder", {}, shapes, Quantize(bits=4)).quantized
    small = choose_layers(
        "mflux", "boogu/transformer", {}, {"b.weight": ((8, 96), "bfloat16")}, Quantize(bits=4)
    )
    assert small.quantized["b.weight"].group_size == 32


def test_a_rule_cannot_make_mflux_load_what_it_keeps_dense() -> None:
    shapes = {"lm_head.weight": ((64, 64), "bfloat16"), "a.weight": ((64, 96), "bfloat16")}
    recipe = Quantize(bits=4, rules=(parse_rule("lm_head|a=8:32"),))
    choice = choose_layers("mflux", "fibo_vlm/decoder", {}, shapes, recipe)
    assert choice.left == {
        "lm_head.weight": "mflux keeps it dense in this kind of model",
        "a.weight": "no group of 64 divides its rows of 96",
    }

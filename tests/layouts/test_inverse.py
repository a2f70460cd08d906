"""The way back gives the source's bits, says what it cannot give, and never guesses.

Covers `consumers/*/`, `layouts/reverse_rules.py`, `layouts/rules.py`, `layouts/rule.py`,
`layouts/naming_rules.py`, `layouts/shape_rules.py`, `layouts/value_rules.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import wconv
from tests.making import bits, random, write_directory, write_file
from wconv import testing
from wconv.consumers import layout_choice, registry
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout, LayoutResult, apply
from wconv.layouts.computed.multiplied import ScaleRule
from wconv.layouts.conditions import Context, setting
from wconv.layouts.file.primitives import VERBS
from wconv.layouts.inverse import INVERSES, restore
from wconv.layouts.patterns import compile_pattern, sample
from wconv.layouts.reverse_rules import join, same_bits, unstack
from wconv.layouts.rules import (
    ROLES,
    DropRule,
    Rule,
    TransposeRule,
    copy_if_missing,
    drop,
    keep_dtype,
    rename,
    reshape,
    split,
    stack,
    transpose,
    view_flat,
)
from wconv.tensors.lazy import from_array

FIXTURE = Path(__file__).parent.parents[1] / "fixtures" / "qwen2_5_vl"


def there_and_back(
    layout: Layout, arrays: Mapping[str, Any], config: Mapping[str, Any] | None = None
) -> LayoutResult:
    applied = apply(layout, {name: from_array(one) for name, one in arrays.items()}, config)
    stored = {name: from_array(tensor.numpy()) for name, tensor in applied.tensors.items()}
    restored = restore(layout, stored, config)
    assert restored is not None
    return restored


def table(model_type: str) -> Layout:
    return layout_choice.layout_of_model_type(model_type)


def test_the_fixture_comes_back_bit_for_bit(tmp_path: Path) -> None:
    there = wconv.convert(FIXTURE, tmp_path / "tiny-MLX").output
    report = wconv.convert(there, layout="hf")
    assert report.output == tmp_path / "tiny-HF"
    assert report.layout == "transformers"
    before, after = wconv.load(FIXTURE), wconv.load(report.output)
    assert {name: bits(array) for name, array in before.items()} == {
        name: bits(array) for name, array in after.items()
    }
    for shard in report.output.glob("*.safetensors"):
        with safe_open(shard, "np") as file:
            assert file.metadata()["format"] == "pt"
    index = json.loads((report.output / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(before)
    assert "transformers" in report.command
    assert (report.output / "tokenizer.json").read_bytes() == (FIXTURE / "tokenizer.json").read_bytes()


def test_the_hubs_layout_passes_unchanged(tmp_path: Path) -> None:
    report = wconv.convert(FIXTURE, tmp_path / "out", layout="hf")
    before, after = wconv.load(FIXTURE), wconv.load(report.output)
    assert report.layout is None
    assert {name: bits(array) for name, array in before.items()} == {
        name: bits(array) for name, array in after.items()
    }


def test_a_dtype_is_cast_on_the_way_back(tmp_path: Path) -> None:
    there = wconv.convert(FIXTURE, tmp_path / "m-MLX").output
    report = wconv.convert(there, layout="hf", dtype="float32")
    config = json.loads((report.output / "config.json").read_text())
    assert config["torch_dtype"] == "float32"
    source = wconv.load(FIXTURE)
    for name, array in wconv.load(report.output).items():
        assert bits(array) == bits(source[name].astype(np.float32)), name


def test_a_model_converted_in_part_keeps_its_names_and_is_told(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.mlp.up_proj.weight": random((4, 4)),
        "language_model.model.layers.1.mlp.up_proj.weight": random((4, 4)),
    }
    model = write_directory(tmp_path / "m", [tensors], {"model_type": "qwen2_5_vl"})
    report = wconv.convert(model, layout="hf")
    assert set(wconv.open(report.output)) == set(tensors)
    assert any("converted in part" in note for note in report.notes)


def test_what_was_left_out_is_told_by_the_hubs_name() -> None:
    arrays = {
        "model.layers.0.self_attn.q_proj.weight": random((4, 4)),
        "visual.patch_embed.proj.weight": random((4, 3, 2, 4, 4)),
    }
    restored = testing.check_way_back(table("qwen2_5_vl"), arrays, {"tie_word_embeddings": True})
    assert "not restored (tied to the embedding): lm_head.weight" in restored.notes
    assert any("where the original had any" in note and "inv_freq" in note for note in restored.notes)


def test_a_quantized_model_is_not_laid_back() -> None:
    layout = Layout(("test",), ("any",), ("**",), (rename("a.**", "b.**"),))
    config = {"quantization": {"bits": 4, "group_size": 64}}
    for table, name in ((layout, "b.scales"), (layout, "other.scales"), (None, "model.layers.0.scales")):
        with pytest.raises(LayoutError, match="quantized for MLX"):
            restore(table, {name: from_array(random((2, 2)))}, config)


def mxfp4(seed: int) -> dict[str, Any]:
    whole = np.random.default_rng(seed)
    prefix = "model.layers.0.mlp.experts"
    return {
        f"{prefix}.gate_up_proj_blocks": whole.integers(0, 256, (2, 8, 3, 16), np.uint8),
        f"{prefix}.gate_up_proj_scales": whole.integers(0, 256, (2, 8, 3), np.uint8),
        f"{prefix}.gate_up_proj_bias": random((2, 8)),
        f"{prefix}.down_proj_blocks": whole.integers(0, 256, (2, 96, 1, 16), np.uint8),
        f"{prefix}.down_proj_scales": whole.integers(0, 256, (2, 96, 1), np.uint8),
        f"{prefix}.down_proj_bias": random((2, 96), seed=1),
    }


def test_gpt_oss_comes_back_in_4_bits_and_in_16() -> None:
    config = {"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}
    testing.check_way_back(table("gpt_oss"), mxfp4(0), config)
    prefix = "model.layers.0.mlp.experts"
    wide = {
        f"{prefix}.gate_up_proj": random((2, 6, 8)),
        f"{prefix}.gate_up_proj_bias": random((2, 8), seed=1),
        f"{prefix}.down_proj": random((2, 4, 6), seed=2),
        f"{prefix}.down_proj_bias": random((2, 6), seed=3),
    }
    testing.check_way_back(table("gpt_oss"), wide, {"model_type": "gpt_oss"})


def test_shifted_norms_come_back_as_near_as_bfloat16_allows(tmp_path: Path) -> None:
    exact = np.array([0.5, -0.25, 1.0, 2.0], ml_dtypes.bfloat16)
    small = np.array([0.001953125, 0.1, -0.3, 0.7], ml_dtypes.bfloat16)
    arrays = {
        "model.layers.0.linear_attn.conv1d.weight": random((6, 1, 4)),
        "model.layers.0.input_layernorm.weight": exact,
        "model.norm.weight": small,
    }
    restored = there_and_back(table("qwen3_next"), arrays, {"num_experts": 2})
    assert bits(restored.tensors["model.layers.0.input_layernorm.weight"].numpy()) == bits(exact)
    near = restored.tensors["model.norm.weight"].numpy()
    assert bits(near) != bits(small)
    one = ml_dtypes.bfloat16(1)
    assert bits(near + one) == bits(small + one)
    assert any("model.norm.weight had 1 added, rounded" in note for note in restored.notes)


def test_a_copied_output_layer_goes_and_one_of_its_own_stays() -> None:
    layout = Layout(
        ("test",), ("any",), ("**",), (rename("model.**", "lm.**"), copy_if_missing("lm.embed", "head"))
    )
    embed, head = random((4, 4), seed=1), random((4, 4), seed=2)
    testing.check_way_back(layout, {"model.embed": embed})
    both = {"model.embed": embed, "head": head}
    testing.check_way_back(layout, both)


def test_8_bit_weights_stay_decoded_and_config_json_no_longer_says_otherwise(tmp_path: Path) -> None:
    config = {
        "model_type": "deepseek_v3",
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
        "num_hidden_layers": 1,
        "n_routed_experts": 2,
        "num_attention_heads": 2,
        "kv_lora_rank": 3,
        "qk_nope_head_dim": 4,
        "v_head_dim": 5,
    }
    weight = random((18, 3), ml_dtypes.float8_e4m3fn)
    tensors = {
        "model.layers.0.self_attn.kv_b_proj.weight": weight,
        "model.layers.0.self_attn.kv_b_proj.weight_scale_inv": np.full((1, 1), 0.5, np.float32),
        "model.layers.0.mlp.experts.0.up_proj.weight": random((4, 4), seed=1),
        "model.layers.0.mlp.experts.1.up_proj.weight": random((4, 4), seed=2),
    }
    model = write_directory(tmp_path / "m", [tensors], config)
    report = wconv.convert(wconv.convert(model).output, layout="hf")
    after = wconv.load(report.output)
    decoded = (weight.astype(np.float32) * 0.5).astype(ml_dtypes.bfloat16)
    assert bits(after["model.layers.0.self_attn.kv_b_proj.weight"]) == bits(decoded)
    assert bits(after["model.layers.0.mlp.experts.1.up_proj.weight"]) == bits(random((4, 4), seed=2))
    assert "quantization_config" not in json.loads((report.output / "config.json").read_text())
    assert any("weight_scale_inv" in note for note in report.notes)


def test_a_single_file_comes_back(tmp_path: Path) -> None:
    layout = Layout(("test",), ("any",), ("**",), (transpose("conv.w", "conv2d"), rename("conv.**", "c.**")))
    array = random((2, 3, 4, 5))
    source = write_file(tmp_path / "x.safetensors", {"conv.w": array})
    there = wconv.convert(source, layout=layout)
    assert there.output == tmp_path / "x-MLX.safetensors"
    back = wconv.convert(there.output, layout="hf", rules=layout)
    assert back.output == tmp_path / "x-HF.safetensors"
    assert bits(wconv.load(back.output)["conv.w"]) == bits(array)


def test_what_the_rules_would_not_give_again_is_refused() -> None:
    rules = (reshape("x", (-1,), back=(2, -1)), rename("x", "y"))
    with pytest.raises(LayoutError, match="y cannot be laid out as the original"):
        restore(Layout(("test",), ("any",), ("**",), rules), {"y": from_array(random((2, 3)))})


def test_a_part_without_its_companion_is_not_joined() -> None:
    layout = Layout(("test",), ("any",), ("**",), (split("qkv", ("q", "k"), 0),))
    for name in ("q", "k"):
        with pytest.raises(LayoutError, match="not there"):
            restore(layout, {name: from_array(random((2, 2)))})


def test_two_tensors_are_the_same_only_in_every_bit() -> None:
    one = random((3, 5), np.float32)
    other = one.copy()
    other[2, 4] = -other[2, 4]
    assert same_bits(from_array(one), from_array(one.copy()))
    assert not same_bits(from_array(one), from_array(other))
    assert not same_bits(from_array(one), from_array(one.reshape(5, 3)))


def test_every_primitive_has_an_opposite() -> None:
    assert set(VERBS) == set(INVERSES)


PIECES: tuple[tuple[tuple[Rule, ...], dict[str, tuple[int, ...]]], ...] = (
    ((rename("a.#.**", "aa.#.**"),), {"a.0.w": (2, 3), "a.1.w": (4,)}),
    ((rename("b.layers.**", "x.h.**"), rename("b.**", "x.**")), {"b.layers.0": (2,), "b.w": (3,)}),
    ((transpose("c.w", "conv2d"), rename("c.w", "cc.w")), {"c.w": (2, 3, 4, 5)}),
    ((transpose("d.w", "conv_transpose2d"), rename("d.w", "dd.w")), {"d.w": (2, 3, 4, 5)}),
    ((transpose("e.w", "conv3d", last=3),), {"e.w": (2, 3, 4, 5, 6)}),
    ((split("f", ("f1", "f2", "f3"), -1),), {"f": (2, 6)}),
    ((split("g", ("g1", "g2"), 0, interleaved=True),), {"g": (6, 2)}),
    ((split("h", ("h1", "h2"), 1, sizes=(setting("p"), setting("q"))),), {"h": (2, 5, 2)}),
    ((stack("i.{e}.(u|v)", "s.(u|v)"),), {f"i.{e}.{w}": (2, 3) for e in range(3) for w in "uv"}),
    ((reshape("j", (setting("p"), -1), back=(-1,)), rename("j", "jj")), {"j": (6,)}),
    ((join("k.q", ("k.k", "k.v"), "k.qkv", 0),), {"k.q": (2, 3), "k.k": (2, 3), "k.v": (2, 3)}),
    (
        (join("l.0", ("l.1",), "ll", -1, sizes=(setting("p"), setting("q"))),),
        {"l.0": (4, 2), "l.1": (4, 3)},
    ),
    ((unstack("m", "m.{e}.w"),), {"m": (3, 2)}),
    ((view_flat("n", "uint32", back=("bfloat16", 8)), rename("n", "nn")), {"n": (3, 2, 8)}),
    ((drop("o.**", "not needed"), keep_dtype("**.norm")), {"z.norm": (3,)}),
)
"""Rules that do not meddle with each other's names, each with tensors that they fit."""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(PIECES) - 1), min_size=1, unique=True), st.randoms(use_true_random=False))
def test_any_rules_run_forwards_and_back_are_nothing_at_all(picked: list[int], shuffle: Any) -> None:
    pieces = [PIECES[at] for at in picked]
    shapes = {name: shape for _, some in pieces for name, shape in some.items()}
    names = list(shapes)
    shuffle.shuffle(names)
    rules = (*(rule for some, _ in pieces for rule in some), rename("first.**", "last.**"))
    arrays = {name: random(shapes[name], seed=at) for at, name in enumerate(names)}
    arrays["first.w"] = random((2,), seed=99)
    layout = Layout(("test",), ("any",), ("**",), rules)
    testing.check_way_back(layout, arrays, {"p": 2, "q": 3})


CONFIG = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "num_attention_heads"), 2),
    "num_hidden_layers": 1,
    "num_kv_shared_layers": 0,
    "hidden_size": 12,
    "dim": 12,
    "n_heads": 1,
    "moe": {"num_experts": 2},
    "tie_word_embeddings": False,
    "kv_lora_rank": 3,
    "qk_nope_head_dim": 5,
    "v_head_dim": 7,
    "vision_config": {"num_channels": 3},
}
SHAPES = {
    "embed_q": (2, 3, 5),
    "unembed_out": (2, 7, 3),
    "(?:switch|experts).*down": (2, 12, 5),
    "switch|experts": (2, 5, 12),
    "gamma": (12,),
}
"""Of tensors whose shapes rules depend on, by what their names hold."""

TORCH_SHAPE = (4, 3, 5, 6, 7)
OPTIONS = {"include_fov": True}


def final_shape(table: Layout, name: str) -> tuple[int, ...]:
    for part, shape in SHAPES.items():
        if re.search(part, name):
            return shape
    for rule in table.rules:
        if isinstance(rule, TransposeRule) and rule.pattern.match(name):
            return tuple(TORCH_SHAPE[axis] for axis in ROLES[rule.role])
    return (2, 12)


@pytest.mark.parametrize(
    "table",
    [
        table
        for consumer in registry.automatic_names()
        for table in registry.tables(consumer)
        if not table.derived_from  # tests/consumers/test_derived_tables.py has checkpoints for those
    ],
    ids=lambda table: f"{table.consumers[0]}-{table.model_types[0]}",
)
def test_every_name_of_every_table_goes_back_and_comes_again(table: Layout) -> None:
    # what is multiplied has no way back, which is refused; the rest has
    table = replace(table, rules=tuple(rule for rule in table.rules if not isinstance(rule, ScaleRule)))
    context = Context(CONFIG, OPTIONS)
    drops = [rule for rule in table.rules if isinstance(rule, DropRule) and rule.active(context)]
    names = dict.fromkeys(name for pattern in table.names for name in sample(pattern))
    final = {
        name: from_array(random(final_shape(table, name), np.float32, seed=at))
        for at, name in enumerate(names)
        if not any(rule.drops(name, context) for rule in drops)
    }
    restored = restore(table, final, CONFIG, OPTIONS)
    if restored is None:
        targets = [compile_pattern(target) for rule in table.rules for target in rule.targets]
        assert not [name for name in final if any(target.match(name) for target in targets)]
        return
    again = apply(table, restored.tensors, CONFIG, OPTIONS)
    for name, tensor in final.items():
        assert bits(again.tensors[name].numpy()) == bits(tensor.numpy()), name

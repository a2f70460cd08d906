"""A layout's rules apply whole or not at all, account for every tensor, and say what is amiss by name.

Covers `layouts/conditions.py`, `layouts/patterns.py`, `consumers/registry.py`, `consumers/layout_choice.py`,
`consumers/lay_out.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from wconv.consumers import lay_out, layout_choice, registry
from wconv.consumers.layout_choice import choose_layout
from wconv.consumers.taken import check_scheme
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout, LayoutResult, apply
from wconv.layouts.conditions import setting, tied
from wconv.layouts.patterns import compile_pattern
from wconv.layouts.rules import (
    Rule,
    add_one,
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
from wconv.tensors.lazy import ArrayTensor, LazyTensor, from_array

FIXTURE = Path(__file__).parent.parents[1] / "fixtures" / "qwen2_5_vl"
QWEN = {"model_type": "qwen2_5_vl", "tie_word_embeddings": False}


def tensors(**arrays: Any) -> dict[str, LazyTensor]:
    return {name: from_array(np.asarray(array)) for name, array in arrays.items()}


def empty(names: Iterator[str] | list[str], shape: tuple[int, ...] = (2, 2)) -> dict[str, LazyTensor]:
    return {name: from_array(np.zeros(shape, np.float16)) for name in names}


def run(
    rules: tuple[Rule, ...],
    state: Mapping[str, LazyTensor],
    config: Mapping[str, Any] | None = None,
    names: tuple[str, ...] = ("**",),
) -> LayoutResult:
    return apply(Layout(("test",), ("any",), names, rules), state, config)


def arrays(applied: LayoutResult) -> dict[str, list[Any]]:
    return {name: tensor.numpy().tolist() for name, tensor in applied.tensors.items()}


def qwen2_5_vl_7b() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The 729 tensors of Qwen2.5-VL-7B, as published."""
    yield "visual.patch_embed.proj.weight", (1280, 3, 2, 14, 14)
    for block in range(32):
        for name in ("norm1.weight", "norm2.weight"):
            yield f"visual.blocks.{block}.{name}", (1280,)
        for name in ("attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
            yield f"visual.blocks.{block}.{name}.weight", (8, 8)
            yield f"visual.blocks.{block}.{name}.bias", (8,)
    yield "visual.merger.ln_q.weight", (1280,)
    for at in (0, 2):
        yield f"visual.merger.mlp.{at}.weight", (8, 8)
        yield f"visual.merger.mlp.{at}.bias", (8,)
    yield "model.embed_tokens.weight", (16, 8)
    for layer in range(28):
        for name in ("q_proj", "k_proj", "v_proj"):
            yield f"model.layers.{layer}.self_attn.{name}.weight", (8, 8)
            yield f"model.layers.{layer}.self_attn.{name}.bias", (8,)
        yield f"model.layers.{layer}.self_attn.o_proj.weight", (8, 8)
        for name in ("gate_proj", "up_proj", "down_proj"):
            yield f"model.layers.{layer}.mlp.{name}.weight", (8, 8)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{layer}.{name}.weight", (8,)
    yield "model.norm.weight", (8,)
    yield "lm_head.weight", (16, 8)


@pytest.fixture
def model() -> dict[str, LazyTensor]:
    return {
        name: from_array(np.broadcast_to(np.float16(0), shape))
        if len(shape) < 5
        else from_array(patch(shape))
        for name, shape in qwen2_5_vl_7b()
    }


def patch(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float16)


def test_every_tensor_of_qwen2_5_vl_7b_is_accounted_for(model: dict[str, LazyTensor]) -> None:
    applied = apply(choose_layout("auto", QWEN, model), model, QWEN)
    assert len(model) == len(applied.tensors) == 729
    assert sorted(source for one in applied.sources.values() for source in one) == sorted(model)
    assert applied.sources["language_model.lm_head.weight"] == ("lm_head.weight",)
    proj = applied.tensors["vision_tower.patch_embed.proj.weight"]
    assert np.array_equal(
        proj.numpy(), model["visual.patch_embed.proj.weight"].numpy().transpose(0, 2, 3, 4, 1)
    )


def test_the_newer_spelling_of_its_names_gives_the_same(model: dict[str, LazyTensor]) -> None:
    def respelled(name: str) -> str:
        name = name.replace("visual.", "model.visual.")
        return name.replace("model.", "model.language_model.", 1) if "visual" not in name else name

    newer = {respelled(name): tensor for name, tensor in model.items()}
    assert "model.language_model.layers.0.mlp.up_proj.weight" in newer
    layout = choose_layout("auto", QWEN, model)
    ours, theirs = apply(layout, newer, QWEN), apply(layout, model, QWEN)
    assert list(ours.tensors) == list(theirs.tensors)
    name = "vision_tower.patch_embed.proj.weight"
    assert np.array_equal(ours.tensors[name].numpy(), theirs.tensors[name].numpy())


def test_what_is_laid_out_already_stays_as_it_is(model: dict[str, LazyTensor]) -> None:
    layout = choose_layout("auto", QWEN, model)
    once = apply(layout, model, QWEN)
    twice = apply(layout, once.tensors, QWEN)
    assert twice.tensors == once.tensors
    assert twice.notes == ("the tensors are in mlx-vlm's layout already",)
    assert not once.notes


def test_a_checkpoint_converted_in_part_is_refused(model: dict[str, LazyTensor]) -> None:
    layout = choose_layout("auto", QWEN, model)
    model["vision_tower.merger.ln_q.weight"] = model.pop("visual.merger.ln_q.weight")
    with pytest.raises(LayoutError, match=r"converted in part: vision_tower\.merger\.ln_q\.weight"):
        apply(layout, model, QWEN)


def test_a_transposed_convolution_among_source_names_is_converted_in_part(
    model: dict[str, LazyTensor],
) -> None:
    layout = choose_layout("auto", QWEN, model)
    name = "visual.patch_embed.proj.weight"
    model[name] = model[name].transpose((0, 2, 3, 4, 1))
    rest = dict(model)
    with pytest.raises(LayoutError, match="converted in part"):
        apply(layout, rest, QWEN)


def test_an_unknown_tensor_is_named_with_the_nearest_known_one(model: dict[str, LazyTensor]) -> None:
    layout = choose_layout("auto", QWEN, model)
    model["model.layers.7.self_atn.q_proj.weight"] = model["lm_head.weight"]
    with pytest.raises(LayoutError) as caught:
        apply(layout, model, QWEN)
    message = str(caught.value)
    assert "\n" not in message
    assert "model.layers.7.self_atn.q_proj.weight" in message
    assert "language_model.model.layers.7.self_attn.q_proj.weight" in message


def test_tied_heads_and_recomputed_buffers_are_dropped_with_the_reason() -> None:
    config = {"model_type": "qwen2", "tie_word_embeddings": True}
    names = ["model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"]
    applied = apply(choose_layout("mlx-lm", config, names), empty(names), config)
    assert list(applied.tensors) == names[:1]
    assert applied.dropped == {
        "lm_head.weight": "tied to the embedding",
        "model.layers.0.self_attn.rotary_emb.inv_freq": "recomputed by the consumer",
    }


def test_a_model_without_a_table_keeps_its_names_and_the_dtypes_that_consumers_keep() -> None:
    names = ["whatever.weight", "mlp.gate.e_score_correction_bias", "mixer.A_log", "mixer.dt_bias"]
    assert choose_layout("auto", {"model_type": "unheard_of"}, names) is None
    applied = apply(None, empty(names))
    assert list(applied.tensors) == names
    assert applied.keep_dtype == set(names[1:])


def test_an_unknown_layout_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(LayoutError, match="'mlx' is not a layout: one of auto, mlx-vlm, mlx-lm"):
        choose_layout("mlx", None, [])


def test_every_table_is_chosen_by_its_model_types_and_described() -> None:
    described = {(consumer, model_type) for consumer, model_type, does in layout_choice.describe() if does}
    tables = [
        (consumer, table) for consumer in registry.automatic_names() for table in registry.tables(consumer)
    ]
    assert len(tables) > 50
    for consumer, table in tables:
        assert consumer == table.consumers[0]
        for model_type in table.model_types:
            chosen = choose_layout(consumer, {"model_type": model_type}, [])
            if table.derived_from and chosen is not table:
                assert not chosen.derived_from
                assert consumer in chosen.consumers
                continue
            assert chosen is table
            assert (consumer, model_type) in described


def test_patterns_read_both_ways() -> None:
    source = compile_pattern("layers.#.experts.{e}.(w1|w3).**")
    target = compile_pattern("layers.#.switch.{e}.(gate|up)_proj.**")
    match = source.match("layers.3.experts.12.w3.weight")
    assert match is not None
    assert target.render(match, source) == "layers.3.switch.12.up_proj.weight"
    back = target.match("layers.3.switch.12.up_proj.weight")
    assert back is not None
    assert source.render(back, target) == "layers.3.experts.12.w3.weight"
    assert source.match("layers.x.experts.1.w1.weight") is None
    assert source.match("a.layers.3.experts.1.w1.weight") is None


@pytest.mark.parametrize("target", ["b.weight", "b.*.#", "b.**", "b.#.#"])
def test_a_target_with_other_wildcards_is_refused(target: str) -> None:
    with pytest.raises(LayoutError, match="same wildcards"):
        rename("a.#", target)


def test_two_tensors_may_not_become_one() -> None:
    with pytest.raises(LayoutError, match=r"a\.x and b\.x would both become c\.x"):
        run((rename("(a|b).*", "(c|c).*"),), empty(["a.x", "b.x"]))


def test_experts_are_stacked_by_number_and_without_gaps() -> None:
    rule = stack("e.{e}.w", "all.w", count=setting("num_experts"))
    parts = {f"e.{at}.w": from_array(np.full((2, 3), at)) for at in (10, 2, 1, 0, 3, 4, 5, 6, 7, 8, 9)}
    applied = run((rule,), parts, {"num_experts": 11})
    assert applied.tensors["all.w"].shape == (11, 2, 3)
    assert applied.tensors["all.w"].numpy()[:, 0, 0].tolist() == list(range(11))
    assert applied.sources["all.w"] == tuple(f"e.{at}.w" for at in range(11))
    del parts["e.4.w"]
    with pytest.raises(LayoutError, match="number 4 is missing"):
        run((rule,), parts, {"num_experts": 11})


def test_a_stack_reads_only_the_experts_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {f"e.{at}.w": from_array(np.full((64, 64), at, np.float32)) for at in range(128)}
    stacked = run((stack("e.{e}.w", "all.w"),), parts).tensors["all.w"]
    read: list[tuple[int, int]] = []
    read_into = ArrayTensor.read_into

    def counted(self: ArrayTensor, start: int, stop: int, out: Any) -> None:
        read.append((int(self.array.reshape(-1)[0]), stop - start))
        read_into(self, start, stop, out)

    monkeypatch.setattr(ArrayTensor, "read_into", counted)
    assert set(stacked.read_range(5 * 4096 - 10, 5 * 4096 + 10)) == {4, 5}
    assert read == [(4, 10), (5, 10)]


def test_experts_of_different_shapes_are_not_stacked() -> None:
    with pytest.raises(LayoutError, match="cannot be stacked"):
        run((stack("e.{e}", "all"),), tensors(**{"e.0": [1, 2], "e.1": [1, 2, 3]}))


def test_a_fused_projection_is_split_in_each_way() -> None:
    fused = tensors(x=[[1, 2], [3, 4], [5, 6], [7, 8]])
    equal = run((split("x", ("a", "b"), 0),), fused)
    assert arrays(equal) == {"a": [[1, 2], [3, 4]], "b": [[5, 6], [7, 8]]}
    interleaved = run((split("x", ("a", "b"), 0, interleaved=True),), fused)
    assert arrays(interleaved) == {"a": [[1, 2], [5, 6]], "b": [[3, 4], [7, 8]]}
    sized = run((split("x", ("a", "b"), 0, sizes=(setting("p"), setting("q"))),), fused, {"p": 1, "q": 3})
    assert arrays(sized) == {"a": [[1, 2]], "b": [[3, 4], [5, 6], [7, 8]]}
    with pytest.raises(LayoutError, match="no parts of"):
        run((split("x", ("a", "b"), 0, sizes=(setting("p"), setting("q"))),), fused, {"p": 1, "q": 2})
    with pytest.raises(LayoutError, match="no 3 equal parts"):
        run((split("x", ("a", "b", "c"), 0),), fused)


def test_one_is_added_in_the_tensors_own_dtype() -> None:
    import ml_dtypes

    values = np.array([0.001953125, -0.75, 3.0], ml_dtypes.bfloat16)
    applied = run((add_one("norm"),), {"norm": from_array(values)})
    assert applied.tensors["norm"].numpy().tolist() == (values + ml_dtypes.bfloat16(1)).tolist()
    assert applied.tensors["norm"].dtype.name == "bfloat16"
    matrix = run((add_one("norm"),), tensors(norm=np.ones((2, 2), np.float32)))
    assert arrays(matrix) == {"norm": [[1, 1], [1, 1]]}


def test_shapes_and_views_change_without_reading() -> None:
    blocks = np.arange(32, dtype=np.uint8).reshape(2, 1, 16)
    applied = run((view_flat("x", "uint32"),), tensors(x=blocks))
    assert applied.tensors["x"].shape == (2, 4)
    assert applied.tensors["x"].numpy().tobytes() == blocks.tobytes()
    flat = run((reshape("x", (setting("heads"), -1)),), tensors(x=np.arange(6)), {"heads": 3})
    assert arrays(flat) == {"x": [[0, 1], [2, 3], [4, 5]]}


def test_a_copy_is_made_only_where_the_name_is_missing() -> None:
    rules = (copy_if_missing("embed", "head"),)
    assert arrays(run(rules, tensors(embed=[1]))) == {"embed": [1], "head": [1]}
    assert arrays(run(rules, tensors(embed=[1], head=[2]))) == {"embed": [1], "head": [2]}


def test_a_rule_looks_at_the_config_where_the_model_keeps_its_fields() -> None:
    rules = (drop("head", "tied", when=tied(False)),)
    state = tensors(head=[1], rest=[2])
    assert list(run(rules, state, {}).tensors) == ["head", "rest"]
    assert list(run(rules, state, {"text_config": {"tie_word_embeddings": True}}).tensors) == ["rest"]
    beyond = (drop("layers.#.w", "for prediction", beyond=setting("num_hidden_layers")),)
    layers = tensors(**{f"layers.{at}.w": [at] for at in range(12)})
    assert len(run(beyond, layers, {"num_hidden_layers": 10}).tensors) == 10
    with pytest.raises(LayoutError, match=r"config\.json has no num_hidden_layers"):
        run(beyond, layers, {})
    with pytest.raises(LayoutError, match="expected a whole number"):
        run(beyond, layers, {"num_hidden_layers": "ten"})


def test_only_the_named_tensors_keep_their_dtype() -> None:
    applied = run((keep_dtype("**.bias"),), empty(["a.bias", "a.weight"]))
    assert applied.keep_dtype == {"a.bias"}


def test_a_transpose_refuses_another_number_of_axes() -> None:
    with pytest.raises(LayoutError, match=r"conv has the shape \(2, 2\), expected 4 axes"):
        run((transpose("conv", "conv2d"),), empty(["conv"]))


def test_the_fixture_becomes_final_names_and_the_same_values() -> None:
    checkpoint = wconv.open(FIXTURE)
    config = json.loads((FIXTURE / "config.json").read_text())
    applied = apply(choose_layout("auto", config, checkpoint), checkpoint, config)
    assert len(applied.tensors) == len(checkpoint)
    for name, (source,) in applied.sources.items():
        ours, theirs = applied.tensors[name].numpy(), checkpoint[source].numpy()
        if ours.ndim == 5:
            theirs = theirs.transpose(0, 2, 3, 4, 1)
        assert ours.tobytes() == np.ascontiguousarray(theirs).tobytes(), name


def test_scales_of_weights_that_stay_in_8_bits_keep_their_dtype() -> None:
    state = empty(["a.weight", "a.weight_scale_inv"])
    for table in (Layout(("c",), ("m",), ("a.**",)), None):
        assert apply(table, state).keep_dtype == {"a.weight_scale_inv"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("experts.0.up_proj.weight_packed", r"a compressed-tensors checkpoint \(pack-quantized\)"),
        ("experts.0.up_proj.weight_scale_inv", "an FP8 checkpoint with scales of blocks"),
        ("experts.up_proj_scale_inv", "an FP8 checkpoint with scales of blocks"),
        ("experts.0.up_proj.qweight", "a GPTQ checkpoint"),
    ],
)
def test_weights_that_nobody_decodes_are_refused_as_such(name: str, said: str) -> None:
    table = Layout(("c",), ("m",), ("a.weight",))
    with pytest.raises(LayoutError, match=f"{name} shows {said}, which is not decoded, and c does") as told:
        apply(table, empty(["a.weight", name]), check=check_scheme)
    assert "\n" not in str(told.value)


def test_a_refusal_names_the_consumer_that_takes_a_part() -> None:
    config = {"model_type": "llava", "tie_word_embeddings": False}
    state = empty(["language_model.model.norm.weight", "vision_tower.transformer.layers.0.ffn_norm.weight"])
    with pytest.raises(LayoutError, match=r"no such tensors in llava.*; --layout mlx-lm takes the part"):
        lay_out.lay_out("auto", state, config)
    assert list(lay_out.lay_out("mlx-lm", state, config).applied.tensors) == [
        "language_model.model.norm.weight"
    ]
    with pytest.raises(LayoutError, match=r"keep all names with --layout hf, or write rules"):
        lay_out.lay_out("auto", empty(["stray"]), {"model_type": "llava"})

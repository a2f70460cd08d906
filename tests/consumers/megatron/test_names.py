"""Megatron's names and layouts become the hub's; ranks of its older form are joined by the kinds of layers.

Covers `checkpoints/training/megatron.py`. The forms are those that Megatron-Core 0.16 wrote on the CPU, names
and shapes; the values here are made anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
import wconv.torch as torch
from tests.making import random
from wconv.consumers.megatron import names
from wconv.errors import FormatError, LayoutError
from wconv.tensors.lazy import from_array

HEADS, GROUPS, WIDTH, HIDDEN, INNER, WORDS, LAYERS = 4, 2, 3, 12, 10, 8, 3
CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "head_dim": WIDTH,
    "vocab_size": 7,
}
SHAPES = {
    "input_layernorm.weight": (HIDDEN,),
    "self_attention.linear_qkv.weight": ((HEADS + 2 * GROUPS) * WIDTH, HIDDEN),
    "self_attention.linear_qkv.bias": ((HEADS + 2 * GROUPS) * WIDTH,),
    "self_attention.q_layernorm.weight": (WIDTH,),
    "self_attention.linear_proj.weight": (HIDDEN, HEADS * WIDTH),
    "pre_mlp_layernorm.weight": (HIDDEN,),
    "mlp.linear_fc1.weight": (2 * INNER, HIDDEN),
    "mlp.linear_fc2.weight": (HIDDEN, INNER),
}


def whole() -> dict[str, Any]:
    """All tensors, each layer's by itself."""
    state = {
        "embedding.word_embeddings.weight": random((WORDS, HIDDEN), np.float32, seed=1),
        "decoder.final_layernorm.weight": random((HIDDEN,), np.float32, seed=2),
        "output_layer.weight": random((WORDS, HIDDEN), np.float32, seed=3),
    }
    for layer in range(LAYERS):
        for at, (name, shape) in enumerate(SHAPES.items()):
            state[f"decoder.layers.{layer}.{name}"] = random(shape, np.float32, seed=100 * layer + at)
    return state


def hub() -> dict[str, Any]:
    """The same as the hub has it, by another way."""
    state = whole()
    made = {
        "model.embed_tokens.weight": state["embedding.word_embeddings.weight"][:7],
        "model.norm.weight": state["decoder.final_layernorm.weight"],
        "lm_head.weight": state["output_layer.weight"][:7],
    }
    for layer in range(LAYERS):
        ours, theirs = f"model.layers.{layer}.", f"decoder.layers.{layer}."
        for kind in ("weight", "bias"):
            rows = state[f"{theirs}self_attention.linear_qkv.{kind}"]
            parts: dict[str, list[Any]] = {"q": [], "k": [], "v": []}
            at = 0
            for _ in range(GROUPS):
                for part, count in (("q", HEADS // GROUPS), ("k", 1), ("v", 1)):
                    parts[part].append(rows[at : at + count * WIDTH])
                    at += count * WIDTH
            for part, held in parts.items():
                made[f"{ours}self_attn.{part}_proj.{kind}"] = np.concatenate(held)
        made[f"{ours}self_attn.q_norm.weight"] = state[f"{theirs}self_attention.q_layernorm.weight"]
        made[f"{ours}self_attn.o_proj.weight"] = state[f"{theirs}self_attention.linear_proj.weight"]
        made[f"{ours}input_layernorm.weight"] = state[f"{theirs}input_layernorm.weight"]
        made[f"{ours}post_attention_layernorm.weight"] = state[f"{theirs}pre_mlp_layernorm.weight"]
        made[f"{ours}mlp.gate_proj.weight"] = state[f"{theirs}mlp.linear_fc1.weight"][:INNER]
        made[f"{ours}mlp.up_proj.weight"] = state[f"{theirs}mlp.linear_fc1.weight"][INNER:]
        made[f"{ours}mlp.down_proj.weight"] = state[f"{theirs}mlp.linear_fc2.weight"]
    return made


def same(found: Any, expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert np.array_equal(found[name].numpy(), array), name


def test_each_layer_by_itself_and_all_in_a_stack() -> None:
    apart = {name: from_array(array) for name, array in whole().items()}
    made = names.to_hub(apart, CONFIG)
    assert made is not None
    same(made[0], hub())
    state = whole()
    stacked = {name: array for name, array in state.items() if "layers." not in name}
    for name in SHAPES:
        renamed = name.replace("pre_mlp_layernorm.weight", "mlp.linear_fc1.layer_norm_weight")
        layers = [state[f"decoder.layers.{layer}.{name}"] for layer in range(LAYERS)]
        stacked[f"decoder.layers.{renamed}"] = np.stack(layers)
    made = names.to_hub({name: from_array(array) for name, array in stacked.items()}, CONFIG)
    assert made is not None
    same(made[0], hub())


def test_experts() -> None:
    config = {**CONFIG, "model_type": "mixtral"}
    first, second = random((2, 3, 2 * INNER, HIDDEN), np.float32), random((2, 3, HIDDEN, INNER), np.float32)
    stacked = {
        "decoder.layers.mlp.experts.experts.linear_fc1.weight": from_array(first),
        "decoder.layers.mlp.experts.experts.linear_fc2.weight": from_array(second),
    }
    made = names.to_hub(stacked, config)
    assert made is not None
    expert = "model.layers.1.block_sparse_moe.experts.2."
    assert np.array_equal(made[0][f"{expert}w3.weight"].numpy(), first[1, 2, INNER:])
    assert np.array_equal(made[0][f"{expert}w2.weight"].numpy(), second[1, 2])
    assert len(made[0]) == 18


def test_gpt_2_has_one_matrix_the_other_way_round() -> None:
    config = {"model_type": "gpt2", "n_head": HEADS, "vocab_size": 7}
    rows = random((3 * HEADS * WIDTH, HIDDEN), np.float32)
    made = names.to_hub({"decoder.layers.0.self_attention.linear_qkv.weight": from_array(rows)}, config)
    assert made is not None
    grouped = rows.reshape(HEADS, 3, WIDTH, HIDDEN)
    expected = np.concatenate([grouped[:, at].reshape(-1, HIDDEN) for at in range(3)]).T
    assert np.array_equal(made[0]["transformer.h.0.attn.c_attn.weight"].numpy(), expected)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("decoder.layers.0.cross_attention.weight", (2, 2), "has no place in a qwen3"),
        ("decoder.layers.0.self_attention.linear_qkv.weight", (25, 2), "which the heads of config.json"),
        ("decoder.layers.0.mlp.linear_fc1.weight", (3, 2), "cannot be 2 matrices"),
        ("output_layer.weight", (6, 2), "not the 7 rows of config.json"),
    ],
)
def test_what_does_not_fit(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(LayoutError, match=re.escape(message)):
        names.to_hub({name: from_array(np.zeros(shape, np.float32))}, CONFIG)


def ranks(to: Path, tensor: int, stages: list[int], *, old: bool = False) -> Path:
    """The directories of all ranks."""
    state = whole()
    begin = 0
    for stage, count in enumerate(stages):
        for rank in range(tensor):
            held: dict[str, Any] = {}
            for name, array in state.items():
                match = re.match(r"decoder\.layers\.(\d+)\.(.*)", name)
                if match:
                    layer = int(match[1])
                    if not begin <= layer < begin + count:
                        continue
                    name = f"decoder.layers.{layer - begin}.{match[2]}"
                elif ("embedding" in name) != (stage == 0) and (
                    "embedding" in name or stage + 1 < len(stages)
                ):
                    continue
                if "linear_fc1" in name:
                    halves = [np.split(half, tensor)[rank] for half in np.split(array, 2)]
                    array = np.concatenate(halves)
                elif any(part in name for part in ("linear_qkv", "word_embeddings", "output_layer")):
                    array = np.split(array, tensor)[rank]
                elif any(part in name for part in ("linear_proj.weight", "linear_fc2.weight")):
                    array = np.split(array, tensor, 1)[rank]
                held[name] = torch.from_numpy(np.ascontiguousarray(array))
            second = f"_{stage:03d}" if len(stages) > 1 else ""
            place = to / f"mp_rank_{rank:02d}{second}"
            place.mkdir(parents=True)
            file = {"checkpoint_version": 3.0, "iteration": 5, "model": nested(held) if old else held}
            torch.save(file, str(place / "model_optim_rng.pt"))
        begin += count
    return to


def nested(state: dict[str, Any]) -> dict[str, Any]:
    """The names and the nesting from before Megatron-Core."""
    language: dict[str, Any] = {"embedding": {"word_embeddings": {}}, "encoder": {}, "output_layer": {}}
    for name, value in state.items():
        if name.startswith("embedding."):
            language["embedding"]["word_embeddings"]["weight"] = value
        elif name.startswith("output_layer."):
            language["output_layer"]["weight"] = value
        else:
            short = name.removeprefix("decoder.").replace("pre_mlp_layernorm", "post_attention_norm")
            short = short.replace("linear_qkv", "query_key_value").replace("linear_proj", "dense")
            short = short.replace("linear_fc1", "dense_h_to_4h").replace("linear_fc2", "dense_4h_to_h")
            language["encoder"][short.replace("input_layernorm", "input_norm")] = value
    return {"language_model": language}


@pytest.mark.parametrize(
    ("tensor", "stages", "old"), [(1, [3], False), (2, [3], False), (2, [2, 1], False), (2, [3], True)]
)
def test_the_ranks_of_the_older_form(tensor: int, stages: list[int], old: bool, tmp_path: Path) -> None:
    source = ranks(tmp_path / "iter_0000005", tensor, stages, old=old)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("5")
    same(wconv.open(tmp_path), whole())
    (source / "config.json").write_text(json.dumps(CONFIG))
    report = wconv.convert(source, tmp_path / "out", layout="hf")
    assert "Megatron's names and layouts → the hub's" in report.notes
    same(wconv.open(report.output), hub())


def test_names_stay_without_a_config(tmp_path: Path) -> None:
    report = wconv.convert(ranks(tmp_path / "model", 1, [3]), tmp_path / "out")
    assert any(note.startswith("the names stay Megatron's, for no config.json") for note in report.notes)
    same(wconv.open(report.output), whole())


def test_a_rank_that_is_missing(tmp_path: Path) -> None:
    source = ranks(tmp_path / "model", 2, [2, 1])
    (source / "mp_rank_01_001" / "model_optim_rng.pt").unlink()
    with pytest.raises(FormatError, match="holds 1 ranks of pipeline stage 1, not 2"):
        wconv.open(source)

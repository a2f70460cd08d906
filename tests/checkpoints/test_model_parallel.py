"""Pieces of a model-parallel checkpoint make whole tensors, and a config that says what they are.

Covers `consumers/mlx_lm/params_json.py`, `layouts/computed/rotary.py`, `consumers/pieces.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
import wconv.torch as torch
from tests.making import random
from wconv.consumers.mlx_lm import params_json
from wconv.errors import FormatError, LayoutError
from wconv.tensors.lazy import from_array

PARAMS = {"dim": 8, "n_layers": 1, "n_heads": 2, "norm_eps": 1e-6, "vocab_size": -1, "multiple_of": 4}
SHAPES = {
    "tok_embeddings.weight": (6, 8),
    "layers.0.attention.wq.weight": (8, 8),
    "layers.0.attention.wk.weight": (8, 8),
    "layers.0.attention.wv.weight": (8, 8),
    "layers.0.attention.wo.weight": (8, 8),
    "layers.0.feed_forward.w1.weight": (12, 8),
    "layers.0.feed_forward.w2.weight": (8, 12),
    "layers.0.feed_forward.w3.weight": (12, 8),
    "layers.0.attention_norm.weight": (8,),
    "layers.0.ffn_norm.weight": (8,),
    "norm.weight": (8,),
    "output.weight": (6, 8),
}
CUT_BY_ROWS = ("wo.weight", "w2.weight")


def whole() -> dict[str, Any]:
    return {name: random(shape, np.float32, seed=at) for at, (name, shape) in enumerate(SHAPES.items())}


def pieces(state: Mapping[str, Any], count: int, embedding_axis: int = 1) -> list[dict[str, Any]]:
    cut: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, array in state.items():
        axis = embedding_axis if "tok" in name else int(name.endswith(CUT_BY_ROWS))
        parts = [array] * count if "norm" in name else np.split(array, count, axis)
        for rank, part in zip(cut, parts, strict=True):
            rank[name] = part
    return cut


def publish(ranks: list[dict[str, Any]], to: Path, params: Mapping[str, Any] = PARAMS) -> Path:
    to.mkdir()
    for at, rank in enumerate(ranks):
        torch.save(
            {name: torch.from_numpy(array) for name, array in rank.items()}, to / f"consolidated.{at:02d}.pth"
        )
    (to / "params.json").write_text(json.dumps(params))
    return to


@pytest.mark.parametrize("axis", [0, 1])
def test_pieces_are_joined_by_the_kind_of_their_layer(axis: int, tmp_path: Path) -> None:
    state = whole()
    opened = wconv.open(publish(pieces(state, 2, axis), tmp_path / "m"))
    assert opened.keys() == state.keys()
    for name, array in state.items():
        assert np.array_equal(opened[name].numpy(), array), name


def test_the_whole_is_laid_out_for_mlx_lm_with_a_config_of_its_own(tmp_path: Path) -> None:
    state = whole()
    source = publish(pieces(state, 2), tmp_path / "m", {**PARAMS, "model_type": "transformer"})
    report = wconv.convert(source)
    made = json.loads((report.output / "config.json").read_text())
    assert made["model_type"] == "llama"
    assert (made["intermediate_size"], made["vocab_size"], made["num_key_value_heads"]) == (12, 6, 2)
    arrays = wconv.load(report.output)
    name = "attention.wq.weight"
    halves = state[f"layers.0.{name}"].reshape(2, 2, 2, 8).swapaxes(1, 2).reshape(8, 8)
    assert np.array_equal(arrays["model.layers.0.self_attn.q_proj.weight"], halves)
    assert np.array_equal(
        arrays["model.layers.0.mlp.down_proj.weight"], state["layers.0.feed_forward.w2.weight"]
    )
    assert np.array_equal(arrays["lm_head.weight"], state["output.weight"])


def test_a_missing_piece_is_named(tmp_path: Path) -> None:
    source = publish(pieces(whole(), 2), tmp_path / "m")
    (source / "consolidated.00.pth").unlink()
    with pytest.raises(FormatError, match=r"consolidated\.00\.pth is missing"):
        wconv.open(source)


def test_a_missing_last_piece_shows_in_the_shapes(tmp_path: Path) -> None:
    source = publish(pieces(whole(), 2, 0)[:1], tmp_path / "m")
    with pytest.raises(LayoutError, match=r"wq\.weight has the shape \(4, 8\).*is a piece missing"):
        wconv.convert(source)
    source = publish(pieces(whole(), 2, 1)[:1], tmp_path / "n")
    with pytest.raises(
        LayoutError, match=r"tok_embeddings\.weight has the shape \(6, 4\).*is a piece missing"
    ):
        wconv.convert(source)


def test_copies_that_differ_are_refused_when_they_are_read(tmp_path: Path) -> None:
    ranks = pieces(whole(), 2)
    ranks[1]["norm.weight"] = ranks[1]["norm.weight"] + 1
    opened = wconv.open(publish(ranks, tmp_path / "m"))
    with pytest.raises(FormatError, match=r"consolidated\.01\.pth: norm\.weight differs"):
        opened["norm.weight"].numpy()


def test_a_tensor_of_no_known_kind_in_all_pieces_is_refused(tmp_path: Path) -> None:
    ranks = [{**rank, "layers.0.router": np.zeros(3, np.float32)} for rank in pieces(whole(), 2)]
    with pytest.raises(FormatError, match=r"it is not known how the pieces of layers\.0\.router are joined"):
        wconv.open(publish(ranks, tmp_path / "m"))


def test_a_tensor_in_some_pieces_is_refused_and_in_one_kept(tmp_path: Path) -> None:
    ranks = pieces(whole(), 3 - 1)
    ranks[1]["alone"] = np.ones(2, np.float32)
    assert wconv.open(publish(ranks, tmp_path / "m"))["alone"].shape == (2,)
    three = [ranks[0], ranks[1], {"alone": np.ones(2, np.float32)}]
    with pytest.raises(FormatError, match="is in 2 of 3 pieces"):
        wconv.open(publish(three, tmp_path / "n"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_encoder": {"hidden_size": 8}}, "'vision_encoder', of which it is not known"),
        ({"n_heads": None}, "n_heads is None"),
        ({"n_layers": "1"}, "n_layers is '1'"),
        ({"dim": 16}, "has the shape"),
        ({"n_kv_heads": 1}, r"wk\.weight has the shape \(8, 8\)"),
    ],
)
def test_params_that_do_not_tell_the_model_are_refused(changes: dict[str, Any], message: str) -> None:
    tensors = {name: from_array(array) for name, array in whole().items()}
    with pytest.raises(LayoutError, match=message):
        params_json.llama({**PARAMS, **changes}, tensors)


@pytest.mark.parametrize("name", ["tok_embeddings.weight", "layers.0.attention.wo.weight", "output.weight"])
def test_pieces_without_axes_are_refused(name: str, tmp_path: Path) -> None:
    ranks = [{**rank, name: np.ones((), np.float32)} for rank in pieces(whole(), 2)]
    with pytest.raises(FormatError, match=rf"the pieces of {name} .* do not fit"):
        wconv.open(publish(ranks, tmp_path / "m"))


def test_fused_experts_without_axes_are_refused() -> None:
    tensors = {name: from_array(array) for name, array in whole().items() if "feed_forward" not in name}
    tensors["layers.0.block_sparse_moe.w1"] = from_array(np.zeros((), np.float32))
    params = {**PARAMS, "moe": {"num_experts": 2, "num_experts_per_tok": 1}}
    with pytest.raises(LayoutError, match=r"block_sparse_moe\.w1 has the shape"):
        params_json.mixtral(params, tensors)


def test_without_params_the_heads_are_not_guessed(tmp_path: Path) -> None:
    source = publish([whole()], tmp_path / "m")
    (source / "params.json").unlink()
    with pytest.raises(LayoutError, match="n_heads"):
        wconv.convert(source)


def test_mistrals_rotary_base_depends_on_its_window() -> None:
    tensors = {name: from_array(array) for name, array in whole().items()}
    mistral = {**PARAMS, "hidden_dim": 12, "head_dim": 4}
    assert params_json.llama(mistral, tensors)["rope_theta"] == 1e6
    assert params_json.llama({**mistral, "sliding_window": 4096}, tensors)["rope_theta"] == 1e4
    assert params_json.llama(PARAMS, tensors)["rope_theta"] == 1e4
    assert params_json.llama({**mistral, "rope_theta": 5e5}, tensors)["rope_theta"] == 5e5

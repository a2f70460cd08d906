"""Llama, Mistral and Mixtral in their makers' own files: mlx-lm computes what transformers computes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.consumers import IDS, VOCABULARY
from tests.oracle.tiny import randomise
from tests.oracles import oracle
from wconv.errors import WconvError

pytestmark = pytest.mark.oracle

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
}
PARAMS: dict[str, Any] = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5}
MISTRAL = {**PARAMS, "head_dim": 16, "hidden_dim": 96, "vocab_size": VOCABULARY}
MIXTRAL = {**MISTRAL, "moe": {"num_experts": 4, "num_experts_per_tok": 2}}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

NAMES = (
    (r"model\.embed_tokens\.", "tok_embeddings."),
    (r"lm_head\.", "output."),
    (r"model\.norm\.", "norm."),
    (r"model\.layers\.", "layers."),
    (r"\.self_attn\.([qkvo])_proj\.", r".attention.w\1."),
    (r"\.input_layernorm\.", ".attention_norm."),
    (r"\.post_attention_layernorm\.", ".ffn_norm."),
    (r"\.mlp\.gate_proj\.", ".feed_forward.w1."),
    (r"\.mlp\.down_proj\.", ".feed_forward.w2."),
    (r"\.mlp\.up_proj\.", ".feed_forward.w3."),
)
"""transformers' names → the makers'."""


def pairs(weight: Any, heads: int) -> Any:
    """Each head's rows with those of its second half between those of its first."""
    first, second = weight.reshape(heads, 2, -1, weight.shape[1]).unbind(1)
    return oracle("torch").stack([first, second], 2).reshape(weight.shape)


def as_published(model: Any) -> dict[str, Any]:
    state = {}
    for name, tensor in model.state_dict().items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        if name.endswith("attention.wq.weight"):
            tensor = pairs(tensor, 4)
        elif name.endswith("attention.wk.weight"):
            tensor = pairs(tensor, 2)
        state[name] = tensor.contiguous()
    return state


def experts_apart(state: dict[str, Any]) -> dict[str, Any]:
    """A tensor for each expert's each matrix, as `mistral-inference` names them."""
    found: dict[str, Any] = {}
    for name, tensor in state.items():
        layer = name.split(".mlp.")[0]
        if name.endswith(".mlp.gate.weight"):
            found[f"{layer}.feed_forward.gate.weight"] = tensor
        elif name.endswith(".mlp.experts.gate_up_proj"):
            for at, (gate, up) in enumerate(one.chunk(2) for one in tensor):
                found[f"{layer}.feed_forward.experts.{at}.w1.weight"] = gate.clone()
                found[f"{layer}.feed_forward.experts.{at}.w3.weight"] = up.clone()
        elif name.endswith(".mlp.experts.down_proj"):
            for at, down in enumerate(tensor):
                found[f"{layer}.feed_forward.experts.{at}.w2.weight"] = down.clone()
        else:
            found[name] = tensor
    return found


def experts_fused(state: dict[str, Any]) -> dict[str, Any]:
    """All experts' rows in one matrix each, the second transposed, as the first release had them."""
    torch = oracle("torch")
    apart = experts_apart(state)
    found = {
        name.replace("feed_forward", "block_sparse_moe"): tensor
        for name, tensor in apart.items()
        if ".experts." not in name
    }
    for layer in range(2):
        for matrix in ("w1", "w2", "w3"):
            names = [f"layers.{layer}.feed_forward.experts.{at}.{matrix}.weight" for at in range(4)]
            rows = [apart[name].T if matrix == "w2" else apart[name] for name in names]
            found[f"layers.{layer}.block_sparse_moe.{matrix}"] = torch.cat(rows)
    return found


def cut(state: dict[str, Any], count: int, embedding_axis: int) -> list[dict[str, Any]]:
    """What each of `count` ranks holds."""
    ranks: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, tensor in state.items():
        if name.startswith("tok_embeddings"):
            parts = tensor.chunk(count, embedding_axis)
        elif re.search(r"\.(wo|w2)\.", name):
            parts = tensor.chunk(count, 1)
        elif "norm" in name or name.endswith("freqs"):
            parts = [tensor] * count
        else:
            parts = tensor.chunk(count, 0)
        for rank, part in zip(ranks, parts, strict=True):
            rank[name] = part.clone()
    return ranks


def made(model_type: str, **changes: Any) -> Any:
    torch, transformers = oracle("torch"), oracle("transformers")
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[model_type](**{**SIZES, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomise(model)
    return model


def publish(ranks: list[dict[str, Any]], params: dict[str, Any], to: Path, suffix: str = "pth") -> Path:
    torch = oracle("torch")
    to.mkdir()
    for at, rank in enumerate(ranks):
        torch.save(rank, to / f"consolidated.{at:02d}.{suffix}")
    (to / "params.json").write_text(json.dumps(params))
    return to


def assert_mlx_lm_computes_the_same(model: Any, converted: Path) -> None:
    torch, mx, np = oracle("torch"), oracle("mlx.core"), oracle("numpy")
    with torch.no_grad():
        expected = model(torch.tensor(IDS)).logits.numpy()
    loaded, _ = oracle("mlx_lm.utils").load_model(converted)
    loaded.set_dtype(mx.float32)
    got = np.array(loaded(mx.array(IDS)))
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def with_frequencies(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "rope.freqs": oracle("torch").rand(8)}


@pytest.mark.parametrize(("count", "axis"), [(1, 1), (2, 1), (2, 0)], ids=["one file", "Llama 2", "Llama 3"])
def test_llama_of_one_file_or_of_several_pieces(count: int, axis: int, tmp_path: Path) -> None:
    model = made("llama", rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    ranks = cut(with_frequencies(as_published(model)), count, axis)
    source = publish(ranks, {**PARAMS, "vocab_size": -1, "multiple_of": 32}, tmp_path / "llama")
    report = wconv.convert(source)
    assert report.output == tmp_path / "llama-MLX"
    assert report.dropped == {"rope.freqs": "recomputed by the consumer"}
    assert_mlx_lm_computes_the_same(model, report.output)
    config = oracle("transformers").AutoConfig.from_pretrained(report.output)
    for name in ("hidden_size", "intermediate_size", "num_key_value_heads", "vocab_size", "head_dim"):
        assert getattr(config, name) == getattr(model.config, name), name


def test_transformers_loads_the_same_weights_from_what_was_made(tmp_path: Path) -> None:
    torch = oracle("torch")
    model = made("llama", rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    out = wconv.convert(publish(cut(as_published(model), 2, 1), PARAMS, tmp_path / "llama")).output
    again = oracle("transformers").AutoModelForCausalLM.from_pretrained(out).state_dict()
    state = model.state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def test_llama_3s_scaled_rotary_embedding(tmp_path: Path) -> None:
    model = made("llama", rope_parameters=LLAMA3_ROPE, max_position_embeddings=131072)
    params = {**PARAMS, "rope_theta": 500000.0, "use_scaled_rope": True, "ffn_dim_multiplier": 1.5}
    out = wconv.convert(publish([as_published(model)], params, tmp_path / "llama")).output
    assert_mlx_lm_computes_the_same(model, out)


def test_mistral(tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 1e6}
    model = made("mistral", rope_parameters=rope, sliding_window=None, head_dim=16)
    out = wconv.convert(publish([as_published(model)], MISTRAL, tmp_path / "mistral")).output
    assert json.loads((out / "config.json").read_text())["model_type"] == "mistral"
    assert_mlx_lm_computes_the_same(model, out)


@pytest.mark.parametrize("experts", [experts_apart, experts_fused])
def test_mixtral_with_its_experts_apart_or_fused(experts: Callable[..., Any], tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 1e6}
    model = made("mixtral", rope_parameters=rope, num_local_experts=4, num_experts_per_tok=2)
    state = experts(as_published(model))
    names = list(state)
    halves = [{name: state[name] for name in names[:7]}, {name: state[name] for name in names[7:]}]
    out = wconv.convert(publish(halves, MIXTRAL, tmp_path / "mixtral", "pt")).output
    assert_mlx_lm_computes_the_same(model, out)


def test_a_dtype_is_said_in_the_config_that_is_made(tmp_path: Path) -> None:
    model = made("llama")
    source = publish([as_published(model)], PARAMS, tmp_path / "llama")
    out = wconv.convert(source, dtype="float16").output
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == "float16"
    assert {str(array.dtype) for array in wconv.load(out).values()} == {"float16"}


def test_pieces_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    torch = oracle("torch")
    ranks = cut(as_published(made("llama")), 2, 1)
    ranks[1]["layers.1.ffn_norm.weight"] = torch.zeros(64)
    with pytest.raises(WconvError, match=r"ffn_norm.weight differs from that of the first piece"):
        wconv.convert(publish(ranks, PARAMS, tmp_path / "llama"))
    assert not (tmp_path / "llama-MLX").exists()


def test_numpy_sees_whole_tensors(tmp_path: Path) -> None:
    state = as_published(made("llama"))
    opened = wconv.open(publish(cut(state, 4, 1), PARAMS, tmp_path / "llama"))
    for name, tensor in state.items():
        assert np.array_equal(opened[name].numpy(), tensor.numpy()), name

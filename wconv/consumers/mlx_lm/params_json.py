"""config.json for Llama, Mistral and Mixtral as their makers publish them: of params.json and the shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wconv.errors import LayoutError
from wconv.tensors.lazy import LazyTensor

Config = dict[str, Any]
Tensors = Mapping[str, LazyTensor]

PARAMS = frozenset(
    """
    dim n_layers n_heads n_kv_heads head_dim hidden_dim vocab_size norm_eps rope_theta multiple_of
    ffn_dim_multiplier use_scaled_rope moe sliding_window max_seq_len max_position_embeddings
    tied_embeddings model_type max_batch_size
    """.split()  # noqa: SIM905
)
"""Fields of params.json whose meaning is known; any other may change what the model computes."""

SCALED_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What `use_scaled_rope` means in Llama 3.1 and later; the factor is by size."""

SMALL = 4096
"""Features from which Llama's rotary scaling is 8; Llama 3.2's smaller models have 32."""

LLAMA3_VOCABULARY = 128256
LLAMA3_TOKENS = {"bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009]}


def llama(config: Mapping[str, Any], tensors: Tensors) -> Config:
    """transformers' config of a Llama or Mistral model, of its params.json and its tensors' shapes.

    Raises:
        LayoutError: params.json lacks a field or has an unknown one, or the tensors have other shapes.
    """
    made = _decoder(config, tensors, "layers.0.feed_forward.w1.weight")
    mistral = "hidden_dim" in config
    made["architectures"] = ["MistralForCausalLM" if mistral else "LlamaForCausalLM"]
    made["model_type"] = "mistral" if mistral else "llama"
    return made


def mixtral(config: Mapping[str, Any], tensors: Tensors) -> Config:
    """transformers' config of a Mixtral model, of its params.json and its tensors' shapes.

    Raises:
        LayoutError: as `llama`.
    """
    moe = config.get("moe")
    moe = moe if isinstance(moe, Mapping) else {}
    experts = _count(moe, "num_experts", "moe.num_experts")
    made = _decoder(config, tensors, "layers.0.feed_forward.experts.0.w1.weight")
    if made["head_dim"] * made["num_attention_heads"] != made["hidden_size"]:
        raise LayoutError(f"params.json: mlx-lm's Mixtral has no head_dim of its own ({made['head_dim']})")
    if "intermediate_size" not in made:
        fused = _shape(tensors, "layers.0.block_sparse_moe.w1", (None, made["hidden_size"]))[0]
        made["intermediate_size"] = fused // experts
    made["num_local_experts"] = experts
    made["num_experts_per_tok"] = _count(moe, "num_experts_per_tok", "moe.num_experts_per_tok")
    return {**made, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}


def _decoder(config: Mapping[str, Any], tensors: Tensors, inner: str) -> Config:
    unknown = [name for name, value in config.items() if name not in PARAMS and value]
    if unknown:
        raise LayoutError(
            f"params.json has {unknown[0]!r:.60}, of which it is not known how it changes the model"
        )
    dim, heads = _count(config, "dim"), _count(config, "n_heads")
    features = _count(config, "head_dim") if config.get("head_dim") else dim // heads
    kv_heads = _count(config, "n_kv_heads") if config.get("n_kv_heads") else heads
    vocabulary = _shape(tensors, "tok_embeddings.weight", (None, dim))[0]
    _shape(tensors, "layers.0.attention.wq.weight", (heads * features, dim))
    _shape(tensors, "layers.0.attention.wk.weight", (kv_heads * features, dim))
    _shape(tensors, "layers.0.attention.wo.weight", (dim, heads * features))
    window, theta = config.get("sliding_window"), config.get("rope_theta")
    if theta is None:
        # Mistral's own program: a million where the window is not limited
        theta = 1e6 if "hidden_dim" in config and window is None else 1e4
    made: Config = {
        "hidden_act": "silu",
        "hidden_size": dim,
        "num_hidden_layers": _count(config, "n_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": features,
        "rms_norm_eps": config.get("norm_eps", 1e-5),
        "rope_theta": theta,
        "vocab_size": vocabulary,
        "tie_word_embeddings": "output.weight" not in tensors,
        "torch_dtype": tensors["tok_embeddings.weight"].dtype.name,
    }
    if inner in tensors:
        made["intermediate_size"] = _shape(tensors, inner, (None, dim))[0]
    positions = config.get("max_position_embeddings") or config.get("max_seq_len")
    if config.get("use_scaled_rope"):
        factor = 32.0 if dim < SMALL else 8.0
        made["rope_scaling"] = {"rope_type": "llama3", "factor": factor, **SCALED_ROPE}
        positions = positions or 131072
    if positions:
        made["max_position_embeddings"] = positions
    if window is not None:
        made["sliding_window"] = window
    return {**made, **(LLAMA3_TOKENS if vocabulary == LLAMA3_VOCABULARY else {})}


def _count(config: Mapping[str, Any], name: str, path: str = "") -> int:
    value = config.get(name)
    if type(value) is not int or value <= 0:
        raise LayoutError(f"params.json: {path or name} is {value!r:.60}, expected a whole number above 0")
    return value


def _shape(tensors: Tensors, name: str, wanted: tuple[int | None, int]) -> tuple[int, ...]:
    shape = tensors[name].shape if name in tensors else ()
    if len(shape) != 2 or any(length not in (None, got) for length, got in zip(wanted, shape, strict=True)):
        expected = ", ".join("any" if length is None else str(length) for length in wanted)
        raise LayoutError(
            f"{name} has the shape {shape or 'of none'}, and params.json says ({expected}):"
            " is a piece missing?"
        )
    return shape

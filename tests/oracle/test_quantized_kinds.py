"""Every kind of model that one broad config is enough for: `quantize_model` beside `choose`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.oracle.consumers import silence
from tests.oracle.quantized_layers import parameters
from tests.oracle.test_quantization_tables import PACKAGES, models
from tests.oracles import oracle
from wconv.consumers.quantization import Quantize, choose_layers

pytestmark = pytest.mark.oracle

TEXT: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "norm_eps": 1e-5, "layer_norm_eps": 1e-5, "layer_norm_epsilon": 1e-5,
    "layernorm_epsilon": 1e-5, "norm_epsilon": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
    "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False, "use_bias": False,
    "use_qk_norm": True, "partial_rotary_factor": 0.5, "hidden_act": "silu", "sliding_window": 64,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "n_shared_experts": 1,
    "num_shared_experts": 1, "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_group": 1, "topk_group": 1,
    "norm_topk_prob": True, "routed_scaling_factor": 1.0, "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "q_lora_rank": 24, "kv_lora_rank": 64, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 64,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "num_dense_layers": 1, "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0, "attention_multiplier": 1.0, "logits_scaling": 1.0, "state_size": 8,
    "conv_kernel": 4, "conv_L_cache": 3, "conv_bias": False, "block_dim": 64, "block_ff_dim": 96,
    "shared_intermediate_size": 32, "mamba_d_conv": 4, "mamba_d_state": 8, "mamba_expand": 2,
    "mamba_dt_rank": 8, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "attn_layer_period": 2,
    "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4, "full_attention_interval": 4, "use_moe": True, "n_embd": 64, "n_layer": 4,
    "n_head": 4, "n_positions": 128, "n_ctx": 128, "d_model": 64, "n_layers": 4, "n_heads": 4, "mlp_ratio": 2,
    "group_norm_size": 1, "moe_router_enable_expert_bias": True, "layer_types": ["full_attention"] * 4,
    "index_n_heads": 4, "index_head_dim": 32, "index_topk": 8,
}  # fmt: skip
"""Fields that most kinds of models have, under all of their names."""

VISION = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "depth": 2, "num_heads": 4,
    "num_attention_heads": 4, "image_size": 28, "patch_size": 14, "embed_dim": 64, "out_hidden_size": 64,
}  # fmt: skip
RECIPES = (Quantize(), Quantize(bits=8, group_size=32), Quantize(mode="nvfp4"))
ENOUGH = {"mlx-lm": 65, "mlx-vlm": 125}


def built(consumer: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Models that this config is enough for."""
    for name, module in models(PACKAGES[consumer]):
        config = {**TEXT, "model_type": name}
        if consumer == "mlx-vlm":
            config |= {
                "text_config": {**TEXT, "model_type": name},
                "vision_config": {**VISION, "model_type": name},
            }
        try:
            with silence():
                kind = module.ModelArgs if consumer == "mlx-lm" else module.ModelConfig
                read = kind.from_dict(copy.deepcopy(config))
                for part, made in (("text_config", "TextConfig"), ("vision_config", "VisionConfig")):
                    inner = getattr(read, part, None)
                    if isinstance(inner, dict) and hasattr(module, made):
                        setattr(read, part, getattr(module, made).from_dict(inner))
                yield name, config, module.Model(read)
        except Exception:  # this kind needs fields of its own
            continue


@pytest.mark.parametrize("consumer", PACKAGES)
def test_the_consumers_quantize_the_same_layers(consumer: str) -> None:
    package, flatten = PACKAGES[consumer], oracle("mlx.utils").tree_flatten
    nn, seen, wrong = oracle("mlx.nn"), set(), []
    skip = getattr(oracle(f"{package}.utils"), "skip_multimodal_module", None)
    quantize = oracle(f"{package}.{'utils' if consumer == 'mlx-lm' else 'quant_utils'}").quantize_model
    for name, config, model in built(consumer):
        before = shapes(flatten(model.parameters()))
        whole = model.leaf_modules()
        for recipe in RECIPES:
            model.update_modules(whole)
            own = getattr(model, "quant_predicate", None)
            asked = own if skip is None else outside(skip, own)
            try:
                with silence():
                    words = recipe.group_size, recipe.bits, recipe.mode
                    _, written = quantize(model, config, *words, quant_predicate=asked)
            except (ValueError, TypeError):  # rows that its groups do not divide
                continue
            theirs = parameters(shapes(flatten(model.parameters())), before)
            choice = choose_layers(consumer, name, config, before, recipe)
            ours = {key: (how.bits, how.group_size, how.has_biases) for key, how in choice.quantized.items()}
            odd = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
            wrong += [f"{name} {recipe.mode}: {key}: {ours.get(key)}, {theirs.get(key)}" for key in odd]
            if not odd and written["quantization"] != choice.config["quantization"]:
                wrong.append(
                    f"{name} {recipe.mode}: {written['quantization']} {choice.config['quantization']}"
                )
            seen.add(name)
        assert isinstance(model, nn.Module)
    print(f"{consumer}: {len(seen)} kinds: {' '.join(sorted(seen))}")
    assert not wrong, "\n".join(wrong)
    assert len(seen) >= ENOUGH[consumer]


def outside(skip: Any, own: Any) -> Any:
    """mlx-vlm's own predicate around a model's."""

    def predicate(path: str, module: Any) -> Any:
        if skip(path):
            return False
        return True if own is None else own(path, module)

    return predicate


def shapes(flat: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (tuple(array.shape), str(array.dtype).removeprefix("mlx.core.")) for name, array in flat}

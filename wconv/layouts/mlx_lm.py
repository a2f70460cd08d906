"""mlx-lm's layouts of language models."""

from __future__ import annotations

from wconv.layouts.engine import Layout
from wconv.layouts.rules import Rule, drop
from wconv.layouts.settings import tied

COMMAND = "mlx_lm.generate --model {model} --prompt 'Hello'"

ROTARY = drop("**rotary_emb.inv_freq", "recomputed by the consumer")
MASKS = drop("**.self_attn.(bias|masked_bias)", "recomputed by the consumer")

BLOCK = (
    "model.embed_tokens.weight",
    "model.norm.(weight|bias)",
    "lm_head.(weight|bias)",
    "model.layers.#.self_attn.(q|k|v|o|qkv)_proj.(weight|bias)",
    "model.layers.#.mlp.(gate|up|down|gate_up)_proj.(weight|bias)",
    "model.layers.#.(input|post_attention)_layernorm.(weight|bias)",
)


def head(tied_by_default: bool) -> Rule:
    """The output layer is left out where it is the embedding."""
    return drop("lm_head.weight", "tied to the embedding", when=tied(tied_by_default))


def plain(*model_types: str, rules: tuple[Rule, ...] = (), names: tuple[str, ...] = BLOCK) -> Layout:
    """A model whose tensors keep their names and shapes."""
    return Layout(("mlx-lm", "mlx-vlm"), model_types, names, (ROTARY, MASKS, *rules), command=COMMAND)


QK_NORM = "model.layers.#.self_attn.(q|k)_norm.weight"
GEMMA_NORMS = "model.layers.#.(pre|post)_feedforward_layernorm.weight"

NO_HEAD = drop("lm_head.weight", "the consumer always uses the embedding")

LAYOUTS = (
    plain("llama", "mistral", "xverse", "iquestcoder", rules=(head(True),)),
    plain("qwen2", rules=(head(True),)),
    plain("qwen3", rules=(head(True),), names=(*BLOCK, QK_NORM)),
    plain("gemma", rules=(NO_HEAD,)),
    plain("gemma2", rules=(NO_HEAD,), names=(*BLOCK, GEMMA_NORMS)),
    plain("gemma3_text", rules=(head(True),), names=(*BLOCK, GEMMA_NORMS, QK_NORM)),
    plain(
        "phi",
        names=(
            *BLOCK,
            "model.layers.#.self_attn.dense.(weight|bias)",
            "model.layers.#.self_attn.(q|k)_layernorm.(weight|bias)",
            "model.layers.#.mlp.fc(1|2).(weight|bias)",
            "model.final_layernorm.(weight|bias)",
        ),
    ),
    plain("phi3", rules=(head(False),)),
    plain(
        "cohere",
        rules=(NO_HEAD,),
        names=(*BLOCK, QK_NORM),
    ),
    plain("cohere2", rules=(NO_HEAD,)),
    plain(
        "olmo2",
        rules=(head(True),),
        names=(*BLOCK, QK_NORM, "model.layers.#.post_feedforward_layernorm.weight"),
    ),
    plain(
        "starcoder2",
        rules=(head(True),),
        names=(*BLOCK, "model.layers.#.mlp.c_(fc|proj).(weight|bias)"),
    ),
    plain("stablelm", names=(*BLOCK, "model.layers.#.self_attn.(q|k)_layernorm.norms.#.weight")),
    plain("glm4", names=(*BLOCK, "model.layers.#.post_(self_attn|mlp)_layernorm.weight")),
)

"""mlx-lm's layouts of language models."""

from __future__ import annotations

from wconv.consumers.mlx_lm import consolidated, mixtures, vision
from wconv.consumers.mlx_lm.common import ALONE, BLOCK, BOTH, COMMAND, FP8, NO_HEAD, ROTARY, head, qk_norm
from wconv.layouts.apply import Layout
from wconv.layouts.conditions import tied
from wconv.layouts.rules import Rule, drop, rename, transpose

MASKS = drop("**.(attn|attention|self_attn).(bias|masked_bias)", "recomputed by the consumer")
GEMMA_NORMS = "model.layers.#.(pre|post)_feedforward_layernorm.weight"


def plain(
    *model_types: str,
    rules: tuple[Rule, ...] = (),
    names: tuple[str, ...] = BLOCK,
    alias_rules: tuple[Rule, ...] = (),
    consumers: tuple[str, ...] = BOTH,
) -> Layout:
    """A model without experts; most keep their names and shapes."""
    return Layout(consumers, model_types, names, (ROTARY, MASKS, FP8, *rules), alias_rules, command=COMMAND)


CONV1D = transpose("backbone.layers.#.mixer.conv1d.weight", "conv1d", last=1)
MAMBA = (
    "backbone.embeddings.weight",
    "backbone.norm_f.weight",
    "backbone.layers.#.norm.weight",
    "backbone.layers.#.mixer.(A_log|D|dt_bias)",
    "backbone.layers.#.mixer.(conv1d|in_proj|x_proj|dt_proj|out_proj|norm).(weight|bias)",
    "lm_head.weight",
)

LAYOUTS = (
    plain("llama", "mistral", "xverse", "iquestcoder", rules=(head(True),)),
    plain("qwen2", rules=(head(True),)),
    plain("qwen3", rules=(head(True),), names=(*BLOCK, *qk_norm())),
    plain("gemma", rules=(NO_HEAD,)),
    plain("gemma2", rules=(NO_HEAD,), names=(*BLOCK, GEMMA_NORMS)),
    plain("gemma3_text", rules=(head(True),), names=(*BLOCK, GEMMA_NORMS, *qk_norm()), consumers=ALONE),
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
    plain("cohere", rules=(NO_HEAD,), names=(*BLOCK, *qk_norm())),
    plain("cohere2", rules=(NO_HEAD,)),
    plain(
        "olmo2",
        rules=(head(True),),
        names=(*BLOCK, *qk_norm(), "model.layers.#.post_feedforward_layernorm.weight"),
    ),
    plain(
        "starcoder2",
        rules=(head(True),),
        names=(*BLOCK, "model.layers.#.mlp.c_(fc|proj).(weight|bias)"),
    ),
    plain("stablelm", names=(*BLOCK, "model.layers.#.self_attn.(q|k)_layernorm.norms.#.weight")),
    plain("glm4", names=(*BLOCK, "model.layers.#.post_(self_attn|mlp)_layernorm.weight")),
    plain(
        "ministral3",
        rules=(
            head(True),
            drop("**.activation_scale", "not used by the consumer"),
        ),
    ),
    plain(
        "internlm2",
        consumers=ALONE,
        rules=(
            drop("**.rope.inv_freq", "recomputed by the consumer"),
            drop(
                "output.weight",
                "tied to the embedding",
                same_as=("model.tok_embeddings.weight",),
                when=tied(False),
            ),
        ),
        names=(
            "model.tok_embeddings.weight",
            "model.norm.weight",
            "output.weight",
            "model.layers.#.attention.(wqkv|wo).(weight|bias)",
            "model.layers.#.feed_forward.(w1|w2|w3).weight",
            "model.layers.#.(attention_norm|ffn_norm).weight",
        ),
    ),
    plain(
        "internlm3",
        consumers=ALONE,
        rules=(drop("**.rope.inv_freq", "recomputed by the consumer"), head(False)),
    ),
    plain(
        "phi3small",
        consumers=ALONE,
        rules=(NO_HEAD,),
        names=(
            *BLOCK,
            "model.layers.#.self_attn.(query_key_value|dense).(weight|bias)",
            "model.final_layernorm.(weight|bias)",
        ),
    ),
    plain("mamba", "falcon_mamba", rules=(head(True), CONV1D), names=MAMBA),
    plain("mamba2", rules=(head(True), CONV1D), names=MAMBA, consumers=ALONE),
    plain(
        "gpt2",
        alias_rules=(rename("transformer.**", "**"),),
        rules=(
            NO_HEAD,
            transpose("h.#.(attn.c_attn|attn.c_proj|mlp.c_fc|mlp.c_proj).weight", "matrix"),
            rename("(h|wte|wpe|ln_f).**", "model.(h|wte|wpe|ln_f).**"),
        ),
        names=(
            "model.(wte|wpe).weight",
            "model.ln_f.(weight|bias)",
            "model.h.#.ln_(1|2).(weight|bias)",
            "model.h.#.(attn.c_attn|attn.c_proj|mlp.c_fc|mlp.c_proj).(weight|bias)",
        ),
    ),
    plain(
        "gpt_neox",
        rules=(
            drop("**.attention.rotary_emb.inv_freq", "recomputed by the consumer"),
            rename("gpt_neox.layers.**", "model.h.**"),
            rename("gpt_neox.**", "model.**"),
            rename("embed_out.**", "model.embed_out.**"),
        ),
        names=(
            "model.(embed_in|embed_out).weight",
            "model.final_layer_norm.(weight|bias)",
            "model.h.#.(input|post_attention)_layernorm.(weight|bias)",
            "model.h.#.attention.(dense|query_key_value).(weight|bias)",
            "model.h.#.mlp.(dense_4h_to_h|dense_h_to_4h).(weight|bias)",
        ),
    ),
    *mixtures.LAYOUTS,
    *vision.LAYOUTS,
    *consolidated.LAYOUTS,
)

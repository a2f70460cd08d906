"""mlx-whisper's layout of Whisper, which that of mlx-examples shares."""

from __future__ import annotations

from wconv.layouts.apply import Layout
from wconv.layouts.file_form import Form
from wconv.layouts.rules import drop, rename, transpose

SIDES = "(encoder|decoder)"
BLOCK = f"{SIDES}.blocks.#"
HUGGING = f"{SIDES}.layers.#"

WHISPER_SPELLINGS = (
    drop(
        "proj_out.weight",
        "tied to the embedding",
        same_as=("model.decoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
    ),
    rename("model.**", "**"),
    rename(
        "(encoder.embed_positions|decoder.embed_positions).weight", "(encoder|decoder).positional_embedding"
    ),
    rename("decoder.embed_tokens.weight", "decoder.token_embedding.weight"),
    rename("(encoder|decoder).layer_norm.(weight|bias)", "(encoder.ln_post|decoder.ln).(weight|bias)"),
    rename(
        f"{HUGGING}.(self_attn|encoder_attn).(q_proj|k_proj|v_proj|out_proj).(weight|bias)",
        f"{BLOCK}.(attn|cross_attn).(query|key|value|out).(weight|bias)",
    ),
    rename(
        f"{HUGGING}.(self_attn_layer_norm|encoder_attn_layer_norm|final_layer_norm).(weight|bias)",
        f"{BLOCK}.(attn_ln|cross_attn_ln|mlp_ln).(weight|bias)",
    ),
    rename(f"{HUGGING}.(fc1|fc2).(weight|bias)", f"{BLOCK}.(mlp.0|mlp.2).(weight|bias)"),
)
"""From transformers' names of Whisper to OpenAI's."""

WHISPER = Layout(
    ("mlx-examples", "mlx-whisper"),
    ("whisper",),
    (
        "encoder.(conv1|conv2).(weight|bias)",
        "decoder.token_embedding.weight",
        "decoder.positional_embedding",
        "(encoder.ln_post|decoder.ln).(weight|bias)",
        f"{BLOCK}.(attn|cross_attn).(query|key|value|out).(weight|bias)",
        f"{BLOCK}.(attn_ln|cross_attn_ln|mlp_ln|mlp1|mlp2).(weight|bias)",
        "alignment_heads",
    ),
    (
        drop("encoder.positional_embedding", "recomputed by the consumer"),
        transpose("encoder.(conv1|conv2).weight", "conv1d"),
        rename(f"{BLOCK}.(mlp.0|mlp.2).(weight|bias)", f"{BLOCK}.(mlp1|mlp2).(weight|bias)"),
    ),
    WHISPER_SPELLINGS,
    ("decoder.token_embedding.weight", "encoder.blocks.0.mlp.0.weight", "encoder.conv1.weight"),
    "mlx_whisper --model {model} audio.mp3",
    Form("weights.safetensors", 1 << 62, {"format": "mlx"}),
    config="whisper",
)

LAYOUTS = (WHISPER,)

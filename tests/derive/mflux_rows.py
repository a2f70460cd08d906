"""What config.json calls mflux's components, whose table serves which, and what is no component."""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, tuple[str, ...]] = {
    "boogu.transformer": ("BooguImageTransformer2DModel",),
    "ernie_image.transformer": ("ErnieImageTransformer2DModel",),
    "ernie_image.text_encoder": ("mistral3",),
    "fibo2.transformer": ("BriaFibo2Transformer2DModel",),
    "fibo2.text_encoder": ("qwen3_vl",),
    "flux_controlnet.transformer_controlnet": ("FluxControlNetModel",),
    "flux_redux.siglip": ("siglip_vision_model",),
    "flux_redux.redux_encoder": ("ReduxImageEncoder",),
    "flux3.transformer": ("Flux3Transformer2DModel",),
    "flux3.text_encoder": ("qwen3_vl",),
    "ideogram4.conditional_transformer": ("Ideogram4Transformer2DModel",),
    "ideogram4.text_encoder": ("qwen3_vl",),
    "krea2.text_encoder": ("qwen3_vl",),
    "krea2.transformer": ("Krea2Transformer2DModel",),
    "qwen21.transformer": ("QwenImage21Transformer2DModel",),
    "qwen21.vae": ("AutoencoderKLQwenImage21",),
    "qwen21.text_encoder": ("qwen3_vl",),
}
"""Component → its class in diffusers, or its model type in transformers; any, where there is none."""

SHARED: Mapping[str, str] = {
    "anima.text_encoder": "flux2.text_encoder",
    "boogu.vae": "flux.vae",
    "boogu.text_encoder": "qwen21.text_encoder",
    "ernie_image.vae": "flux2.vae",
    "fibo2.vae": "flux2.vae",
    "fibo_vlm.decoder": "fibo_vlm",
    "fibo_vlm.visual": "fibo_vlm",
    "depth_pro.depth_pro": "depth_pro",
    "flux.t5_encoder": "flux.text_encoder_2",
    "flux.clip_encoder": "flux.text_encoder",
    "flux3.vae": "flux2.vae",
    "flux3_base.transformer": "flux3.transformer",
    "ideogram4.vae": "flux2.vae",
    "ideogram4.unconditional_transformer": "ideogram4.conditional_transformer",
    "iris.text_encoder": "qwen21.text_encoder",
    "krea2.vae": "qwen_image.vae",
    "ming_image.transformer": "z_image.transformer",
    "moss_image.vae": "flux2.vae",
    "qwen.vae": "qwen_image.vae",
    "qwen.transformer": "qwen_image.transformer",
    "qwen.text_encoder": "qwen_image.text_encoder",
    "seedvr2_3b.transformer": "seedvr2.transformer",
    "seedvr2_3b.vae": "seedvr2.vae",
    "seedvr2_7b.transformer": "seedvr2.transformer",
    "seedvr2_7b.vae": "seedvr2.vae",
    "z_image.text_encoder": "flux2.text_encoder",
}
"""Component → the table that serves it, where that has another's name."""

TEXT_UNREAD = ("visual.**", "model.visual.**", "lm_head.weight")
UNREAD: Mapping[str, tuple[str, ...]] = {
    "ernie_image.text_encoder": (
        "vision_tower.**",
        "multi_modal_projector.**",
        "language_model.lm_head.weight",
        "lm_head.weight",
    ),
    "ming_image.text_encoder": (
        "model.lm_head.weight",
        "model.model.layers.#.mlp.audio_gate.**",
        "(vision|visual|audio|linear_proj|linear_proj_audio).**",
    ),
    "ming_image.connector": ("model.embed_tokens.weight", "lm_head.weight"),
    "ming_image.heads": ("mlp.**",),
    "moss_image.transformer": ("rope.bands",),
    "moss_image.text_encoder": ("visual.**", "model.visual.**", "lm_head.weight", "mtp.**"),
}
"""Component → patterns of tensors that repositories have beside those that mflux reads; tried one by one."""

CHANNELS: Mapping[str, tuple[str, int]] = {
    "flux_redux.siglip": ("vision_model.embeddings.patch_embedding.weight", 3),
    "qwen21.vae": ("encoder.conv_in.weight", 4),
    "qwen21_edit.vae": ("encoder.conv_in.weight", 4),
    "seedvr2_3b.vae": ("decoder.conv_in.weight", 16),
    "seedvr2_7b.vae": ("decoder.conv_in.weight", 16),
}
"""Component → a convolution and its true channels: they tell mflux's order of axes where names are alike."""

BACK: Mapping[str, tuple[int, ...]] = {"blocks.#.mod.lin": (6, -1)}
"""Pattern → the shape before it was made flat, where a number tells it."""

RECOGNISED: Mapping[str, tuple[str, ...]] = {
    "anima.transformer": ("llm_adapter.out_proj.weight", "x_embedder.proj.1.weight"),
    "iris.transformer": ("y_embedder.layer_pool.weight", "modulation_cores.adaln_img.weight"),
    "krea2_native.transformer": ("tproj.1.weight", "txtfusion.projector.weight"),
    "lens.transformer": ("transformer_blocks.0.attn.img_qkv.weight", "txt_norm.3.weight"),
    "qwen21_controlnet.controlnet": ("control_img_in.weight", "control_blocks.0.before_proj.weight"),
    "z_image_controlnet.controlnet": ("control_all_x_embedder.2-1.weight",),
}
"""Component → names of a single file that tell it."""

TWICE = "weights that both kinds of input share come back once for each"
EIGHT = "of the checkpoint in 8 bits, the only one that mflux takes"
FILE = "a single file, known by its tensors' names"
REMARKS: Mapping[str, str] = {
    "seedvr2_3b.transformer": TWICE,
    "seedvr2_7b.transformer": TWICE,
    "ideogram4.conditional_transformer": EIGHT,
    "ideogram4.unconditional_transformer": EIGHT,
    "ideogram4.text_encoder": EIGHT,
    "anima.transformer": "in its repository's split_files, or " + FILE,
    "anima.vae": "in its repository's split_files, ComfyUI's, or " + FILE,
    "anima.text_encoder": "in its repository's split_files",
    "iris.transformer": FILE,
    "krea2_native.transformer": FILE,
    "lens.transformer": FILE,
    "depth_pro.depth_pro": FILE,
}
"""Component → what the page says beside."""

TORCH = (
    "mflux reads the .pth of one repository through torch, has no form of its own for it and takes no path"
)
FIXED = "mflux reads it from one repository that it names itself, and takes no path"

WITHOUT: Mapping[str, str] = {
    "hed": f"{TORCH}; with wconv's torch in torch's place its loader gives the same",
    "openpose": f"{TORCH}; with wconv's torch in torch's place its loader gives the same",
    "common.pid_decoder": TORCH,
    "common.gemma2": FIXED,
    "flux2.small_decoder": FIXED,
    "flux2.small_text_encoder": FIXED,
    "qwen21.small_text_encoder": FIXED,
    "krea2.controlnet": "a file of matrices that mflux merges as they are; its names stay",
    "lens.text_encoder": "GPT-OSS as mlx-lm has it: that program's table",
    "lens.vae": "FLUX.2's, read from a repository that mflux names itself",
}
"""What mflux reads beside the components of its models, and why there is nothing to lay out."""

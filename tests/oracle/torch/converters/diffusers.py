"""diffusers' conversions of state dicts: of whole models from one file, and of adapters that others trained.

Most ask for weights by names that stand in their code: what is not in the state dict is made when asked for.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.oracle.torch.converters.case import Case, tensors

PROGRAM = "diffusers"
HOME = "WCONV_DIFFUSERS"


class Obliging(dict[str, Any]):
    """A state dict that makes what is asked for: random numbers that follow from the name."""

    sizes: Mapping[str, tuple[int, ...]] = {}

    def make(self, name: str) -> Any:
        import torch

        shape = next((size for end, size in self.sizes.items() if name.endswith(end)), (24, 4))
        shape = shape[:1] if name.endswith("bias") else shape
        numbers = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        kind = (torch.float32, torch.bfloat16, torch.float16)[len(name) % 3]
        return torch.from_numpy(numbers).to(kind)

    def __missing__(self, name: str) -> Any:
        self[name] = self.make(name)
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:  # type: ignore[override]
        return super().pop(name) if name in self else self.make(name)

    def copy(self) -> Obliging:
        made = Obliging(self)
        made.sizes = self.sizes
        return made


def nothing(torch: Any, folder: Path) -> None:
    """The weights are made when they are asked for."""


def whole(name: str, *seeds: str, sizes: Mapping[str, tuple[int, ...]] | None = None, **options: Any) -> Case:
    """A conversion of a whole model; `seeds`: names from which it counts its blocks."""

    def run(folder: Path, out: Path) -> Any:
        convert = getattr(importlib.import_module("diffusers.loaders.single_file_utils"), name)
        state = Obliging()
        state.sizes = sizes or {}
        for seed in seeds:
            state[seed]
        found = convert(state, **options)
        assert found
        return found

    return Case(PROGRAM, name, nothing, run, HOME)


def adapter(
    name: str, shapes: Mapping[str, tuple[int, ...]], home: str = "loaders.lora_conversion_utils"
) -> Case:
    """A conversion of an adapter's state dict, read from a file."""

    def make(torch: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        state = tensors(torch, shapes, "bfloat16", "float16", "float32")
        state = {k: torch.tensor(4.0) if k.endswith("alpha") else v for k, v in state.items()}
        save_file(state, folder / "adapter.safetensors")

    def run(folder: Path, out: Path) -> Any:
        from safetensors.torch import load_file

        convert = getattr(importlib.import_module(f"diffusers.{home}"), name)
        found = convert(load_file(folder / "adapter.safetensors"))
        found = found[0] if isinstance(found, tuple) else found
        assert found
        return found

    return Case(PROGRAM, name, make, run, HOME)


def pair(
    *modules: str, down: str = "lora_down", up: str = "lora_up", out: int = 12, alpha: bool = True
) -> Any:
    """The two factors of each module, and its alpha."""
    shapes: dict[str, tuple[int, ...]] = {}
    for module in modules:
        shapes |= {f"{module}.{down}.weight": (4, 6), f"{module}.{up}.weight": (out, 4)}
        shapes |= {f"{module}.alpha": ()} if alpha else {}
    return shapes


FLUX = {"linear1.weight": (21504, 2), "linear1.bias": (21504,)}
KOHYA_FLUX = pair(
    "lora_unet_double_blocks_0_img_attn_proj",
    "lora_unet_double_blocks_0_img_attn_qkv",
    "lora_unet_double_blocks_0_img_mlp_0",
    "lora_unet_double_blocks_0_txt_attn_qkv",
    "lora_unet_double_blocks_0_txt_mod_lin",
    "lora_unet_single_blocks_0_linear2",
    "lora_unet_single_blocks_0_modulation_lin",
    out=9216,
)
LOKR = {
    "diffusion_model.layers.0.attention.to_q.lokr_w1": (4, 4),
    "diffusion_model.layers.0.attention.to_q.lokr_w2_a": (6, 2),
    "diffusion_model.layers.0.attention.to_q.lokr_w2_b": (2, 6),
    "diffusion_model.layers.0.attention.to_q.alpha": (),
}
PEFT = pair(
    "transformer.blocks.0.attn.to_q",
    "transformer.blocks.0.attn.to_k",
    down="lora_A",
    up="lora_B",
    alpha=False,
)

WHOLE = [
    whole(
        "convert_flux_transformer_checkpoint_to_diffusers",
        "double_blocks.0.img_mod.lin.weight",
        "single_blocks.0.linear1.weight",
        sizes=FLUX,
    ),
    whole(
        "convert_sd3_transformer_checkpoint_to_diffusers",
        "joint_blocks.0.context_block.attn.qkv.weight",
        "context_embedder.weight",
    ),
    whole(
        "convert_chroma_transformer_checkpoint_to_diffusers",
        "double_blocks.0.img_attn.proj.weight",
        "single_blocks.0.linear1.weight",
        "distilled_guidance_layer.layers.0.in_layer.weight",
        sizes=FLUX,
    ),
    whole("convert_mochi_transformer_checkpoint_to_diffusers"),
    whole(
        "convert_hunyuan_video_transformer_to_diffusers",
        "double_blocks.0.img_attn_qkv.weight",
        "single_blocks.0.linear1.weight",
        "model.model.txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight",
        sizes=FLUX,
    ),
    whole(
        "convert_auraflow_transformer_checkpoint_to_diffusers",
        "double_layers.0.attn.w1q.weight",
        "single_layers.0.attn.w1q.weight",
    ),
    whole(
        "convert_lumina2_to_diffusers",
        "layers.0.attention.qkv.weight",
        "cap_embedder.0.weight",
        sizes={"qkv.weight": (3840, 2)},
    ),
    whole("convert_sana_transformer_to_diffusers", "blocks.0.attn.qkv.weight"),
    whole(
        "convert_wan_transformer_to_diffusers",
        "model.diffusion_model.blocks.0.self_attn.q.weight",
        "head.modulation",
    ),
    whole(
        "convert_ltx_transformer_checkpoint_to_diffusers",
        "model.diffusion_model.patchify_proj.weight",
        "model.diffusion_model.adaln_single.linear.bias",
    ),
    whole(
        "convert_ltx_vae_checkpoint_to_diffusers",
        "vae.encoder.conv_out.conv.weight",
        "vae.per_channel_statistics.std-of-means",
    ),
    whole(
        "convert_autoencoder_dc_checkpoint_to_diffusers", "encoder.stages.0.op_list.0.main.conv1.conv.weight"
    ),
    whole(
        "convert_flux2_transformer_checkpoint_to_diffusers",
        "double_blocks.0.img_attn.qkv.weight",
        "single_blocks.0.linear1.weight",
        "final_layer.adaLN_modulation.1.weight",
    ),
    whole(
        "convert_z_image_transformer_checkpoint_to_diffusers",
        "layers.0.attention.qkv.weight",
        "final_layer.linear.weight",
    ),
    whole(
        "convert_cosmos_transformer_checkpoint_to_diffusers",
        "net.blocks.0.self_attn.q_proj.weight",
        "net.x_embedder.proj.1.weight",
    ),
    whole(
        "convert_animatediff_checkpoint_to_diffusers",
        "module.down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",
    ),
    whole(
        "convert_hidream_transformer_to_diffusers",
        "model.diffusion_model.double_stream_blocks.0.block.attn1.to_q.weight",
    ),
    whole(
        "convert_stable_cascade_unet_single_file_to_diffusers",
        "clip_txt_mapper.weight",
        "down_blocks.0.1.attention.attn.in_proj_weight",
        "down_blocks.0.1.attention.attn.out_proj.weight",
    ),
]
ADAPTERS = [
    adapter("_convert_kohya_flux_lora_to_diffusers", KOHYA_FLUX),
    adapter(
        "_convert_non_diffusers_lora_to_diffusers",
        pair(
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
        ),
    ),
    adapter(
        "_convert_musubi_wan_lora_to_diffusers",
        pair(
            "lora_unet_blocks_0_self_attn_q",
            "lora_unet_blocks_0_self_attn_k",
            "lora_unet_blocks_0_self_attn_v",
            "lora_unet_blocks_0_self_attn_o",
            "lora_unet_blocks_0_cross_attn_q",
            "lora_unet_blocks_0_cross_attn_k",
            "lora_unet_blocks_0_cross_attn_v",
            "lora_unet_blocks_0_cross_attn_o",
            "lora_unet_blocks_0_ffn_0",
            "lora_unet_blocks_0_ffn_2",
        ),
    ),
    adapter(
        "_convert_non_diffusers_qwen_lora_to_diffusers",
        pair("lora_unet_transformer_blocks_0_attn_to_q", "lora_unet_img_in"),
    ),
    adapter("_convert_non_diffusers_lokr_to_diffusers", LOKR),
    adapter(
        "_convert_xlabs_flux_lora_to_diffusers",
        {
            "double_blocks.0.processor.proj_lora1.down.weight": (4, 6),
            "double_blocks.0.processor.proj_lora1.up.weight": (6, 4),
            "double_blocks.0.processor.qkv_lora1.down.weight": (4, 6),
            "double_blocks.0.processor.qkv_lora1.up.weight": (18, 4),
        },
    ),
    adapter(
        "_convert_non_diffusers_ltxv_lora_to_diffusers",
        pair("diffusion_model.blocks.0.q", down="lora_A", up="lora_B", alpha=False),
    ),
    adapter("convert_state_dict_to_kohya", PEFT, "utils.state_dict_utils"),
    adapter(
        "convert_unet_state_dict_to_peft",
        pair("unet.mid.to_q", down="lora.down", up="lora.up", alpha=False),
        "utils.state_dict_utils",
    ),
]
CASES = [*WHOLE, *ADAPTERS]

"""Small adapters of image models, as diffusers has them, for tests of what they are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file

import wconv
from tests.making import bits

H = 4
Modules = Mapping[str, tuple[int, int, int]]
"""A module of diffusers → rows, columns and rank."""

MODULES: dict[str, Modules] = {
    "flux": {
        "transformer_blocks.0.attn.to_q": (H, H, 2),
        "transformer_blocks.0.attn.to_k": (H, H, 2),
        "transformer_blocks.0.attn.to_v": (H, H, 2),
        "transformer_blocks.1.attn.to_k": (H, H, 2),
        "transformer_blocks.1.attn.add_q_proj": (H, H, 1),
        "transformer_blocks.1.attn.add_v_proj": (H, H, 3),
        "transformer_blocks.1.attn.to_out.0": (H, H, 2),
        "transformer_blocks.1.ff_context.net.0.proj": (4 * H, H, 2),
        "single_transformer_blocks.3.attn.to_q": (H, H, 2),
        "single_transformer_blocks.3.attn.to_k": (H, H, 3),
        "single_transformer_blocks.3.attn.to_v": (H, H, 2),
        "single_transformer_blocks.3.proj_mlp": (4 * H, H, 2),
        "single_transformer_blocks.4.proj_mlp": (4 * H, H, 2),
        "single_transformer_blocks.4.proj_out": (H, 5 * H, 2),
    },
    "flux2": {
        "transformer_blocks.0.attn.to_q": (H, H, 2),
        "transformer_blocks.0.attn.to_v": (H, H, 1),
        "transformer_blocks.0.attn.to_out.0": (H, H, 2),
        "transformer_blocks.0.ff.linear_in": (6 * H, H, 2),
        "single_transformer_blocks.20.attn.to_qkv_mlp_proj": (9 * H, H, 2),
        "norm_out.linear": (2 * H, H, 2),
        "time_guidance_embed.timestep_embedder.linear_1": (H, 2 * H, 2),
    },
    "qwen": {
        "transformer_blocks.30.attn.to_q": (H, H, 2),
        "transformer_blocks.30.attn.to_add_out": (H, H, 1),
        "transformer_blocks.0.img_mlp.net.0.proj": (4 * H, H, 2),
    },
    "z_image": {
        "layers.3.attention.to_q": (H, H, 2),
        "layers.3.attention.to_k": (H, H, 2),
        "layers.3.attention.to_out.0": (H, H, 2),
        "noise_refiner.1.feed_forward.w2": (H, 3 * H, 1),
    },
}


def grid(shape: tuple[int, ...], seed: int, dtype: Any = ml_dtypes.bfloat16) -> Any:
    """Small whole numbers but no zeros: their products are exact, and every column counts."""
    values = np.random.default_rng(seed).integers(1, 5, shape) * np.where(np.arange(shape[-1]) % 2, 1, -1)
    return values.astype(dtype)


def adapter(modules: Modules, scales: bool) -> tuple[dict[str, Any], dict[str, str] | None]:
    """diffusers' own file: tensors and metadata."""
    tensors: dict[str, Any] = {}
    patterns: dict[str, int] = {}
    for at, (module, (rows, columns, rank)) in enumerate(modules.items()):
        tensors[f"transformer.{module}.lora_A.weight"] = grid((rank, columns), at)
        tensors[f"transformer.{module}.lora_B.weight"] = grid((rows, rank), at + 50)
        patterns[f"^{module}"] = 2 * rank if scales else rank
    settings = {"transformer.r": 2, "transformer.lora_alpha": 2, "transformer.alpha_pattern": patterns}
    return tensors, {"lora_adapter_metadata": json.dumps(settings)} if scales else None


def target(directory: Path, naming: str) -> Path:
    naming = naming.partition(":")[0]
    return directory / (naming if naming == "peft" else f"{naming}.safetensors")


def converted(source: Path, directory: Path, naming: str, **arguments: Any) -> Path:
    to = target(directory, naming)
    directory.mkdir(exist_ok=True)
    wconv.convert(source, to, layout=naming, **arguments)
    return to


def tensors_of(path: Path) -> dict[str, Any]:
    return dict(load_file(path / "adapter_model.safetensors" if path.is_dir() else path))


def all_bits(path: Path) -> dict[str, Any]:
    return {name: bits(array) for name, array in tensors_of(path).items()}


ENCODERS: Modules = {
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (H, H, 2),
    "text_encoder_2.encoder.block.1.layer.0.SelfAttention.q": (H, H, 2),
}


def with_encoders() -> dict[str, Any]:
    tensors, _ = adapter(MODULES["flux"], False)
    more, _ = adapter(ENCODERS, False)
    return {**tensors, **{name.removeprefix("transformer."): array for name, array in more.items()}}

"""Quantized models of a given size with random codes, written without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

SIDE = 4096
"""Rows and columns of each weight: 16 MB of codes in 8 bits."""


def _write(path: Path, count: int, settings: dict[str, Any], layer: Any) -> Path:
    path.mkdir(parents=True)
    random = np.random.default_rng(0)
    half = max(count // 2, 1)
    for number, first in enumerate(range(0, 2 * half, half), 1):
        tensors = {}
        for at in range(first, first + half):
            tensors.update(layer(f"layers.{at}.", random))
        save_file(tensors, path / f"model-{number:05d}-of-00002.safetensors", {"format": "pt"})
    config = {"model_type": "benchmark", "torch_dtype": "bfloat16", "quantization_config": settings}
    (path / "config.json").write_text(json.dumps(config))
    return path


def fp8_blocks(path: Path, scale: float) -> Path:
    """1 GB in DeepSeek's fp8: a float32 scale for each 128 rows by 128 columns."""

    def layer(stem: str, random: np.random.Generator) -> dict[str, Any]:
        codes = random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8) & 0xF7
        scales = random.random((SIDE // 128, SIDE // 128), dtype=np.float32) * 1e-3 + 1e-4
        return {
            f"{stem}weight": codes.view(ml_dtypes.float8_e4m3fn),
            f"{stem}weight_scale_inv": scales,
        }

    settings = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    return _write(path, int(60 * scale), settings, layer)


def int4_groups(path: Path, scale: float) -> Path:
    """0.5 GB in compressed-tensors' packed 4 bits: a bfloat16 scale for each 128 columns of a row."""

    def layer(stem: str, random: np.random.Generator) -> dict[str, Any]:
        words = random.integers(-(1 << 31), 1 << 31, (SIDE, SIDE // 8), dtype=np.int64)
        scales = random.random((SIDE, SIDE // 128), dtype=np.float32) * 1e-3 + 1e-4
        return {
            f"{stem}weight_packed": words.astype(np.int32),
            f"{stem}weight_scale": scales.astype(ml_dtypes.bfloat16),
            f"{stem}weight_shape": np.array([SIDE, SIDE]),
        }

    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    return _write(path, int(60 * scale), settings, layer)

"""Depth Pro to MLX as mflux gets it: torch.load, mx.array of each tensor, convolutions transposed, saved."""

import sys

import mlx.core as mx
import torch

source, target = sys.argv[1:]
state = torch.load(source, map_location="cpu", weights_only=True)
arrays = {}
for name, tensor in state.items():
    if not name.startswith("fov."):
        array = mx.array(tensor.numpy())
        arrays[name] = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
mx.save_safetensors(target, arrays)

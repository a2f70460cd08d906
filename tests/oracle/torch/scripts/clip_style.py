"""A converter in the manner of those for image models: one .bin, convolutions to the other layout."""

import sys
from pathlib import Path

import mlx.core as mx
import torch

source, out = Path(sys.argv[1]), Path(sys.argv[2])
weights = torch.load(source / "pytorch_model.bin", weights_only=True)
arrays = {}
for name, weight in weights.items():
    if "position_ids" in name:
        continue
    if name.endswith("patch_embedding.weight"):
        weight = weight.permute(0, 2, 3, 1).contiguous()
    if "in_proj_weight" in name:
        for part, piece in zip(("q", "k", "v"), torch.chunk(weight, 3, dim=0), strict=True):
            arrays[name.replace("in_proj_weight", f"{part}_proj.weight")] = mx.array(piece.numpy())
        continue
    if "in_proj_bias" in name:
        for part, piece in zip(("q", "k", "v"), torch.split(weight, [4, 4, 4], dim=0), strict=True):
            arrays[name.replace("in_proj_bias", f"{part}_proj.bias")] = mx.array(piece.numpy())
        continue
    arrays[name] = mx.array(weight.to(torch.float32).numpy())
tied = weights["text.token.weight"].data_ptr() == weights["head.weight"].data_ptr()
arrays["tied"] = mx.array(tied)
out.mkdir(parents=True, exist_ok=True)
mx.save_safetensors(str(out / "weights.safetensors"), arrays)

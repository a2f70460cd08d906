"""Each shard decoded as transformers (fp8) or compressed-tensors (4 bits) does it, and saved in bfloat16."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def fp8(weight, scales):
    rows, columns = (length // blocks for length, blocks in zip(weight.shape, scales.shape, strict=True))
    parts = weight.to(torch.float32).reshape(scales.shape[0], rows, scales.shape[1], columns)
    return (parts * scales[:, None, :, None]).to(torch.bfloat16).reshape(weight.shape)


def int4(words, scales):
    pairs = words.view(torch.uint8)
    codes = torch.stack((pairs & 0xF, pairs >> 4), dim=-1).view(torch.int8).reshape(words.shape[0], -1) - 8
    parts = codes.unflatten(-1, (scales.shape[1], -1)).to(scales.dtype)
    return (parts * scales.unsqueeze(-1)).flatten(-2)


source, target = map(Path, sys.argv[1:])
target.mkdir()
for shard in sorted(source.glob("*.safetensors")):
    tensors = load_file(shard)
    dense = {}
    for name, tensor in tensors.items():
        if name.endswith(".weight"):
            dense[name] = fp8(tensor, tensors[f"{name}_scale_inv"])
        elif name.endswith(".weight_packed"):
            stem = name.removesuffix("_packed")
            dense[stem] = int4(tensor, tensors[f"{stem}_scale"])
    save_file(dense, target / shard.name, {"format": "pt"})

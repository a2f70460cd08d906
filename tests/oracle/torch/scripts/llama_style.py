"""A converter in the manner of those for Meta's shards: pieces of each matrix from several files."""

import collections
import sys
from pathlib import Path

import mlx.core as mx
import torch

SPLIT_AXIS = {"wo": 1, "w2": 1, "tok_embeddings": 1, "wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0, "output": 0}

source, out, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
dtype = getattr(torch, name)
pieces = collections.defaultdict(list)
for path in sorted(source.glob("consolidated.*.pth")):
    for key, value in torch.load(str(path), map_location="cpu", weights_only=False).items():
        pieces[key].append(value)

weights = {}
for key, parts in pieces.items():
    if key == "rope.freqs":
        continue
    axis = SPLIT_AXIS.get(key.split(".")[-2])
    whole = torch.cat(parts, dim=axis) if axis is not None and len(parts) > 1 else parts[0]
    if key.endswith("norm.weight"):
        whole = whole.float()
    if dtype == torch.bfloat16:
        weights[key] = mx.array(whole.to(dtype))
    else:
        weights[key] = mx.array(whole.to(dtype).numpy())
    if key == "layers.0.attention.wq.weight":
        queries = whole.view(4, 2, -1, whole.shape[-1]).transpose(1, 2).reshape(whole.shape)
        weights["permuted"] = mx.array(queries.float().numpy())
out.mkdir(parents=True, exist_ok=True)
mx.save_safetensors(str(out / "weights.safetensors"), weights)

"""A converter in the manner of those for audio codecs: weight norm, gates of recurrent layers."""

import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from torch import nn

source, out = Path(sys.argv[1]), Path(sys.argv[2])
saved = torch.load(source, map_location=lambda storage, location: storage)
state = saved.get("best_state", saved)
assert not isinstance(state, nn.Module)

weights: dict[str, mx.array] = {}
with torch.no_grad():
    for name, value in state.items():
        if isinstance(value, nn.Parameter):
            value = value.data
        if name.endswith("weight_g"):
            direction = state[name.replace("weight_g", "weight_v")].detach().cpu().numpy()
            length = np.sqrt(np.sum(direction.astype(np.float64) ** 2, axis=(1, 2), keepdims=True))
            whole = value.detach().numpy() * (direction / length).astype(np.float32)
            weights[name.replace("weight_g", "weight")] = mx.array(np.moveaxis(whole, 1, 2))
        elif "lstm" in name and "weight" in name:
            i, f, g, o = value.chunk(4)
            weights[name] = mx.array(torch.cat([i, f, o, g]).t().contiguous().numpy())
        elif "lstm" in name:
            weights[name] = mx.array(torch.stack(value.unbind()).half())
        elif name.endswith("inited"):
            weights[name] = mx.array(bool(value.item()))
        elif name.endswith("cluster_size"):
            size = value.clone()
            size[size < 1] = 1
            embedding = state[name.replace("cluster_size", "embed_avg")] / size.unsqueeze(1)
            weights[name.replace("cluster_size", "embed")] = mx.array(embedding.numpy())
        elif not name.endswith(("weight_v", "embed_avg")):
            weights[name] = mx.array(value.numpy(force=True))
out.mkdir(parents=True, exist_ok=True)
mx.save_safetensors(str(out / "weights.safetensors"), weights)

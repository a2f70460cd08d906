"""A converter in the manner of those for depth models: nested checkpoints, whatever is no tensor left out."""

import sys
from pathlib import Path

import mlx.core as mx
import torch
import torch.nn.functional as F  # noqa: F401, N812 - imported as such scripts do, used by other functions of theirs

source, out = Path(sys.argv[1]), Path(sys.argv[2])
device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
raw = torch.load(source, map_location="cpu", weights_only=False)
state = raw["model"] if isinstance(raw, dict) and "model" in raw else raw
weights = {}
for key, value in state.items():
    if not isinstance(value, torch.Tensor):
        continue
    if key.startswith("fov."):
        continue
    value = value.to(device)
    if value.dtype == torch.bfloat16:
        value = value.to(torch.float16)
    if "upsample" in key and value.dim() == 4:
        value = value.permute(1, 2, 3, 0)
    elif value.dim() == 4:
        value = value.permute(0, 2, 3, 1)
    elif key.endswith("gamma"):
        value = value.squeeze().reshape(-1)
    weights[key.replace("encoder.", "")] = mx.array(value.contiguous().numpy())
print(
    str(state["head.weight"].dtype),
    list(state["head.weight"].shape),
    raw["args"].name if "args" in raw else "",
)
out.mkdir(parents=True, exist_ok=True)
mx.save_safetensors(str(out / "weights.safetensors"), weights)

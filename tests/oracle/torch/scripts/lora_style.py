"""A converter in the manner of those for adapters: safetensors in, arithmetic on 0-d tensors, and out."""

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

source, out = Path(sys.argv[1]), Path(sys.argv[2])
state = load_file(str(source))
with safe_open(str(source), framework="pt") as file:
    sliced = file.get_slice("down.weight")[:, 1:3]
    again = file.get_tensor("down.weight")
assert torch.equal(again, state["down.weight"])
assert torch.equal(sliced, again[:, 1:3])

down, up, alpha = state["down.weight"], state["up.weight"], state["alpha"]
rank = down.shape[0]
scale_down, scale_up = alpha / rank, 1.0
while scale_down * 2 < scale_up:
    scale_down, scale_up = scale_down * 2, scale_up / 2
result = {"down": (down * scale_down).contiguous(), "up": up * scale_up}
for index, part in enumerate(torch.split(result["up"], [2, 2, 4], dim=0)):
    rows = part.shape[0]
    if torch.all(part[:, 0] == 0):
        part = part * 0
    result[f"up.{index}"] = part.clone()
    result[f"sparse.{index}"] = torch.stack([row[0] for row in part]).to(torch.bfloat16)
    assert rows == len(part)
for index, part in enumerate(torch.chunk(result["down"], 2, dim=0)):
    result[f"down.{index}"] = part.clone()
result["table"] = torch.tensor([[result["down"][0, 0], 2.0], [alpha, 4]])
out.mkdir(parents=True, exist_ok=True)
save_file(
    {key: value.detach().cpu().contiguous() for key, value in result.items()},
    str(out / "weights.safetensors"),
)

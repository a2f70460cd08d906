"""ZeRO 2 as safetensors, as DeepSpeed's zero_to_fp32 does it: load all shares, join them, cut, save_file."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

source, target = Path(sys.argv[1]), Path(sys.argv[2])
target.mkdir()
model = torch.load(source / "mp_rank_00_model_states.pt", weights_only=False)
files = sorted(source.glob("*_optim_states.pt"))
held = [torch.load(file, weights_only=False, mmap=True)["optimizer_state_dict"] for file in files]
whole = {}
for number, shapes in enumerate(model["param_shapes"]):
    flat = torch.cat([rank["single_partition_of_fp32_groups"][number] for rank in held])
    at = 0
    for name, shape in shapes.items():
        whole[name] = flat.narrow(0, at, shape.numel()).view(shape).clone()
        at += shape.numel()
save_file(whole, target / "model.safetensors", {"format": "pt"})

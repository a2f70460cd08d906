"""Rank files of FSDP2 as safetensors, as torch does it: load all ranks, join the parts, save_file."""

import sys
from pathlib import Path

import torch
import torch.distributed.tensor
from safetensors.torch import save_file

source, target = Path(sys.argv[1]), Path(sys.argv[2])
target.mkdir()
files = sorted(source.glob("model_world_size_*_rank_*.pt"))
ranks = [torch.load(file, weights_only=False, mmap=True) for file in files]
whole = {name: torch.cat([rank[name]._local_tensor for rank in ranks]) for name in ranks[0]}
save_file(whole, target / "model.safetensors", {"format": "pt"})

"""A distributed checkpoint as safetensors, as torch does it: dcp_to_torch_save, torch.load, save_file."""

import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

warnings.simplefilter("ignore")
source, target = sys.argv[1], Path(sys.argv[2])
target.mkdir()
whole = target / "whole.pt"
dcp_to_torch_save(source, whole)
state = torch.load(whole, weights_only=True, mmap=True)
whole.unlink()
save_file(state, target / "model.safetensors", {"format": "pt"})

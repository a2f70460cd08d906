"""What a short script with torch and safetensors does: each shard loaded, cast to float16 and saved."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

source, target = map(Path, sys.argv[1:])
target.mkdir()
for shard in sorted(source.glob("*.safetensors")):
    tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(shard).items()}
    save_file(tensors, target / shard.name, {"format": "pt"})

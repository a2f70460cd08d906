"""Reads a whole directory of safetensors into MLX arrays with MLX's own reader."""

import sys
from pathlib import Path

import mlx.core as mx

tensors = {}
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    tensors.update(mx.load(str(path)))
mx.eval(tensors)
print(len(tensors))

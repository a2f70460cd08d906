"""Reads a whole directory of safetensors into numpy arrays with safetensors' own reader."""

import sys
from pathlib import Path

import ml_dtypes  # noqa: F401 - numpy knows bfloat16 by it
from safetensors.numpy import load_file

tensors = {}
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    tensors.update(load_file(path))
print(len(tensors))

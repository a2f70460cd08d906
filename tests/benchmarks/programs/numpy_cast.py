"""What a short script with numpy and ml_dtypes does: each shard loaded, cast to float16 and saved."""

import sys
from pathlib import Path

import ml_dtypes  # noqa: F401  (registers bfloat16 with numpy)
import numpy as np
from safetensors.numpy import load_file, save_file

source, target = map(Path, sys.argv[1:])
target.mkdir()
for shard in sorted(source.glob("*.safetensors")):
    tensors = {name: array.astype(np.float16) for name, array in load_file(shard).items()}
    save_file(tensors, target / shard.name, {"format": "pt"})

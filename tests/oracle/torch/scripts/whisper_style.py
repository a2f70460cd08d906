"""A converter in the manner of those for speech models: hyper-parameters and weights to float16."""

import argparse
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--torch-path", required=True)
parser.add_argument("--mlx-path", required=True)
parser.add_argument("--dtype", default="float16")
args = parser.parse_args()


def renamed(key: str) -> str:
    key = key.replace("mlp.0", "mlp1").replace("mlp.2", "mlp2")
    return key.removeprefix("model.")


def arranged(key: str, value: torch.Tensor) -> torch.Tensor:
    if "conv" in key and value.ndim == 3:
        return value.swapaxes(1, 2)
    return value


with open(args.torch_path, "rb") as file:
    checkpoint = torch.load(file, map_location=torch.device("cpu"), weights_only=True)
dims = checkpoint["dims"]
state = {renamed(k): arranged(renamed(k), v) for k, v in checkpoint["model_state_dict"].items()}
state.pop("encoder.positional_embedding", None)
dtype = getattr(torch, args.dtype)
weights = {k: mx.array(v.detach().to(dtype).numpy()) for k, v in state.items()}
heads = np.zeros((dims["n_text_layer"], dims["n_text_head"]), dtype=bool)
heads[dims["n_text_layer"] // 2 :] = True
weights["alignment_heads"] = mx.array(np.asarray(heads.nonzero()).T)
out = Path(args.mlx_path)
out.mkdir(parents=True, exist_ok=True)
mx.save_safetensors(str(out / "weights.safetensors"), weights)
(out / "config.json").write_text(json.dumps({"model_type": "whisper", **dims}, indent=4))

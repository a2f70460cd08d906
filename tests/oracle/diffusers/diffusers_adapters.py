"""Run by a process of diffusers' own: what its models compute with an adapter, and without.

Usage: `python diffusers_adapters.py JOB.json`, a job of:

    packages  directories in which diffusers, PEFT and what they need are installed
    family    a key of FAMILIES
    make      directory in which to save a tiny random transformer (and CLIP, as `text_encoder`)
    runs      name → adapter's file ("" for none, a directory for PEFT) and the directory of a pipeline
    states    name → adapter's file of which only the state dict is wanted, as `lora_state_dict` makes it
    output    directory: `NAME.npz` for each run, with what came out, and for each state dict

diffusers decides when it is first imported whether PEFT is there: so it has a process to itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HEADS = {"attention_head_dim": 16, "num_attention_heads": 2}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "flux": (
        "FluxTransformer2DModel",
        "FluxPipeline",
        {
            **HEADS,
            "in_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 32,
            "axes_dims_rope": [4, 4, 8],
        },
    ),
    "flux2": (
        "Flux2Transformer2DModel",
        "Flux2Pipeline",
        {
            **HEADS,
            "in_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "joint_attention_dim": 32,
            "timestep_guidance_channels": 8,
            "axes_dims_rope": [4, 4, 4, 4],
        },
    ),
    "qwen": (
        "QwenImageTransformer2DModel",
        "QwenImagePipeline",
        {
            **HEADS,
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 2,
            "joint_attention_dim": 16,
            "axes_dims_rope": [4, 4, 8],
        },
    ),
    "z_image": (
        "ZImageTransformer2DModel",
        "ZImagePipeline",
        {
            "in_channels": 4,
            "dim": 32,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 16,
            "axes_dims": [4, 4, 8],
            "axes_lens": [64, 64, 64],
        },
    ),
}
"""Class of the transformer, class of the pipeline, and a small config."""


def forward(family: str, model: Any) -> Any:
    import torch

    torch.manual_seed(1)
    random = torch.randn
    step = torch.tensor([0.5])
    if family == "z_image":
        return model([random(4, 1, 4, 4)], step, [random(6, 16)], return_dict=False)[0][0]
    width = model.config.joint_attention_dim
    given = {
        "hidden_states": random(1, 4, model.config.in_channels),
        "encoder_hidden_states": random(1, 3, width),
        "timestep": step,
        "return_dict": False,
    }
    if family == "qwen":
        mask = torch.ones(1, 3, dtype=torch.long)
        return model(**given, encoder_hidden_states_mask=mask, img_shapes=[[(1, 2, 2)]])[0]
    axes = len(model.config.axes_dims_rope)
    given.update(img_ids=torch.arange(4 * axes).reshape(4, axes) % 5, txt_ids=torch.zeros(3, axes))
    if family == "flux":
        return model(**given, pooled_projections=random(1, 32))[0]
    return model(**given, guidance=torch.tensor([2.0]))[0]


def encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return CLIPTextModel(CLIPTextConfig(**sizes, num_attention_heads=2, max_position_embeddings=16))


def encoded(model: Any) -> Any:
    import torch

    return model(torch.arange(8)[None]).last_hidden_state


def make(family: str, to: Path) -> None:
    import diffusers
    import torch

    name, _, config = FAMILIES[family]
    torch.manual_seed(0)
    model = getattr(diffusers, name)(**config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(to / "transformer")
    if family == "flux":
        encoder().save_pretrained(to / "text_encoder")


def run(family: str, adapter: str, directory: Path) -> dict[str, Any]:
    """What the models of a directory compute with an adapter on them."""
    import diffusers
    import torch
    from transformers import CLIPTextModel

    name, pipeline, _ = FAMILIES[family]
    transformer = getattr(diffusers, name).from_pretrained(directory / "transformer")
    parts: dict[str, Any] = {"transformer": transformer.eval()}
    if family == "flux":
        parts["text_encoder"] = CLIPTextModel.from_pretrained(directory / "text_encoder").eval()
    if adapter and Path(adapter).is_dir():
        import peft

        peft.PeftModel.from_pretrained(transformer, adapter)
    elif adapter:
        kind = getattr(diffusers, pipeline)
        others = dict.fromkeys(kind._get_signature_keys(kind)[0] - parts.keys())
        pipe = kind(**others, **parts)
        pipe.load_lora_weights(str(Path(adapter).parent), weight_name=Path(adapter).name)
    with torch.no_grad():
        made = {"transformer": forward(family, parts["transformer"]).numpy()}
        if "text_encoder" in parts:
            made["text_encoder"] = encoded(parts["text_encoder"]).numpy()
    return made


def state_of(family: str, adapter: str) -> dict[str, Any]:
    import diffusers

    kind = getattr(diffusers, FAMILIES[family][1])
    state = kind.lora_state_dict(str(Path(adapter).parent), weight_name=Path(adapter).name)
    return {key: tensor.float().numpy() for key, tensor in state.items()}


def main(path: str) -> None:
    job = json.loads(Path(path).read_text())
    sys.path.extend(job["packages"])
    if job.get("make"):
        make(job["family"], Path(job["make"]))
    output = Path(job["output"])
    for name, (adapter, directory) in job.get("runs", {}).items():
        np.savez(output / f"{name}.npz", **run(job["family"], adapter, Path(directory)))
    for name, adapter in job.get("states", {}).items():
        np.savez(output / f"{name}.npz", **state_of(job["family"], adapter))


if __name__ == "__main__":
    main(*sys.argv[1:])

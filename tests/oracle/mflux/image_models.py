"""mflux's image models as repositories of tiny random weights, under the names that its own mappings read.

Shapes are small and arbitrary, but have the true number of axes, no two of them alike.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from tests.oracles import directory_of, oracle

MODELS = "mflux.models"


@dataclass(frozen=True)
class Image:
    """A model and how its repository looks.

    Attributes:
        module, definition: mflux's WeightDefinition.
        pipeline: `_class_name` in model_index.json; "" for a directory without one.
        configs: component → its config.json.
        dropped: component → names that repositories have and mflux does not read, with their shapes.
        counts: component → blocks and layers, where mflux counts them in the checkpoint.
        files: component → file, where all lie in one directory.
    """

    module: str
    definition: str
    pipeline: str = ""
    configs: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    dropped: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def weight_definition(self) -> Any:
        module = oracle(f"{MODELS}.{self.module}")
        return getattr(module, self.definition)


IMAGES = {
    "flux": Image(
        "flux.weights.flux_weight_definition",
        "FluxWeightDefinition",
        "FluxPipeline",
        {
            "transformer": {"_class_name": "FluxTransformer2DModel"},
            "vae": {"_class_name": "AutoencoderKL"},
            "text_encoder": {"model_type": "clip_text_model"},
            "text_encoder_2": {"model_type": "t5"},
        },
        {
            "text_encoder": {"text_model.embeddings.position_ids": (1, 7)},
            "text_encoder_2": {"encoder.embed_tokens.weight": (6, 5)},
        },
        {"transformer": (3, 0), "text_encoder": (0, 0)},
    ),
    "flux2": Image(
        "flux2.weights.flux2_weight_definition",
        "Flux2KleinWeightDefinition",
        "Flux2KleinPipeline",
        {
            "transformer": {"_class_name": "Flux2Transformer2DModel"},
            "vae": {"_class_name": "AutoencoderKLFlux2"},
            "text_encoder": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
        },
        {
            "transformer": {"time_guidance_embed.guidance_embedder.linear_1.weight": (6, 5)},
            "vae": {"bn.num_batches_tracked": ()},
            "text_encoder": {"lm_head.weight": (6, 5)},
        },
        {"transformer": (3, 0), "text_encoder": (0, 3)},
    ),
    "qwen_image": Image(
        "qwen.weights.qwen_weight_definition",
        "QwenWeightDefinition",
        "QwenImagePipeline",
        {
            "transformer": {"_class_name": "QwenImageTransformer2DModel"},
            "vae": {"_class_name": "AutoencoderKLQwenImage"},
            "text_encoder": {"model_type": "qwen2_5_vl"},
        },
        {
            "vae": {"encoder.down_blocks.5.time_conv.weight": (7, 6, 2, 3, 4)},
            "text_encoder": {"lm_head.weight": (6, 5)},
        },
        {"transformer": (3, 0), "text_encoder": (0, 3)},
    ),
    "fibo": Image(
        "fibo.weights.fibo_weight_definition",
        "FIBOWeightDefinition",
        "BriaFiboPipeline",
        {
            "transformer": {"_class_name": "BriaFiboTransformer2DModel"},
            "vae": {"_class_name": "AutoencoderKLWan"},
            "text_encoder": {"model_type": "smollm3"},
        },
        {"text_encoder": {"lm_head.weight": (6, 5)}},
    ),
    "z_image": Image(
        "z_image.weights.z_image_weight_definition",
        "ZImageWeightDefinition",
        "ZImagePipeline",
        {
            "transformer": {"_class_name": "ZImageTransformer2DModel"},
            "vae": {"_class_name": "AutoencoderKL"},
            "text_encoder": {"model_type": "qwen3"},
        },
        {"text_encoder": {"lm_head.weight": (6, 5)}},
    ),
    "qwen21": Image(
        "qwen21.weights.qwen21_weight_definition",
        "Qwen21WeightDefinition",
        "QwenImage21Pipeline",
        {
            "transformer": {"_class_name": "QwenImage21Transformer2DModel"},
            "vae": {"_class_name": "AutoencoderKLQwenImage21"},
            "text_encoder": {"model_type": "qwen3_vl"},
        },
        {"text_encoder": {"lm_head.weight": (6, 5), "model.visual.merger.norm.weight": (5,)}},
    ),
    "fibo_vlm": Image(
        "fibo_vlm.weights.fibo_vlm_weight_definition",
        "FIBOVLMWeightDefinition",
        configs={"": {"model_type": "qwen3_vl"}},
        dropped={"": {"lm_head.weight": (6, 5)}},
    ),
    "seedvr2_3b": Image(
        "seedvr2.weights.seedvr2_weight_definition",
        "SeedVR2WeightDefinition3B",
        files={"transformer": "seedvr2_ema_3b_fp16.safetensors", "vae": "ema_vae_fp16.safetensors"},
    ),
    "seedvr2_7b": Image(
        "seedvr2.weights.seedvr2_weight_definition",
        "SeedVR2WeightDefinition7B",
        files={"transformer": "seedvr2_ema_7b_fp16.safetensors", "vae": "ema_vae_fp16.safetensors"},
    ),
}

SHAPES = {
    "transpose_conv2d_weight": (7, 6, 2, 3),
    "transpose_conv3d_weight": (7, 6, 2, 3, 4),
    "transpose_patch_embed": (7, 6, 2, 3, 4),
    "reshape_gamma_to_1d": (7, 1, 1, 1),
}


def names(image: Image, component: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All names that mflux reads of a component, each once, with a shape."""
    mapper = oracle(f"{MODELS}.common.weights.mapping.weight_mapper").WeightMapper
    counted = image.counts.get(component.hf_subdir, (0, 0))
    blocks = component.num_blocks or counted[0]
    layers = component.num_layers or counted[1]
    flat = mapper._build_flat_mapping(component.mapping_getter(), blocks, layers)
    for name, targets in flat.items():
        transform = getattr(targets[0][1], "__name__", "")
        if component.name == "vae" and name == "decoder.conv_in.weight" and "conv3d" in transform:
            yield name, (7, 16, 2, 3, 4)
        elif _is_there(name):
            yield name, SHAPES.get(transform, (6, 5) if name.endswith("weight") else (6,))


def _is_there(name: str) -> bool:
    """Blocks of even number are shared between kinds of input; no name is for both."""
    for number in range(40):
        if name.startswith(f"blocks.{number}.") and ".rope." not in name:
            shared = ".all." in name
            return shared if number % 2 == 0 else not shared
    return True


TIED = {
    "encoder.embed_tokens.weight": ("shared.weight",),
    "lm_head.weight": ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight"),
}
"""Names under which published models hold a matrix once more."""


def write(image: Image, path: Path, dtype: Any) -> Path:
    """The model's repository: components, configs, a tokenizer and a scheduler."""
    random = np.random.default_rng(0)
    states: dict[str, dict[str, Any]] = {}
    for component in image.weight_definition.get_components():
        where = image.files.get(component.name, component.hf_subdir)
        state = states.setdefault(where, {})
        for name, shape in names(image, component):
            state[name] = random.standard_normal(shape, np.float32).astype(dtype)
    for where, more in image.dropped.items():
        for name, shape in more.items():
            state = states[where]
            kind = np.int64 if name.endswith(("position_ids", "num_batches_tracked")) else dtype
            tied = next((state[one] for one in TIED.get(name, ()) if one in state), None)
            state[name] = random.standard_normal(shape, np.float32).astype(kind) if tied is None else tied
    for where, state in states.items():
        if where.endswith(".safetensors"):
            path.mkdir(parents=True, exist_ok=True)
            save_file(state, path / where)
        else:
            kind = image.configs[where]
            stem = "diffusion_pytorch_model" if "_class_name" in kind else "model"
            write_component(path / where, state, kind, stem)
    if image.pipeline:
        write_rest(path, image)
    return path


def write_component(path: Path, state: dict[str, Any], config: dict[str, Any], stem: str) -> None:
    """A component in two shards with an index; in one where mflux reads but one file."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    if str(config.get("_class_name")).startswith("AutoencoderKLQwenImage"):
        save_file(state, path / f"{stem}.safetensors", {"format": "pt"})
        return
    half = len(state) // 2
    weight_map = {}
    for number, part in enumerate((list(state)[:half], list(state)[half:]), 1):
        file = f"{stem}-{number:05d}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, path / file, {"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (path / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def write_rest(path: Path, image: Image) -> None:
    """What a pipeline's directory has beside weights."""
    index: dict[str, Any] = {"_class_name": image.pipeline, "_diffusers_version": "0.36.0"}
    for name, config in image.configs.items():
        library = "diffusers" if "_class_name" in config else "transformers"
        index[name] = [library, config.get("_class_name", config.get("model_type", ""))]
    index["tokenizer"] = ["transformers", "Qwen2Tokenizer"]
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    index["image_encoder"] = [None, None]
    (path / "model_index.json").write_text(json.dumps(index))
    for name, file in {"tokenizer": "tokenizer.json", "scheduler": "scheduler_config.json"}.items():
        (path / name).mkdir()
        (path / name / file).write_text("{}")
    (path / "README.md").write_text("# A model\n")


DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}


@contextlib.contextmanager
def from_diffusers(module: str) -> Iterator[ModuleType]:
    """A module of diffusers, which lies beside the other packages."""
    place = directory_of("diffusers")
    oracle("torch")
    sys.path.append(place)
    try:
        yield importlib.import_module(module)
    finally:
        sys.path.remove(place)

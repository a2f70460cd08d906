"""mflux's image models as repositories of tiny random weights, under the names that its own loader reads.

Names and shapes are those by which the tables are derived and compared (`tests/derive/mflux_parts.py`).
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

from tests.derive import mflux_models, mflux_parts, mflux_proof
from tests.derive.mflux_parts import Part
from tests.derive.mflux_rows import SHARED
from tests.derive.trace import Shape
from tests.oracles import directory_of, oracle
from wconv.consumers import table_files


@dataclass(frozen=True)
class Image:
    """A model and how its repository looks.

    Attributes:
        model: its name in `mflux_models`.
        pipeline: `_class_name` in model_index.json; "" for a directory without one.
        dropped: sub-directory → names that repositories have and mflux does not read, with their shapes.
        files: component → file, where all lie in one directory.
    """

    model: str
    pipeline: str = ""
    dropped: Mapping[str, Mapping[str, Shape]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def weight_definition(self) -> Any:
        oracle("mflux")
        return mflux_parts.attribute(mflux_models.MODELS[self.model].definition)

    @property
    def parts(self) -> list[Part]:
        oracle("mflux")
        return list(mflux_parts.parts(self.model))


HEAD = {"text_encoder": {"lm_head.weight": (6, 5)}}
SEEDVR2_VAE = {"vae": "ema_vae_fp16.safetensors"}

IMAGES = {
    "flux": Image(
        "flux",
        "FluxPipeline",
        {
            "text_encoder": {"text_model.embeddings.position_ids": (1, 7)},
            "text_encoder_2": {"encoder.embed_tokens.weight": (7, 6)},
        },
    ),
    "flux2": Image(
        "flux2",
        "Flux2KleinPipeline",
        {
            "transformer": {"time_guidance_embed.guidance_embedder.linear_1.weight": (6, 5)},
            "vae": {"bn.num_batches_tracked": ()},
            **HEAD,
        },
    ),
    "qwen_image": Image(
        "qwen",
        "QwenImagePipeline",
        {"vae": {"encoder.down_blocks.5.time_conv.weight": (7, 6, 2, 3, 4)}, **HEAD},
    ),
    "fibo": Image("fibo", "BriaFiboPipeline", HEAD),
    "z_image": Image("z_image", "ZImagePipeline", HEAD),
    "qwen21": Image(
        "qwen21",
        "QwenImage21Pipeline",
        {"text_encoder": {"lm_head.weight": (6, 5), "model.visual.merger.norm.weight": (5,)}},
    ),
    "fibo_vlm": Image("fibo_vlm", dropped={"": {"lm_head.weight": (7, 6)}}),
    "seedvr2_3b": Image(
        "seedvr2_3b", files={"transformer": "seedvr2_ema_3b_fp16.safetensors", **SEEDVR2_VAE}
    ),
    "seedvr2_7b": Image(
        "seedvr2_7b", files={"transformer": "seedvr2_ema_7b_fp16.safetensors", **SEEDVR2_VAE}
    ),
    "boogu": Image("boogu", "BooguImageTurboPipeline", {"mllm": {"lm_head.weight": (6, 5)}}),
    "ernie_image": Image(
        "ernie_image", "ErnieImagePipeline", {"text_encoder": {"vision_tower.ln_pre.weight": (6,)}}
    ),
    "fibo2": Image("fibo2", "BriaFibo2Pipeline", HEAD),
    "flux3": Image("flux3", dropped=HEAD),
    "ideogram4": Image("ideogram4", "Ideogram4Pipeline", {"text_encoder": {"visual.norm.weight": (6,)}}),
    "krea2": Image("krea2", "Krea2Pipeline", {"text_encoder": {"visual.norm.weight": (6,)}}),
    "ming_image": Image(
        "ming_image", dropped={"mllm": {"model.lm_head.weight": (6, 5)}, "mlp": {"mlp.0.weight": (6, 5)}}
    ),
    "moss_image": Image(
        "moss_image",
        "MOSSImagePipeline",
        {"transformer": {"rope.bands": (6,)}, "text_encoder": {"visual.norm.weight": (6,)}},
    ),
    "flux_redux": Image("flux_redux", "FluxPriorReduxPipeline"),
}

ALIKE = {
    "encoder.embed_tokens.weight": ("shared.weight",),
    "lm_head.weight": ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight"),
}
"""Names under which published models hold a matrix once more."""


def shapes(part: Part) -> dict[str, Shape]:
    """The names that mflux reads of a component, each with a shape."""
    return {name: array.shape for name, array in mflux_proof.checkpoint(part, np.float32).items()}


def kind_of(part: Part) -> str:
    """What config.json says of a component."""
    kinds = table_files.component("mflux", SHARED.get(part.name, part.name)).model_types
    return kinds[0] if kinds else ""


def config_of(part: Part) -> dict[str, str]:
    """A component's config.json."""
    kind = kind_of(part)
    return {} if not kind else {"model_type" if kind.islower() else "_class_name": kind}


def arrays_of(image: Image, dtype: Any) -> dict[str, dict[str, Any]]:
    """The repository's tensors by sub-directory or file."""
    random = np.random.default_rng(0)
    states: dict[str, dict[str, Any]] = {}
    for part in image.parts:
        where = image.files.get(part.component.name, part.component.hf_subdir)
        state = states.setdefault(where, {})
        wanted = shapes(part)
        for name, array in mflux_proof.checkpoint(part, dtype).items():
            if name in wanted:
                fits = array.shape == wanted[name]
                other = random.standard_normal(wanted[name], np.float32).astype(array.dtype)
                state[name] = array if fits else other
    for where, more in image.dropped.items():
        for name, shape in more.items():
            state = states[where]
            kind = np.int64 if name.endswith(("position_ids", "num_batches_tracked")) else dtype
            tied = next((state[one] for one in ALIKE.get(name, ()) if one in state), None)
            state[name] = random.standard_normal(shape, np.float32).astype(kind) if tied is None else tied
    return states


def write(image: Image, path: Path, dtype: Any) -> Path:
    """The model's repository: components, configs, a tokenizer and a scheduler."""
    configs = {part.component.hf_subdir: config_of(part) for part in image.parts}
    for where, state in arrays_of(image, dtype).items():
        if where.endswith(".safetensors"):
            path.mkdir(parents=True, exist_ok=True)
            save_file(state, path / where)
        else:
            stem = "diffusion_pytorch_model" if "_class_name" in configs[where] else "model"
            write_component(path / where, state, configs[where], stem)
    if image.pipeline:
        write_rest(path, image.pipeline, configs)
    return path


def write_component(path: Path, state: dict[str, Any], config: dict[str, str], stem: str) -> None:
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


def write_rest(path: Path, pipeline: str, configs: Mapping[str, dict[str, str]]) -> None:
    """What a pipeline's directory has beside weights."""
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.36.0"}
    for name, config in configs.items():
        library = "transformers" if "model_type" in config else "diffusers"
        index[name] = [library, next(iter(config.values()), "SomeModel")]
    index["tokenizer"] = ["transformers", "Qwen2Tokenizer"]
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    index["image_encoder"] = index.get("image_encoder", [None, None])
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

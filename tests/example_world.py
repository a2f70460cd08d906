"""What the examples of the README and the pages are run on: small stand-ins under the names that they use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import wconv
import wconv.torch as shim
from tests import lora_files
from tests.consumers.megatron import test_names as test_megatron
from tests.conversion import test_components, test_single_files
from tests.formats import test_yaml_text
from tests.making import random, write_directory
from tests.optimizers import test_mlx_state as test_optimizers

FIXTURES = Path(__file__).parent.parent / "fixtures"


def qwen2_5_vl(path: Path) -> None:
    shutil.copytree(FIXTURES / "qwen2_5_vl", path)


def converted(path: Path) -> None:
    wconv.convert(FIXTURES / "qwen2_5_vl", path)


def bin_shards(path: Path) -> None:
    wconv.convert(FIXTURES / "qwen2_5_vl", path, format="pt", max_shard_size="100KB")


def llama(path: Path) -> None:
    config = {"model_type": "llama", "tie_word_embeddings": False}
    write_directory(path, [{"lm_head.weight": random((200, 16))}], config)


def depth_pro(path: Path) -> None:
    shim.save(
        {
            "encoder.fuse_lowres.weight": shim.ones(4, 4, 1, 1),
            "encoder.upsample_lowres.weight": shim.ones(4, 4, 2, 2),
            "encoder.patch_encoder.cls_token": shim.ones(1, 1, 4),
            "encoder.patch_encoder.blocks.0.ls1.gamma": shim.ones(4),
            "decoder.convs.1.weight": shim.ones(4, 4, 3, 3),
            "fov.head.0.weight": shim.ones(4, 4, 3, 3),
        },
        path,
    )


def state_dict(path: Path) -> None:
    shim.save({"epoch": 3, "state_dict": {"linear.weight": shim.ones(200, 4)}}, path)


def training(path: Path) -> None:
    shapes = test_optimizers.MODEL
    made = test_optimizers.checkpoint(path.parent, test_optimizers.adam(list(shapes.values())))
    made.rename(path)


def module(path: Path) -> None:
    shutil.copy(FIXTURES / "modules" / "pickled.pt", path)


def plain(path: Path) -> None:
    save_file({"tower.conv.weight": random((4, 3, 2, 2), np.float32)}, path)


def plain_torch(path: Path) -> None:
    shim.save({"tower.conv.weight": shim.ones(4, 3, 2, 2)}, path)


def plain_model(path: Path) -> None:
    write_directory(path, [{"tower.conv.weight": random((4, 3, 2, 2))}], {"model_type": "my_model"})


def vision_model(path: Path) -> None:
    """What the rules file of the page is for."""
    tensors: dict[str, Any] = {
        "visual.patch_embed.proj.weight": random((8, 3, 2, 4, 4)),
        "visual.blocks.0.attn.qkv.weight": random((24, 8)),
        "visual.blocks.0.attn.qkv.bias": random((24,)),
        "model.rotary_emb.inv_freq": random((4,), np.float32),
    }
    for expert in range(2):
        for part in ("gate", "up", "down"):
            tensors[f"model.layers.0.mlp.experts.{expert}.{part}_proj.weight"] = random((8, 8), seed=expert)
    write_directory(path, [tensors], {"model_type": "my_model", "num_experts": 2})


def flux2(path: Path) -> None:
    test_components.pipeline(path)


def flux1(path: Path) -> None:
    """FLUX.1 in small: as many modules as the adapters beside it change."""
    tensors = {
        f"{name}.weight": random((rows, columns))
        for name, (rows, columns, _) in lora_files.MODULES["flux"].items()
    }
    kind = {"_class_name": "FluxTransformer2DModel"}
    test_components.component(path / "transformer", kind, tensors, test_components.STEM)
    classes = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (path / "model_index.json").write_text(json.dumps(classes))


def flux1_file(path: Path) -> None:
    save_file(test_single_files.transformer(), path)


def flux1_diffusers(path: Path) -> None:
    """The single file as diffusers has it, with the config that tells the class."""
    source = path.parent / "source.safetensors"
    flux1_file(source)
    path.mkdir()
    wconv.convert(source, path / "transformer", layout="diffusers")
    source.unlink()
    (path / "transformer" / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')


def image_adapter(path: Path) -> None:
    tensors, metadata = lora_files.adapter(lora_files.MODULES["flux"], scales=False)
    save_file(tensors, path, metadata)


def language_adapter(path: Path) -> None:
    path.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{name}.lora_A.weight": random((2, 8)), f"{name}.lora_B.weight": random((8, 2))}
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]})
    )


def mlx_adapter(path: Path) -> None:
    source = path.parent / f"{path.name}-of-peft"
    language_adapter(source)
    wconv.convert(source, path)
    shutil.rmtree(source)


def quantized(case: str) -> Callable[[Path], None]:
    """A model that is stored in a scheme."""

    def make(path: Path) -> None:
        path.mkdir()
        for name in ("model.safetensors", "config.json"):
            shutil.copy(FIXTURES / "quantized" / case / name, path)

    return make


def quantized_for_mlx(path: Path) -> None:
    source = path.parent / "powers"
    quantized("fp8-powers")(source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    wconv.convert(source, path)
    shutil.rmtree(source)


def script(path: Path) -> None:
    path.write_text(
        "import sys\nimport torch\n"
        "weights = torch.load(sys.argv[2], map_location='cpu')\n"
        "print({name: value.numpy().shape for name, value in weights.items()})\n"
    )


def distributed(case: str) -> Callable[[Path], None]:
    """Makes a copy of a training checkpoint of the fixtures, without the result beside it."""
    source = Path(__file__).parent.parent / "fixtures" / "training" / case

    def make(path: Path) -> None:
        shutil.copytree(source, path)

    return make


def base_model(path: Path) -> None:
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "my_model"}')


def megatron(path: Path) -> None:
    test_megatron.ranks(path, 2, [3])


def nemo(path: Path) -> None:
    test_yaml_text.nemo(path, {"./model_weights.ckpt": test_yaml_text.weights()})


MAKERS: dict[str, dict[str, Callable[[Path], None]]] = {
    "README": {
        "Logics-Parsing": qwen2_5_vl,
        "depth_pro.pt": depth_pro,
        "model.ckpt": state_dict,
        "Qwen/Qwen2.5-0.5B-Instruct": llama,
        "FLUX.2-klein-4B": flux2,
        "lora.safetensors": image_adapter,
    },
    "know": {"Logics-Parsing": qwen2_5_vl, "model.ckpt": state_dict},
    "adapters": {
        "lora.safetensors": image_adapter,
        "peft_adapter": language_adapter,
        "adapters": mlx_adapter,
        "FLUX.1-dev": flux1,
        "style.safetensors": image_adapter,
        "detail.safetensors": image_adapter,
    },
    "checkpoints": {
        "checkpoint-dcp": distributed("dcp-4"),
        "base-model": base_model,
        "global_step1000": distributed("zero-2/global_step2"),
        "checkpoint-500": distributed("ranks-4"),
        "iter_0001000": megatron,
        "model.nemo": nemo,
        "orbax-checkpoint": distributed("orbax"),
        "model": plain_model,
    },
    "hub": {"Qwen/Qwen2.5-0.5B-Instruct": llama},
    "converting": {"Logics-Parsing": qwen2_5_vl},
    "drop-torch": {"model.pt": plain_torch, "convert.py": script},
    "image-models": {
        "FLUX.2-klein-4B": flux2,
        "flux1-dev.safetensors": flux1_file,
        "FLUX.1-dev": Path.mkdir,
        "FLUX.1-diffusers": flux1_diffusers,
    },
    "jax": {"FLUX.2-dev": flux2},
    "library": {"Logics-Parsing": llama, "model.ckpt": state_dict, "depth_pro.pt": depth_pro},
    "modules": {"model.pt": module},
    "pytorch": {"depth_pro.pt": depth_pro, "model-with-bin-shards": bin_shards, "model.ckpt": state_dict},
    "quantized": {
        "Model-GPTQ-Int4": quantized("gptq-4"),
        "Model-FP8": quantized("fp8-blocks"),
        "Model-AWQ": quantized("awq-gemm"),
        "Model-4bit-MLX": quantized_for_mlx,
        "Model-GPTQ": quantized("gptq-4-order"),
    },
    "quantize": {"Logics-Parsing": qwen2_5_vl},
    "rules": {"My-Model": vision_model, "my_model.pt": plain_torch},
    "training": {"checkpoint.ckpt": training},
    "way-back": {"Logics-Parsing-MLX": converted, "model.safetensors": plain},
}
"""Page → what its examples are run on."""


def prepare(page: str, directory: Path) -> None:
    """Makes in `directory` what the examples of a page name."""
    for name, make in MAKERS.get(page, {}).items():
        make(directory / name)

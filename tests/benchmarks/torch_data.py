"""Checkpoints of a given size that torch itself writes."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.data import Named, Weights, qwen_shapes, split, write_model


def many_tensors(path: Path, scale: float) -> Path:
    """A `.pt` of 100,000 tensors of four numbers."""
    import torch

    path.mkdir(parents=True)
    state = {f"layers.{at}.weight": torch.full((4,), float(at)) for at in range(int(100_000 * scale))}
    torch.save(state, path / "many.pt")
    return path


def shards(path: Path, scale: float) -> Path:
    """3 GB in the shape of Qwen2.5-7B, as `pytorch_model-….bin` in `bin` and as safetensors beside it."""
    import torch

    config, shapes = qwen_shapes(3e9 * scale)
    parts = split(shapes, 4)
    write_model(path / "safetensors", config, parts, "bfloat16")
    directory = path / "bin"
    directory.mkdir()
    weights = Weights("bfloat16")
    weight_map = {}
    for number, part in enumerate(parts, 1):
        name = f"pytorch_model-{number:05d}-of-{len(parts):05d}.bin"
        torch.save({tensor: _tensor(weights, shape) for tensor, shape in part}, directory / name)
        weight_map.update({tensor: name for tensor, _ in part})
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((path / "safetensors" / name).read_bytes())
    return path


def depth_pro(path: Path, scale: float) -> Path:
    """`depth_pro.pt` in full size, whatever the scale: 1,119 tensors, 1.9 GB in float16."""
    import torch

    path.mkdir(parents=True)
    weights = Weights("float16")
    torch.save({name: _tensor(weights, shape) for name, shape in depth_pro_shapes()}, path / "depth_pro.pt")
    return path


def depth_pro_shapes() -> Iterator[Named]:
    """All names and shapes of Apple's depth_pro.pt."""
    for prefix in ("encoder.patch_encoder", "encoder.image_encoder", "fov.encoder.0"):
        yield from _vision_transformer(prefix)
    for name, width, rows, count in UPSAMPLERS:
        yield f"encoder.{name}.0.weight", (width, 1024, 1, 1)
        for at in range(1, count):
            yield f"encoder.{name}.{at}.weight", (rows, rows, 2, 2)
    yield from _layer("encoder.upsample_lowres", (1024, 1024, 2, 2))
    yield from _layer("encoder.fuse_lowres", (1024, 2048, 1, 1))
    for at, width in ((1, 256), (2, 512), (3, 1024), (4, 1024)):
        yield f"decoder.convs.{at}.weight", (256, width, 3, 3)
    for at in range(5):
        for name in ("resnet1.residual.1", "resnet1.residual.3", "resnet2.residual.1", "resnet2.residual.3"):
            yield from _layer(f"decoder.fusions.{at}.{name}", (256, 256, 3, 3))
        if at:
            yield f"decoder.fusions.{at}.deconv.weight", (256, 256, 2, 2)
        yield from _layer(f"decoder.fusions.{at}.out_conv", (256, 256, 1, 1))
    for name, shape in HEADS.items():
        yield from _layer(name, shape)


UPSAMPLERS = (
    ("upsample_latent0", 256, 256, 4),
    ("upsample_latent1", 256, 256, 3),
    ("upsample0", 512, 512, 2),
    ("upsample1", 1024, 1024, 2),
    ("upsample2", 1024, 1024, 2),
)

HEADS = {
    "head.0": (128, 256, 3, 3),
    "head.1": (128, 128, 2, 2),
    "head.2": (32, 128, 3, 3),
    "head.4": (1, 32, 1, 1),
    "fov.encoder.1": (128, 1024),
    "fov.downsample.0": (128, 256, 3, 3),
    "fov.head.0": (64, 128, 3, 3),
    "fov.head.2": (32, 64, 3, 3),
    "fov.head.4": (1, 32, 6, 6),
}


def _vision_transformer(prefix: str) -> Iterator[Named]:
    yield f"{prefix}.cls_token", (1, 1, 1024)
    yield f"{prefix}.pos_embed", (1, 577, 1024)
    yield from _layer(f"{prefix}.patch_embed.proj", (1024, 3, 16, 16))
    for at in range(24):
        block = f"{prefix}.blocks.{at}"
        yield from _layer(f"{block}.norm1", (1024,))
        yield from _layer(f"{block}.attn.qkv", (3072, 1024))
        yield from _layer(f"{block}.attn.proj", (1024, 1024))
        yield f"{block}.ls1.gamma", (1024,)
        yield from _layer(f"{block}.norm2", (1024,))
        yield from _layer(f"{block}.mlp.fc1", (4096, 1024))
        yield from _layer(f"{block}.mlp.fc2", (1024, 4096))
        yield f"{block}.ls2.gamma", (1024,)
    yield from _layer(f"{prefix}.norm", (1024,))


def _layer(name: str, shape: tuple[int, ...]) -> Iterator[Named]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _tensor(weights: Weights, shape: tuple[int, ...]) -> Any:
    import torch

    array = weights.take((math.prod(shape),))
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}[array.dtype.name]
    return torch.from_numpy(array.view("int16")).view(dtype).reshape(shape)


def deflated(path: Path, scale: float) -> Path:
    """A `.pt` of half a gigabyte in the shape of Qwen2.5-7B, zipped again with compression."""
    import torch

    path.mkdir(parents=True)
    _, shapes = qwen_shapes(5e8 * scale)
    weights = Weights("bfloat16")
    whole = path / "whole.pt"
    torch.save({name: _tensor(weights, shape) for name, shape in shapes}, whole)
    with zipfile.ZipFile(whole) as stored, zipfile.ZipFile(path / "deflated.pt", "w") as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name), zipfile.ZIP_DEFLATED, compresslevel=1)
    whole.unlink()
    return path / "deflated.pt"

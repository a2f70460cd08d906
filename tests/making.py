"""Small checkpoints for tests, written by the safetensors package itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[Any]


def random(shape: tuple[int, ...], dtype: Any = ml_dtypes.bfloat16, seed: int = 0) -> Array:
    """Normal random values of a floating dtype."""
    values = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return values.astype(dtype)


def write_file(path: Path, tensors: Mapping[str, Array], metadata: dict[str, str] | None = None) -> Path:
    save_file(dict(tensors), path, metadata or {"format": "pt"})
    return path


def write_directory(
    path: Path,
    shards: list[Mapping[str, Array]],
    config: Mapping[str, Any] | None = None,
    *,
    index: bool = True,
) -> Path:
    """A model directory: `model.safetensors`, or numbered shards with an index."""
    path.mkdir(parents=True)
    count = len(shards)
    names = [
        f"model-{number:05d}-of-{count:05d}.safetensors" if count > 1 else "model.safetensors"
        for number in range(1, count + 1)
    ]
    for name, tensors in zip(names, shards, strict=True):
        write_file(path / name, tensors)
    if index and count > 1:
        weight_map = {key: name for name, tensors in zip(names, shards, strict=True) for key in tensors}
        (path / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": weight_map})
        )
    (path / "config.json").write_text(json.dumps(config or {"model_type": "nobody_knows"}))
    return path


def raw_safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with any header at all: an object that becomes JSON, or the header's very bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def bits(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    """What two arrays must share to be the same tensor, bit for bit."""
    return str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes()

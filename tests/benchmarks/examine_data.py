"""What `inspect`, `diff` and `verify` look at: two models that differ a little, a result with its source."""

from __future__ import annotations

import shutil
from pathlib import Path

import wconv
from tests.benchmarks.data import qwen


def two_models(path: Path, scale: float) -> Path:
    """Two models of 3 GB, the second a fine-tune of the first: a thousandth of its bytes differ."""
    path.mkdir()
    qwen(path / "a", scale)
    shutil.copytree(path / "a", path / "b")
    for shard in sorted((path / "b").glob("*.safetensors")):
        with shard.open("r+b") as file:
            size = shard.stat().st_size
            for at in range(1 << 20, size - (1 << 12), 1 << 22):
                file.seek(at & ~1)
                file.write(b"\x00\x3c" * (1 << 11))
    return path


def result_and_source(path: Path, scale: float) -> Path:
    """A model of 3 GB, and what was made of it in float16."""
    path.mkdir()
    qwen(path / "source", scale)
    wconv.convert(path / "source", path / "result", dtype="float16", sync=False)
    return path

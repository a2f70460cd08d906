"""Programs that tests compare with: skipped where they are missing, required in CI."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


def oracle(name: str) -> ModuleType:
    """The module `name`; a missing one skips the test, and fails it when the environment says CI."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(f"the oracle {name} is missing in CI: {error}")
        pytest.skip(f"{name} is not installed")


BESIDE = {
    "diffusers": "WCONV_DIFFUSERS",
    "peft": "WCONV_PEFT",
    "gguf": "WCONV_GGUF",
    "mlx-whisper": "WCONV_MLX_WHISPER",
    "mlx-embeddings": "WCONV_MLX_EMBEDDINGS",
    "parakeet-mlx": "WCONV_PARAKEET_MLX",
    "mlx-vlm 0.6.0": "WCONV_OLD_MLX_VLM",
    "orbax-checkpoint": "WCONV_ORBAX",
    "dask": "WCONV_DASK",
    "ray": "WCONV_RAY",
    "mpi": "WCONV_MPI",
    "model-signing": "WCONV_MODEL_SIGNING",
    "scanners": "WCONV_SCANNERS",
    "s3": "WCONV_S3",
}
"""Programs that lie beside the environment, because they wish for other versions of what is in it, and the
variables that name their directories (`pip install --no-deps --target DIRECTORY`)."""


def directory_of(name: str) -> str:
    """Where a program of `BESIDE` is; a missing one skips the test, and fails it in CI."""
    place = os.environ.get(BESIDE[name])
    if place:
        return place
    if os.environ.get("CI"):
        pytest.fail(f"{BESIDE[name]} must name the directory of {name} in CI")
    pytest.skip(f"{BESIDE[name]} does not name the directory of {name}")


def run_script(script: Path, *arguments: str, beside: str = "") -> str:
    """Runs a script in a process of its own, which must succeed; what it prints.

    Args:
        beside: a directory whose packages it finds first.
    """
    command = [sys.executable, str(script), *arguments]
    environment = {**os.environ, "PYTHONPATH": beside} if beside else None
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

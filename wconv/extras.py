"""Libraries that only some jobs need: imported when they are, and named where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from wconv.errors import WconvError

EXTRAS = {
    "mlx.core": "mlx",
    "distributed": "dask",
    "fsspec": "hub",
    "huggingface_hub": "hub",
    "ray": "ray",
    "mpi4py.futures": "mpi",
    "zstandard": "jax",
}
"""Module → the extra of wconv that brings it."""


def require(module: str, job: str) -> Any:
    """A module that may not be installed.

    Args:
        module: its name.
        job: what needs it ("load_mlx"), for the message.

    Raises:
        WconvError: it is not installed, or does not run on this machine; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package:
            raise WconvError(
                f"{job} needs {package}, which is not installed: pip install 'wconv[{EXTRAS[module]}]'"
            ) from None
        raise WconvError(f"{job} needs {package}, which cannot be loaded here: {error}") from None

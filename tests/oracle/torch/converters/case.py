"""One converter: how its checkpoint is made with torch, how it is run; what it gives, as a fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """A function or script that moves weights.

    Attributes:
        program: the package, as a registry has it; or the repository of a script.
        what: the module, function or script in it.
        make: writes the checkpoint into a folder, given torch.
        run: runs the converter on the folder; returns tensors by name, or writes files into `out`.
        home: the variable that names the directory of a program that is not in the environment.
        close: the largest difference of what is computed (a norm, a product) in units of the last place.
    """

    program: str
    what: str
    make: Callable[[Any, Path], None]
    run: Callable[[Path, Path], Mapping[str, Any] | None]
    home: str = ""
    close: int = 0

    @property
    def name(self) -> str:
        return re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.program}.{self.what}").strip("-")


def tensors(torch: Any, shapes: Mapping[str, tuple[int, ...]], *dtypes: str) -> dict[str, Any]:
    """A state dict of random numbers, in the dtypes by turns."""
    kinds = [getattr(torch, name) for name in dtypes or ("float32",)]
    return {
        name: torch.randn(shape).to(kinds[at % len(kinds)]) for at, (name, shape) in enumerate(shapes.items())
    }


def array(value: Any) -> np.ndarray[Any, Any]:
    """An array of a tensor of torch's or MLX's, or of a number; its bytes where numpy has no such dtype."""
    kind = type(value).__module__.partition(".")[0]
    if kind == "mlx":
        import mlx.core as mx

        return np.array(value.view(mx.uint16) if value.dtype == mx.bfloat16 else value)
    if hasattr(value, "untyped_storage"):
        import torch

        flat = value.detach().contiguous().reshape(-1)
        plain = flat if flat.dtype in (torch.float32, torch.float64) else flat.view(torch.uint8)
        return np.array(plain.numpy()).reshape(-1)
    return np.asarray(value)


def fingerprint(value: Any) -> list[Any]:
    """What is compared: dtype, shape, and the bytes; the values themselves of few float32 numbers."""
    held = array(value)
    kind = str(getattr(value, "dtype", type(value).__name__)).rpartition(".")[2]
    data = np.ascontiguousarray(held)
    found = [kind, list(np.shape(value)), hashlib.sha256(data.tobytes()).hexdigest()[:16]]
    if data.dtype == np.float32 and data.size < 4096:
        found.append(data.view(np.int32).reshape(-1).tolist())
    return found


def written(folder: Path) -> dict[str, Any]:
    """The files of a folder, by their bytes; the arrays of npz files, whose zip holds the time."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".npz":
            found |= {f"{name}/{key}": fingerprint(held) for key, held in np.load(path).items()}
        elif path.suffix in (".pt", ".pth"):
            import torch

            state = torch.load(path, map_location="cpu", weights_only=True)
            found |= {f"{name}/{key}": fingerprint(held) for key, held in state.items()}
        elif path.suffix == ".safetensors":
            data = path.read_bytes()
            end = 8 + int.from_bytes(data[:8], "little")
            header = json.dumps(json.loads(data[8:end]), sort_keys=True)  # metadata is in no order
            found[name] = hashlib.sha256(header.encode() + data[end:]).hexdigest()[:16]
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found

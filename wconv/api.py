"""Whole checkpoints as numpy arrays: `load`, and `save` for the way back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wconv import opening
from wconv.conversion.report import warn_of_overflows
from wconv.errors import FormatError, OutputError, WconvError, require_name
from wconv.old_names import takes_old_names
from wconv.stores import durable
from wconv.tensors import dtypes
from wconv.tensors.lazy import Array, LazyTensor, from_array
from wconv.tensors.reading import read_all
from wconv.writing import writer
from wconv.writing.plan import Entry, make
from wconv.writing.workspace import Workspace, check_space

MLX_SUFFIX = ".safetensors"


@takes_old_names
def load(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    allow_inflation: bool = False,
    skip_unreadable: bool = False,
) -> dict[str, Array]:
    """Reads every tensor of a checkpoint into memory, in place of `torch.load`.

    bfloat16 and float8 arrays have ml_dtypes' dtypes; `jax.numpy.asarray` takes them as they are.

    Args:
        path: a weights file of any supported format, or a model directory.
        key: for a wrapped PyTorch checkpoint, the path to its state dict; found when absent.
        allow_inflation: allows tensors that take far more than their file (expanded views, sparse, deflated).
        skip_unreadable: leaves out tensors whose values cannot be had, which are an error otherwise.

    Raises:
        FormatError: the file cannot be read, or holds no tensor; the message says why.

    Example:
        >>> wconv.load("model.ckpt")["linear.weight"].dtype
        dtype('float32')
    """
    opened = opening.open(path, key=key, allow_inflation=allow_inflation, skip_unreadable=skip_unreadable)
    if not opened.tensors:
        raise FormatError(f"{opened.path} holds no tensors")
    return read_all(opened.tensors)


def save(
    tensors: Mapping[str, Any],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors to one safetensors file, replacing it only when everything is written.

    Warns of values that overflowed in casts of lazy tensors.

    Args:
        tensors: numpy (or ml_dtypes), MLX or lazy tensors by name; dtypes are kept. Lazy ones are streamed.
        metadata: strings for the header; `{"format": "pt"}` when absent, which transformers asks for.

    Raises:
        WconvError: something is no tensor, or its dtype has no place in safetensors.
        OutputError: the file cannot be written.

    Example:
        >>> wconv.save({"half": wconv.load("model.ckpt")["linear.weight"][:100]}, "half.safetensors")
        >>> wconv.open("half.safetensors")["half"].shape
        (100, 4)
    """
    require_name(path, "the path of the file to be written", OutputError)
    target = Path(path)
    if target.suffix != MLX_SUFFIX:
        raise OutputError(f"{target}: save writes safetensors; end the name in {MLX_SUFFIX}")
    entries = [_entry(name, value) for name, value in tensors.items()]
    plan = make(entries, metadata or {"format": "pt"}, filename=target.name)
    with Workspace(target, "save", overwrite=True, resume=False) as workspace:
        try:
            check_space(workspace.path, plan.nbytes)
            written = writer.write(plan.shards, workspace.path)
            workspace.commit()
            durable.sync_path(target.parent)
        except BaseException:
            workspace.discard()
            raise
    warn_of_overflows(target, {name: lost for one in written for name, lost in one.overflows.items()})


def _entry(name: str, value: Any) -> Entry:
    tensor = value if isinstance(value, LazyTensor) else from_array(_as_numpy(name, value))
    if tensor.dtype.bits < 8:
        raise WconvError(f"{name} is {tensor.dtype.name}: cast it to a dtype of whole bytes first")
    return Entry(name, tensor, tensor.dtype)


def _as_numpy(name: str, value: Any) -> Array:
    import numpy as np

    if type(value).__module__.startswith("mlx."):
        import mlx.core as mx

        if value.dtype == mx.bfloat16:
            return np.array(value.view(mx.uint16)).view(dtypes.by_name("bfloat16").numpy)
    try:
        array = np.asarray(value)
    except ValueError:
        raise WconvError(f"{name} is a {type(value).__name__}, no tensor") from None
    if array.dtype.hasobject:
        raise WconvError(f"{name} is a {type(value).__name__}, no tensor")
    return array

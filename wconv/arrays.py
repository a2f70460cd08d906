"""Whole checkpoints as arrays: `load` for numpy, `load_mlx` for MLX, `save` for the way back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wconv import checkpoint, dtypes, layouts, writer
from wconv.dtypes import DTypeLike
from wconv.errors import OutputError, WconvError
from wconv.plan import Entry, make
from wconv.storable import written_dtypes
from wconv.tensor import Array, LazyTensor, from_array
from wconv.workspace import Workspace, check_space

if TYPE_CHECKING:
    import mlx.core as mx

    from wconv.layouts import Layout

MLX_SUFFIX = ".safetensors"


def load(path: str | os.PathLike[str], *, key: str | None = None, expand: bool = False) -> dict[str, Array]:
    """Reads every tensor of a checkpoint into memory, in place of `torch.load`.

    bfloat16 and float8 arrays have ml_dtypes' dtypes; `jax.numpy.asarray` takes them as they are.

    Args:
        path: a weights file of any supported format, or a model directory.
        key: for a wrapped PyTorch checkpoint, the path to its state dict; found when absent.
        expand: allows tensors that take far more than their file (expanded views, sparse, deflated).

    Raises:
        FormatError: the file cannot be read; the message says why.

    Example:
        >>> wconv.load("model.ckpt")["linear.weight"].dtype
        dtype(bfloat16)
    """
    return {name: tensor.numpy() for name, tensor in checkpoint.open(path, key=key, expand=expand).items()}


def load_mlx(
    path: str | os.PathLike[str],
    *,
    layout: str | Layout = "hf",
    dtype: DTypeLike | None = None,
    key: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, mx.array]:
    """Reads every tensor of a checkpoint as MLX arrays, in place of `mx.load` and of `torch.load`.

    Dtypes that MLX lacks become what `wconv` writes for them (float64 → float32).

    Args:
        layout: "hf" keeps names and layouts; "auto", a consumer's name ("mflux") or a Layout of your own
            applies rules.
        dtype: cast floating tensors to it: "float16", `mx.float16`, `np.float16`.
        options: what a layout lets one choose ("include_fov").

    Raises:
        FormatError: the file cannot be read.
        LayoutError: the tensors do not fit the layout.
    """
    opened = checkpoint.open(path, key=key)
    chosen = layouts.choose(layout, opened.config, opened.tensors)
    applied = layouts.apply(chosen, opened.tensors, opened.config, options)
    requested = dtypes.of(dtype) if dtype is not None else None
    arrays: dict[str, mx.array] = {}
    written = written_dtypes(applied.tensors, requested, applied.keep_dtype)
    for (name, tensor), to in zip(applied.tensors.items(), written, strict=True):
        arrays[name] = to_mlx(tensor.cast(to).numpy())
    return arrays


def to_mlx(array: Array) -> mx.array:
    """A numpy or ml_dtypes array as an MLX array of the same bits; fp8 as uint8, as `mx.load` has it."""
    import mlx.core as mx

    dtype = dtypes.from_numpy(array.dtype)
    if dtype.module == "numpy":
        return mx.array(array)
    raw = mx.array(array.view(f"uint{dtype.bits}"))
    return raw.view(getattr(mx, dtype.mlx)) if dtype.mlx else raw


def save(
    tensors: Mapping[str, Any],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors to one safetensors file, replacing it only when everything is written.

    Args:
        tensors: numpy (or ml_dtypes), MLX or lazy tensors by name; dtypes are kept. Lazy ones are streamed.
        metadata: strings for the header; `{"format": "pt"}` when absent, which transformers asks for.

    Raises:
        WconvError: something is no tensor, or its dtype has no place in safetensors.
        OutputError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix != MLX_SUFFIX:
        raise OutputError(f"{target}: save writes safetensors; end the name in {MLX_SUFFIX}")
    entries = [_entry(name, value) for name, value in tensors.items()]
    plan = make(entries, metadata or {"format": "pt"}, filename=target.name)
    with Workspace(target, "save", overwrite=True, resume=False) as workspace:
        try:
            check_space(workspace.path, plan.nbytes)
            writer.write(plan.shards, workspace.path)
            workspace.commit()
        except BaseException:
            workspace.discard()
            raise


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

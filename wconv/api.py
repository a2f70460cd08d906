"""Whole checkpoints as arrays: `load` for numpy, `load_mlx` for MLX, `save` for the way back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wconv import opening
from wconv.consumers.quantization.recipes import Recipe
from wconv.conversion.planned import states
from wconv.conversion.report import overflow_line
from wconv.errors import FormatError, OutputError, WconvError, require_name
from wconv.extras import require
from wconv.stores import durable
from wconv.tensors import dtypes
from wconv.tensors.casts import Overflow
from wconv.tensors.dtypes import DTypeLike
from wconv.tensors.lazy import Array, LazyTensor, from_array
from wconv.writing import writer
from wconv.writing.buffers import Buffers, read
from wconv.writing.plan import Entry, make
from wconv.writing.workspace import Workspace, check_space

if TYPE_CHECKING:
    import mlx.core as mx

    from wconv.layouts.apply import Layout
    from wconv.lora.read import Lora

MLX_SUFFIX = ".safetensors"


def load(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    expand: bool = False,
    skip_unreadable: bool = False,
) -> dict[str, Array]:
    """Reads every tensor of a checkpoint into memory, in place of `torch.load`.

    bfloat16 and float8 arrays have ml_dtypes' dtypes; `jax.numpy.asarray` takes them as they are.

    Args:
        path: a weights file of any supported format, or a model directory.
        key: for a wrapped PyTorch checkpoint, the path to its state dict; found when absent.
        expand: allows tensors that take far more than their file (expanded views, sparse, deflated).
        skip_unreadable: leaves out tensors whose values cannot be had, which are an error otherwise.

    Raises:
        FormatError: the file cannot be read, or holds no tensor; the message says why.

    Example:
        >>> wconv.load("model.ckpt")["linear.weight"].dtype
        dtype(bfloat16)
    """
    opened = opening.open(path, key=key, expand=expand, skip_unreadable=skip_unreadable)
    if not opened.tensors:
        raise FormatError(f"{opened.path} holds no tensors")
    return {name: tensor.numpy() for name, tensor in opened.items()}


def load_mlx(
    path: str | os.PathLike[str],
    *,
    layout: str | Layout | None = None,
    dtype: DTypeLike | None = None,
    key: str | None = None,
    options: Mapping[str, Any] | None = None,
    rules: str | os.PathLike[str] | Layout | None = None,
    include: str | None = None,
    exclude: str | None = None,
    expand: bool = False,
    skip_unreadable: bool = False,
    q_bits: int | None = None,
    quantize: Recipe | None = None,
    dequantize: bool = False,
    component: Sequence[str] = (),
    variant: str | None = None,
    merge_lora: Sequence[str | Lora] = (),
    strict: bool = False,
) -> dict[str, mx.array]:
    """Reads every tensor of a checkpoint as MLX arrays, in place of `mx.load` and of `torch.load`.

    The arrays are those that `convert` would write with the same arguments, without a file between. Those of
    a directory with several components are called "transformer/proj_out.weight".

    Args:
        layout: None keeps names and layouts; otherwise as for `convert`: "auto", a consumer's name ("mflux"),
            "hf" for the way back to the hub's, or a Layout of your own.
        dtype: "float16", "bfloat16" or "float32" (`mx.float16`, `np.float16` …) for all floating tensors;
            their own when absent. Dtypes that MLX lacks become what is written for them (float64 → float32).
        key, options, rules, include, exclude, expand, skip_unreadable, component, variant, merge_lora: as for
            `convert`.
        strict: a value that overflows is an error; a warning otherwise.

    Raises:
        FormatError: the file cannot be read, or holds no tensor.
        LayoutError: the tensors do not fit the layout.
        OutputError: `strict` and something overflowed.
    """
    require("mlx.core", "load_mlx")
    from wconv.consumers.lay_out import AS_STORED
    from wconv.conversion.prepare import prepare

    conversion = prepare(
        path,
        layout=layout if layout is not None else AS_STORED if rules is None else "auto",
        rules=rules,
        dtype=dtype,
        key=key,
        options=options,
        include=include,
        exclude=exclude,
        expand=expand,
        skip_unreadable=skip_unreadable,
        quantize=quantize if quantize is not None or q_bits is None else Recipe(bits=q_bits),
        dequantize=dequantize,
        component=component,
        variant=variant,
        merge_lora=merge_lora,
    )
    if conversion.needs_header:
        raise OutputError(
            f"{path}: {conversion.report.layout} reads scales from the header of a file: convert it to one"
        )
    arrays: dict[str, mx.array] = {}
    overflows: dict[str, Overflow] = {}
    buffers = Buffers()
    for shard in conversion.plan.shards:
        for entry, array, lost in read(shard.entries, buffers):
            arrays[shard.label(entry.name)] = to_mlx(array)
            if lost.count:
                overflows[shard.label(entry.name)] = lost
    opened = conversion.checkpoint
    if states(opened.files) != conversion.states:
        raise FormatError(f"{opened.path} changed while it was read: load it again")
    _tell(opened.path, overflows, strict=strict)
    return arrays


def _tell(path: Path, overflows: Mapping[str, Overflow], *, strict: bool = False) -> None:
    """Says what casts lost, to the caller of the function that calls this."""
    if not overflows:
        return
    text = f"{path}: {overflow_line(overflows)}"
    if strict:
        raise OutputError(text)
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def to_mlx(array: Array) -> mx.array:
    """A numpy or ml_dtypes array as an MLX array of the same bits; fp8 as uint8, as `mx.load` has it."""
    core = require("mlx.core", "load_mlx")
    dtype = dtypes.from_numpy(array.dtype)
    if dtype.module == "numpy":
        made: mx.array = core.array(array)
        return made
    raw: mx.array = core.array(array.view(f"uint{dtype.bits}"))
    return raw.view(getattr(core, dtype.mlx)) if dtype.mlx else raw


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
    _tell(target, {name: lost for one in written for name, lost in one.overflows.items()})


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

"""Checkpoints as MLX arrays: the stages of a conversion, ended in arrays instead of files."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Unpack

from wconv.conversion.options import SourceArguments, options_of, takes_options
from wconv.conversion.planned import reading, stamps_of
from wconv.conversion.report import warn_of_overflows
from wconv.errors import FormatError, OutputError
from wconv.extras import require
from wconv.tensors import dtypes
from wconv.tensors.casts import Overflow
from wconv.tensors.lazy import Array

if TYPE_CHECKING:
    import mlx.core as mx

    from wconv.layouts.apply import Layout
    from wconv.writing.plan import Entry

LARGE = 1 << 20
"""Bytes from which on a tensor is read into MLX's own memory."""


@takes_options(SourceArguments)
def load_mlx(
    path: str | os.PathLike[str],
    *,
    layout: str | Layout | None = None,
    q_bits: int | None = None,
    strict: bool = False,
    **options: Unpack[SourceArguments],
) -> dict[str, mx.array]:
    """Reads every tensor of a checkpoint as MLX arrays, in place of `mx.load` and of `torch.load`.

    The arrays are those that `convert` writes for the same layout and options, without a file between. Those
    of a directory with several components are called "transformer/proj_out.weight".

    Args:
        path: a model directory or a weights file.
        layout: None keeps names and axes as they are stored, whosever they are (with `rules`, they are
            applied). Otherwise as for `convert`: "auto", a consumer's name ("mflux"), "hf", which lays an MLX
            model back to the hub's names and axes and keeps those of any other, or a Layout of your own.
        q_bits: quantizes to so many bits, in groups of 64; `quantize` says it in full.
        strict: a value that overflows is an error; a warning otherwise.
        options: `help(wconv.ConvertOptions)` describes each; those for files (`format`, `max_shard_size`,
            `optimizer`) are not among them. Dtypes that MLX lacks become what is written for them
            (float64 → float32).

    Raises:
        FormatError: the file cannot be read, or holds no tensor.
        LayoutError: the tensors do not fit the layout.
        OutputError: `strict` and something overflowed.

    Example:
        >>> arrays = wconv.load_mlx("model.ckpt", dtype="float16")
        >>> arrays["linear.weight"].dtype
        mlx.core.float16
    """
    require("mlx.core", "load_mlx")
    from wconv.consumers.lay_out import AS_STORED
    from wconv.consumers.quantization.recipes import Quantize
    from wconv.conversion.prepare import plan
    from wconv.tensors.borrowed import keeping
    from wconv.writing.arrays import read

    if layout is None:
        layout = AS_STORED if options.get("rules") is None else "auto"
    if q_bits is not None:
        options.setdefault("quantize", Quantize(bits=q_bits))
    conversion = plan(path, None, options_of("load_mlx", options, SourceArguments, layout=layout))
    if conversion.needs_header:
        raise OutputError(
            f"{path}: {conversion.report.layout} reads scales from the header of a file: convert it to one"
        )
    arrays: dict[str, mx.array] = {}
    made: dict[str, mx.array] = {}

    def room(entry: Entry) -> Array | None:
        array = _empty(entry)
        if array is None:
            return None
        made[entry.name], memory = array
        return memory

    overflows: dict[str, Overflow] = {}
    opened = conversion.checkpoint
    with reading(opened), keeping():
        for shard in conversion.plan.shards:
            for entry, array, lost in read(shard.entries, room=room):
                ready = made.pop(entry.name, None)
                arrays[shard.label(entry.name)] = to_mlx(array) if ready is None else ready
                if lost.count:
                    overflows[shard.label(entry.name)] = lost
    if stamps_of(opened.files) != conversion.stamps:
        raise FormatError(f"{opened.path} changed while it was read: load it again")
    warn_of_overflows(opened.path, overflows, strict=strict)
    return arrays


def _empty(entry: Entry) -> tuple[mx.array, Array] | None:
    """An array of MLX's for a large entry, and its memory to read into: one copy of the data less.

    None where the entry is small, or of a dtype that MLX has no view of.
    """
    dtype = entry.dtype
    if entry.nbytes < LARGE or not dtype.is_floating or not dtype.mlx or dtype.bits not in (16, 32):
        return None
    import numpy as np

    core = require("mlx.core", "load_mlx")
    raw = core.zeros((math.prod(entry.shape),), getattr(core, f"uint{dtype.bits}"))
    made: mx.array = raw.view(getattr(core, dtype.mlx)).reshape(entry.shape)
    core.eval(raw, made)
    memory = np.array(raw, copy=False)
    if (
        not memory.flags.writeable
        or np.array(made.view(raw.dtype), copy=False).ctypes.data != memory.ctypes.data
    ):
        return None
    return made, memory.view(dtype.numpy)


def to_mlx(array: Array) -> mx.array:
    """A numpy or ml_dtypes array as an MLX array of the same bits; fp8 as uint8, as `mx.load` has it."""
    core = require("mlx.core", "load_mlx")
    dtype = dtypes.from_numpy(array.dtype)
    if dtype.module == "numpy":
        made: mx.array = core.array(array)
        return made
    raw: mx.array = core.array(array.view(f"uint{dtype.bits}"))
    return raw.view(getattr(core, dtype.mlx)) if dtype.mlx else raw

"""Checkpoints as MLX arrays: the stages of a conversion, ended in arrays instead of files."""

from __future__ import annotations

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
    from wconv.writing.mlx_memory import rooms_for

    if layout is None:
        layout = AS_STORED if options.get("rules") is None else "auto"
    if q_bits is not None:
        options.setdefault("quantize", Quantize(bits=q_bits))
    conversion = plan(path, None, options_of("load_mlx", options, SourceArguments, layout=layout))
    if conversion.needs_header:
        raise OutputError(
            f"{path}: {conversion.report.layout} reads scales from the header of a file: convert it to one"
        )
    shards = conversion.plan.shards
    entries = [entry for shard in shards for entry in shard.entries]
    labels = (shard.label(entry.name) for shard in shards for entry in shard.entries)
    rooms = rooms_for(entries)

    def memory(entry: Entry) -> Array | None:
        room = rooms.get(id(entry))
        return None if room is None else room.memory

    arrays: dict[str, mx.array] = {}
    overflows: dict[str, Overflow] = {}
    opened = conversion.checkpoint
    with reading(opened), keeping():
        for label, (entry, array, lost) in zip(labels, read(entries, room=memory), strict=True):
            room = rooms.pop(id(entry), None)
            arrays[label] = to_mlx(array) if room is None else room.array
            if lost.count:
                overflows[label] = lost
    if stamps_of(opened.files) != conversion.stamps:
        raise FormatError(f"{opened.path} changed while it was read: load it again")
    warn_of_overflows(opened.path, overflows, strict=strict)
    return arrays


def to_mlx(array: Array) -> mx.array:
    """A numpy or ml_dtypes array as an MLX array of the same bits; fp8 as uint8, as `mx.load` has it."""
    core = require("mlx.core", "load_mlx")
    dtype = dtypes.from_numpy(array.dtype)
    if dtype.module == "numpy":
        made: mx.array = core.array(array)
        return made
    raw: mx.array = core.array(array.view(f"uint{dtype.bits}"))
    return raw.view(getattr(core, dtype.mlx)) if dtype.mlx else raw

"""A derived table against the consumer: both convert the same tiny checkpoint, parameter by parameter.

The consumer's own conversion is its loader's sanitize, its strict load, its cast, and what it then loads of
that; wconv's is a conversion to files by the table, which the consumer then loads, and the way back.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import wconv
from tests.derive import tables
from tests.derive.programs import Program, casts_of, probe
from tests.derive.sources import Source
from wconv.consumers.layout_choice import choose_layout
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout, apply
from wconv.tensors.lazy import from_array

Arrays = dict[str, Any]
KEPT_WIDE = ("A_log", "dt_bias", "D", "e_score_correction_bias", "expert_bias", "router_bias", "sinks")
"""Ends of names that checkpoints hold in float32 beside bfloat16."""


ITS_OWN = "same: names are the program's own already"
"""Of a checkpoint that is in the program's layout: the way back gives the names of others."""


class DifferentError(AssertionError):
    """wconv's conversion is not the consumer's: which parameter, and how."""


def checkpoint(source: Source) -> dict[str, np.ndarray[Any, Any]]:
    """Random weights for a source: bfloat16, some of them float32, as published."""
    arrays = {}
    for name, shape in source.shapes.items():
        random = np.random.default_rng(zlib.crc32(name.encode()))
        if name in source.integers:
            arrays[name] = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
            continue
        wide = random.standard_normal(shape, np.float32)
        arrays[name] = wide if name.endswith(KEPT_WIDE) else wide.astype(ml_dtypes.bfloat16)
    return arrays


def compare(
    prog: Program, model_type: str, source: Source, layout: Layout | None, work: Path
) -> dict[str, str]:
    """What wconv makes of a checkpoint by a table, in its own dtype and in float16, and the way back.

    Args:
        layout: the table; None for that which wconv chooses itself.

    Returns:
        What was found: "own", "float16" and "back", each "same", or how it differs.
    """
    wconv.save(checkpoint(source), work / "source" / "model.safetensors")
    (work / "source" / "config.json").write_text(json.dumps(source.config, default=str))
    found = {}
    for label, dtype in (("own", None), ("float16", "float16")):
        try:
            theirs = work / f"theirs-{label}"
            stored(converted(prog, model_type, source, work / "source", dtype), theirs)
            expected = converted(prog, model_type, source, theirs, None)
            name = "auto" if layout is not None or _passes(prog, source) else prog.name
            wconv.convert(work / "source", work / label, dtype=dtype, rules=layout, layout=name)
            differs(converted(prog, model_type, source, work / label, None), expected)
            found[label] = "same"
        except (wconv.WconvError, DifferentError, ValueError, KeyError) as error:
            found[label] = f"{type(error).__name__}: {error}".replace(str(work), "")
    found["back"] = _back(source, layout, work)
    return found


def _passes(prog: Program, source: Source) -> bool:
    """Whether a program has no table for a checkpoint, so that names and layouts stay."""
    return choose_layout(prog.name, source.config, source.shapes) is None


def converted(prog: Program, model_type: str, source: Source, path: Path, dtype: str | None) -> Arrays:
    """The parameters that the consumer holds once it has loaded a directory, and cast if it is asked to."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    weights: Arrays = {}
    for shard in sorted(path.glob("*.safetensors")):
        weights.update(mx.load(str(shard)))
    made = probe(prog, model_type, source.config)
    loaded = made.fresh(weights)
    casts = casts_of(made.model)
    made.model.load_weights(list(loaded.items()), strict=True)
    result = {}
    for name, array in tree_flatten(made.model.parameters()):
        if dtype is not None and casts(name) and mx.issubdtype(array.dtype, mx.floating):
            array = array.astype(getattr(mx, dtype))
        result[name] = array
    return result


def stored(arrays: Arrays, to: Path) -> None:
    """Writes a consumer's own conversion, as its converter does."""
    import mlx.core as mx

    to.mkdir()
    mx.save_safetensors(str(to / "model.safetensors"), arrays, {"format": "mlx"})


def differs(got: Arrays, expected: Arrays) -> None:
    """Raises DifferentError for the first parameter that is not the same in dtype, shape and every bit."""
    import mlx.core as mx

    for name in sorted(got.keys() ^ expected.keys()):
        raise DifferentError(f"{name} is {'missing' if name in expected else 'too many'}")
    for name, array in expected.items():
        ours = got[name]
        if (ours.dtype, ours.shape) != (array.dtype, array.shape):
            raise DifferentError(f"{name}: {ours.dtype} {ours.shape}, not {array.dtype} {array.shape}")
        if not mx.array_equal(ours, array, equal_nan=True):
            raise DifferentError(f"{name} holds other numbers")


def _back(source: Source, layout: Layout | None, work: Path) -> str:
    """Whether the conversion in its own dtype, laid back, gives the source's own bits."""
    try:
        if layout is None and set(wconv.open(work / "own")) == set(source.shapes):
            return ITS_OWN
        wconv.convert(work / "own", work / "back", layout="hf", rules=layout)
        before, after = wconv.load(work / "source"), wconv.load(work / "back")
    except (wconv.WconvError, ValueError, OSError) as error:
        return str(error).replace(str(work), "")
    for name in sorted(after.keys() - before.keys()):
        return f"{name} is too many"
    lost = [name for name in before if name not in after]
    for name, array in sorted(after.items()):
        if array.dtype != before[name].dtype or array.tobytes() != before[name].tobytes():
            return f"{name} has other bits"
    return f"same, without {len(lost)} left out" if lost else "same"


def against_written(prog: Program, model_type: str, source: Source, layout: Layout) -> str:
    """How a derived table differs in effect from a written one: "same", or "" where there is none."""
    written = tables.written(prog.name, model_type)
    if written is None:
        return ""
    tensors = {name: from_array(array) for name, array in checkpoint(source).items()}
    try:
        theirs = apply(written, tensors, source.config)
    except LayoutError as error:
        return f"the written one refuses the checkpoint: {error}"
    ours = apply(layout, tensors, source.config)
    for name in sorted(ours.tensors.keys() ^ theirs.tensors.keys()):
        return f"{name} is {'not in' if name in ours.tensors else 'only in'} the written one's result"
    for name, tensor in ours.tensors.items():
        if tensor.numpy().tobytes() != theirs.tensors[name].numpy().tobytes():
            return f"{name} holds other numbers by the written one"
    more, less = ours.keep_dtype - theirs.keep_dtype, theirs.keep_dtype - ours.keep_dtype
    for name in sorted(more | less):
        return f"the dtype of {name} is kept by the {'derived' if name in more else 'written'} one alone"
    return "same"

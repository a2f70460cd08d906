"""What a version of a program does otherwise than the one that the tables were derived from.

`python -m tests.derive --watch mlx-lm|mlx-vlm [MODEL …]` feeds the checkpoints that are kept to the program
that is installed, plainly and by way of wconv's layout, and names the model types for which that is no longer
the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.derive import fixtures
from tests.derive.programs import Probe, Program, probe
from tests.derive.trace import EXACT, STEP
from wconv.consumers.layout_choice import choose_layout
from wconv.errors import WconvError
from wconv.layouts.apply import apply
from wconv.tensors.lazy import LazyTensor, from_array


def changes(prog: Program, only: list[str]) -> Iterator[tuple[str, str]]:
    """Model types and what is new of each; those that have no checkpoint cannot be looked at."""
    rows, modules = fixtures.load(prog.name), set(prog.model_types())
    for model_type in sorted(only or modules | rows.keys()):
        if model_type not in rows:
            yield model_type, "a new module"
        elif model_type not in modules:
            yield model_type, "the module is gone"
        elif "shapes" in rows[model_type] and rows[model_type]["kind"] != "left as published":
            said = difference(prog, model_type, rows[model_type])
            if said:
                yield model_type, said


def difference(prog: Program, model_type: str, row: Mapping[str, Any]) -> str:
    """How what the program makes of wconv's layout differs from what it makes of the checkpoint; else ""."""
    try:
        made = probe(prog, model_type, row["config"])
    except (Exception, SystemExit) as error:
        return f"its config makes no model: {type(error).__name__}: {error!s:.120}"
    tensors = _tagged(row["shapes"])
    chosen = choose_layout(prog.name, row["config"], tensors)
    try:
        applied = apply(chosen, tensors, row["config"])
    except WconvError as error:
        return f"{error!s:.200}"
    ours, theirs = _fresh(made, applied.tensors), _fresh(made, tensors)
    if isinstance(ours, str) or isinstance(theirs, str):
        return theirs if isinstance(theirs, str) else f"of wconv's layout: {ours}"
    missing = sorted(made.now().keys() - theirs.keys())
    if missing:
        return f"the model has {missing[0]} now, which the checkpoint has not"
    for name in sorted(ours.keys() ^ theirs.keys()):
        return f"{name} comes of {'wconv' if name in ours else 'the checkpoint'} alone"
    for name, array in theirs.items():
        if not np.array_equal(ours[name], array):
            return f"{name} is made otherwise"
    if chosen is not None and chosen.consumers[0] == prog.name:
        kept = {name for name in applied.tensors if not made.casts(name)}
        for name in sorted(kept ^ (applied.keep_dtype & applied.tensors.keys())):
            return f"a cast {'leaves' if name in kept else 'does not leave'} {name} alone"
    return ""


def _tagged(shapes: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """Tensors in which every element is another number, as far as float32 tells them apart."""
    start, tensors = 0, {}
    for name, shape in shapes.items():
        size = int(np.prod(shape, dtype=np.int64))
        tags = (np.arange(start, start + size) % EXACT + 1) * STEP
        tensors[name] = from_array(tags.reshape(shape).astype(np.float32))
        start += size
    return tensors


def _fresh(made: Probe, tensors: Mapping[str, LazyTensor]) -> dict[str, Any] | str:
    import mlx.core as mx

    try:
        weights = made.fresh({name: mx.array(tensor.numpy()) for name, tensor in tensors.items()})
        return {name: np.array(array.astype(mx.float32)) for name, array in weights.items()}
    except Exception as error:
        return f"its sanitize fails: {type(error).__name__}: {error!s:.120}"

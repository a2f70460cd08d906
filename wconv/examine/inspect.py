"""What is in a checkpoint: lines for people, plain data for programs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.conversion.report import grouped
from wconv.errors import WconvError
from wconv.formats.torch.state_dict import key_name
from wconv.quantized import described
from wconv.quantized.names import recognise
from wconv.wording import gigabytes, plural

DEPTH = 20
"""Levels of metadata that are shown."""

NODES = 200_000
"""Values of metadata that are shown."""


def lines(opened: Checkpoint) -> Iterator[str]:
    """A line for each tensor, then totals by dtype and what the user should know."""
    width = min(max((len(name) for name in opened), default=0), 120)
    for name, tensor in opened.items():
        yield f"{name:{width}}  {tensor.dtype.name:9}  {list(tensor.shape)}"
    counted = Counter(tensor.dtype.name for tensor in opened.values())
    elements = sum(tensor.size for tensor in opened.values())
    kinds = ", ".join(f"{count:,} {name}" for name, count in counted.most_common())
    yield f"{opened.path}: {opened.format}, {plural(len(opened.files), 'file')}"
    yield f"  {plural(len(opened), 'tensor')} ({kinds}), {elements:,} elements, {gigabytes(opened.nbytes)}"
    found = in_few_bits(opened)
    if found is not None:
        count = plural(found.get("weights", 0), "weight")
        yield f"  {found['why']}" if "why" in found else f"  {found['title']}: {count} in few bits"
    if opened.modules:
        classes = Counter(module.class_name for module in opened.modules.values())
        yield f"  modules: {', '.join(f'{name} {count}' for name, count in classes.items())}"
    for tie in opened.ties:
        yield f"  tied: {', '.join(tie)}"
    yield from grouped("cannot be read", opened.skipped)
    yield from grouped("not opened", opened.left_out)
    for note in opened.notes:
        yield f"  {note}"
    for key, value in plain(opened.metadata).items():
        yield f"  {key}: {str(value)[:200]}"


def to_dict(opened: Checkpoint) -> dict[str, Any]:
    """Everything that is known without reading a weight, ready for JSON."""
    return {
        "path": str(opened.path),
        "format": opened.format,
        "files": [str(path) for path in opened.files],
        "tensors": {
            name: {"dtype": tensor.dtype.name, "shape": list(tensor.shape), "bytes": tensor.nbytes}
            for name, tensor in opened.items()
        },
        "quantized": in_few_bits(opened),
        "modules": {path: module.class_name for path, module in opened.modules.items()},
        "ties": [list(tie) for tie in opened.ties],
        "skipped": dict(opened.skipped),
        "left_out": dict(opened.left_out),
        "notes": list(opened.notes),
        "metadata": plain(opened.metadata),
    }


def in_few_bits(opened: Checkpoint) -> dict[str, Any] | None:
    """The scheme of weights that are stored in few bits, and their count, or why they are not decoded.

    Settings that lie in tensors are read for it. None where all weights are plain.
    """
    from wconv.quantized.recognition import find_weights

    if recognise(opened.tensors) is None and not described.has_any(opened.tensors, opened.metadata):
        return None
    try:
        found = find_weights(opened.tensors, opened.description, opened.metadata)
    except WconvError as error:
        return {"why": str(error)}
    if found is None:
        return None
    return {"scheme": found.name, "title": found.title, "weights": len(found.weights)}


def plain(value: Any) -> Any:
    """`value` as JSON has it: what JSON lacks becomes text, what is beyond `DEPTH` or `NODES` is left out."""
    return _plain(value, 0, itertools.count())


def _plain(value: Any, depth: int, seen: Iterator[int]) -> Any:
    # objects may hold each other: without a count of all, each way through them would be shown
    if next(seen) > NODES or depth > DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {key_name(key)[:1000]: _plain(item, depth + 1, seen) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1, seen) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)[:1000]

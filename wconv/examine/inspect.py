"""What is in a checkpoint: lines for people, plain data for programs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.conversion.report import grouped
from wconv.formats.torch.state_dict import key_name
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
    """Everything that is known without reading a tensor, ready for JSON."""
    return {
        "path": str(opened.path),
        "format": opened.format,
        "files": [str(path) for path in opened.files],
        "tensors": {
            name: {"dtype": tensor.dtype.name, "shape": list(tensor.shape), "bytes": tensor.nbytes}
            for name, tensor in opened.items()
        },
        "modules": {path: module.class_name for path, module in opened.modules.items()},
        "ties": [list(tie) for tie in opened.ties],
        "skipped": dict(opened.skipped),
        "left_out": dict(opened.left_out),
        "notes": list(opened.notes),
        "metadata": plain(opened.metadata),
    }


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

"""What is in a checkpoint: lines for people, plain data for programs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.conversion.report import grouped
from wconv.examine.fold import fold, pattern_of
from wconv.examine.statements import in_few_bits, loading, statements
from wconv.examine.stats import Stats
from wconv.formats.torch.state_dict import key_name
from wconv.quantized.names import recognise
from wconv.tensors.dtypes import DType
from wconv.wording import gigabytes, plural

DEPTH = 20
"""Levels of metadata that are shown."""

NODES = 200_000
"""Values of metadata that are shown."""


def lines(
    opened: Checkpoint,
    *,
    flat: bool = False,
    summary: bool = False,
    wanted: Collection[str] | None = None,
    found: Mapping[str, Stats] | None = None,
) -> Iterator[str]:
    """What is in a checkpoint: its tensors, repeated blocks on one line, then what it is.

    Args:
        flat: a line for each tensor.
        summary: no tensors.
        wanted: names of the only tensors that are shown.
        found: statistics of each tensor that is shown.
    """
    if summary:
        yield from _on_a_screen(_about(opened))
        return
    yield from _tensor_lines(opened, flat or found is not None, wanted, found or {})
    yield from _about(opened)


ROWS, COLUMNS = 24, 100
"""What a screen holds, and less than that."""


def _on_a_screen(lines: Iterable[str]) -> Iterator[str]:
    """As many lines as a screen holds, and how many there are beside them."""
    left, rows = 0, 1
    for line in lines:
        text = line if len(line) <= 2 * COLUMNS else f"{line[: 2 * COLUMNS]}…"
        rows += -(-len(text) // COLUMNS)
        if rows < ROWS and not left:
            yield text
        else:
            left += 1
    if left:
        yield f"  and {plural(left, 'line')} more (--json has all)"


def _about(opened: Checkpoint) -> Iterator[str]:
    """What a checkpoint is as a whole."""
    kinds = Counter((tensor.dtype, tensor.shape) for tensor in opened.tensors.values())
    counted: Counter[str] = Counter()
    elements = nbytes = 0
    for (dtype, shape), count in kinds.items():
        counted[dtype.name] += count
        elements += math.prod(shape) * count
        nbytes += dtype.nbytes(math.prod(shape)) * count
    dtypes = ", ".join(f"{count:,} {name}" for name, count in counted.most_common())
    yield f"{opened.path}: {opened.format}, {plural(len(opened.files), 'file')}"
    yield f"  {plural(len(opened), 'tensor')} ({dtypes}), {elements:,} elements, {gigabytes(nbytes)}"
    recognised = recognise(opened.tensors, opened.description)
    yield from (f"  {one.line()}" for one in statements(opened, recognised))
    yield from (f"  {one.line()}" for one in loading(opened, recognised))
    if opened.modules:
        classes = Counter(module.class_name for module in opened.modules.values())
        yield f"  modules: {', '.join(f'{name} {count}' for name, count in classes.items())}"
    yield from grouped("cannot be read", opened.skipped)
    yield from grouped("not opened", opened.left_out)
    for note in opened.notes:
        yield f"  {note}"
    for key, value in plain(opened.metadata).items():
        yield f"  {key}: {str(value)[:200]}"


def _tensor_lines(
    opened: Checkpoint, flat: bool, wanted: Collection[str] | None, found: Mapping[str, Stats]
) -> Iterator[str]:
    """A line for each tensor, or for all of one dtype and shape whose names differ in numbers only."""
    names = [name for name in opened if wanted is None or name in wanted]
    if flat:
        rows = [(name, name, 1) for name in names]
    else:
        kinds: dict[tuple[str, DType, tuple[int, ...]], list[str]] = {}
        for name in names:
            tensor = opened[name]
            kinds.setdefault((pattern_of(name)[0], tensor.dtype, tensor.shape), []).append(name)
        rows = [
            (line, members[0], len(members))
            for group in kinds.values()
            for line, members in fold(group).items()
        ]
    width = min(max((len(line) for line, _, _ in rows), default=0), 120)
    for line, name, count in rows:
        tensor = opened[name]
        more = f"  × {count:,}" if count > 1 else f"  {found[name].text()}" if name in found else ""
        yield f"{line:{width}}  {tensor.dtype.name:9}  {list(tensor.shape)}{more}"


def to_dict(
    opened: Checkpoint, *, wanted: Collection[str] | None = None, found: Mapping[str, Stats] | None = None
) -> dict[str, Any]:
    """Everything that is known without reading a weight, ready for JSON.

    Args:
        wanted: names of the only tensors that are listed.
        found: statistics of each of them, where they were asked for.
    """
    recognised = recognise(opened.tensors, opened.description)
    return {
        "path": str(opened.path),
        "format": opened.format,
        "files": [str(path) for path in opened.files],
        "tensors": {
            name: {
                "dtype": tensor.dtype.name,
                "shape": list(tensor.shape),
                "bytes": tensor.nbytes,
                **({"stats": found[name].to_dict()} if found and name in found else {}),
            }
            for name, tensor in opened.items()
            if wanted is None or name in wanted
        },
        "elements": sum(tensor.size for tensor in opened.values()),
        "statements": [one.to_dict() for one in statements(opened, recognised)],
        "loaders": [one.to_dict() for one in loading(opened, recognised)],
        "quantized": in_few_bits(opened, recognised),
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

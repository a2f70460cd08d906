"""`diff`: in what two checkpoints differ, by name, shape, dtype and value, and in the files beside them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.checkpoints.locate import locate
from wconv.conversion.planned import reading
from wconv.errors import FormatError, os_errors_as
from wconv.examine.compare import Distance, distances
from wconv.examine.fold import fold
from wconv.examine.pairing import Named, name_alike
from wconv.formats.side_files import read_json
from wconv.stores import files
from wconv.wording import fitted, plural

SHOWN = 10
"""Lines of each kind that people are shown; JSON has all."""

COMPARED_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
"""Files beside the weights that change what a model says, compared byte for byte."""

PIECE = 1 << 20
"""Bytes of a tokenizer's file that are read at once."""


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """One name that both have: dtypes and shapes in both, and how far the values are apart.

    Attributes:
        distance: None where the shapes differ, so that values cannot be compared.
        beyond: whether the values differ by more than was allowed, or cannot be compared.
    """

    name: str
    dtypes: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    distance: Distance | None
    beyond: bool


@dataclass(frozen=True, slots=True)
class Diff:
    """In what two checkpoints differ.

    Attributes:
        paths: both.
        layouts: whose names and layouts each was compared in.
        tensors: those that both have.
        only: names that only the first has, and only the second.
        skipped: tensors of either that cannot be read, with the reason.
        config: fields of config.json by their path, with both values; None where one lacks it.
        files: names of files beside the weights that differ, or that one lacks.

    Example:
        >>> wconv.diff("model.ckpt", "model.ckpt").same
        True
    """

    paths: tuple[Path, Path]
    layouts: tuple[str, str]
    tensors: tuple[TensorDiff, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    skipped: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
    config: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return fitted(
            f"<Diff of {self.paths[0]} and {self.paths[1]}: {'the same' if self.same else 'differ'}>"
        )

    @property
    def same(self) -> bool:
        """Whether both have the same tensors with the same values, within the tolerance.

        Dtypes and files beside the weights may differ.
        """
        return not any(self.only) and not any(self.skipped) and not any(one.beyond for one in self.tensors)

    @property
    def differing(self) -> list[TensorDiff]:
        """The tensors whose values differ or cannot be compared, the most different ones first."""
        found = [one for one in self.tensors if one.beyond or (one.distance and one.distance.differing)]
        return sorted(found, key=_how_bad, reverse=True)

    def lines(self) -> Iterator[str]:
        """What people are shown."""
        for path, layout, only in zip(self.paths, self.layouts, self.only, strict=True):
            yield f"{path}: {plural(len(self.tensors) + len(only), 'tensor')}, compared {_as(layout)}"
        for path, only in zip(self.paths, self.only, strict=True):
            yield from _some(f"only in {path}", list(fold(only)), len(only))
        for path, skipped in zip(self.paths, self.skipped, strict=True):
            texts = [f"{name}: {reason}" for name, reason in skipped.items()]
            yield from _some(f"cannot be read in {path}", texts, len(texts))
        for name, both in _dtype_changes(self.tensors).items():
            yield f"dtypes: {name}: {plural(both, 'tensor')}"
        shapes = [f"{one.name}: {list(one.shapes[0])}, {list(one.shapes[1])}" for one in self._misshapen()]
        yield from _some("shapes differ", shapes, len(shapes))
        differing = [one for one in self.differing if one.distance is not None]
        equal = sum(one.distance is not None for one in self.tensors) - len(differing)
        yield f"values: {plural(equal, 'tensor')} equal, {len(differing):,} different"
        yield from (f"  {line}" for line in _worst(differing[:SHOWN]))
        if differing:
            moved = list(fold(one.name for one in sorted(differing, key=lambda one: one.name)))
            if len(moved) < len(differing):
                yield from _some("different", moved, len(differing))
        yield from _some(
            "config.json",
            [f"{name}: {_json(a)} → {_json(b)}" for name, (a, b) in self.config.items()],
            len(self.config),
        )
        for name, how in self.files.items():
            yield f"{name}: {how}"
        yield "the same" if self.same else "they differ"

    def _misshapen(self) -> list[TensorDiff]:
        return [one for one in self.tensors if one.distance is None]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        return {
            "same": self.same,
            "paths": [str(path) for path in self.paths],
            "layouts": list(self.layouts),
            "only_in_first": list(self.only[0]),
            "only_in_second": list(self.only[1]),
            "skipped": [dict(one) for one in self.skipped],
            "tensors": [_tensor_dict(one) for one in self.tensors],
            "config": {name: list(both) for name, both in self.config.items()},
            "files": dict(self.files),
        }


def diff(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    tolerance: float = 0.0,
    relative_tolerance: float = 0.0,
    key: str | None = None,
    jobs: int | None = None,
) -> Diff:
    """Compares two checkpoints of any format, layout and dtype; each is read once, in constant memory.

    Where their names differ, both are brought to one consumer's names and layouts, or to the hub's; weights
    in few bits are decoded.

    Args:
        first, second: whatever `wconv.open` takes: paths, addresses, models of the hub.
        tolerance: differences of values up to this are allowed.
        relative_tolerance: in addition, differences up to this part of the larger of both values.
        key: for wrapped PyTorch checkpoints, the path to the state dict.
        jobs: threads; as many as there are cores when absent.

    Raises:
        WconvError: one cannot be read, or a tolerance is no number of at least zero.

    Example:
        >>> found = wconv.diff("model.ckpt", "model.ckpt")
        >>> list(found.lines())[-1]
        'the same'
    """
    for value in (tolerance, relative_tolerance):
        if not value >= 0 or math.isinf(value):
            raise FormatError(f"a tolerance is a number of at least 0, not {value!r:.40}")
    one, other = name_alike(locate(first), locate(second), key=key)
    with reading(one.opened), reading(other.opened):
        return _compare(one, other, tolerance, relative_tolerance, jobs)


def _compare(one: Named, other: Named, tolerance: float, relative: float, jobs: int | None) -> Diff:
    both = [name for name in one.tensors if name in other.tensors]
    pairs = {
        name: (one.tensors[name], other.tensors[name])
        for name in both
        if one.tensors[name].shape == other.tensors[name].shape
    }
    found = distances(pairs, relative_tolerance=relative, jobs=jobs)
    tensors = []
    for name in both:
        left, right = one.tensors[name], other.tensors[name]
        distance = found.get(name)
        beyond = distance is None or distance.excess > tolerance or distance.unlike > 0
        dtypes = (left.dtype.name, right.dtype.name)
        tensors.append(TensorDiff(name, dtypes, (left.shape, right.shape), distance, beyond))
    return Diff(
        (one.opened.path, other.opened.path),
        (one.layout, other.layout),
        tuple(tensors),
        (
            tuple(name for name in one.tensors if name not in other.tensors),
            tuple(name for name in other.tensors if name not in one.tensors),
        ),
        (one.skipped, other.skipped),
        _config_diff(one.opened, other.opened),
        _files_diff(one.opened.path, other.opened.path),
    )


def _config_diff(one: Checkpoint, other: Checkpoint) -> dict[str, tuple[Any, Any]]:
    """Fields of config.json in which two directories differ, as they lie on the disk."""
    if not (one.path.is_dir() and other.path.is_dir()):
        return {}
    left, right = (dict(_flat(_config(path))) for path in (one.path, other.path))
    return {
        name: (left.get(name), right.get(name))
        for name in (*left, *(name for name in right if name not in left))
        if name not in left or name not in right or left[name] != right[name]
    }


def _config(directory: Path) -> Any:
    path = directory / "config.json"
    return read_json(path) if path.is_file() else {}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for name, item in value.items():
            yield from _flat(item, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _files_diff(one: Path, other: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    if not (one.is_dir() and other.is_dir()):
        return found
    for name in COMPARED_FILES:
        left, right = one / name, other / name
        if left.is_file() and right.is_file():
            if _digest(left) != _digest(right):
                found[name] = "different"
        elif left.is_file() or right.is_file():
            found[name] = f"only in {one if left.is_file() else other}"
    return found


def _digest(path: Path) -> bytes:
    made = hashlib.sha256()
    with os_errors_as(FormatError, "read"):
        file = files.opened(str(path))
        for at in range(0, file.size, PIECE):
            made.update(file.read(at, min(PIECE, file.size - at)))
    return made.digest()


def _how_bad(one: TensorDiff) -> tuple[float, float]:
    if one.distance is None:
        return math.inf, 0.0
    return math.inf if one.distance.unlike else one.distance.error, one.distance.largest


def _worst(found: Sequence[TensorDiff]) -> Iterator[str]:
    width = min(max((len(one.name) for one in found), default=0), 80)
    for one in found:
        distance = one.distance
        assert distance is not None
        unlike = f", {distance.unlike:,} NaN or infinite in one only" if distance.unlike else ""
        yield (
            f"{one.name:{width}}  {distance.differing:,} of {distance.count:,} elements,"
            f" by at most {distance.largest:.3g}, in all {distance.error:.2%},"
            f" cosine {distance.cosine:.6f}{unlike}"
        )


def _dtype_changes(tensors: Sequence[TensorDiff]) -> dict[str, int]:
    changes: dict[str, int] = {}
    for one in tensors:
        if one.dtypes[0] != one.dtypes[1]:
            text = f"{one.dtypes[0]} → {one.dtypes[1]}"
            changes[text] = changes.get(text, 0) + 1
    return changes


def _some(what: str, texts: Sequence[str], count: int) -> Iterator[str]:
    if texts:
        yield f"{what}: {count:,}"
        yield from (f"  {text[:200]}" for text in texts[:SHOWN])
        if len(texts) > SHOWN:
            yield f"  and {len(texts) - SHOWN:,} more lines (--json has all)"


def _as(layout: str) -> str:
    return layout if layout == "as stored" else f"as {layout} has it"


def _json(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:79] + "…"


def _tensor_dict(one: TensorDiff) -> dict[str, Any]:
    distance = one.distance
    return {
        "name": one.name,
        "dtypes": list(one.dtypes),
        "shapes": [list(shape) for shape in one.shapes],
        "beyond_tolerance": one.beyond,
        **(
            {}
            if distance is None
            else {
                "elements": distance.count,
                "differing": distance.differing,
                "unlike": distance.unlike,
                "largest_difference": distance.largest,
                "largest_relative_difference": distance.relative,
                "relative_error": distance.error,
                "cosine": distance.cosine,
            }
        ),
    }

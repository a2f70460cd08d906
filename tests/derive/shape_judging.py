"""What a sample shows of a row: that it is right, wrong, or right for some values of other fields alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tests.derive.shape_samples import Config, Numbers, Sample
from wconv.consumers import shapes
from wconv.consumers.shapes import (
    UNCHECKED,
    ShapeTable,
    TensorKind,
    kind_of,
    lookup,
    value_of,
)

OFTEN_ABSENT = re.compile(r"(.*_)?(head_dim|num_key_value_heads|num_kv_heads|n_kv_heads|rank)|embed_dim")
"""Sizes that configs of real models leave out, so that they follow from others."""


def is_wrong(row: TensorKind, table: ShapeTable, sample: Sample, mute: bool = False) -> bool:
    """Whether a row says of a sample what is not so; with `mute`, or cannot say what it says elsewhere."""
    held = sample.held.get(row.name, {})
    for numbers, shape in held.items():
        if row.in_layer(sample.config, numbers) is False:
            if not row.optional:
                return True
            continue
        if row.shape and len(row.shape) != len(shape):
            return True
        for told, length in zip(row.shape, shape, strict=False):
            value = value_of(told, sample.config)
            if told != UNCHECKED and value != length and (mute or value is not None):
                return True
    if row.optional:
        return False
    return any(numbers not in held for numbers in wanted(row, table, sample.config))


def wanted(row: TensorKind, table: ShapeTable, config: Config) -> Iterator[Numbers]:
    """The numbers of the layers that must have a row's tensor."""
    parts = row.name.split(".")
    counts = [table.count(".".join(parts[:at]), config) for at, part in enumerate(parts) if part == "#"]
    if any(count is None for count in counts):
        return
    for numbers in itertools.product(*(range(min(count or 0, 512)) for count in counts)):
        if row.in_layer(config, numbers):
            yield numbers


def fails(row: TensorKind, sample: Sample, table: ShapeTable) -> bool:
    """Whether a row must not count for a sample: wrong there, or mute where another row could tell."""
    return is_wrong(row, table, sample, mute=often_absent(sample))


def often_absent(sample: Sample) -> bool:
    """Whether a sample lacks a size that often follows from others."""
    return OFTEN_ABSENT.fullmatch(sample.changes[0].path.rpartition(".")[2]) is not None


def guard_of(config: Config, singles: Sequence[Sample], bad: Sequence[Sample]) -> dict[str, tuple[Any, ...]]:
    """Of which kinds the fields may be that make a difference."""
    result: dict[str, tuple[Any, ...]] = {}
    wrong = {(one.path, repr(one.kind)) for sample in bad for one in sample.changes}
    for path in sorted({path for path, _ in wrong}):
        kinds = [kind_of(lookup(config, path, shapes.ABSENT))]
        for sample in singles:
            for one in sample.changes:
                known = any(shapes.same(one.kind, kind) for kind in kinds)
                if one.path == path and not known and (path, repr(one.kind)) not in wrong:
                    kinds.append(one.kind)
        result[path] = tuple(kinds)
    return result


def guarded(
    row: TensorKind, table: ShapeTable, config: Config, singles: Sequence[Sample], outside: Sequence[Sample]
) -> TensorKind:
    bad = [sample for sample in outside if fails(row, sample, table)]
    return replace(row, when=guard_of(config, singles, bad))


def lessened(row: TensorKind, table: ShapeTable, sample: Sample) -> TensorKind:
    """A row without what a sample shows to be wrong."""
    if not row.applies(sample.config) or not is_wrong(row, table, sample):
        return row
    held = sample.held.get(row.name, {})
    if not row.optional and is_wrong(replace(row, shape=()), table, sample):
        row = replace(row, optional=True)
        if row.where is not None:
            row = replace(row, where=None)
    if is_wrong(row, table, sample):
        axes = list(row.shape)
        for shape in held.values():
            if len(shape) != len(axes):
                return replace(row, shape=(), optional=True)
            for axis, length in enumerate(shape):
                value = value_of(axes[axis], sample.config)
                if value is not None and value != length:
                    axes[axis] = UNCHECKED
        row = replace(row, shape=tuple(axes))
    return row

"""Two checkpoints under the same names: as they are stored, or both in one consumer's or the hub's layout."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers.lay_out import AS_STORED, HUB
from wconv.conversion.options import ConvertOptions
from wconv.conversion.prepare import plan
from wconv.errors import LayoutError
from wconv.quantized import names as quantized_names
from wconv.tensors.base import LazyTensor

UNUSED = "compared.safetensors"
"""What is planned is never written."""


@dataclass(frozen=True, slots=True)
class Named:
    """A checkpoint's tensors under some names.

    Attributes:
        layout: whose names and layouts they have, in words.
        tensors: name → tensor; weights in few bits are decoded.
        skipped: what cannot be had, each with the reason.
    """

    opened: Checkpoint
    layout: str
    tensors: Mapping[str, LazyTensor]
    skipped: Mapping[str, str]


def name_alike(
    one: str | os.PathLike[str], other: str | os.PathLike[str], **options: Any
) -> tuple[Named, Named]:
    """Both in the layouts in which most of their names and shapes meet, as they are stored if they can.

    Args:
        options: arguments of `wconv.prepare` that say how both are read.

    Raises:
        WconvError: one cannot be read.
    """
    first, second = _Layouts(one, options), _Layouts(other, options)
    best = first(AS_STORED), second(AS_STORED)
    most = _meeting(*best)
    if most < max(len(best[0].tensors), len(best[1].tensors)):
        for left, right in _candidates(first, second):
            found = _meeting(left, right)
            if found > most:
                best, most = (left, right), found
    return best


class _Layouts:
    """One checkpoint, planned in the layouts that are asked for, once in each."""

    def __init__(self, path: str | os.PathLike[str], options: Mapping[str, Any]) -> None:
        self._path = Path(path)
        self._options = options
        self._known: dict[str, Named | None] = {}

    def __call__(self, layout: str) -> Named:
        found = self.get(layout)
        assert found is not None, layout
        return found

    def get(self, layout: str) -> Named | None:
        """None where the tensors do not fit the layout."""
        if layout not in self._known:
            try:
                self._known[layout] = self._planned(layout)
            except LayoutError:
                if layout == AS_STORED:
                    raise
                self._known[layout] = None
        return self._known[layout]

    def _planned(self, layout: str) -> Named:
        options = ConvertOptions(layout=layout, skip_unreadable=True, **self._options)
        planned = plan(self._path, UNUSED, options)
        opened = planned.checkpoint
        if not options.dequantize and quantized_names.recognise(opened.tensors, opened.description):
            planned = plan(self._path, UNUSED, dataclasses.replace(options, dequantize=True))
        tensors = {entry.name: entry.tensor for entry in planned.plan.entries}
        said = "as stored" if layout == AS_STORED else planned.report.layout or layout
        return Named(planned.checkpoint, said, tensors, planned.checkpoint.skipped)


def _candidates(first: _Layouts, second: _Layouts) -> Iterator[tuple[Named, Named]]:
    for left, right in (
        ("auto", AS_STORED),
        (AS_STORED, "auto"),
        ("auto", "auto"),
        (HUB, AS_STORED),
        (AS_STORED, HUB),
        (HUB, HUB),
    ):
        one = first.get(left)
        other = second.get(right) if one is not None else None
        if one is not None and other is not None:
            yield one, other


def _meeting(one: Named, other: Named) -> int:
    return sum(
        name in other.tensors and other.tensors[name].shape == tensor.shape
        for name, tensor in one.tensors.items()
    )

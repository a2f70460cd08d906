"""A conversion that is planned to the last byte but has not begun."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.conversion.report import Report
from wconv.errors import FormatError, os_errors_as
from wconv.stores import files as stored
from wconv.stores.files import FileStamp
from wconv.tensors import array_cache
from wconv.wording import fitted
from wconv.writing.plan import Plan
from wconv.writing.sidecars import Sidecars


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion that is planned to the last byte but has not begun; `run` carries it out.

    Attributes:
        plan: every output byte's place.
        sources: output name → the source names it is made of.
        report: what the summary will say, but for what only writing shows.
        parts: of a pipeline, its components' conversions by their sub-directories.
        config_name: what the file of `config` is called.
        needs_header: whether the weights mean something else without what their files' headers say.
        stamps: of each source file, what tells it from what it may become.
        layout_options: what the layout lets one choose, each with its default.

    Example:
        >>> planned = wconv.prepare("model.ckpt", "model.safetensors")
        >>> planned.plan_dict()[0]["tensors"]
        [{'name': 'linear.weight', 'dtype': 'float32', 'shape': [200, 4], 'from': ['linear.weight']}]
    """

    checkpoint: Checkpoint
    plan: Plan
    sources: Mapping[str, tuple[str, ...]]
    config: Mapping[str, Any] | None
    sidecars: Sidecars | None
    report: Report
    parameters: Mapping[str, Any]
    stamps: tuple[FileStamp, ...]
    parts: Mapping[str, Conversion] = field(default_factory=dict)
    config_name: str = "config.json"
    needs_header: bool = False
    layout_options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        what = f"{self.report.source} → {self.report.output}: {self.plan!r}"
        return fitted(f"<Conversion {what}>")

    def plan_dict(self) -> list[dict[str, Any]]:
        """The plan as plain data for JSON: each shard with its tensors."""
        return [
            {
                "file": shard.filename,
                "bytes": shard.nbytes,
                "tensors": [
                    {
                        "name": entry.name,
                        "dtype": entry.dtype.name,
                        "shape": list(entry.shape),
                        "from": list(self.sources.get(shard.label(entry.name), ())),
                    }
                    for entry in shard.entries
                ],
            }
            for shard in self.plan.shards
        ]


@contextlib.contextmanager
def reading(opened: Checkpoint) -> Iterator[None]:
    """A block that reads a checkpoint's tensors: after it no file is kept open and no array remembered."""
    try:
        with opened:
            yield
    finally:
        array_cache.clear()


@os_errors_as(FormatError, "read")
def stamps_of(files: Sequence[Path]) -> tuple[FileStamp, ...]:
    """What tells each source file from what it may become.

    Raises:
        FormatError: one is not there any more.
    """
    return tuple(stored.stamp(str(path)) for path in files)

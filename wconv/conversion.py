"""A conversion that is planned to the last byte but has not begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv.checkpoint import Checkpoint
from wconv.plan import Plan
from wconv.report import Report
from wconv.reprs import fitted
from wconv.sidecars import Sidecars


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion that is planned to the last byte but has not begun; `pipeline.run` carries it out.

    Attributes:
        plan: every output byte's place.
        sources: output name → the source names it is made of.
        report: what the summary will say, but for what only writing shows.
        parts: of a pipeline, its components' conversions by their sub-directories.
        config_name: what the file of `config` is called.
    """

    checkpoint: Checkpoint
    plan: Plan
    sources: Mapping[str, tuple[str, ...]]
    config: Mapping[str, Any] | None
    sidecars: Sidecars | None
    report: Report
    parameters: Mapping[str, Any]
    states: tuple[tuple[int, int], ...]
    parts: Mapping[str, Conversion] = field(default_factory=dict)
    config_name: str = "config.json"

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


def states(files: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Size and time of change of each source file."""
    return tuple((status.st_size, status.st_mtime_ns) for status in (path.stat() for path in files))

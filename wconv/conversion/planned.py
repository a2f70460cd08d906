"""A conversion that is planned to the last byte but has not begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.conversion.report import Report
from wconv.errors import FormatError, told
from wconv.stores.files import Stamp, stamp_of
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
    """

    checkpoint: Checkpoint
    plan: Plan
    sources: Mapping[str, tuple[str, ...]]
    config: Mapping[str, Any] | None
    sidecars: Sidecars | None
    report: Report
    parameters: Mapping[str, Any]
    states: tuple[Stamp, ...]
    parts: Mapping[str, Conversion] = field(default_factory=dict)
    config_name: str = "config.json"
    needs_header: bool = False

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


@told(FormatError, "read")
def states(files: Sequence[Path]) -> tuple[Stamp, ...]:
    """What tells each source file from what it may become.

    Raises:
        FormatError: one is not there any more.
    """
    return tuple(stamp_of(path.stat()) for path in files)

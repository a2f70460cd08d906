"""`wconv.inspect`: what is in a checkpoint, as a record."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wconv import opening
from wconv.checkpoints.checkpoint import Checkpoint
from wconv.examine import inspect as text
from wconv.examine.statements import Loading, Statement, loading, statements
from wconv.examine.stats import Stats, stats
from wconv.quantized.names import recognise
from wconv.wording import fitted, plural


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a checkpoint; no weight was read, but for statistics.

    Attributes:
        checkpoint: what was opened: its tensors by name, metadata, files, and what was left out.
        statements: what is known of the whole, and how each is known.
        loaders: which versions of which programs load it, as it is or converted, and why not.
        stats: of each tensor, where they were asked for.

    Example:
        >>> next(iter(wconv.inspect("model.ckpt").lines(summary=True)))
        'model.ckpt: PyTorch zip, 1 file'
    """

    checkpoint: Checkpoint
    statements: tuple[Statement, ...]
    loaders: tuple[Loading, ...]
    stats: Mapping[str, Stats] = field(default_factory=dict)

    def __repr__(self) -> str:
        return fitted(f"<Inspection {self.checkpoint.path}: {plural(len(self.checkpoint), 'tensor')}>")

    @property
    def elements(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.size for tensor in self.checkpoint.values())

    def lines(self, *, flat: bool = False, summary: bool = False) -> Iterator[str]:
        """What `wconv inspect` prints."""
        return text.lines(self.checkpoint, flat=flat, summary=summary, found=self.stats or None)

    def to_dict(self) -> dict[str, Any]:
        """What `wconv inspect --json` prints."""
        return text.to_dict(self.checkpoint, found=self.stats or None)


def inspect(
    source: str | os.PathLike[str],
    *,
    key: str | None = None,
    with_stats: bool = False,
    jobs: int | None = None,
) -> Inspection:
    """What is in a file or a directory, and which programs load it.

    Args:
        source: whatever `wconv.open` takes.
        key: for a wrapped PyTorch checkpoint, the path to its state dict.
        with_stats: reads all tensors once, for statistics of each.
        jobs: threads for that; as many as there are cores when absent.

    Raises:
        FormatError: it cannot be read.

    Example:
        >>> found = wconv.inspect("model.ckpt", with_stats=True)
        >>> found.elements
        800
        >>> found.stats["linear.weight"].nan
        0
    """
    opened = opening.open(source, key=key, skip_unreadable=True)
    recognised = recognise(opened.tensors, opened.description)
    return Inspection(
        opened,
        tuple(statements(opened, recognised)),
        tuple(loading(opened, recognised)),
        stats(opened.tensors, jobs=jobs) if with_stats else {},
    )

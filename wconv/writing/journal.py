"""What is written of a shard: a log beside it, so that a run that was killed goes on within the shard.

A line says which units of work are written and what their casts lost; it is added after their bytes. A line
that a kill cut short ends what is believed, so that a unit is written twice rather than never. After the
machine itself went down nothing of it is believed: the workspace empties the directory then.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wconv.tensors.casts import Overflow
from wconv.writing.buffers import add_overflows

STEP = 16 << 20
"""Bytes of a shard between two lines of its log: what is written again at most, beside units under way."""

UNITS = 1 << 14
"""Units after which a line is added in any case."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a log says of a shard.

    Attributes:
        starts, stops: ranges of units that are written, in order and apart.
        lost: what their casts lost.
        end: bytes of the log that say so.
    """

    starts: tuple[int, ...] = ()
    stops: tuple[int, ...] = ()
    lost: dict[str, Overflow] = field(default_factory=dict)
    end: int = 0

    def __contains__(self, unit: int) -> bool:
        at = bisect.bisect_right(self.starts, unit) - 1
        return at >= 0 and unit < self.stops[at]


NOTHING = Kept()


def ranges(units: Sequence[int]) -> list[list[int]]:
    """Numbers as pairs of a first one and one past the last."""
    found: list[list[int]] = []
    for unit in sorted(units):
        if found and found[-1][1] == unit:
            found[-1][1] = unit + 1
        else:
            found.append([unit, unit + 1])
    return found


def add(path: Path, units: Sequence[int], lost: dict[str, Overflow], nbytes: int = 0) -> None:
    """Adds a line to a log, of units of so many bytes; raises OSError."""
    told = {name: tuple(one) for name, one in lost.items()}
    line = json.dumps({"units": ranges(units), "lost": told, "bytes": nbytes})
    with open(path, "ab", buffering=0) as file:
        left = memoryview(f"{line}\n".encode())
        while left:
            left = left[file.write(left) :]


def read(path: Path) -> Kept:
    """What a log says, up to the first line that is not whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return NOTHING
    pairs: list[tuple[int, int]] = []
    lost: dict[str, Overflow] = {}
    end = 0
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            record = json.loads(line)
            added = [(int(start), int(stop)) for start, stop in record["units"]]
            found = {name: Overflow(*one) for name, one in record["lost"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            break
        pairs += added
        add_overflows(lost, found)
        end += len(line)
    merged: list[list[int]] = []
    for start, stop in sorted(pairs):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return Kept(tuple(one[0] for one in merged), tuple(one[1] for one in merged), lost, end)


def cut(path: Path, end: int) -> None:
    """Removes what follows the lines that are believed; raises OSError."""
    if end:
        os.truncate(path, end)
    else:
        path.unlink(missing_ok=True)


class Follower:
    """What a log that another process writes says of its progress, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._nbytes = 0

    def nbytes(self) -> int:
        """Bytes that are written by now; 0 where there is no log."""
        try:
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._read:
                    self._read = self._nbytes = 0
                file.seek(self._read)
                data = file.read()
        except OSError:
            return 0
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                self._nbytes += int(json.loads(line)["bytes"])
        return self._nbytes

"""What a case is: a file to write, and what reading it must come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.hostile.containers import VALUES

Data = bytes | Callable[[], bytes]
Expects = Literal["refused", "inert", "either"]


@dataclass(frozen=True)
class Case:
    """One unsafe or malformed file.

    Attributes:
        name: unique; the test's name.
        expects: "refused": a WconvError of one line that names the file. "inert": the file opens, nothing
            in it has run, and its tensors are exactly `tensors`. "either" (of the fuzz): one of the two, with
            any tensors.
        make: writes into an empty directory and returns the path to open.
        tensors: name → flat values, of a file that opens.
        seconds: within which it must end, on an idle machine.
        directory: read by `wconv.checkpoints.open.open` instead of `wconv.formats.open_file`.
        live: unpickling the same bytes with the standard library runs something.
    """

    name: str
    expects: Expects
    make: Callable[[Path], Path]
    tensors: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seconds: float = 10.0
    directory: bool = False
    live: bool = False


def refused(name: str, data: Data, *, file: str = "model.bin", **more: Any) -> Case:
    """One file that must not open."""
    return Case(name, "refused", _writer(file, data), **more)


def inert(name: str, data: Data, *, file: str = "model.bin", **more: Any) -> Case:
    """One file that opens as `{"w": VALUES}` unless the case says otherwise."""
    return Case(name, "inert", _writer(file, data), **{"tensors": {"w": VALUES}, **more})


def _writer(file: str, data: Data) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        path = directory / file
        path.write_bytes(data if isinstance(data, bytes) else data())
        return path

    return write

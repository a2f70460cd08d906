"""Reads one case and says what is wrong with how it went, in a sentence; nothing when all is as expected."""

from __future__ import annotations

import contextlib
import gc
import math
import resource
import signal
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from tests.hostile.case import Case
from tests.hostile.guard import Forbidden, Guard
from wconv.errors import WconvError
from wconv.formats.contents import Contents
from wconv.formats.sources import Source
from wconv.formats.torch.pickle.state import Constructor
from wconv.tensors.lazy import LazyTensor

MEMORY = 1 << 30
"""Bytes that reading one file may take at most."""

LONGEST_MESSAGE = 300
"""Characters of an error besides the path."""

UNASKED = 64 << 20
"""Bytes that a tensor may have whatever the file's size; above it, eight times the file."""

PLAIN = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, slice, range, type(Ellipsis)}
)

SEALED = (LazyTensor, Source, Constructor)
"""wconv's own objects whose parts are none of the file's."""

Read = Callable[[Path], Contents]


class OutOfTime(BaseException):
    """The alarm that ends a case."""


def judge(case: Case, path: Path, read: Read, guard: Guard) -> str | None:
    """What went wrong when `read` met the case's file at `path`, or None."""
    forget_peak()
    signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, max(4 * case.seconds, 4.0))
    began = time.process_time()
    error: BaseException | None = None
    contents: Contents | None = None
    values: dict[str, Any] = {}
    try:
        with guard.armed(path if path.is_dir() else path.parent):
            contents = read(path)
            values = _read_tensors(contents, path, case.tensors)
    except (Exception, OutOfTime, Forbidden) as caught:
        error = caught
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = time.process_time() - began
    if guard.record:
        return f"did what no reader does: {guard.record[0]}"
    if seconds > case.seconds:
        return f"took {seconds:.1f} s, not {case.seconds}"
    if peak() > MEMORY:
        return f"took {peak() >> 20} MiB"
    if error is not None and not isinstance(error, WconvError):
        return f"raised {type(error).__name__}: {error!s:.200}"
    if error is not None:
        return _message_fault(str(error), path) or (
            f"was refused: {error}" if case.expects == "inert" else None
        )
    if contents is None:
        return "returned nothing"
    return _contents_fault(contents, values, case)


def peak() -> int:
    """The largest resident size of this process in bytes; on Linux, since the last case began."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def forget_peak() -> None:
    """Makes `peak` count from now on, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _alarm(signum: int, frame: FrameType | None) -> None:
    raise OutOfTime("it did not end")


class InflatedError(Exception):
    """A tensor is far larger than its file."""


def _read_tensors(contents: Contents, path: Path, wanted: Collection[str]) -> dict[str, Any]:
    """Reads every tensor; returns the values of those that are wanted, and None for the others."""
    size = sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
    values: dict[str, Any] = {}
    for name, tensor in contents.tensors.items():
        in_memory = tensor.size * tensor.dtype.itemsize
        if in_memory > max(UNASKED, 8 * size):
            raise InflatedError(f"{name:.80} has {in_memory:,} bytes in a file of {size:,}")
        array = tensor.numpy()
        if array.shape != tuple(tensor.shape) or array.dtype != tensor.dtype.numpy:
            raise AssertionError(f"{name} is {tensor!r} but reads as {array.dtype} {array.shape}")
        values[name] = array if name in wanted else None
    return values


def _message_fault(message: str, path: Path) -> str | None:
    short = message.replace(str(path.parent), "")
    if path.name not in message:
        return f"does not name the file: {message:.300}"
    if not message.isprintable():
        return f"is not one line of printable characters: {message!r:.300}"
    if len(short) > LONGEST_MESSAGE:
        return f"says it in {len(short)} characters: {message:.300}"
    return None


def _contents_fault(contents: Contents, values: Mapping[str, Any], case: Case) -> str | None:
    foreign = foreign_object(
        (dict(contents.metadata), contents.root, dict(contents.skipped), contents.notes, contents.ties)
    )
    if foreign is not None:
        return f"let a {type(foreign).__module__}.{type(foreign).__qualname__} through"
    if case.expects == "either":
        return None
    if case.expects == "refused":
        more = {name: type(value).__name__ for name, value in contents.metadata.items()}
        return f"opened, with {list(values)!r:.120}, {more!r:.120} and {dict(contents.skipped)!r:.300}"
    if set(values) != set(case.tensors):
        return f"has the tensors {sorted(values)!r:.200}, not {sorted(case.tensors)!r:.200}"
    for name, expected in case.tensors.items():
        found = values[name].astype(np.float64).reshape(-1).tolist()
        if len(found) != len(expected) or any(
            not math.isclose(a, b) for a, b in zip(found, expected, strict=True)
        ):
            return f"reads {name} as {found!r:.120}, not {list(expected)!r:.120}"
    return None


def foreign_object(root: Any) -> Any:
    """The first object reachable from `root` that is neither plain data nor an instance of wconv's own."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if kind in PLAIN or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
            waiting.append(getattr(item, "attributes", None))
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
        elif isinstance(item, np.ndarray | np.generic):
            if item.dtype.hasobject:
                return item
        elif kind.__module__.partition(".")[0] != "wconv":
            return item
        elif not isinstance(item, SEALED):
            waiting += [part for part in gc.get_referents(item) if not isinstance(part, type)]
    return None

"""Whole processes: how long they run, and how much anonymous memory they and their children hold at most."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
INTERVAL = 0.005
"""Seconds between two looks at a process's memory."""

LONGEST = 300.0
"""Seconds after which a process is ended: a benchmark has an end."""


class FailedError(Exception):
    """A program ended with an error; `str()` is the last line that it wrote."""


class Spent(NamedTuple):
    """Seconds of one process with its children: by the clock, and of processors."""

    wall: float
    user: float
    system: float

    @property
    def processor(self) -> float:
        """User and system together: what other work on the machine changes least."""
        return self.user + self.system


def spent(argv: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> Spent:
    """The time of one process from start to end.

    Raises:
        FailedError: it returned another code than 0.
    """
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = _start(argv, errors, environment)
        with _ending(process):
            _, status, used = os.wait4(process.pid, 0)
        taken = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        _check(process.returncode, errors)
    return Spent(taken, used.ru_utime, used.ru_stime)


def peak_anonymous(argv: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> int | None:
    """The most bytes of anonymous memory (RssAnon) that a process and its children held together.

    File pages are left out: what a program maps from the page cache is the system's to take back. None
    where there is no /proc (macOS).

    Raises:
        FailedError: it returned another code than 0.
    """
    if not Path("/proc/self/status").exists():
        return None
    peak = 0
    with tempfile.TemporaryFile() as errors:
        process = _start(argv, errors, environment)
        with _ending(process):
            while process.poll() is None:
                peak = max(peak, sum(_anonymous(pid) for pid in _family(process.pid)))
                time.sleep(INTERVAL)
        _check(process.returncode, errors)
    return peak


def _start(argv: Sequence[str], errors: IO[bytes], more: Mapping[str, str]) -> subprocess.Popen[Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **more}
    return subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors)


@contextlib.contextmanager
def _ending(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Ends the process when it takes too long."""
    timer = threading.Timer(LONGEST, os.kill, (process.pid, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check(code: int, errors: IO[bytes]) -> None:
    if code == -signal.SIGKILL:
        raise FailedError(f"it was ended after {LONGEST:g} s, or had no memory")
    if code:
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
        raise FailedError(lines[-1] if lines else f"exit code {code}")


def _family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for task in _listed(f"/proc/{pid}/task"):
        for child in _text(f"/proc/{pid}/task/{task}/children").split():
            found.extend(_family(int(child)))
    return found


def _anonymous(pid: int) -> int:
    for line in _text(f"/proc/{pid}/status").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it has ended
        return ""


def python(*arguments: object) -> list[str]:
    """The command line of this interpreter."""
    return [sys.executable, *map(str, arguments)]


def machine() -> str:
    """The processor's name, how many there are, and the system."""
    about = dict(_told(line) for line in reversed(_text("/proc/cpuinfo").splitlines()))
    name = about.get("model name") or platform.processor() or platform.machine()
    if "model" in about and not any(letter.isdigit() for letter in name):
        name += f" (family {about.get('cpu family')}, model {about['model']})"
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{count} x {name}, {system}"


def _told(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()

"""Who may write: `flock` where it reaches everybody, a lock file that names its holder where it does not.

Lustre without its option, BeeGFS, NFS with local locks and most file systems of FUSE either refuse `flock` or
grant it to one process of every host. There a file is made that only one can make. It says which process of
which host has it; that one is taken to be gone only where this host can be sure of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from wconv.errors import OutputError

NOT_SUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""How file systems say that they have no locks."""

LOCAL_OPTIONS = ("nolock", "local_lock=all", "local_lock=flock", "localflock", "noflock")
"""Options of a mount that keep `flock` on its host, or do without."""

LOCAL_TYPES = ("beegfs", "fuse")
"""File systems that by default, or without saying so, keep `flock` on its host."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a lock.

    Attributes:
        boot: of the host's system, since it was started.
        namespace: within which `pid` is one process only.
        started: when the process began, in the system's own count: a later one may have its number.
        since: when it took the lock, in seconds.
        token: of this lock alone.
    """

    host: str = ""
    pid: int = 0
    boot: str = ""
    namespace: str = ""
    started: str = ""
    since: float = 0.0
    token: str = ""

    def is_gone(self) -> bool:
        """Whether it has surely ended: it was of this host, as this was started, and is not there."""
        if not self.boot or self.pid <= 0:
            return False
        if (self.host, self.boot, self.namespace) != (platform.node(), boot_id(), _namespace()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return bool(self.started) and _started(self.pid) not in ("", self.started)

    def __str__(self) -> str:
        """Such as "process 12 on node7, since 2026-11-28 01:32"."""
        if not self.host:
            return "another wconv"
        with contextlib.suppress(ValueError, OverflowError, OSError):
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
            return f"another wconv, process {self.pid} on {self.host:.100} since {since}"
        return f"another wconv, process {self.pid} on {self.host:.100}"


def ourselves() -> Holder:
    """This process."""
    pid = os.getpid()
    return Holder(
        platform.node(), pid, boot_id(), _namespace(), _started(pid), time.time(), secrets.token_hex(8)
    )


def holder_of(record: object) -> Holder:
    """What was written of a holder, as JSON gives it; one of no name where that is nothing."""
    if not isinstance(record, dict):
        return Holder()
    kinds = {"host": str, "pid": int, "boot": str, "namespace": str, "started": str, "token": str}
    values = {name: record[name] for name, kind in kinds.items() if type(record.get(name)) is kind}
    since = record.get("since")
    return Holder(**values, since=since if isinstance(since, float) else 0.0)


def take_flock(fd: int) -> bool | None:
    """Locks an open file; False where another has it, None where the file system has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        return None
    return True


def reaches_all(path: Path) -> bool:
    """Whether `flock` there, if it is granted, holds for the processes of all hosts, as far as is known."""
    found = _mount_of(os.path.realpath(path))
    if found is None:
        return True
    kind, options = found
    if kind.partition(".")[0] in LOCAL_TYPES or (kind == "lustre" and "flock" not in options):
        return False
    return not any(option in LOCAL_OPTIONS for option in options)


def _mount_of(path: str) -> tuple[str, list[str]] | None:
    """The kind and the options of the file system that a path is on; None where the system does not say."""
    best: tuple[str, list[str]] | None = None
    longest = -1
    try:
        text = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        place = fields[4].encode().decode("unicode_escape") if "\\" in fields[4] else fields[4]
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= longest:  # of two at one place, the later one hides the other
            longest, best = len(place), (rest[0], [*fields[5].split(","), *rest[2].split(",")])
    return best


class LockFile:
    """A file that only one process can make, and which says who did. Removed by `release`."""

    def __init__(self, path: Path, called: Path) -> None:
        """Takes the lock.

        Args:
            path: of the lock file.
            called: what it locks, for the message.

        Raises:
            OutputError: another has it; the message says who, and what to do.
            OSError: it cannot be made.
        """
        self.path = path
        self.holder = ourselves()
        for _ in range(3):
            if self._make():
                return
            found = self._read()
            if not found.is_gone():
                break
            self._remove(found)
        raise OutputError(
            f"{called} is being written by {found}: wait for it; if that process is gone, delete {path}"
        )

    def _make(self) -> bool:
        """Whether the file was made by us."""
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(fd, json.dumps(asdict(self.holder)).encode())
            with contextlib.suppress(OSError):
                os.fsync(fd)
        finally:
            os.close(fd)
        return self._read().token == self.holder.token

    def _read(self) -> Holder:
        try:
            return holder_of(json.loads(self.path.read_bytes()))
        except (OSError, ValueError):
            return Holder()

    def _remove(self, gone: Holder) -> None:
        """Takes the lock file of one that is gone away, and no other's that was made meanwhile."""
        aside = self.path.with_name(f"{self.path.name}.{self.holder.token}")
        with contextlib.suppress(OSError):
            os.rename(self.path, aside)
            moved = LockFile._read_of(aside)
            if moved.token != gone.token:
                os.link(aside, self.path)
            os.unlink(aside)

    @staticmethod
    def _read_of(path: Path) -> Holder:
        try:
            return holder_of(json.loads(path.read_bytes()))
        except (OSError, ValueError):
            return Holder()

    def release(self) -> None:
        """Removes the lock file, if it is still ours."""
        if self._read().token == self.holder.token:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def boot_id() -> str:
    """Changes when the machine starts anew: after a power loss, unflushed files are not trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import subprocess

        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except OSError:
            return ""


def _namespace() -> str:
    """Within which this process's number is one process only; "" where there is one for all."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began; "" where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""

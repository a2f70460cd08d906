"""Putting a finished output in place of what is there: in one step where the system can, else so that no
copy is ever lost, whenever the run is killed."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wconv.errors import OutputError

SWAP, ASIDE, MOVING = "swap", "replaced", "moving.json"
"""In a partial directory: what changes places with the old output, the old output where that takes two
renames, and which files go where while an output is put in place file by file."""

KINDS = (
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def check_node(path: str | os.PathLike[str]) -> None:
    """Refuses what is neither a regular file nor a directory; of a link, what it leads to is judged.

    Raises:
        OutputError: something is there that must not be replaced, or the path is empty.
    """
    if not os.fspath(path):
        raise OutputError("the name of the file to be written is empty")
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise OutputError(f"{os.fspath(path)} cannot be written: {error.strerror}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        what = next((what for is_kind, what in KINDS if is_kind(mode)), "no regular file")
        raise OutputError(f"{os.fspath(path)} is {what}, which is never replaced: choose another name")


FIXED = (errno.EXDEV, errno.EBUSY)
"""What a directory answers that cannot be renamed: of a lower layer of an overlay, or mounted unnoticed."""


def put(source: Path, target: Path, work: Path) -> None:
    """Makes `source` the `target`; the old one, if it was a directory, lies in `work` afterwards.

    Args:
        source: a finished directory or file in `work`.
        work: the partial directory.

    Raises:
        OSError: it cannot be done; `source` and `target` are as they were.
    """
    if not os.path.lexists(target):
        _rename_new(source, target)
        return
    if not source.is_dir():
        os.replace(source, target)
        return
    try:
        if not target.is_symlink() and not any(target.iterdir()):
            os.rename(source, target)
        else:
            _swap(source, target, work)
    except OSError as error:
        if error.errno not in FIXED or target.is_symlink():
            raise
        put_files(source, target, work)


def _swap(source: Path, target: Path, work: Path) -> None:
    ready, aside = work / SWAP, work / ASIDE
    _remove(ready)
    # not under its own name: after a kill, what lies there must not be taken for finished work
    os.rename(source, ready)
    try:
        if not exchange(ready, target):
            os.rename(target, aside)
            try:
                os.rename(ready, target)
            except OSError:
                os.rename(aside, target)
                raise
    except OSError:
        os.rename(ready, source)
        raise


def put_files(source: Path, target: Path, work: Path, spared: Sequence[str] = ()) -> None:
    """Makes the files in `source` those in `target`, one by one, where the directory itself must stay.

    What is to be done is written down first, so that the next run can finish or undo it.

    Args:
        spared: names in `target` that are left alone.

    Raises:
        OSError: it cannot be done.
    """
    new = list(files_in(source))
    # an index or a config goes last: what it speaks of is there then
    new.sort(key=lambda name: (name.endswith(".json"), "/" not in name, name))
    old = [name for name in files_in(target, spared) if name not in set(new)]
    with open(work / (MOVING + ".part"), "w") as file:
        json.dump({"new": new, "old": old}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(work / (MOVING + ".part"), work / MOVING)
    _move(new, old, source, target)
    (work / MOVING).unlink()


def _move(new: Sequence[str], old: Sequence[str], source: Path, target: Path) -> None:
    for name in new:
        if os.path.lexists(source / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source / name, target / name)
    for name in old:
        (target / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            for parent in list(Path(name).parents)[:-1]:
                (target / parent).rmdir()


def files_in(directory: Path, spared: Sequence[str] = ()) -> Iterator[str]:
    """Everything in a directory and below it that is no directory, as relative paths.

    Args:
        spared: names in the directory itself that are passed over.
    """
    pending = [""]
    while pending:
        below = pending.pop()
        for entry in sorted(os.scandir(directory / below), key=lambda entry: entry.name):
            name = f"{below}/{entry.name}" if below else entry.name
            if name in spared:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(name)
            else:
                yield name


def recover(source: Path, target: Path, work: Path, *, resume: bool) -> bool:
    """Ends what a killed run left half done in its partial directory, so that `target` is whole again.

    Returns:
        Whether all of that run's work is in place now.

    Args:
        source: the directory in `work` in which outputs are built.
        resume: files that were put in place one by one come back, to be gone on with; else the rest of them
            is put in place.

    Raises:
        OutputError: two copies are there, and which is wanted is not known.
        OSError: it cannot be done.
    """
    ready, aside, moving = work / SWAP, work / ASIDE, work / MOVING
    finished = os.path.lexists(moving) and not resume
    if os.path.lexists(moving):
        new, old = _steps(moving)
        if resume:
            for name in new:
                if not os.path.lexists(source / name) and os.path.lexists(target / name):
                    (source / name).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(target / name, source / name)
        else:
            _move(new, old, source, target)
        moving.unlink()
    if os.path.lexists(aside):
        if not os.path.lexists(target):
            os.rename(aside, target)
        elif os.path.lexists(ready):
            raise OutputError(
                f"{aside} is what stood at {target} before an interrupted run: move one of them elsewhere"
            )
        else:
            _remove(aside)
    # old or new, the other one is in place
    _remove(ready)
    return finished


def _steps(moving: Path) -> tuple[list[str], list[str]]:
    """What `put_files` wrote down. Raises: OutputError: it is not what that writes."""
    try:
        steps = json.loads(moving.read_text())
        new, old = steps["new"], steps["old"]
        if all(not os.path.isabs(name) and ".." not in name.split("/") for name in (*new, *old)):
            return new, old
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise OutputError(f"{moving} is damaged: look at what is in {moving.parent}, and move it elsewhere")


def holds_only_copy(work: Path, target: Path) -> bool:
    """Whether what stood at `target` is in the partial directory alone: it could not be put back."""
    return os.path.lexists(work / ASIDE) and not os.path.lexists(target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


UNABLE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)
"""What system calls answer that a file system, a kernel or a sandbox does not offer."""


def exchange(first: Path, second: Path) -> bool:
    """Lets two paths change places in one step; False where the system or the file system cannot.

    Raises:
        OSError: it could, but these two cannot.
    """
    return _renamed(first, second, "exchange")


def _rename_new(source: Path, target: Path) -> None:
    """Renames; refuses where something is at `target` by now. Raises OSError."""
    if not _renamed(source, target, "new"):
        os.rename(source, target)


FLAGS = {
    "linux": {"exchange": 2, "new": 1},
    "darwin": {"exchange": 2, "new": 4},
}
"""RENAME_EXCHANGE and RENAME_NOREPLACE of <linux/fs.h>, RENAME_SWAP and RENAME_EXCL of <sys/stdio.h>."""


def _renamed(source: Path, target: Path, how: str) -> bool:
    call = _system_call()
    if call is None:
        return False
    number = call(os.fsencode(source), os.fsencode(target), FLAGS[sys.platform][how])
    if number in UNABLE:
        return False
    if number:
        raise OSError(number, os.strerror(number), os.fspath(target))
    return True


@functools.cache
def _system_call() -> Callable[[bytes, bytes, int], int] | None:
    """Renames with flags and returns the error's number; None where the system has no such call."""
    import ctypes

    if sys.platform not in FLAGS:
        return None
    try:
        library = ctypes.CDLL(None, use_errno=True)
        function = library.renameat2 if sys.platform == "linux" else library.renamex_np
    except (OSError, AttributeError):
        return None
    here = (-100,) if sys.platform == "linux" else ()  # AT_FDCWD

    def call(source: bytes, target: bytes, flags: int) -> int:
        paths = [*here, ctypes.c_char_p(source), *here, ctypes.c_char_p(target)]
        return ctypes.get_errno() if function(*paths, ctypes.c_uint(flags)) else 0

    return call

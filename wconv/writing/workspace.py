"""The partial directory beside an output: made, locked, resumed, and put in place in one step.

`X.partial` holds what will become `X` in its sub-directory `output`, beside it the shards that are being
written, and `wconv.json`, which says from what and with which parameters they come. Nothing appears at `X`
before everything is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from wconv.errors import OutputError
from wconv.stores import replacing
from wconv.wording import gigabytes
from wconv.writing import executors, locks
from wconv.writing.locks import boot_id as boot_id
from wconv.writing.shard_file import DONE, OUTPUT, PART, PATIENCE, wait_for
from wconv.writing.targets import SPARED, Names, check_target, is_single, place

JOURNAL = "wconv.json"

LOCK = "lock"
"""The lock file, where the file system has no locks that reach every host."""


class Workspace:
    """A partial directory that this process owns. A context manager: leaving it releases the lock."""

    def __init__(
        self,
        target: Path,
        fingerprint: str,
        *,
        overwrite: bool,
        resume: bool,
        names: Names | None = None,
        sync: bool = True,
    ) -> None:
        """Makes or resumes the partial directory of `target`.

        Args:
            target: the final directory or file; directories above it that are missing are made.
            fingerprint: of sources, parameters and plan: what a resumed run must share.
            overwrite: an existing target will be replaced, an interrupted run's remains discarded.
            resume: continue what an interrupted run left.
            names: the files that will be written.
            sync: each file that is finished is on the disk.

        Raises:
            OutputError: the target or a partial directory stands in the way.
        """
        self.target = target
        self._place = place(target)
        self.path = self._place.partial
        self._lock = -1
        self._lock_file: locks.LockFile | None = None
        self._synced = sync
        self._overwrite = overwrite
        self._names = names
        self._made: list[Path] = []
        found = os.path.lexists(self.path)
        if not found:
            self._check_target()
        try:
            if found:
                self._adopt(fingerprint, overwrite=overwrite, resume=resume)
            else:
                self._make_parents()
                self.path.mkdir()
                self._acquire()
            self._write_journal(fingerprint)
            (self.path / OUTPUT).mkdir(exist_ok=True)
        except BaseException as error:
            if not found and self._lock >= 0:
                self.discard()
            elif not found and not isinstance(error, FileExistsError):
                # without the lock, what is in it may be another's
                with contextlib.suppress(OSError):
                    self.path.rmdir()
                self._remove_parents()
            self.release()
            if isinstance(error, OSError):
                raise OutputError(f"{self.path} cannot be made: {error.strerror}") from None
            raise

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _adopt(self, fingerprint: str, *, overwrite: bool, resume: bool) -> None:
        """Takes over the partial directory that is there, or refuses."""
        journal = self._read_journal()
        if journal is None:
            raise OutputError(f"{self.path} is in the way and not of wconv's making: move it elsewhere")
        self._acquire()
        same = journal.get("fingerprint") == fingerprint and journal.get("boot") == (boot_id() or None)
        try:
            finished = replacing.recover(self.output, self._place.target, self.path, resume=resume and same)
        except OSError as error:
            raise OutputError(f"{self.target} cannot be put in place: {error.strerror}") from None
        try:
            self._check_target()
        except OutputError:
            if finished:
                self.discard()
            raise
        if not journal:
            self._discard_shards()
        elif resume:
            self._synced = self._synced and journal.get("synced") is True
            kept = str(journal.get("fingerprint"))
            if kept.partition(":")[0] != fingerprint.partition(":")[0]:
                raise OutputError(
                    f"{self.path} was begun by another version of wconv: start again with --overwrite"
                )
            if kept != fingerprint:
                raise OutputError(
                    f"{self.path} was begun from other sources or with other parameters:"
                    " repeat those, or start again with --overwrite"
                )
            if journal.get("boot") != (boot_id() or None):
                self._discard_untrusted(journal)
        elif overwrite:
            self._discard_shards()
        else:
            raise OutputError(
                f"{self.path} is left of an interrupted run: add --resume to continue it,"
                " or --overwrite to start again"
            )

    def _check_target(self) -> None:
        check_target(self.target, overwrite=self._overwrite, names=self._names)

    def _make_parents(self) -> None:
        missing = [parent for parent in self.path.parents if not parent.exists()]
        for parent in reversed(missing):
            with contextlib.suppress(FileExistsError):
                parent.mkdir()
                self._made.append(parent)

    def _remove_parents(self) -> None:
        """Removes the directories that were made for an output which did not come."""
        with contextlib.suppress(OSError):
            while self._made:
                self._made.pop().rmdir()

    def _discard_shards(self, *spared: str) -> None:
        """Empties the directory but for the journal and the lock file, and names that are spared."""
        for entry in os.scandir(self.path):
            if entry.name in (JOURNAL, LOCK, *spared):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)

    def _discard_untrusted(self, journal: dict[str, Any]) -> None:
        """Empties the directory of what a machine that went down may not have brought to the disk.

        Of another host nobody knows whether it did: there, what it said to be on the disk stays.
        """
        told = locks.holder_of(journal.get("holder"))
        if not told.boot or told.host == platform.node() or journal.get("synced") is not True:
            self._discard_shards()
            return
        finished = {entry.name for entry in os.scandir(self.path) if entry.name.endswith(DONE)}
        self._discard_shards(OUTPUT, *finished)

    def _end_orphans(self) -> None:
        """Tells the tasks of a run that was killed to end, and waits until they have."""
        if executors.void(self.path):
            for entry in os.scandir(self.path):
                if entry.name.endswith(PART):
                    wait_for(Path(entry.path), PATIENCE)

    def _read_journal(self) -> dict[str, Any] | None:
        if self.path.is_symlink() or not self.path.is_dir():
            return None
        try:
            journal = json.loads((self.path / JOURNAL).read_text())
        except FileNotFoundError:
            return {} if not any(self.path.iterdir()) else None
        except (OSError, ValueError):
            # a run killed while it wrote the journal: ours, but nothing to go on
            return {}
        return journal if isinstance(journal, dict) else {}

    def _acquire(self) -> None:
        if self._lock >= 0:
            return
        self._lock = os.open(self.path / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        taken = locks.take_flock(self._lock)
        if taken is False:
            holder = locks.holder_of((self._read_journal() or {}).get("holder"))
            self.release()
            raise OutputError(f"{self.path} is being written by {holder}: wait for it")
        if taken is None or not locks.reaches_all(self.path):
            try:
                self._lock_file = locks.LockFile(self.path / LOCK, self.path)
            except BaseException:
                self.release()
                raise
        self._end_orphans()

    def _write_journal(self, fingerprint: str) -> None:
        holder = self._lock_file.holder if self._lock_file is not None else locks.ourselves()
        record = {
            "fingerprint": fingerprint,
            "boot": boot_id(),
            "synced": self._synced,
            "holder": asdict(holder),
        }
        text = json.dumps(record).encode()
        os.pwrite(self._lock, text, 0)
        os.ftruncate(self._lock, len(text))

    def release(self) -> None:
        """Gives the lock back; the partial directory stays for `--resume`."""
        if self._lock_file is not None:
            self._lock_file.release()
            self._lock_file = None
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)  # a process that was forked meanwhile holds it, too
            os.close(self._lock)
            self._lock = -1

    def discard(self) -> None:
        """Removes the partial directory, if it is this process's; its journal, which says so, last.

        The only copy of what stood at the target before stays.
        """
        if self._lock < 0:
            return
        spared = [replacing.ASIDE] if replacing.holds_only_copy(self.path, self._place.target) else []
        with contextlib.suppress(OSError):
            self._discard_shards(*spared)
            if not spared:
                os.unlink(self.path / JOURNAL)
                if self._lock_file is not None:
                    self._lock_file.release()
                self.path.rmdir()
                self._remove_parents()
        self.release()

    @property
    def output(self) -> Path:
        """The directory that becomes the target, or holds the file that does."""
        return self.path / OUTPUT

    def commit(self) -> None:
        """Puts the finished work in place: the directory, or the file in it that has the target's name.

        Raises:
            OutputError: the target cannot be replaced; the work stays in the partial directory.
        """
        # hours may have passed: what came to be there meanwhile is nobody's to replace
        self._check_target()
        try:
            if self._place.inside:
                replacing.put_files(self.output, self._place.target, self.path, SPARED)
            else:
                source = self.output / self.target.name if is_single(self.target) else self.output
                replacing.put(source, self._place.target, self.path)
        except OSError as error:
            raise OutputError(f"{self.target} cannot be put in place: {error.strerror}") from None
        self.discard()


def check_space(directory: Path, needed: int) -> None:
    """Refuses to begin what the disk cannot hold.

    Raises:
        OutputError: fewer than `needed` bytes are free where `directory` is.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OutputError(f"{directory} has {gigabytes(free)} free, {gigabytes(needed)} are needed")

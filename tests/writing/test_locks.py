"""Who has a lock is told, and one is taken over only from who is surely gone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.making import random, write_directory
from wconv.errors import OutputError
from wconv.writing import locks, workspace
from wconv.writing.locks import Holder, LockFile


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks."""

    def refused(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)


def gone() -> Holder:
    """A process of this host that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return replace(locks.ourselves(), pid=process.pid, started="1")


def test_only_who_is_surely_gone_is_taken_to_be() -> None:
    ended = gone()
    assert ended.is_gone()
    assert not locks.ourselves().is_gone()
    for other in ({"host": "elsewhere"}, {"boot": "another"}, {"boot": ""}, {"namespace": "pid:[1]"}):
        assert not replace(ended, **other).is_gone(), other
    # a later process that has its number
    assert replace(locks.ourselves(), started="1").is_gone() == bool(locks.ourselves().started)


def test_a_lock_file_is_made_once_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = LockFile(path, tmp_path)
    with pytest.raises(OutputError) as told:
        LockFile(path, tmp_path)
    assert f"process {os.getpid()} on " in str(told.value)
    assert str(told.value).endswith(f"wait for it; if that process is gone, delete {path}")
    first.release()
    LockFile(path, tmp_path).release()
    assert not path.exists()


def test_the_lock_of_who_is_gone_is_taken_over_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps(asdict(gone())))
    taken = LockFile(path, tmp_path)
    assert json.loads(path.read_text())["token"] == taken.holder.token
    # who was slower to see that the first was gone does not take the lock of who was faster
    taken._remove(gone())
    assert json.loads(path.read_text())["token"] == taken.holder.token
    assert os.listdir(tmp_path) == ["lock"]
    path.write_text(json.dumps(asdict(replace(gone(), host="node7"))))
    with pytest.raises(OutputError, match="on node7 since 20"):
        LockFile(path, tmp_path)


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"pid": "x", "since": "y", "host": 3}'])
def test_a_lock_file_that_says_nothing_is_still_a_lock(text: str, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(text)
    with pytest.raises(OutputError, match="by another wconv: wait for it; if that process is gone, delete"):
        LockFile(tmp_path / "lock", tmp_path)


MOUNTS = """\
22 1 0:20 / / rw,relatime - ext4 /dev/vda rw
30 22 0:31 / /nfs rw,relatime shared:1 - nfs4 server:/x rw,vers=4.2,local_lock=none
31 22 0:32 / /old rw - nfs server:/y rw,nolock,local_lock=all
32 22 0:33 / /lustre rw - lustre mgs:/fs rw,flock
33 22 0:34 / /lustre/here rw - lustre mgs:/fs rw,localflock
34 22 0:35 / /lustre\\040two rw - lustre mgs:/fs rw
35 22 0:36 / /drive rw - fuse.sshfs host:/ rw
36 22 0:37 / /bee rw - beegfs beegfs_nodev rw
broken
"""


@pytest.mark.parametrize(
    ("path", "reaches"),
    [
        ("/home/x", True),
        ("/nfs/x", True),
        ("/nfsx", True),
        ("/old/x", False),
        ("/lustre/x", True),
        ("/lustre/here", False),
        ("/lustre two/x", False),
        ("/drive", False),
        ("/bee/a/b", False),
    ],
)
def test_the_mount_says_whether_flock_reaches_other_hosts(
    path: str, reaches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **more: MOUNTS)
    assert locks.reaches_all(Path(path)) is reaches


def test_without_flock_two_runs_do_not_write_the_same_output(tmp_path: Path, no_flock: None) -> None:
    out = tmp_path / "o"
    with workspace.Workspace(out, "x", overwrite=False, resume=False) as one:
        lock = one.path / workspace.LOCK
        for how in ({"overwrite": True, "resume": False}, {"overwrite": False, "resume": True}):
            with pytest.raises(OutputError, match=rf"process {os.getpid()} on .*, delete .*/{lock.name}"):
                workspace.Workspace(out, "x", **how)
    assert one.path.exists()
    assert not lock.exists()
    with workspace.Workspace(out, "x", overwrite=False, resume=True) as two:
        two.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("executor", [None, "processes:1"])
def test_without_flock_a_model_is_converted_and_resumed(
    executor: str | None, tmp_path: Path, no_flock: None
) -> None:
    model = write_directory(tmp_path / "m", [{"a": random((64, 64))}, {"b": random((64, 64), seed=1)}])
    out = tmp_path / "o"
    wconv.convert(model, out, executor=executor)
    assert sorted(wconv.load(out)) == ["a", "b"]
    assert sorted(os.listdir(tmp_path)) == ["m", "o"]


def test_with_flock_the_holder_is_named_too(tmp_path: Path) -> None:
    out = tmp_path / "o"
    with (
        workspace.Workspace(out, "x", overwrite=False, resume=False),
        pytest.raises(OutputError, match=f"by another wconv, process {os.getpid()} on .* since .*: wait"),
    ):
        workspace.Workspace(out, "x", overwrite=True, resume=False)


def test_what_another_host_brought_to_the_disk_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may go on from another machine; what the first had not finished is written again."""

    def left(host: str, sync: bool) -> list[str]:
        out = tmp_path / f"{host}{sync}"
        ours = locks.ourselves

        def there() -> Any:
            return replace(ours(), host=host)

        monkeypatch.setattr(locks, "ourselves", there)
        monkeypatch.setattr(workspace, "boot_id", lambda: "their boot")
        with workspace.Workspace(out, "x", overwrite=False, resume=False, sync=sync) as one:
            for name in ("a.done", "b.part", "b.log", "output/a"):
                (one.path / name).write_text("")
        monkeypatch.undo()
        with workspace.Workspace(out, "x", overwrite=False, resume=True, sync=sync) as two:
            found = (path.relative_to(two.path).as_posix() for path in two.path.rglob("*"))
            return sorted(name for name in found if name != workspace.JOURNAL)

    assert left("node7", sync=True) == ["a.done", "output", "output/a"]
    assert left("node7", sync=False) == ["output"]
    assert left(locks.ourselves().host, sync=True) == ["output"]

"""A shard's log, the disk's part, and what limits a machine sets."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory, write_file
from wconv.conversion import fingerprint
from wconv.errors import OutputError
from wconv.formats.deflated import DeflatedSource
from wconv.layouts.apply import Layout
from wconv.layouts.rules import rename, transpose
from wconv.stores import durable, files
from wconv.tensors import dtypes
from wconv.tensors.casts import Overflow
from wconv.tensors.lazy import from_array
from wconv.writing import buffers, journal, shard_file, workspace, writer
from wconv.writing.buffers import Buffers
from wconv.writing.plan import Entry, make

F32 = dtypes.by_name("float32")


def test_a_log_says_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "log"
    journal.add(path, [4, 0, 1, 2], {"a": Overflow(2, 7.0)})
    journal.add(path, [3, 9], {"a": Overflow(1, 9.0), "b": Overflow(1, float("inf"))})
    kept = journal.read(path)
    assert [unit for unit in range(12) if unit in kept] == [0, 1, 2, 3, 4, 9]
    assert kept.lost == {"a": Overflow(3, 9.0), "b": Overflow(1, float("inf"))}
    assert kept.end == path.stat().st_size


@pytest.mark.parametrize("tail", [b'{"units": [[5', b"[]\n", b"\0\0\0\n", b'{"units": [[5, 6]], "lost": {}}'])
def test_a_line_that_is_not_whole_ends_what_is_believed(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    journal.add(path, [0, 1], {})
    good = path.stat().st_size
    with path.open("ab") as file:
        file.write(tail)
    kept = journal.read(path)
    assert (kept.starts, kept.stops, kept.end) == ((0,), (2,), good)
    journal.cut(path, kept.end)
    journal.add(path, [5], {})
    assert 5 in journal.read(path)


def test_a_log_does_not_grow_with_tiny_tensors(tmp_path: Path) -> None:
    entries = [Entry(f"t{at}", from_array(np.full(2, at, np.float32)), F32) for at in range(10_000)]
    from wconv.writing.file_formats import torch_shard

    (tmp_path / "output").mkdir()
    shard = torch_shard("x.pt", entries, {})
    output = shard_file.ShardFile(shard, tmp_path, None)
    memory = Buffers()
    for _ in range(9_999):
        unit = output.next_unit()
        assert unit is not None
        output.unit_done(unit, output.run(unit, memory), memory.checksums)
    output.close()
    assert (tmp_path / "x.pt.log").stat().st_size < 200
    writer.write([shard], tmp_path, jobs=1)
    assert zipfile.ZipFile(tmp_path / "output" / "x.pt").testzip() is None


def test_a_log_without_its_file_or_of_another_size_is_not_believed(tmp_path: Path) -> None:
    shards = make([Entry("a", from_array(np.ones(9, np.float32)), F32)], {}).shards
    (tmp_path / "output").mkdir()
    journal.add(tmp_path / "model.safetensors.log", [0], {})
    assert not writer.begun(tmp_path, shards)
    (tmp_path / "model.safetensors.part").write_bytes(b"short")
    assert not writer.begun(tmp_path, shards)
    writer.write(shards, tmp_path)
    assert wconv.load(tmp_path / "output" / "model.safetensors")["a"].sum() == 9


def test_every_file_and_directory_is_synced_before_it_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = write_directory(tmp_path / "m", [{"a": random((9,))}, {"b": random((9,))}]), tmp_path / "o"
    (model / "tokenizer.json").write_text("{}")
    synced: dict[int, bool] = {}
    sync = durable.sync

    def noted(fd: int) -> None:
        sync(fd)
        synced[os.fstat(fd).st_ino] = out.exists()

    monkeypatch.setattr(durable, "sync", noted)
    wconv.convert(model, out)
    for path in (out, *out.iterdir()):
        assert synced[path.stat().st_ino] is False, path.name
    assert synced[tmp_path.stat().st_ino] is True
    synced.clear()
    wconv.convert(model, tmp_path / "other", sync=False)
    assert not synced


def test_a_disk_that_fails_when_it_is_synced_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_directory(tmp_path / "m", [{"a": random((9,))}])

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="No space left"):
        wconv.convert(model, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_another_version_or_other_rules_do_not_continue_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = write_directory(tmp_path / "m", [{"a": random((9,))}]), tmp_path / "o"

    def stop(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_file.ShardFile, "_complete", stop)
    with pytest.raises(KeyboardInterrupt):
        wconv.convert(model, out)
    monkeypatch.undo()
    monkeypatch.setattr(fingerprint, "program", lambda: "another")
    with pytest.raises(OutputError, match="another version of wconv: start again with --overwrite"):
        wconv.convert(model, out, resume=True)
    wconv.convert(model, out, overwrite=True)


def test_without_a_boot_id_nothing_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "boot_id", lambda: "")
    out = tmp_path / "o"
    first = workspace.Workspace(out, "x", overwrite=False, resume=False)
    (first.path / "a.part").write_text("")
    first.release()
    with workspace.Workspace(out, "x", overwrite=False, resume=True) as second:
        assert not (second.path / "a.part").exists()


def test_rules_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{"a": random((4, 4))}])
    digests = set()
    for rules in ((rename("a", "b"),), (rename("a", "b"), transpose("b", "swap_last"))):
        layout = Layout(consumers=("mlx-lm",), model_types=("nobody_knows",), names=("b",), rules=rules)
        one = wconv.prepare(model, tmp_path / "o", rules=layout)
        digests.add(fingerprint.fingerprint(one.plan, one.checkpoint.files, dict(one.parameters)))
    assert len(digests) == 2


def _open(path: str, queue: Any) -> None:
    queue.put(list(wconv.open(path)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_that_is_forked_while_threads_open_files_does_not_hang(tmp_path: Path) -> None:
    paths = [str(write_file(tmp_path / f"{at}.safetensors", {"a": np.ones(3)})) for at in range(80)]
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            for path in paths:
                files.source(path).read(0, 8)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context = multiprocessing.get_context("fork")
            for path in paths[:25]:
                queue = context.SimpleQueue()
                child = context.Process(target=_open, args=(path, queue))
                child.start()
                child.join(10)
                hung = child.is_alive()
                child.kill()
                assert not hung
                assert queue.get() == ["a"]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("lock", ["files", "deflated"])
def test_a_lock_that_another_thread_holds_is_free_in_a_child(lock: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(1000))
    tensor = wconv.open(path)["a"]
    held = files._lock if lock == "files" else _deflated(tensor)._lock
    with held, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            os._exit(int(tensor.numpy()[999] != 999))
    began = time.monotonic()
    while time.monotonic() - began < 10:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def _deflated(tensor: Any) -> DeflatedSource:
    seen = [tensor]
    for one in seen:
        if isinstance(one, DeflatedSource):
            return one
        for kind in type(one).__mro__:
            names = getattr(kind, "__slots__", ())
            for name in (names,) if isinstance(names, str) else names:
                value = getattr(one, name, None)
                if value is not None and type(value).__module__.startswith("wconv."):
                    seen.append(value)
    raise AssertionError("no deflated source")


def test_a_hundred_thousand_jobs_start_no_more_threads_than_there_is_work(tmp_path: Path) -> None:
    assert writer.count_threads(100_000, 10**13) <= max(writer.MOST_THREADS, os.cpu_count() or 1)
    assert writer.count_threads(100_000, 100) == 1
    assert writer.count_threads(3, 10**13) == 3
    model = write_directory(tmp_path / "m", [{"a": random((9,))}])
    command = [sys.executable, "-m", "wconv", str(model), "-j", "100000", "-o", str(tmp_path / "o")]
    subprocess.run(command, check=True, timeout=30, capture_output=True)


def test_large_buffers_are_read_and_written_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    read, write = os.preadv, os.pwrite

    def noted_read(fd: int, buffers: list[Any], offset: int) -> int:
        counts.append(sum(len(one) for one in buffers))
        return read(fd, buffers, offset)

    def noted_write(fd: int, data: Any, offset: int) -> int:
        counts.append(len(data))
        return write(fd, data, offset)

    monkeypatch.setattr(files, "CALL", 1000)
    monkeypatch.setattr(buffers, "WRITE", 1000)
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    source = write_file(tmp_path / "x.safetensors", {"a": np.arange(9000)})
    monkeypatch.setattr(os, "preadv", noted_read)
    monkeypatch.setattr(os, "pwrite", noted_write)
    wconv.convert(source, tmp_path / "o.safetensors")
    assert max(counts) == 1000
    assert wconv.load(tmp_path / "o.safetensors")["a"].tolist() == list(range(9000))


def test_a_big_endian_machine_gets_one_line(tmp_path: Path) -> None:
    big = "import sys; sys.byteorder = 'big'; "
    for code in ("from wconv.cli.program import entry; sys.argv = ['wconv', 'x']; entry()",):
        done = subprocess.run([sys.executable, "-c", big + code], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("wconv: this machine is big-endian")
        assert done.stderr.count("\n") == 1
    code = "import wconv\ntry: wconv.load\nexcept wconv.WconvError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.byteorder = 'big'\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "big-endian" in done.stdout

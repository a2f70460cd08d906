"""An executor that fails is told in one line, and none of its tasks outlives the conversion."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory
from wconv.errors import OutputError
from wconv.writing import executors, shard_file, writer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shards = [{f"{shard}.{at}": random((1024, 1024), np.float32) for at in range(8)} for shard in range(4)]
    return write_directory(tmp_path_factory.mktemp("source") / "model", shards)


class Watched(ThreadPoolExecutor):
    """Fails its second task when the first has begun, and counts those that run."""

    running = 0

    def submit(self, function: Any, /, *words: Any, **more: Any) -> Future[Any]:
        shard = words[0]

        def task() -> Any:
            self.running += 1
            try:
                if shard.filename.startswith("model-00002"):
                    time.sleep(0.05)
                    raise OutputError("the second failed")
                return function(*words, **more)
            finally:
                self.running -= 1

        return super().submit(task)


def test_when_one_task_fails_no_other_runs_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite

    def slow(fd: int, data: Any, offset: int) -> int:
        time.sleep(0.02)
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    with Watched(2) as pool:
        with pytest.raises(OutputError, match="the second failed"):
            wconv.convert(model, tmp_path / "o", executor=pool)
        assert pool.running == 0
    assert not (tmp_path / "o").exists()
    monkeypatch.undo()
    wconv.convert(model, tmp_path / "o", resume=Path(f"{tmp_path}/o.partial").exists())
    assert len(wconv.load(tmp_path / "o")) == 32


def test_an_executor_that_was_shut_down_is_told_in_one_line(model: Path, tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(OutputError, match=r"^the executor failed: RuntimeError: cannot schedule"):
        wconv.convert(model, tmp_path / "o", executor=pool)
    assert not os.path.lexists(tmp_path / "o.partial")


class Dying(ProcessPoolExecutor):
    """One of its workers is killed while it works."""

    def submit(self, function: Any, /, *words: Any, **more: Any) -> Future[Any]:
        if words and words[0].filename.startswith("model-00002"):
            return super().submit(_die)
        return super().submit(function, *words, **more)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_told_in_one_line_and_the_run_can_go_on(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    with Dying(2) as pool, pytest.raises(OutputError, match=r"^the executor failed: BrokenProcessPool: "):
        wconv.convert(model, out, executor=pool)
    assert not out.exists()
    wconv.convert(model, out, resume=Path(f"{out}.partial").exists())
    assert len(wconv.load(out)) == 32


def test_what_cannot_be_pickled_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wconv.tensors import lazy as tensor

    lazy = tensor.from_array(np.ones(3))
    refuses = type("Local", (type(lazy),), {"__slots__": (), "__reduce__": lambda self: threading.Lock()})
    source = {"a": refuses(lazy.array, lazy.dtype, lazy.shape)}
    from wconv.writing.plan import Entry, make

    (tmp_path / "output").mkdir()
    shards = make([Entry(name, value, value.dtype) for name, value in source.items()], {}).shards
    with (
        ProcessPoolExecutor(1) as pool,
        pytest.raises(OutputError, match=r"^the executor failed: \w+Error: ") as told,
    ):
        writer.write(shards, tmp_path, executor=pool)
    assert "\n" not in str(told.value)


def test_a_worker_of_a_run_that_was_killed_keeps_the_next_one_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_file, "PATIENCE", 0.1)
    plan = wconv.prepare(model).plan
    (tmp_path / "output").mkdir()
    orphan = shard_file.ShardFile(plan.shards[0], tmp_path, None)
    with pytest.raises(OutputError, match="worker of an earlier run"):
        writer.write(plan.shards, tmp_path, jobs=1)
    orphan.close()
    assert len(writer.write(plan.shards, tmp_path)) == 4


def test_a_worker_without_wconv_is_told_what_to_do() -> None:
    told = executors.failure(ModuleNotFoundError("No module named 'wconv'", name="wconv"))
    assert "install this wconv, with the same numpy, on every worker" in told
    assert "install this wconv" in executors.failure(RuntimeError("Error during deserialization"))
    assert executors.failure(RuntimeError()) == "the executor failed: RuntimeError"


class Slow(Executor):
    """Runs tasks in one thread each."""

    def submit(self, function: Any, /, *words: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(function(*words, **more))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work).start()
        return future


def test_any_executor_will_do(model: Path, tmp_path: Path) -> None:
    wconv.convert(model, tmp_path / "o", executor=Slow())
    assert len(wconv.load(tmp_path / "o")) == 32

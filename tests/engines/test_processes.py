"""A pool of processes: equal bytes, and processes that die. Covers `engines/processes.py`."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory
from wconv.engines.processes import TRIES, Processes
from wconv.errors import OutputError
from wconv.writing import journal


def test_equal_bytes_and_everything_is_told(tmp_path: Path) -> None:
    shards = [{f"{shard}.{at}": random((512, 512), seed=at) for at in range(3)} for shard in range(3)]
    shards[1]["large"] = np.full((4, 4), 1e9, np.float32)
    model = write_directory(tmp_path / "m", shards)
    seen: list[int] = []
    one = wconv.convert(model, tmp_path / "one", dtype="float16")
    two = wconv.convert(
        model, tmp_path / "two", dtype="float16", executor="processes:2", progress=seen.append
    )
    assert two.overflows == one.overflows
    assert list(two.overflows) == ["large"]
    names = sorted(os.listdir(tmp_path / "one"))
    assert names == sorted(os.listdir(tmp_path / "two"))
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)
    assert seen[-1] >= one.bytes_after
    with pytest.raises(OutputError, match="large"):
        wconv.convert(model, tmp_path / "three", dtype="float16", executor="processes:2", strict=True)
    assert not (tmp_path / "three").exists()


def die_first(mark: str) -> int:
    """Dies where the file is not there, which it makes before."""
    if not os.path.exists(mark):
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_dead_process_was_doing_is_done_again(tmp_path: Path) -> None:
    with Processes(2) as pool:
        futures = [pool.submit(die_first, str(tmp_path / name)) for name in "ab"]
        futures += [pool.submit(os.getpid) for _ in range(4)]
        assert all(future.result(60) > 0 for future in futures)


def test_what_kills_every_process_is_given_up() -> None:
    with Processes(1) as pool:
        with pytest.raises(Exception, match="terminated abruptly"):
            pool.submit(die).result(60)
        assert pool.submit(os.getpid).result(60) > 0
    assert TRIES == 4


def test_a_conversion_goes_on_when_a_process_is_killed(tmp_path: Path, monkeypatch: Any) -> None:
    shards = [{f"{shard}": random((4096, 2048), np.float32, seed=shard)} for shard in range(4)]
    model = write_directory(tmp_path / "m", shards)
    wconv.convert(model, tmp_path / "one", dtype="bfloat16")
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 20
        while not killed and time.monotonic() < end:
            for process in list(getattr(pools[0]._pool, "_processes", None) or {}) if pools else ():
                if list(tmp_path.glob("two.partial/*.part")):
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
                    return
            time.sleep(0.005)

    pools: list[Processes] = []
    made = Processes.__init__

    def watched(self: Processes, count: int) -> None:
        made(self, count)
        pools.append(self)

    monkeypatch.setattr(Processes, "__init__", watched)
    thread = threading.Thread(target=kill)
    thread.start()
    wconv.convert(model, tmp_path / "two", dtype="bfloat16", executor="processes:2")
    thread.join()
    assert killed
    for name in os.listdir(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["m", "one", "two"]


def test_a_log_is_followed_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = journal.Follower(path)
    assert follower.nbytes() == 0
    journal.add(path, [0], {}, 7)
    assert follower.nbytes() == 7
    with open(path, "a") as file:
        file.write('{"units": [[1, 2]], "lost": {}, "byt')
    assert follower.nbytes() == 7
    with open(path, "a") as file:
        file.write('es": 5}\n')
    assert follower.nbytes() == 12
    path.unlink()
    journal.add(path, [0], {}, 3)
    assert follower.nbytes() == 3

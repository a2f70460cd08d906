"""One shard as a task: its size, its errors, and two attempts at one shard."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory
from wconv.errors import FormatError, OutputError
from wconv.stores import files
from wconv.tensors.lazy import from_array
from wconv.writing import executors, shard_file, tasks
from wconv.writing.plan import Entry, make
from wconv.writing.tasks import Outcome, ShardTask, carry_out


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    (tmp_path / "p/output").mkdir(parents=True)
    return tmp_path / "p"


def task_of(model: Path, partial: Path, **more: Any) -> ShardTask:
    shard = wconv.prepare(model, dtype="float16").plan.shards[0]
    return ShardTask(shard, partial, executors.begin(partial), **more)


def test_a_task_is_small_and_has_its_own_shard_alone(tmp_path: Path, partial: Path) -> None:
    shards = [
        {f"model.layers.{shard}.mlp.experts.{at}.weight": np.zeros((2, 2), np.float32) for at in range(500)}
        for shard in range(4)
    ]
    plan = wconv.prepare(write_directory(tmp_path / "m", shards), dtype="float16").plan
    sizes = [len(pickle.dumps(ShardTask(shard, partial, "x"))) for shard in plan.shards]
    assert len(sizes) == 4
    assert max(sizes) < 25 * 500
    again = pickle.loads(pickle.dumps(ShardTask(plan.shards[1], partial, "x")))
    assert again.filename == plan.shards[1].filename
    assert again.unpacked().shard.header == plan.shards[1].header


def test_paths_are_whole_when_a_task_is_sent(
    tmp_path: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_directory(tmp_path / "m", [{"a": random((4, 4))}])
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(task_of(Path("m"), Path("p")))
    monkeypatch.chdir("/")
    files.close("m/model.safetensors")
    assert carry_out(pickle.loads(data)).result().filename == "model.safetensors"
    assert (partial / "output/model.safetensors").exists()


def test_errors_come_back_as_they_were_and_say_where(tmp_path: Path, partial: Path) -> None:
    model = write_directory(tmp_path / "m", [{"a": random((4, 4))}])
    task = task_of(model, partial, host="elsewhere")
    (model / "model.safetensors").write_bytes(b"")
    outcome: Outcome = pickle.loads(pickle.dumps(carry_out(task)))
    with pytest.raises(FormatError, match=r"is truncated: .*; download it again \(on ") as told:
        outcome.result()
    assert not isinstance(told.value.__context__, OSError)


def test_what_the_system_refused_is_told_from_damage(
    tmp_path: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(write_directory(tmp_path / "m", [{"a": random((4, 4))}]), partial)

    def fails(*words: Any) -> None:
        try:
            raise OSError(5, "Input/output error")
        except OSError:
            raise FormatError("m cannot be read: Input/output error") from None

    monkeypatch.setattr(shard_file.ShardFile, "run", fails)
    outcome = pickle.loads(pickle.dumps(carry_out(task)))
    with pytest.raises(FormatError) as told:
        outcome.result()
    assert isinstance(told.value.__context__, OSError)


def test_another_program_is_refused(tmp_path: Path, partial: Path) -> None:
    from functools import partial as bound

    from wconv.conversion.fingerprint import check_program, program

    model = write_directory(tmp_path / "m", [{"a": random((4, 4))}])
    carry_out(task_of(model, partial, check=bound(check_program, program()))).result()
    with pytest.raises(OutputError, match="a worker has another version of wconv"):
        carry_out(task_of(model, partial, check=bound(check_program, "other"))).result()


def test_a_task_of_an_earlier_run_does_nothing(tmp_path: Path, partial: Path) -> None:
    old = task_of(write_directory(tmp_path / "m", [{"a": random((4, 4))}]), partial)
    executors.begin(partial)
    with pytest.raises(OutputError, match="is not wanted any more"):
        carry_out(old).result()
    assert not list(partial.glob("*.part"))
    assert executors.void(partial)
    assert not executors.void(partial)


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    task = ShardTask(make([], {}).shards[0], tmp_path / "none", "x")
    with pytest.raises(OutputError, match="none is not there: workers need the same paths"):
        carry_out(task).result()


@pytest.mark.parametrize("locked", [True, False])
def test_of_two_attempts_the_later_one_writes(
    locked: bool, tmp_path: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was given up goes on for a while; neither harms what the other writes."""
    monkeypatch.setattr(tasks, "LOOK", 0.0)
    if not locked:
        monkeypatch.setattr(tasks.locks, "reaches_all", lambda path: False)
    source = {f"{at}": random((1024, 1024), np.float32, seed=at) for at in range(4)}
    task = task_of(write_directory(tmp_path / "m", [source]), partial)
    begun, go_on, run = threading.Event(), threading.Event(), shard_file.ShardFile.run
    first: list[Outcome] = []

    def slow(self: Any, unit: Any, buffers: Any) -> Any:
        if threading.current_thread().name == "first":
            begun.set()
            go_on.wait(10)
        return run(self, unit, buffers)

    monkeypatch.setattr(shard_file.ShardFile, "run", slow)
    thread = threading.Thread(target=lambda: first.append(carry_out(task)), name="first")
    thread.start()
    begun.wait(10)
    if locked:
        threading.Timer(0.2, go_on.set).start()
    second = carry_out(task)
    go_on.set()
    thread.join()
    assert second.result().filename == "model.safetensors"
    with pytest.raises(OutputError, match="written by another worker"):
        first[0].result()
    written = wconv.load(partial / "output/model.safetensors")
    assert all(np.array_equal(written[name], value.astype("float16")) for name, value in source.items())


def test_what_takes_the_place_of_a_file_is_not_finished_for_it(tmp_path: Path, partial: Path) -> None:
    tensor = from_array(np.ones(8, np.float32))
    shard = make([Entry("a", tensor, tensor.dtype)], {}).shards[0]
    one = shard_file.ShardFile(shard, partial, None)
    one.part.unlink()
    one.part.write_text("another run's")
    buffers = tasks.Buffers()
    unit = one.next_unit()
    assert unit is not None
    one.run(unit, buffers)
    one.unit_done(unit, {}, [])
    with pytest.raises(OutputError, match="another run's by now"):
        one.next_unit()
    one.close()
    assert not (partial / "output" / shard.filename).exists()

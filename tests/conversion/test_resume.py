"""A run that was killed or interrupted is gone on with, and gives the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.conversion.test_run import llama, tree
from wconv.errors import OutputError
from wconv.writing import workspace

STEPS = ("pwrite", "replace", "mkdir", "rename", "open", "unlink")
"""System calls before each of which a run is killed once."""


def in_child(work: Callable[[], None]) -> int:
    """Runs `work` in a forked process and returns its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def killing(model: Path, out: Path, step: int, **more: Any) -> int:
    """Converts in a child that kills itself before its `step`-th system call; the wait status."""

    def work() -> None:
        count = 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def instead(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return instead

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        shutil.copyfile = counted(shutil.copyfile)  # type: ignore[assignment]
        wconv.convert(model, out, dtype="float16", max_shard_size=1200, jobs=2, **more)

    return in_child(work)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_at_any_step_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    model = llama(tmp_path / "m")
    (model / "tokenizer.json").write_text("{}")
    wconv.convert(model, tmp_path / "whole", dtype="float16", max_shard_size=1200)
    whole = tree(tmp_path / "whole")
    killed = 0
    for step in range(1, 200):
        out = tmp_path / f"o{step}"
        status = killing(model, out, step)
        if status == 0:
            break
        assert os.WIFSIGNALED(status)
        killed += 1
        if out.exists():
            assert tree(out) == whole
            partial = Path(f"{out}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            continue
        done = {path: path.stat().st_mtime_ns for path in Path(f"{out}.partial").glob("output/*.safetensors")}
        report = wconv.convert(model, out, dtype="float16", max_shard_size=1200, resume=True)
        assert tree(out) == whole
        assert len(report.resumed) == len(done)
        for path, time in done.items():
            assert (out / path.name).stat().st_mtime_ns == time
        assert not os.path.lexists(f"{out}.partial")
    assert killed > 15
    assert status == 0


def interrupted(model: Path, out: Path) -> Path:
    """An output whose first run was killed when one shard at least was finished."""
    for step in range(1, 200):
        assert os.WIFSIGNALED(killing(model, out, step))
        if list(Path(f"{out}.partial").glob("output/*.safetensors")):
            return Path(f"{out}.partial")
        shutil.rmtree(f"{out}.partial", ignore_errors=True)
    raise AssertionError("no shard was ever finished")


def test_resume_refuses_other_parameters_and_other_sources(tmp_path: Path) -> None:
    model, out = llama(tmp_path / "m"), tmp_path / "o"
    interrupted(model, out)
    with pytest.raises(OutputError, match="other parameters"):
        wconv.convert(model, out, dtype="bfloat16", max_shard_size=1200, resume=True)
    with pytest.raises(OutputError, match="other parameters"):
        wconv.convert(model, out, dtype="float16", max_shard_size="5GB", resume=True)
    with pytest.raises(OutputError, match="--resume"):
        wconv.convert(model, out, dtype="float16", max_shard_size=1200)
    (model / "model.safetensors").touch()
    with pytest.raises(OutputError, match="other sources"):
        wconv.convert(model, out, dtype="float16", max_shard_size=1200, resume=True)
    wconv.convert(model, out, dtype="float16", overwrite=True)
    assert not os.path.lexists(f"{out}.partial")


def test_after_a_power_loss_finished_shards_are_not_trusted(tmp_path: Path, monkeypatch: Any) -> None:
    model, out = llama(tmp_path / "m"), tmp_path / "o"
    interrupted(model, out)
    monkeypatch.setattr(workspace, "boot_id", lambda: "another boot")
    report = wconv.convert(model, out, dtype="float16", max_shard_size=1200, resume=True)
    assert not report.resumed

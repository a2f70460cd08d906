"""An output that is replaced is there, whole, whenever the run is killed: the old one or the new."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import write_directory, write_file
from wconv.errors import OutputError
from wconv.stores import replacing

OLD, NEW = np.zeros(64, np.float32), np.ones(64, np.float32)


def two_models(folder: Path) -> tuple[Path, Path]:
    """Two models in two shards each; the second has fewer files beside its weights."""
    made = []
    for name, values in (("first", OLD), ("second", NEW)):
        shards = [{"a": values}, {"b": values + 1}]
        made.append(write_directory(folder / name, shards))
        (folder / name / "tokenizer.json").write_text(f'"{name}"')
    (made[0] / "vocab.json").write_text("{}")
    return made[0], made[1]


def state(out: Path) -> str:
    """Which of the two models an output is; fails where it is a mixture."""
    found = wconv.load(out)
    values = {float(found["a"][0]), float(found["b"][0] - 1)}
    assert len(values) == 1
    name = "second" if values.pop() else "first"
    assert (out / "tokenizer.json").read_text() == f'"{name}"'
    assert (out / "vocab.json").exists() == (name == "first")
    return name


convert = functools.partial(wconv.convert, sync=False)
"""A kill is no power loss: nothing is gained by waiting for the disk a thousand times."""

STEPS = ("rename", "replace", "mkdir", "rmdir", "unlink")


def run_killed(step: int, work: Callable[[], None], *, can_exchange: bool) -> int:
    """Runs `work` in a forked process that kills itself before its `step`-th system call; its status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*args: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **more)

        return instead

    try:
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        replacing.exchange = counted(replacing.exchange if can_exchange else lambda one, other: False)
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_killed_at_any_step_of_an_overwriting_run(tmp_path: Path, can_exchange: bool) -> None:
    first, second = two_models(tmp_path)
    wconv.convert(first, tmp_path / "kept")
    missing = 0
    for step in range(1, 200):
        left = tmp_path / str(step)
        out = left / "o"
        shutil.copytree(tmp_path / "kept", out)
        status = run_killed(
            step,
            lambda out=out: convert(second, out, overwrite=True, jobs=1),
            can_exchange=can_exchange,
        )
        if status == 0:
            break
        assert os.WIFSIGNALED(status)
        before = state(out) if out.exists() else "aside"
        missing += before == "aside"
        assert before != "aside" or not can_exchange
        for next_run in ("overwrite", "resume", "plain", "failing"):
            # each goes on from what the kill left
            out = shutil.copytree(left, tmp_path / f"{step}-{next_run}") / "o"
            go_on(next_run, second, out)
            if next_run in ("overwrite", "resume"):
                assert state(out) == "second"
                assert not os.path.lexists(f"{out}.partial")
            else:
                # the old one where it was set aside; never less than there was
                assert state(out) == ("first" if before == "aside" else before)
    assert status == 0
    assert step > 15
    assert state(out) == "second"
    assert missing == (0 if can_exchange else 1)


def go_on(how: str, model: Path, out: Path) -> None:
    if how == "overwrite":
        convert(model, out, overwrite=True)
    elif how == "resume":
        resume = os.path.lexists(f"{out}.partial")
        convert(model, out, overwrite=True, resume=resume)
    elif how == "plain":
        with pytest.raises(OutputError, match="exists already"):
            convert(model, out)
    else:
        # another run discards the interrupted one's work, and fails before its own is complete
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wconv.conversion.run, "check_space", refuse_space)
            with pytest.raises(OutputError, match="no space"):
                convert(model, out, overwrite=True)


def refuse_space(*args: object) -> None:
    raise OutputError("no space")


def test_there_is_no_moment_without_an_output(tmp_path: Path) -> None:
    first, second = two_models(tmp_path)
    out = tmp_path / "o"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    if not replacing.exchange(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system cannot exchange two directories")
    wconv.convert(first, out)
    done, gaps = threading.Event(), 0

    def watch() -> None:
        nonlocal gaps
        while not done.is_set():
            gaps += not os.path.lexists(out)

    watching = threading.Thread(target=watch)
    watching.start()
    for model in (second, first) * 5:
        wconv.convert(model, out, overwrite=True)
        assert state(out) == model.name
    done.set()
    watching.join()
    assert gaps == 0


def test_the_two_change_places(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").mkdir()
    if not replacing.exchange(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system cannot exchange two files")
    assert (tmp_path / "one").is_dir()
    assert (tmp_path / "two").read_text() == "1"
    with pytest.raises(OSError, match="No such file"):
        replacing.exchange(tmp_path / "one", tmp_path / "nothing")


def test_what_the_system_cannot_exchange_comes_back_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_models(tmp_path)
    out, rename = tmp_path / "o", os.rename
    wconv.convert(first, out)

    def refuse(source: Any, target: Any, **more: Any) -> None:
        if Path(source).name == replacing.SWAP and Path(target) == out:
            raise OSError(5, "Input/output error")
        rename(source, target, **more)

    monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OutputError, match="cannot be put in place: Input/output error"):
        wconv.convert(second, out, overwrite=True)
    assert state(out) == "first"
    monkeypatch.undo()
    report = wconv.convert(second, out, overwrite=True, resume=True)
    assert len(report.resumed) == 2
    assert state(out) == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "o", "second"]


def test_an_old_output_that_cannot_be_put_back_is_kept_and_comes_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_models(tmp_path)
    out, rename = tmp_path / "o", os.rename
    wconv.convert(first, out)

    def refuse(source: Any, target: Any, **more: Any) -> None:
        if Path(source).name in (replacing.SWAP, replacing.ASIDE):
            raise OSError(5, "Input/output error")
        rename(source, target, **more)

    monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OutputError, match="cannot be put in place: Input/output error"):
        wconv.convert(second, out, overwrite=True)
    monkeypatch.undo()
    assert not out.exists()
    assert state(tmp_path / "o.partial" / replacing.ASIDE) == "first"
    with pytest.raises(OutputError, match="exists already"):
        wconv.convert(second, out)
    assert state(out) == "first"
    wconv.convert(second, out, overwrite=True)
    assert state(out) == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "o", "second"]


def test_the_only_copy_is_told_where_another_output_took_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_models(tmp_path)
    out = tmp_path / "o"
    wconv.convert(first, out)
    for step in range(1, 200):
        run_killed(step, lambda: convert(second, out, overwrite=True, jobs=1), can_exchange=False)
        if not out.exists():
            break
    shutil.copytree(second, out)
    aside = tmp_path / "o.partial" / replacing.ASIDE
    for more in ({}, {"overwrite": True}, {"resume": True, "overwrite": True}):
        with pytest.raises(OutputError, match="is what stood at"):
            wconv.convert(second, out, **more)
        assert state(aside) == "first"
    shutil.rmtree(out)
    with pytest.raises(OutputError, match="exists already"):
        wconv.convert(second, out)
    assert state(out) == "first"


def test_a_new_output_does_not_take_the_place_of_what_came_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "there").write_text("mine")
    if replacing._system_call() is None:
        pytest.skip("this system cannot rename so")
    with pytest.raises(OSError, match="exists"):
        replacing._rename_new(tmp_path / "new", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"


def test_a_file_is_replaced_in_one_step_and_a_link_to_it_as_well(tmp_path: Path) -> None:
    source = write_file(tmp_path / "x.safetensors", {"a": NEW})
    out = write_file(tmp_path / "o.safetensors", {"a": OLD})
    link = tmp_path / "link.safetensors"
    link.symlink_to(out)
    wconv.convert(source, link, overwrite=True)
    assert not link.is_symlink()
    assert wconv.load(out)["a"][0] == 0
    wconv.convert(source, out, overwrite=True)
    assert wconv.load(out)["a"][0] == 1
    assert sorted(os.listdir(tmp_path)) == ["link.safetensors", "o.safetensors", "x.safetensors"]

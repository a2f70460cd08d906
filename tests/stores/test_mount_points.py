"""A mount point stays, and its files are put in place one by one; what is begun is gone on with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.stores.test_replacing import convert, run_killed, state, two_models
from wconv.errors import OutputError
from wconv.stores import replacing
from wconv.writing import targets


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is taken for a mount point."""
    path = tmp_path / "volume"
    path.mkdir()
    real = os.path.ismount
    monkeypatch.setattr(os.path, "ismount", lambda one: Path(one).resolve() == path.resolve() or real(one))
    return path


@pytest.mark.parametrize("made", [(), ("lost+found",)])
def test_a_mount_point_is_written_into(tmp_path: Path, volume: Path, made: tuple[str, ...]) -> None:
    first, second = two_models(tmp_path)
    for name in made:
        (volume / name).mkdir()
    itself = volume.stat().st_ino
    seen: list[Path] = []
    wconv.convert(first, volume, progress=lambda count: seen.append(volume / targets.INSIDE))
    assert all(path.is_dir() or not path.exists() for path in seen)
    assert state(volume) == "first"
    with pytest.raises(OutputError, match="exists already"):
        wconv.convert(second, volume)
    wconv.convert(second, volume, overwrite=True)
    assert state(volume) == "second"
    names = set(os.listdir(volume))
    assert names == {*made, *os.listdir(second)}
    assert volume.stat().st_ino == itself
    assert sorted(os.listdir(tmp_path)) == ["first", "second", "volume"]
    (volume / "thesis.txt").write_text("years")
    with pytest.raises(OutputError, match=r"holds thesis\.txt"):
        wconv.convert(first, volume, overwrite=True)
    assert state(volume) == "second"


@pytest.mark.parametrize("filled", [False, True])
def test_killed_at_any_step_on_a_mount_point(tmp_path: Path, volume: Path, filled: bool) -> None:
    first, second = two_models(tmp_path)
    wconv.convert(first, tmp_path / "kept")
    halfway = 0
    for step in range(1, 200):
        refill(volume, tmp_path / "kept" if filled else None)
        status = run_killed(
            step, lambda: convert(second, volume, overwrite=filled, jobs=1), can_exchange=True
        )
        if status == 0:
            break
        assert os.WIFSIGNALED(status)
        halfway += os.path.lexists(volume / targets.INSIDE / replacing.MOVING)
        left = shutil.copytree(volume, tmp_path / f"left-{step}")
        for next_run in ("overwrite", "resume", "plain"):
            refill(volume, left)
            go_on_in_place(next_run, second, volume, filled=filled)
    assert status == 0
    assert halfway > 5


def refill(volume: Path, content: Path | None) -> None:
    """Makes a directory hold what another does, or nothing."""
    shutil.rmtree(volume)
    volume.mkdir()
    if content is not None:
        shutil.copytree(content, volume, dirs_exist_ok=True)


def go_on_in_place(next_run: str, second: Path, volume: Path, *, filled: bool) -> None:
    begun = os.path.lexists(volume / targets.INSIDE)
    moving = os.path.lexists(volume / targets.INSIDE / replacing.MOVING)
    whole = not moving and "config.json" in os.listdir(volume)
    if next_run == "plain" or (whole and not filled and next_run == "resume"):
        told = attempt(second, volume, resume=next_run == "resume")
        if moving or whole:
            assert "exists already" in told or not (begun or filled)
            assert state(volume) in (("second",) if moving or not filled else ("first", "second"))
        else:
            # a run that had not begun in earnest is no reason to stop
            assert "--resume" in told or state(volume) == "second"
        assert not moving or not os.path.lexists(volume / targets.INSIDE)
        return
    overwrite = filled or next_run == "overwrite"
    convert(second, volume, overwrite=overwrite, resume=next_run == "resume")
    assert state(volume) == "second"
    assert sorted(os.listdir(volume)) == sorted(os.listdir(second))


def attempt(model: Path, out: Path, **more: bool) -> str:
    """What a run says that fails; "" when it does not."""
    try:
        wconv.convert(model, out, **more)
    except OutputError as error:
        return str(error)
    return ""


def test_work_on_a_mount_point_is_gone_on_with(
    tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = two_models(tmp_path)

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(wconv.conversion.run, "_write_sidecars", stop)
        with pytest.raises(KeyboardInterrupt):
            wconv.convert(first, volume)
    assert os.listdir(volume) == [targets.INSIDE]
    with pytest.raises(OutputError, match="--resume"):
        wconv.convert(first, volume)
    assert len(wconv.convert(first, volume, resume=True).resumed) == 2
    assert state(volume) == "first"
    assert targets.INSIDE not in os.listdir(volume)


def test_a_list_of_moves_that_leads_out_is_refused(tmp_path: Path, volume: Path) -> None:
    first, _ = two_models(tmp_path)
    (tmp_path / "mine").write_text("mine")
    work = volume / targets.INSIDE
    (work / "output").mkdir(parents=True)
    (work / "wconv.json").write_text("{}")
    for text in ('{"new": [], "old": ["../mine"]}', '{"new": [3], "old": []}', "[", '{"old": ["/x"]}'):
        (work / replacing.MOVING).write_text(text)
        with pytest.raises(OutputError, match="is damaged"):
            wconv.convert(first, volume, overwrite=True)
    assert (tmp_path / "mine").exists()


def in_namespace(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in `folder` where its mounts are its own, and gone when it ends."""
    if sys.platform != "linux" or os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("mounting takes root on Linux")
    place = {**os.environ, "PYTHONPATH": str(Path(wconv.__file__).parent.parent), "PYTHON": sys.executable}
    command = ["unshare", "-m", "sh", "-ec", script]
    done = subprocess.run(command, cwd=folder, env=place, capture_output=True, text=True, check=False)
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mounting here: {done.stderr[:100]}")
    return done


@pytest.mark.parametrize("how", ["mount -t tmpfs none out", "mount --bind store out"])
def test_real_mount_points(tmp_path: Path, how: str) -> None:
    two_models(tmp_path)
    for name in ("out", "store"):
        (tmp_path / name).mkdir()
    done = in_namespace(
        tmp_path,
        f"""{how}
        "$PYTHON" -m wconv first -o out --quiet
        "$PYTHON" -m wconv second -o out --quiet && exit 9
        "$PYTHON" -m wconv second -o out --quiet --overwrite
        cp -r out copy
        ln -s out link
        "$PYTHON" -m wconv first -o link --quiet --overwrite
        test -L link
        cp -r out again
        mkdir inner; touch file.pt; mount --bind file.pt file.pt
        "$PYTHON" -m wconv first -o file.pt --overwrite && exit 9
        ls -A
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "exists already" in done.stderr
    assert "file.pt is mounted by itself" in done.stderr
    assert state(tmp_path / "copy") == "second"
    assert state(tmp_path / "again") == "first"
    assert sorted(os.listdir(tmp_path / "copy")) == sorted(os.listdir(tmp_path / "second"))
    assert ".partial" not in done.stdout


def test_a_directory_of_a_lower_layer(tmp_path: Path) -> None:
    """As an image's are for a container: they cannot be renamed."""
    two_models(tmp_path)
    (tmp_path / "lower").mkdir()
    shutil.copytree(tmp_path / "first", tmp_path / "lower" / "full")
    (tmp_path / "lower" / "bare").mkdir()
    done = in_namespace(
        tmp_path,
        """mkdir on all; mount -t tmpfs none on; mkdir on/upper on/work
        mount -t overlay -o lowerdir=lower,upperdir=on/upper,workdir=on/work none all
        "$PYTHON" -m wconv second -o all/full --quiet --overwrite
        "$PYTHON" -m wconv second -o all/bare --quiet
        ls -A all
        cp -r all/full full
        cp -r all/bare bare
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["bare", "full"]
    assert state(tmp_path / "full") == state(tmp_path / "bare") == "second"


def test_a_directory_that_cannot_be_renamed_is_filled_one_file_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_models(tmp_path)
    wconv.convert(first, tmp_path / "kept")
    out, rename = tmp_path / "o", os.rename

    def refuse(source: Any, target: Any, **more: Any) -> None:
        if out in (Path(source), Path(target)):
            raise OSError(18, "Invalid cross-device link")
        rename(source, target, **more)

    monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", refuse)
    for step in range(1, 200):
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(f"{out}.partial", ignore_errors=True)
        shutil.copytree(tmp_path / "kept", out)
        itself = out.stat().st_ino
        status = run_killed(
            step, lambda: wconv.convert(second, out, overwrite=True, jobs=1), can_exchange=False
        )
        wconv.convert(second, out, overwrite=True, resume=bool(step % 2))
        assert state(out) == "second"
        assert out.stat().st_ino == itself
        assert not os.path.lexists(f"{out}.partial")
        if status == 0:
            break
    assert status == 0


def test_a_directory_that_cannot_be_written_beside_is_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_models(tmp_path)
    out, access = tmp_path / "far" / "o", os.access
    out.mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != out.parent and access(path, mode))
    itself = out.stat().st_ino
    for model in (first, second):
        wconv.convert(model, out, overwrite=model is second)
        assert state(out) == model.name
        assert out.stat().st_ino == itself
        assert os.listdir(out.parent) == ["o"]

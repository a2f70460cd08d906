"""What stands in an output's way is refused before the work begins, or replaced whole."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import wconv
from wconv.conversion import fingerprint, outputs
from wconv.errors import FormatError, OutputError, WconvError
from wconv.writing import workspace


def test_a_link_is_replaced_and_what_it_names_stays(model: Path, tmp_path: Path) -> None:
    old, link = tmp_path / "old", tmp_path / "link"
    wconv.convert(model, old)
    link.symlink_to(old)
    for output in (link, tmp_path / "single.safetensors"):
        if output is not link:
            output.symlink_to(old / "model.safetensors")
        before = (old / "model.safetensors").read_bytes()
        wconv.convert(model, output, dtype="float16", overwrite=True)
        assert not output.is_symlink()
        assert wconv.load(output)["a"].dtype == np.float16
        assert (old / "model.safetensors").read_bytes() == before
        assert not os.path.lexists(f"{output}.partial")


def test_who_loses_the_race_for_the_lock_spares_the_winners_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, acquire = tmp_path / "o", workspace.Workspace._acquire
    winners: list[workspace.Workspace] = []

    def late(self: workspace.Workspace) -> None:
        monkeypatch.setattr(workspace.Workspace, "_acquire", acquire)
        winners.append(workspace.Workspace(out, "x", overwrite=False, resume=False))
        acquire(self)

    monkeypatch.setattr(workspace.Workspace, "_acquire", late)
    with pytest.raises(OutputError, match="another wconv"):
        workspace.Workspace(out, "x", overwrite=False, resume=False)
    assert winners[0].output.is_dir()
    winners[0].release()


def test_of_many_runs_at_once_none_breaks_another(model: Path, tmp_path: Path) -> None:
    def attempt(number: int) -> str:
        try:
            wconv.convert(model, tmp_path / "o", overwrite=True)
        except OutputError as error:
            return str(error)
        return "done"

    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(attempt, range(20)))
    assert "done" in told
    assert list(wconv.load(tmp_path / "o")) == ["a"]


def test_a_resumed_run_must_pick_the_same_state_dict(model: Path) -> None:
    made = [wconv.prepare(model), wconv.prepare(model, include="a"), wconv.prepare(model, exclude="b")]
    digests = {fingerprint.fingerprint(one.plan, one.checkpoint.files, dict(one.parameters)) for one in made}
    assert len(digests) == 3


def test_names_that_are_no_text(model: Path, tmp_path: Path) -> None:
    strange = os.fsdecode(b"m\xff")
    try:
        model.rename(tmp_path / strange)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    wconv.convert(tmp_path / strange, tmp_path / "o")
    assert list(wconv.load(tmp_path / "o")) == ["a"]


def test_what_the_system_refuses_is_told_in_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "private").mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:
        if os.path.basename(path) == "private":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FormatError, match="private cannot be read: Permission denied"):
        wconv.prepare(model)
    with pytest.raises(WconvError, match="has no name"):
        outputs.default_output(Path("/"))


@pytest.mark.parametrize("size", [0, -5, "-5", "0GB"])
def test_a_shard_size_that_is_none_is_refused(model: Path, size: int | str) -> None:
    with pytest.raises(WconvError, match="is no size"):
        wconv.prepare(model, max_shard_size=size)


def test_what_appears_at_the_output_meanwhile_is_not_replaced(model: Path, tmp_path: Path) -> None:
    for name in ("o", "o.safetensors"):
        out = tmp_path / name
        prepared = wconv.prepare(model, out)
        with workspace.Workspace(out, "x", overwrite=False, resume=False) as work:
            (work.output / "o.safetensors").write_bytes(b"new")
            out.write_text("mine")
            with pytest.raises(OutputError, match="exists already"):
                work.commit()
            assert out.read_text() == "mine"
            work.discard()
        out.unlink()
        wconv.run(prepared)
        assert list(wconv.load(out)) == ["a"]

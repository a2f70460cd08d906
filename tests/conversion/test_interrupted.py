"""Conversions that are stopped, by signals and by kills at any moment, go on where they were.

Covers `cli/signals.py`.
"""

from __future__ import annotations

import os
import random as chance
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory, write_file
from wconv.errors import Interrupted, OutputError
from wconv.writing import shard_file

SLOW = """
import os, sys, time
from wconv.writing import journal, writer
journal.STEP = 1 << 20
write = os.pwrite
def slow(fd, data, offset):
    if len(data) > 100_000:
        time.sleep({pause})
    return write(fd, data, offset)
os.pwrite = slow
from wconv.cli.program import entry
entry()
"""
TAKEN = """
from wconv.cli import signals
first = signals._first
def taken(number, frame):
    try:
        first(number, frame)
    finally:
        print("taken", flush=True)
signals._first = taken
"""
COUNT = """
import os, sys
write, total = os.pwrite, 0
def counted(fd, data, offset):
    global total
    total += len(data)
    return write(fd, data, offset)
os.pwrite = counted
import atexit
from wconv.cli import program as cli
try:
    cli.main()
finally:
    print("BYTES", total)
"""
MEGABYTE = 1 << 20


def model(path: Path, count: int = 8) -> Path:
    """About 4 MB a tensor, in float32; one value of the third is too large for float16."""
    tensors = {f"layers.{at}.weight": random((1024, 1024), np.float32, seed=at) for at in range(count)}
    tensors["layers.0.weight"][5, 7] = 1e6
    return write_directory(path, [tensors])


def start(words: list[object], pause: float = 0.02) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW.format(pause=pause), *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def until_logged(process: subprocess.Popen[str], partial: Path) -> None:
    while process.poll() is None and not list(partial.glob("*.log")):
        time.sleep(0.005)
    assert process.poll() is None


def resumed(words: list[object]) -> tuple[int, str]:
    """Bytes that a resumed run writes, and what it prints."""
    command = [sys.executable, "-c", COUNT, *map(str, words), "--resume"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rsplit("BYTES", 1)[1]), done.stdout


@pytest.mark.parametrize("name", ["out.safetensors", "out.pt"])
def test_killed_at_random_moments_it_goes_on_within_the_shard(name: str, tmp_path: Path) -> None:
    source = model(tmp_path / "m")
    whole = wconv.convert(source, tmp_path / f"whole-{name}", dtype="float16")
    dice = chance.Random(name)
    kept = 0
    for attempt in range(3):
        out = tmp_path / str(attempt) / f"whole-{name}"
        out.parent.mkdir()
        words = [source, "-o", out, "--dtype", "float16", "-j", 2]
        process = start(words)
        partial = out.with_name(out.name + ".partial")
        while process.poll() is None and not list(partial.glob("*.part")):
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.25))
        process.kill()
        process.communicate()
        if out.exists():
            continue
        log = next(partial.glob("*.log"), None)
        kept += log is not None
        written, told = resumed(words)
        assert out.read_bytes() == whole.output.read_bytes()
        assert "1e+06" in told
        if log is not None:
            assert written < out.stat().st_size
        assert not os.path.lexists(partial)
    assert kept


def test_after_a_kill_at_most_64_megabytes_a_thread_are_written_again(tmp_path: Path) -> None:
    block = random((4096, 4096))
    source = write_directory(tmp_path / "m", [{str(at): block for at in range(8)}])
    out = tmp_path / "o.safetensors"
    words = [source, "-o", out, "-j", 2]
    command = [sys.executable, "-c", SLOW.format(pause=0.01).replace("journal.STEP =", "unused ="), *words]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE)
    written = 0
    partial = Path(f"{out}.partial")
    while process.poll() is None and written < 160 * MEGABYTE:
        time.sleep(0.01)
        written = sum(path.stat().st_blocks * 512 for path in partial.glob("*.part"))
        written = min(written, len(_log(partial)) * 16 * MEGABYTE + 1)
    process.kill()
    process.communicate()
    again, _ = resumed(words)
    assert again <= out.stat().st_size - written + 2 * 64 * MEGABYTE
    assert again < out.stat().st_size - 100 * MEGABYTE
    assert wconv.load(out)["7"].tobytes() == block.tobytes()


def _log(partial: Path) -> list[str]:
    return [line for path in partial.glob("*.log") for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_one_shard_has(number: signal.Signals, code: int, tmp_path: Path) -> None:
    source, out = model(tmp_path / "m"), tmp_path / "o.safetensors"
    words = [source, "-o", out, "--dtype", "float16"]
    process = start(words, pause=0.15)
    until_logged(process, Path(f"{out}.partial"))
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == code
    assert told == "wconv: interrupted; repeat the command with --resume to go on\n"
    written, told = resumed(words)
    assert written < out.stat().st_size
    assert "1e+06" in told
    whole = wconv.convert(source, tmp_path / "whole.safetensors", dtype="float16")
    assert out.read_bytes() == whole.output.read_bytes()


def test_strict_refuses_what_the_first_run_lost(tmp_path: Path) -> None:
    source, out = model(tmp_path / "m"), tmp_path / "o.safetensors"
    process = start([source, "-o", out, "--dtype", "float16", "-j", 1])
    partial = Path(f"{out}.partial")
    while process.poll() is None and len(_log(partial)) < 5:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    with pytest.raises(OutputError, match=r"layers\.0\.weight"):
        wconv.convert(source, out, dtype="float16", resume=True, strict=True)
    assert not out.exists()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once_and_what_is_there_can_be_resumed(
    second: signal.Signals, tmp_path: Path
) -> None:
    source, out = model(tmp_path / "m"), tmp_path / "o.safetensors"
    words = [source, "-o", out, "--dtype", "float16"]
    command = [sys.executable, "-c", TAKEN + SLOW.format(pause=1.5), *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until_logged(process, Path(f"{out}.partial"))
    process.send_signal(signal.SIGTERM)
    # two that are sent before the first is taken may become one, or change places
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    process.send_signal(second)
    _, told = process.communicate(timeout=30)
    # on a busy machine both are pending, and Python takes the lower number first
    assert process.returncode in {128 + second, 128 + signal.SIGTERM}
    # a fast one has stopped in order before the second comes
    assert told in (
        "wconv: stopped at once\n",
        "wconv: interrupted; repeat the command with --resume to go on\n",
    )
    resumed(words)
    assert len(wconv.load(out)) == 8


def test_where_nothing_is_kept_nothing_is_said_of_resuming(tmp_path: Path) -> None:
    source, out = model(tmp_path / "m", 1), tmp_path / "o.safetensors"
    stopped = SLOW.format(pause=0).replace(
        "from wconv.cli.program import", "import wconv.{}\n{}\nfrom wconv.cli.program import"
    )
    kill = "os.kill(os.getpid(), 15)"
    for module, patch, words in (
        ("examine.inspect", f"wconv.examine.inspect.lines = lambda *_, **__: {kill}", ["inspect", source]),
        ("writing.writer", f"wconv.writing.writer.write = lambda *_, **__: {kill}", [source, "-o", out]),
    ):
        command = [sys.executable, "-c", stopped.format(module, patch), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (143, "wconv: interrupted\n")
        assert not os.path.lexists(f"{out}.partial")


def test_a_library_call_tells_whether_something_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = model(tmp_path / "m", 2), tmp_path / "o.safetensors"

    def stop(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_file.ShardFile, "_complete", stop)
    with pytest.raises(Interrupted):
        wconv.convert(source, out)
    monkeypatch.undo()
    assert wconv.convert(source, out, resume=True).output == out


@pytest.mark.parametrize("moment", ["planned", "written"])
def test_a_source_that_vanishes_or_changes_unseen_is_told_in_one_line(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = shard_file.ShardFile._complete
    for change in ("gone", "same size and time"):
        folder = tmp_path / change / moment
        folder.mkdir(parents=True)
        source = write_file(folder / "x.safetensors", {"a": np.ones(9)})

        def happen(source: Path = source, change: str = change) -> None:
            if change == "gone":
                source.unlink(missing_ok=True)
                return
            status = source.stat()
            with source.open("r+b") as file:
                file.seek(-8, 2)
                file.write(b"12345678")
            os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))

        prepared = wconv.prepare(source, folder / "out.safetensors")
        if moment == "planned":
            happen()
        else:
            monkeypatch.setattr(
                shard_file.ShardFile, "_complete", lambda output: (complete(output), happen())
            )
        with pytest.raises(wconv.FormatError, match=r"No such file|changed"):
            wconv.run(prepared)
        assert not (folder / "out.safetensors").exists()

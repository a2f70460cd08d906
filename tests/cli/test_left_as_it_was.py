"""A command leaves the process that ran it as it was: signals, garbage collection, environment, streams."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.making import random, write_file
from wconv.cli.program import main

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_file(tmp_path / "a.safetensors", {"a": random((2, 2))})


def invoke(*words: object) -> Any:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def state() -> tuple[object, ...]:
    return (*map(signal.getsignal, SIGNALS), gc.isenabled(), dict(os.environ), sys.stdout.errors)


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("words", [["inspect"], ["inspect", "--key", "no.such"], ["--no-such-option"]])
def test_nothing_stays_changed(
    words: list[str], collects: bool, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    before_signals = [signal.signal(number, lambda *_: None) for number in SIGNALS]
    if not collects:
        gc.disable()
    try:
        before = state()
        invoke(*words, source)
        assert state() == before
    finally:
        gc.enable()
        for number, handler in zip(SIGNALS, before_signals, strict=True):
            signal.signal(number, handler)


def test_while_it_runs_it_has_its_own(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    before = state()
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr("wconv.examine.inspect.lines", lambda opened, **options: seen.append(state()) or [])
    assert invoke("inspect", source) == 0
    during = seen[0]
    assert during[0] is not before[0]
    assert during[1] is not before[1]
    assert during[2] is False
    assert during[3]["OPENBLAS_NUM_THREADS"] == "1"  # type: ignore[index]


def test_a_thread_that_is_not_the_main_one_can_run_it(source: Path) -> None:
    codes: list[object] = []
    thread = threading.Thread(target=lambda: codes.append(invoke("inspect", source)))
    thread.start()
    thread.join()
    assert codes == [0]


AT_ONCE = """
import os, signal
from wconv.cli import signals
change = signal.signal
def late(number, handler):
    signal.signal = change
    os.kill(os.getpid(), signal.SIGTERM)
    return change(number, handler)
with signals.caught():
    signal.signal = late
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_second_signal_within_the_first_ones_handler_ends_it_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "wconv: stopped at once\n")

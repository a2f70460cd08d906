"""`python local_ray.py MODEL DIRECTORY`: converts with two workers, one of which is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray

import wconv


def main() -> None:
    model, place = Path(sys.argv[1]), Path(sys.argv[2])
    wconv.convert(model, place / "here", dtype="float16")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        pids = ray.get([ray.remote(_pid).remote() for _ in range(2)])
        killed = threading.Thread(target=kill_when_begun, args=(pids[0], place))
        killed.start()
        report = wconv.convert(model, place / "there", dtype="float16", executor="ray")
        killed.join()
        assert list(report.overflows) == ["large"], report.overflows
        try:
            wconv.convert(model, place / "strict", dtype="float16", executor="ray", strict=True)
        except wconv.OutputError as error:
            told = str(error)
        else:
            told = "nothing"
        assert "large" in told, told
    finally:
        ray.shutdown()


def _pid() -> int:
    time.sleep(0.5)  # so that each worker has one
    return os.getpid()


def kill_when_begun(pid: int, place: Path) -> None:
    end = time.monotonic() + 30
    while not list(place.glob("there.partial/*.part")) and time.monotonic() < end:
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()

"""`python local_dask.py MODEL DIRECTORY`: converts with four workers, one of which is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from distributed import Client, LocalCluster

import wconv


def main() -> None:
    model, place = Path(sys.argv[1]), Path(sys.argv[2])
    wconv.convert(model, place / "here", dtype="float16")
    with (
        LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        pids = client.run(os.getpid)
        killed = threading.Thread(target=kill_when_begun, args=(next(iter(pids.values())), place))
        killed.start()
        name = cluster.scheduler_address.replace("tcp://", "dask://")
        report = wconv.convert(model, place / "there", dtype="float16", executor=name)
        killed.join()
        assert list(report.overflows) == ["large"], report.overflows
        assert client.run(os.getpid).keys() != pids.keys(), "no worker was lost"
        try:
            wconv.convert(model, place / "strict", dtype="float16", executor=name, strict=True)
        except wconv.OutputError as error:
            told = str(error)
        else:
            told = "nothing"
        assert "large" in told, told


def kill_when_begun(pid: int, place: Path) -> None:
    end = time.monotonic() + 30
    while not list(place.glob("there.partial/*.part")) and time.monotonic() < end:
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()

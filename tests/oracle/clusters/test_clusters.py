"""Real clusters on this machine: workers of dask and of ray, one killed half-way, and ranks of MPI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory
from tests.oracles import directory_of

pytestmark = pytest.mark.oracle

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shards = [{f"{at}": random((2048, 2048), np.float32, seed=at)} for at in range(12)]
    shards[3]["large"] = np.full((4, 4), 1e9, np.float32)
    return write_directory(tmp_path_factory.mktemp("source") / "m", shards)


def run(command: list[str], tmp_path: Path, packages: str, **more: str) -> None:
    """Runs a program that finds these packages, and this wconv, wherever its workers are."""
    home = str(Path(wconv.__file__).parents[1])
    paths = os.pathsep.join([home, packages])
    environment = {**os.environ, "PYTHONPATH": paths, "RAY_AUTH_MODE": "disabled", **more}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=150
    )
    assert done.returncode == 0, done.stderr[-2000:]


def assert_equal(one: Path, two: Path) -> None:
    names = sorted(os.listdir(one))
    assert names == sorted(os.listdir(two))
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_worker_is_killed_and_the_bytes_are_equal(engine: str, model: Path, tmp_path: Path) -> None:
    script = str(HERE / f"local_{engine}.py")
    run([sys.executable, script, str(model), str(tmp_path)], tmp_path, directory_of(engine))
    assert_equal(tmp_path / "here", tmp_path / "there")
    assert sorted(os.listdir(tmp_path)) == ["here", "there"]


def test_ranks_of_mpi(model: Path, tmp_path: Path) -> None:
    prefix = Path(directory_of("mpi"))
    packages = str(next(prefix.glob("lib/python*/site-packages")))
    wconv.convert(model, tmp_path / "here", dtype="float16")
    run(
        [
            str(prefix / "bin/mpiexec"),
            *("-n", "3", sys.executable, "-m", "mpi4py.futures", "-m", "wconv"),
            *(str(model), "-o", "there", "--dtype", "float16", "--executor", "mpi"),
        ],
        tmp_path,
        packages,
        LD_LIBRARY_PATH=str(prefix / "lib"),
    )
    assert_equal(tmp_path / "here", tmp_path / "there")

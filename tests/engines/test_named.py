"""Executors by their names, with stand-ins for the programs. Covers `engines/dask.py`, `engines/ray.py`,
`engines/mpi.py`.

The programs themselves are in `tests/oracle/clusters/`.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.cli.running import run
from tests.making import random, write_directory
from wconv import engines
from wconv.errors import WconvError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "m", [{"a": random((8, 8))}, {"b": random((8, 8), seed=1)}])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("processes", ("processes", "")),
        ("processes:12", ("processes", "12")),
        ("dask://node1:8786", ("dask", "node1:8786")),
        ("dask://tls://node1:8786", ("dask", "tls://node1:8786")),
        ("ray", ("ray", "")),
        ("ray://node1:10001", ("ray", "node1:10001")),
        ("mpi", ("mpi", "")),
    ],
)
def test_names(name: str, found: tuple[str, str]) -> None:
    assert engines.parse(name) == found


@pytest.mark.parametrize("name", ["", "processes:", "processes:0", "processes:x", "dask", "dask://", "Ray"])
def test_other_names_are_refused_with_those_there_are(name: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(WconvError, match="choose processes:N, dask://HOST:PORT, ray, ray://HOST:PORT or mpi"):
        wconv.convert(model, tmp_path / "o", executor=name)
    assert not (tmp_path / "o.partial").exists()


def test_the_command_refuses_them_too(model: Path, tmp_path: Path) -> None:
    done = run(str(model), "-o", str(tmp_path / "o"), "--executor", "dask")
    assert done.exit_code == 2
    assert "'dask' names no executor" in done.output
    done = run(str(model), "-o", str(tmp_path / "o"), "--executor", "ray", "-j", "2")
    assert done.exit_code == 2
    assert "say processes:N" in done.output


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("dask://h:1", "distributed", "dask"), ("ray", "ray", "ray"), ("mpi", "mpi4py", "mpi")],
)
def test_a_missing_package_is_one_sentence_with_its_extra(
    name: str, module: str, extra: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [one for one in sys.modules if one.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Missing(module), *sys.meta_path])
    with pytest.raises(WconvError, match=rf"needs {module}, which is not .*'wconv\[{extra}\]'$"):
        wconv.convert(model, tmp_path / "o", executor=name)
    assert not (tmp_path / "o.partial").exists()


class Missing:
    """Makes a module one that is not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Pickling(ThreadPoolExecutor):
    """Sends tasks and results as bytes, as to other hosts."""

    def submit(self, function: Callable[..., Any], /, *words: Any, **named: Any) -> Future[Any]:
        data = pickle.dumps((function, words, named))
        return super().submit(lambda: pickle.loads(_called(data)))


def _called(data: bytes) -> bytes:
    function, words, named = pickle.loads(data)
    return pickle.dumps(function(*words, **named))


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)
    if "." in name:
        monkeypatch.setitem(sys.modules, name.partition(".")[0], types.ModuleType(name.partition(".")[0]))


def converts(model: Path, tmp_path: Path, name: str) -> None:
    wconv.convert(model, tmp_path / "here", dtype="float16")
    wconv.convert(model, tmp_path / "there", dtype="float16", executor=name)
    for path in (tmp_path / "here").iterdir():
        assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()


class Client:
    """Stands for dask's."""

    made: tuple[Any, ...] = ()
    closed = False
    workers = True

    def __init__(self, address: str, **more: Any) -> None:
        if "nowhere" in address:
            raise OSError(f"Timed out trying to connect to {address} after 15 s\nmore")
        Client.made = (address, more["set_as_default"])
        Client.closed = False

    def wait_for_workers(self, count: int, timeout: float) -> None:
        if not self.workers:
            raise TimeoutError("Only 0/1 workers arrived after 60")

    def get_executor(self, *, pure: bool) -> Pickling:
        assert not pure
        return Pickling(2)

    def close(self) -> None:
        Client.closed = True


def test_dask(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "distributed", Client=Client)
    converts(model, tmp_path, "dask://node1:8786")
    assert Client.made == ("tcp://node1:8786", False)
    assert Client.closed
    with pytest.raises(WconvError, match=r"^no scheduler of dask answers at tcp://nowhere:1: Timed out"):
        wconv.convert(model, tmp_path / "o", executor="dask://nowhere:1")
    monkeypatch.setattr(Client, "workers", False)
    with pytest.raises(WconvError, match="at tls://node1:8786 has no workers: start some"):
        wconv.convert(model, tmp_path / "o", executor="dask://tls://node1:8786")
    assert Client.closed
    assert not (tmp_path / "o.partial").exists()


class Reference:
    """Stands for ray's reference to a result."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def future(self) -> Future[Any]:
        return self._future


class WrappedError(Exception):
    """Stands for ray's error, which wraps that of the task."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a traceback\nof many lines")
        self.cause = cause


def test_ray(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[str] = []
    pool = Pickling(2)

    def init(address: str, **more: Any) -> None:
        if "nowhere" in address:
            raise ConnectionError("ray client connection timeout\nmore")
        connected.append(address)

    def remote(**more: Any) -> Any:
        assert more == {"max_retries": 3, "num_cpus": 1}
        return lambda call: types.SimpleNamespace(
            remote=lambda *words, **named: Reference(pool.submit(call, *words, **named))
        )

    fake(
        monkeypatch,
        "ray",
        init=init,
        remote=remote,
        is_initialized=lambda: bool(connected),
        shutdown=connected.clear,
    )
    converts(model, tmp_path, "ray://node1:10001")
    assert not connected
    with pytest.raises(WconvError, match=r"^no cluster of ray answers at nowhere:1: ray client connection"):
        wconv.convert(model, tmp_path / "o", executor="ray://nowhere:1")
    connected.append("the caller's")
    wconv.convert(model, tmp_path / "o", executor="ray")
    assert connected == ["the caller's"]

    def fails(*words: Any, **named: Any) -> Reference:
        future: Future[Any] = Future()
        future.set_exception(WrappedError(MemoryError("too little")))
        return Reference(future)

    monkeypatch.setattr(pool, "submit", lambda *words, **named: fails().future())
    with pytest.raises(WconvError, match=r"^the executor failed: MemoryError: too little$"):
        wconv.convert(model, tmp_path / "p", executor="ray")


def test_mpi(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "mpi4py.futures", MPIPoolExecutor=lambda: Pickling(2))
    converts(model, tmp_path, "mpi")

    def broken() -> None:
        raise RuntimeError("cannot load MPI library\nmore")

    fake(monkeypatch, "mpi4py.futures", MPIPoolExecutor=broken)
    with pytest.raises(WconvError, match=r"^MPI cannot be used here: cannot load MPI library$"):
        wconv.convert(model, tmp_path / "o", executor="mpi")

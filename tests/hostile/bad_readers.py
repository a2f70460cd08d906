"""Readers that each do one thing that no reader may, to show that it is noticed."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wconv.errors import WconvError
from wconv.formats.contents import Contents
from wconv.tensors.lazy import from_array

GOOD = Contents("good", {"w": from_array(np.array([1, 2, 3, 4], np.float32))})


def _then_good(act: Callable[[Path], Any], *, hide: bool = False) -> Callable[[Path], Contents]:
    """A reader that acts, and perhaps swallows what that raises, before it returns what it should."""

    def read(path: Path) -> Contents:
        try:
            act(path)
        except BaseException:
            if not hide:
                raise
        return GOOD

    return read


def _import(path: Path) -> None:
    import this  # noqa: F401


def _import_canary(path: Path) -> Any:
    import wconv_canary  # type: ignore[import-not-found]

    return wconv_canary.touch


def _dlopen(path: Path) -> None:
    import ctypes

    ctypes.CDLL(None)


def _refuse(message: str) -> Callable[[Path], Contents]:
    def read(path: Path) -> Contents:
        raise WconvError(message.format(path=path))

    return read


def _spin(path: Path) -> None:
    while True:
        pass


def _unpickle(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        pickle.loads(archive.read("archive/data.pkl"))


def _returns(**fields: Any) -> Callable[[Path], Contents]:
    return lambda path: Contents("bad", **{"tensors": GOOD.tensors, **fields})


BAD: dict[str, Callable[[Path], Contents]] = {
    "imports": _then_good(_import),
    "hides an import": _then_good(_import, hide=True),
    "touches the canary": _then_good(_import_canary, hide=True),
    "evaluates": _then_good(lambda path: eval("1 + 1"), hide=True),
    "compiles": _then_good(lambda path: compile("1", "x", "eval"), hide=True),
    "unpickles": _then_good(_unpickle, hide=True),
    "writes beside": _then_good(lambda path: path.with_suffix(".new").write_text("x"), hide=True),
    "writes low": _then_good(lambda path: os.open(path, os.O_RDWR), hide=True),
    "reads elsewhere": _then_good(lambda path: Path(__file__).read_bytes(), hide=True),
    "lists elsewhere": _then_good(lambda path: os.listdir("/"), hide=True),
    "removes": _then_good(lambda path: path.unlink(), hide=True),
    "starts a shell": _then_good(lambda path: os.system("true"), hide=True),
    "starts a process": _then_good(lambda path: subprocess.run(["true"]), hide=True),
    "forks": _then_good(lambda path: os.fork(), hide=True),
    "connects": _then_good(lambda path: socket.create_connection(("localhost", 9)), hide=True),
    "loads a library": _then_good(_dlopen, hide=True),
    "never ends": _then_good(_spin),
    "fills memory": _then_good(lambda path: bytearray(2 << 30)),
    "raises ValueError": _then_good(lambda path: int("x")),
    "raises RecursionError": _then_good(lambda path: _returns_itself(0)),
    "refuses a good file": _refuse("{path} is refused"),
    "names no file": _refuse("refused"),
    "says two lines": _refuse("{path}\nis refused"),
    "clears the screen": _refuse("{path}\x1b[2J"),
    "says a lot": _refuse("{path} " + "x" * 400),
    "misreads a value": _returns(tensors={"w": from_array(np.array([1, 2, 3, 5], np.float32))}),
    "misreads a shape": _returns(tensors={"w": from_array(np.array([1, 2, 3], np.float32))}),
    "loses a tensor": _returns(tensors={}),
    "adds a tensor": _returns(tensors={**GOOD.tensors, "v": GOOD.tensors["w"]}),
    "lets a function through": _returns(metadata={"x": [{"y": os.system}]}),
    "lets a class through": _returns(metadata={"x": (Path,)}),
    "lets an object through": _returns(root={"x": Path("x")}),
    "lets an object array through": _returns(metadata={"x": np.array([None])}),
}


def _returns_itself(depth: int) -> int:
    return _returns_itself(depth + 1)

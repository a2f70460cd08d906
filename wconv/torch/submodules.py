"""The modules under `torch` that scripts ask small questions of: is there a GPU, which version is this.

Each is a table of what it offers; everything else in it raises an error that says what wconv.torch is.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

from wconv.torch import missing


def _no(*args: Any) -> bool:
    return False


def _none(*args: Any) -> int:
    return 0


def _later(name: str) -> Any:
    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module("wconv.torch"), name)(*args, **kwargs)

    function.__name__ = name
    return function


OFFERED: dict[str, dict[str, Any]] = {
    "cuda": {"is_available": _no, "device_count": _none, "is_initialized": _no},
    "mps": {"device_count": _none},
    "backends": {},
    "backends.mps": {"is_available": _no, "is_built": _no},
    "backends.cuda": {"is_built": _no},
    "version": {"cuda": None, "hip": None, "git_version": None},
    "serialization": {"load": _later("load"), "save": _later("save")},
    "nn.functional": {},
    "utils": {},
}


class Submodule(ModuleType):
    """A module that offers what its table says."""

    def __getattr__(self, name: str) -> Any:
        short = self.__name__.removeprefix("torch.")
        if f"{short}.{name}" in OFFERED:
            return submodule(f"{short}.{name}")
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        raise missing.attribute(f"{short}.{name}", self)


@functools.cache
def submodule(name: str) -> Submodule:
    """The module that stands for torch's `name` ("cuda", "backends.mps")."""
    made = Submodule(f"torch.{name}", f"torch.{name} as far as wconv.torch offers it.")
    made.__dict__.update(OFFERED[name])
    made.__path__ = []
    if name == "version":
        made.__dict__["__version__"] = importlib.import_module("wconv.torch").__version__
    return made

"""The modules under `torch` that scripts ask small questions of: is there a GPU, which version is this.

Each is a table of what it offers; everything else in it raises an error that says what wconv.torch is.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from wconv.torch import missing
from wconv.torch.placeholders import LAYERS, MODULES, layer, placeholder


def _no(*args: Any) -> bool:
    return False


def _none(*args: Any) -> int:
    return 0


def _later(name: str) -> Any:
    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module("wconv.torch"), name)(*args, **kwargs)

    function.__name__ = name
    return function


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Nothing to do: there is no GPU, and nothing of one to set or to wait for."""


def _as_it_is(function: Any = None, *args: Any, **kwargs: Any) -> Any:
    """What would be compiled stays the Python that it is; also `@f` and `@f(…)` before a function."""
    return function if callable(function) else lambda decorated: decorated


@dataclass(frozen=True)
class Late:
    """An object whose module is imported when the submodule that offers it is."""

    home: str
    name: str


def _from(home: str, *names: str) -> dict[str, Any]:
    return {name: Late(f"wconv.torch.{home}", name) for name in names}


OFFERED: dict[str, dict[str, Any]] = {
    "cuda": {
        "is_available": _no,
        "device_count": _none,
        "is_initialized": _no,
        "is_bf16_supported": _no,
        **dict.fromkeys(("empty_cache", "ipc_collect", "manual_seed", "manual_seed_all"), _nothing),
        **dict.fromkeys(("memory_allocated", "max_memory_allocated", "memory_reserved"), _none),
    },
    "mps": {"device_count": _none, "is_available": _no, "empty_cache": _nothing, "manual_seed": _nothing},
    "accelerator": {
        **dict.fromkeys(("current_accelerator", "empty_cache"), _nothing),
        "is_available": _no,
        "device_count": _none,
    },
    "xpu": {"is_available": _no, "device_count": _none, "empty_cache": _nothing},
    "backends": {},
    "backends.mps": {"is_available": _no, "is_built": _no},
    "backends.cuda": {"is_built": _no},
    "backends.cudnn": {"is_available": _no, "enabled": True, "benchmark": False, "deterministic": False},
    "version": {"cuda": None, "hip": None, "git_version": None},
    "serialization": {"load": _later("load"), "save": _later("save")},
    "random": {name: _later(name) for name in ("manual_seed", "seed", "initial_seed")},
    "jit": {
        **_from("script_modules", "load", "ScriptModule"),
        **dict.fromkeys(("is_scripting", "is_tracing"), _no),
        **dict.fromkeys(("export", "ignore", "script", "script_method", "unused"), _as_it_is),
        "Final": placeholder("jit.Final"),
    },
    "compiler": {"disable": _as_it_is, "is_compiling": _no},
    "distributed": dict.fromkeys(("is_available", "is_initialized"), _no),
    "testing": _from("closeness", "assert_close"),
    "autograd": _from("grad", "no_grad", "inference_mode", "set_grad_enabled"),
    "nn.modules": _from("nn", "Module", "ModuleDict", "ModuleList", "ParameterList", "Sequential"),
    "nn.modules.module": {
        **_from("nn", "Module"),
        "_IncompatibleKeys": Late("wconv.torch.state_dicts", "IncompatibleKeys"),
    },
    "nn.modules.container": _from("nn", "ModuleDict", "ModuleList", "ParameterList", "Sequential"),
    "utils": {},
    "utils._pytree": dict.fromkeys(("register_pytree_node", "_register_pytree_node"), _nothing),
}
"""What each submodule offers. What concerns a GPU says that there is none, or does nothing."""


def is_known(name: str) -> bool:
    """Whether there is a module for torch's `name`."""
    return name in OFFERED or name in MODULES


class Submodule(ModuleType):
    """A module that offers what its table says."""

    def __getattr__(self, name: str) -> Any:
        short = self.__name__.removeprefix("torch.")
        if is_known(f"{short}.{name}"):
            return submodule(f"{short}.{name}")
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if short == "nn.modules" and name in LAYERS:
            return layer(name)
        if short in MODULES:
            return placeholder(f"{short}.{name}")
        raise missing.attribute(f"{short}.{name}", self)


@functools.cache
def submodule(name: str) -> Submodule:
    """The module that stands for torch's `name` ("cuda", "backends.mps")."""
    made = Submodule(f"torch.{name}", f"torch.{name} as far as wconv.torch offers it.")
    for key, value in OFFERED.get(name, {}).items():
        late = isinstance(value, Late)
        made.__dict__[key] = getattr(importlib.import_module(value.home), value.name) if late else value
    made.__path__ = []
    if name == "version":
        made.__dict__["__version__"] = importlib.import_module("wconv.torch").__version__
    return made

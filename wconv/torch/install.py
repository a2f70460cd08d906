"""wconv.torch in torch's place: what `import torch` finds, for a while or for good."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from wconv.torch import missing
from wconv.torch.submodules import OFFERED, submodule

REAL = {
    "torch": "wconv.torch",
    "torch.nn": "wconv.torch.nn",
    "torch.nn.parameter": "wconv.torch.nn",
    "safetensors.torch": "wconv.torch.safetensors_torch",
}


class _Refuser(MetaPathFinder):
    """Answers imports of what torch has and wconv.torch has not, before another torch is searched for it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith("torch."):
            raise ModuleNotFoundError(missing.sentence(fullname.removeprefix("torch.")), name=fullname)
        return None


def _ours(name: str) -> bool:
    return name == "torch" or name.startswith("torch.") or name == "safetensors.torch"


_SAFETENSORS = "safetensors"
_UNSET = object()


def install() -> ModuleType:
    """Puts wconv.torch in torch's place in `sys.modules`. What was there is forgotten: see `installed`."""
    for name in [name for name in sys.modules if _ours(name)]:
        del sys.modules[name]
    for name, home in REAL.items():
        sys.modules[name] = importlib.import_module(home)
    for name in OFFERED:
        sys.modules[f"torch.{name}"] = submodule(name)
    if _SAFETENSORS in sys.modules:
        sys.modules[_SAFETENSORS].torch = sys.modules["safetensors.torch"]  # type: ignore[attr-defined]
    if not any(isinstance(finder, _Refuser) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Refuser())
    return sys.modules["torch"]


@contextlib.contextmanager
def installed() -> Iterator[ModuleType]:
    """`with wconv.torch.installed(): import mflux …`: wconv.torch is torch within the block.

    Afterwards everything is as it was: PyTorch itself if it had been imported, nothing if not. Modules that
    were imported within the block keep the torch that they found.
    """
    before = {name: module for name, module in sys.modules.items() if _ours(name)}
    finders = list(sys.meta_path)
    package = sys.modules.get(_SAFETENSORS)
    attribute: Any = vars(package).get("torch", _UNSET) if package is not None else _UNSET
    try:
        yield install()
    finally:
        for name in [name for name in sys.modules if _ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        sys.meta_path[:] = [f for f in sys.meta_path if f in finders or not isinstance(f, _Refuser)]
        package = sys.modules.get(_SAFETENSORS)
        if package is not None:
            vars(package).pop("torch", None)
            if attribute is not _UNSET:
                vars(package)["torch"] = attribute

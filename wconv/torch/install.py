"""wconv.torch in torch's place: what `import torch` finds, for a while or for good."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from wconv.torch import missing
from wconv.torch.submodules import OFFERED, is_known, submodule

REAL = {
    "torch": "wconv.torch",
    "torch.nn": "wconv.torch.nn",
    "torch.nn.parameter": "wconv.torch.nn",
    "safetensors.torch": "wconv.torch.safetensors_torch",
}


class _Loader(Loader):
    """Finds a module under `torch` where it has been made."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return submodule(spec.name.removeprefix("torch."))

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _Installed(Distribution):
    """What `importlib.metadata` finds of torch: a name and a version."""

    def read_text(self, filename: str) -> str | None:
        if filename != "METADATA":
            return None
        return f"Metadata-Version: 2.1\nName: torch\nVersion: {sys.modules['torch'].__version__}\n"

    def locate_file(self, path: Any) -> Any:
        return Path(__file__).parent / path


class _Refuser(MetaPathFinder):
    """Answers imports under `torch`, before another torch is searched for them."""

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        return [_Installed()] if context is not None and context.name == "torch" else []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith("torch."):
            if is_known(fullname.removeprefix("torch.")):
                return ModuleSpec(fullname, _Loader(), is_package=True)
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


_lock = threading.Lock()
# another thread may hold it where a process forks: the child begins with its own
os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))
_undos: list[Callable[[], None]] = []
"""One for each open block, in whatever thread: the first one's state before is what the last one restores."""


@contextlib.contextmanager
def installed() -> Iterator[ModuleType]:
    """`with wconv.torch.installed(): import mflux …`: wconv.torch is torch within the block.

    Afterwards everything is as it was: PyTorch itself if it had been imported, nothing if not. Modules that
    were imported within the block keep the torch that they found. `sys.modules` is the whole process's: with
    blocks in several threads, wconv.torch stays until the last of them ends.
    """
    with _lock:
        undo = _undos[0] if _undos else _remember()
        try:
            module = sys.modules["torch"] if _undos and "torch" in sys.modules else install()
        except BaseException:
            if not _undos:
                undo()
            raise
        _undos.append(undo)
    try:
        yield module
    finally:
        with _lock:
            _undos.pop()
            if not _undos:
                undo()


def _remember() -> Callable[[], None]:
    """What is imported now; calling the result makes it so again."""
    before = {name: module for name, module in sys.modules.items() if _ours(name)}
    finders = list(sys.meta_path)
    package = sys.modules.get(_SAFETENSORS)
    attribute: Any = vars(package).get("torch", _UNSET) if package is not None else _UNSET

    def undo() -> None:
        for name in [name for name in sys.modules if _ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        sys.meta_path[:] = [f for f in sys.meta_path if f in finders or not isinstance(f, _Refuser)]
        package = sys.modules.get(_SAFETENSORS)
        if package is not None:
            vars(package).pop("torch", None)
            if attribute is not _UNSET:
                vars(package)["torch"] = attribute

    return undo

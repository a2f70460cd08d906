"""`torch.jit.load`: the parameters, buffers and modules of a TorchScript archive; its code is not run.

The archive's code says which of a module's tensors are parameters and which are buffers: it is read as text.
"""

from __future__ import annotations

import os
import re
from typing import Any

from wconv.errors import FormatError
from wconv.formats.sources import FileSource
from wconv.formats.torch import objects
from wconv.formats.torch.state_dict import is_script
from wconv.formats.zip.directory import ZipDirectory
from wconv.torch import missing
from wconv.torch.loading import _load_stream, _Loader, _require_map_to_cpu
from wconv.torch.modules import Module
from wconv.torch.parameter import Parameter
from wconv.torch.tensor import Tensor

CODE_LIMIT = 16 << 20
"""Bytes of one file of code."""

_NAMES = re.compile(r"^  (__parameters__|__buffers__) = \[((?:\"(?:[^\"\\]|\\.)*\", )*)\]$", re.MULTILINE)
_NAME = re.compile(r"\"((?:[^\"\\]|\\.)*)\", ")

HIDDEN = ("training", "_is_full_backward_hook")


class ScriptModule(Module):
    """A module of a TorchScript archive: what has a name in it. It cannot be run."""

    __module__ = "torch.jit"

    def __init__(self, original_name: str = "ScriptModule") -> None:
        super().__init__()
        self.__dict__["original_name"] = original_name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(missing.sentence("jit.ScriptModule.forward"))

    def _get_name(self) -> str:
        return str(self.__dict__["original_name"])


def load(f: Any, map_location: Any = None, _extra_files: Any = None, _restore_shapes: bool = False) -> Any:
    """The module of a TorchScript archive, its tensors lying in the mapped file until they are used.

    Raises:
        FileNotFoundError: there is no such file.
        WconvError: the file is damaged, or no TorchScript archive.
        RuntimeError: another device than the CPU was asked for.
        NotImplementedError: `_extra_files` are asked for.
    """
    if _extra_files:
        raise NotImplementedError("jit.load(_extra_files=…) is not offered by wconv.torch: unzip reads them")
    _require_map_to_cpu(map_location)
    loader = _ModuleLoader()
    if hasattr(f, "read"):
        return _load_stream(f, loader)
    path = os.fspath(f)
    if not os.path.exists(path):
        raise FileNotFoundError(2, "No such file or directory", path)
    return loader.load(path)


class _ModuleLoader(_Loader):
    """Makes modules of what `torch.load` leaves as inert objects."""

    def load_first(self, path: str) -> tuple[Any, int | None]:
        try:
            self.directory = ZipDirectory(FileSource(path))
        except FormatError:
            raise FormatError(f"{path} is no TorchScript archive (no zip): read it with torch.load") from None
        folder = self.directory.folder("constants.pkl")
        if folder is None:
            raise FormatError(
                f"{path} is no TorchScript archive of torch 1.4 or later: read it with torch.load"
            )
        self.folder = folder
        self.listed: dict[str, tuple[list[str], list[str]] | None] = {}
        found, end = super().load_first(path)
        if not isinstance(found, ScriptModule):
            raise FormatError(f"{path} is damaged: it holds no code that says which tensors are parameters")
        return found, end

    def _record(self, node: objects.Record) -> Any:
        if not is_script(node):
            return super()._record(node)
        names = self._tensors_of(node)
        if names is None:
            return super()._record(node)
        made = ScriptModule(node.class_name.rpartition(".")[2])
        self._done[id(node)] = made
        parameters, buffers = names
        held = {str(name): self.convert(value) for name, value in node.attributes.items()}
        for name in parameters:
            if isinstance(held.get(name), Tensor):
                tensor = held.pop(name)
                made._parameters[name] = _parameter(tensor)
        for name in buffers:
            if name in held:
                made._buffers[name] = held.pop(name)
        for name, value in held.items():
            if isinstance(value, Module):
                made._modules[name] = value
            elif name not in HIDDEN:
                made.__dict__[name] = value
        made.__dict__["training"] = held.get("training", True) is not False
        return made

    def _tensors_of(self, node: objects.Record) -> tuple[list[str], list[str]] | None:
        """The names of a module's parameters and buffers, as its code lists them; None for another class."""
        module, name = node.constructor.module, node.constructor.name
        path = f"{module}.{name}"
        if path not in self.listed:
            file = f"{self.folder}code/{module.replace('.', '/')}.py"
            text = ""
            if file in self.directory.entries:
                text = self.directory.read(file, CODE_LIMIT).decode("utf-8", "replace")
            start = re.search(rf"^class {re.escape(name)}\(Module\):$", text, re.MULTILINE)
            if start is None:
                self.listed[path] = None
            else:
                end = text.find("\nclass ", start.end())
                body = text[start.end() : end if end > 0 else None]
                found = {what: _NAME.findall(names) for what, names in _NAMES.findall(body)}
                self.listed[path] = found.get("__parameters__", []), found.get("__buffers__", [])
        return self.listed[path]


def _parameter(tensor: Tensor) -> Parameter:
    """The one Parameter of a tensor, whatever the number of its names."""
    made = tensor.__dict__.get("_parameter")
    if made is None:
        made = Parameter(tensor, tensor.requires_grad)
        tensor.__dict__["_parameter"] = made
    found: Parameter = made
    return found

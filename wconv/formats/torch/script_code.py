"""One number out of a TorchScript archive's code: the groups of a transposed convolution.

Its kernel (in, out / groups, …) does not show them, and the module's pickle does not keep them. The code is
looked through as text, for the two ways in which torch writes the number; nothing of it is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from wconv.formats.torch.objects import Global, Record
from wconv.formats.torch.state_dict import is_script, script_members
from wconv.formats.zip.directory import ZipDirectory

LIMIT = 1 << 20
"""Bytes of a file of code that is looked through."""

CLASSES = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")

_LIST = r"\[[\d, ]{1,60}\], "
GROUPS = (
    # a constant of a scripted module
    re.compile(r"^  groups : Final\[int\] = (\d{1,9})$", re.MULTILINE),
    # an argument of a traced one, after input, weight, bias, stride, padding, dilation, …, output_padding
    re.compile(r"torch\._convolution\((?:[\w.]{1,60}, ){3}" + _LIST * 3 + "True, " + _LIST + r"(\d{1,9}), "),
)


def add_groups(root: Record, directory: ZipDirectory, folder: str) -> None:
    """Sets `groups` on the transposed convolutions of a module whose code tells it without a doubt."""
    known: dict[Global, int | None] = {}
    for module in _modules(root):
        constructor = module.constructor
        if isinstance(constructor, Global) and constructor.name in CLASSES and isinstance(module.state, dict):
            if constructor not in known:
                known[constructor] = _groups(constructor, directory, folder)
            if known[constructor] is not None:
                module.state.setdefault("groups", known[constructor])


def _groups(constructor: Global, directory: ZipDirectory, folder: str) -> int | None:
    """What the code of a class says; None where it says nothing, or several things."""
    name = f"{folder}code/{constructor.module.replace('.', '/')}.py"
    if name not in directory.entries or directory.entries[name].size > LIMIT:
        return None
    code = _class(directory.read(name, LIMIT).decode("utf-8", "replace"), constructor.name)
    found = {match for pattern in GROUPS for match in pattern.findall(code)}
    return int(found.pop()) if len(found) == 1 else None


def _class(text: str, name: str) -> str:
    """The lines of one class."""
    start = text.find(f"class {name}(Module):")
    if start < 0:
        return ""
    end = text.find("\nclass ", start)
    return text[start : end if end > 0 else None]


def _modules(root: Record) -> Iterator[Record]:
    """A module and all modules below, each once."""
    pending: list[Any] = [root]
    seen: set[int] = set()
    while pending:
        module = pending.pop()
        if is_script(module) and id(module) not in seen:
            seen.add(id(module))
            yield module
            pending.extend(member for _, member in script_members(module))

"""Which modules a pickled `nn.Module` or a TorchScript archive is made of: their classes, by their paths."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from wconv.formats.modules import Module
from wconv.formats.prefixes import INFIXES
from wconv.formats.torch import script as torchscript
from wconv.formats.torch.objects import Record, plain_number
from wconv.formats.torch.state_dict import is_module

MANGLED = re.compile(r"^__torch__\.|___torch_mangle_\d+\.")
"""What TorchScript adds to the path of a class."""

CLASS_NAME_LIMIT = 200
"""Characters of a class's path that are kept; the text is the file's own and will be shown."""


MOST_NUMBERS = 8
"""Numbers of a setting that is a tuple, as of a kernel's size."""


def by_path(records: Mapping[str, Record], taken: Sequence[str]) -> dict[str, Module]:
    """The modules under the paths that their tensors' names begin with.

    Args:
        records: pickled and scripted modules by their dotted paths, outer ones first.
        taken: the prefixes and infixes that were taken off the tensors' names, in order; a wrapper that is
            left without a name of its own makes way for what it wraps.
    """
    modules = {_without(path, taken): _module(record) for path, record in records.items()}
    if any(torchscript.CONSTANTS in record.items for record in records.values()):
        modules[torchscript.CONSTANTS] = Module("a traced function's constants")
    return modules


def _module(record: Record) -> Module:
    attributes = record.attributes
    named = {name: plain_number(value) for name, value in attributes.items() if type(name) is str}
    plain = {name: value for name, value in named.items() if _is_plain(value)}
    buffers = attributes.get("_buffers") if is_module(record) else None
    names = frozenset(name for name in buffers if type(name) is str) if isinstance(buffers, dict) else ()
    shown = MANGLED.sub("", record.class_name).encode("unicode_escape").decode()[:CLASS_NAME_LIMIT]
    return Module(shown, plain, frozenset(names))


def _is_plain(value: object) -> bool:
    if type(value) is tuple:
        return len(value) <= MOST_NUMBERS and all(type(one) is int and abs(one) < 2**63 for one in value)
    return type(value) in (bool, float, str) or (type(value) is int and abs(value) < 2**63)


def _without(path: str, taken: Sequence[str]) -> str:
    text = path + "."
    for part in taken:
        if part in INFIXES:
            text = ("." + text).replace("." + part, ".").removeprefix(".")
        else:
            text = text.removeprefix(part)
    return text.removesuffix(".")

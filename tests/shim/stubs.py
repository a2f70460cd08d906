"""Writes `wconv/torch/__init__.pyi`, by which type checkers see what is put together at run time.

`python -m tests.shim.stubs`. Functions with their own annotations; a tensor's attributes are not listed.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import wconv.torch as shim
from wconv.torch import dtypes, methods, submodules

STUB = Path(shim.__file__).with_name("__init__.pyi")

HEAD = '''"""What `wconv.torch` offers, for type checkers: written by `python -m tests.shim.stubs`."""

import builtins
from collections.abc import Sequence
from typing import Any

from wconv.torch import nn as nn
from wconv.torch.device import device as device
from wconv.torch.device import layout as layout
from wconv.torch.device import memory_format as memory_format
from wconv.torch.dtypes import dtype as dtype
from wconv.torch.dtypes import finfo as finfo
from wconv.torch.dtypes import get_default_dtype as get_default_dtype
from wconv.torch.dtypes import iinfo as iinfo
from wconv.torch.dtypes import set_default_dtype as set_default_dtype
from wconv.torch.generator import Generator as Generator
from wconv.torch.grad import inference_mode as inference_mode
from wconv.torch.grad import is_grad_enabled as is_grad_enabled
from wconv.torch.grad import no_grad as no_grad
from wconv.torch.grad import set_grad_enabled as set_grad_enabled
from wconv.torch.install import installed as installed
from wconv.torch.loading import load as load
from wconv.torch.saving import save as save
from wconv.torch.size import Size as Size
from wconv.torch.storage import UntypedStorage as UntypedStorage
from wconv.torch.tensor import Tensor as Tensor

_bool = builtins.bool
_float = builtins.float
_int = builtins.int
_complex = builtins.complex
_device = device
_dtype = dtype
_layout = layout
_memory_format = memory_format
'''
"""Names that functions of the same names hide have a second one."""

HIDDEN = "bool float int complex device dtype layout memory_format".split()  # noqa: SIM905

KNOWN = {"Any", "Generator", "None", "Sequence", "Size", "Tensor", "str", "tuple", "list", "dict"}


def annotation(text: Any) -> str:
    """An annotation in the stub's names; Any where it has none."""
    if text is inspect.Parameter.empty:
        return "Any"
    written = (
        str(text).replace("Device", "str | device | None").replace("Maker", "Any").replace("Array", "Any")
    )
    written = written.replace("Extreme", "Any")
    names = set(re.findall(r"[A-Za-z_]+", written))
    if not names <= KNOWN | set(HIDDEN):
        return "Any"
    return re.sub(rf"\b({'|'.join(HIDDEN)})\b", r"_\1", written)


def default(value: Any) -> str:
    return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else "..."


def function(name: str, made: Any) -> str:
    """`def name(…) -> …: ...`"""
    signature = inspect.signature(made)
    parts, star = [], False
    for each in signature.parameters.values():
        if each.kind is each.VAR_POSITIONAL:
            parts.append(f"*{each.name}: {annotation(each.annotation)}")
            star = True
            continue
        if each.kind is each.VAR_KEYWORD:
            parts.append(f"**{each.name}: {annotation(each.annotation)}")
            continue
        if each.kind is each.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        end = "" if each.default is each.empty else f" = {default(each.default)}"
        parts.append(f"{each.name}: {annotation(each.annotation)}{end}")
    return f"def {name}({', '.join(parts)}) -> {annotation(signature.return_annotation)}: ..."


def text() -> str:
    """The stub."""
    gathered = methods.gathered()
    functions = sorted(name for name, each in gathered.items() if inspect.isfunction(each))
    lines = [HEAD]
    lines += [function(name, getattr(shim, name)) for name in functions]
    lines.append("")
    lines += [
        f"{name}: _dtype" for name in sorted({*dtypes.BY_NAME, *dtypes.ALIASES}) if name not in functions
    ]
    lines += [
        f"{name}: _memory_format" for name in ("channels_last", "channels_last_3d", "contiguous_format")
    ]
    lines += ["preserve_format: _memory_format", "strided: _layout", "default_generator: Generator"]
    lines += [
        f"{name}: _layout" for name in ("sparse_bsc", "sparse_bsr", "sparse_coo", "sparse_csc", "sparse_csr")
    ]
    lines += [f"{name}: _float" for name in ("e", "inf", "nan", "pi")]
    lines += [f"{name}: Any" for name in sorted(submodules.OFFERED) if "." not in name]
    lines += ["__version__: str", "", "def __getattr__(name: str) -> Any: ..."]
    return "\n".join(lines) + "\n"


def main() -> None:
    STUB.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()

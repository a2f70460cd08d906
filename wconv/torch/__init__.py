"""`import wconv.torch as torch`: the part of PyTorch that converts weights, on numpy and ml_dtypes.

Tensors, dtypes, `load` and `save` with torch's meaning: its type promotion, its views over shared memory, its
rounding. `load` maps files and reads nothing until it is used. There are no gradients (everything behaves as
under `torch.no_grad()`), no devices but the CPU (and "meta", without values), and no layers: those raise an
error that says so. Sums, products of matrices and functions such as `exp` are right to within a few units in
the last place; everything else equals PyTorch's result bit for bit.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from typing import Any

from wconv import machine as _machine
from wconv.torch import dtypes as _dtypes
from wconv.torch import missing as _missing
from wconv.torch.casting import TYPED as _TYPED
from wconv.torch.device import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    device,
    layout,
    memory_format,
    preserve_format,
    sparse_bsc,
    sparse_bsr,
    sparse_coo,
    sparse_csc,
    sparse_csr,
    strided,
)
from wconv.torch.dtypes import dtype, finfo, get_default_dtype, iinfo, set_default_dtype
from wconv.torch.grad import inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from wconv.torch.methods import gathered as _gathered
from wconv.torch.size import Size
from wconv.torch.storage import UntypedStorage
from wconv.torch.tensor import Tensor

_machine.check()

__version__ = "2.5.1+wconv"
"""At least 2.0, from which safetensors reads without copies; below 2.6, from which transformers would take
this module for the whole of PyTorch."""

e, inf, nan, pi = 2.718281828459045, float("inf"), float("nan"), 3.141592653589793
newaxis = None

globals().update(_dtypes.BY_NAME)
globals().update({alias: _dtypes.BY_NAME[name] for alias, name in _dtypes.ALIASES.items()})
globals().update(_gathered())

_LATE = {
    "load": "wconv.torch.loading",
    "save": "wconv.torch.saving",
    "installed": "wconv.torch.install",
}
"""Functions whose module is imported when they are first used."""


__all__ = [
    "Size",
    "Tensor",
    "UntypedStorage",
    "channels_last",
    "channels_last_3d",
    "contiguous_format",
    "device",
    "dtype",
    "finfo",
    "get_default_dtype",
    "iinfo",
    "inference_mode",
    "is_grad_enabled",
    "layout",
    "memory_format",
    "no_grad",
    "preserve_format",
    "set_default_dtype",
    "set_grad_enabled",
    "sparse_bsc",
    "sparse_bsr",
    "sparse_coo",
    "sparse_csc",
    "sparse_csr",
    "strided",
]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    if name == "nn":
        return importlib.import_module("wconv.torch.nn")
    if name in _TYPED:
        from wconv.torch.typed import CLASSES

        return CLASSES[name]
    from wconv.torch.submodules import is_known, submodule

    if is_known(name):
        return submodule(name)
    from wconv.torch import placeholders

    if name in placeholders.FUNCTIONS:
        return placeholders.placeholder(name)
    error = _missing.attribute(name)
    by_from = sys._getframe(1).f_code.co_name == "_handle_fromlist"
    if by_from and not name.startswith("__") and find_spec(f"{__name__}.{name}") is None:
        # `from torch import name` swallows an AttributeError, and with it the sentence
        raise ImportError(str(error), name=name)
    raise error

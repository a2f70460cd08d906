"""How a tensor is shown to people: torch's form, `tensor([1., 2.], dtype=torch.float16)`, numpy's digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wconv.torch import dtypes
from wconv.torch.tensor import Tensor

UNSAID = (dtypes.int64, dtypes.bool_, dtypes.complex64)
"""Dtypes that torch leaves out, beside the default floating one."""


def show(tensor: Tensor) -> str:
    """The text for `repr` and `print`."""
    kind = type(tensor).__name__
    prefix = f"{kind} containing:\ntensor(" if kind == "Parameter" else "tensor("
    array = tensor._array
    if tensor.dtype is dtypes.float4_x2:
        array = array.view(np.uint8)
    if tensor.dtype.row.module != "numpy":
        array = array.astype(np.float32)
    width = 4 if array.dtype == bool and array.all() else 5
    body = np.array2string(
        array,
        separator=", ",
        precision=4,
        threshold=1000,
        edgeitems=3,
        prefix="tensor(",
        formatter={"bool": lambda value: str(value).rjust(width)} if array.dtype == bool else None,
    )
    extra = []
    if not tensor.numel() and tensor.ndim != 1:
        extra.append(f"size={tuple(tensor.shape)}")
    if tensor.dtype is not dtypes.get_default_dtype() and tensor.dtype not in UNSAID:
        extra.append(f"dtype={tensor.dtype}")
    if tensor.requires_grad:
        extra.append("requires_grad=True")
    return prefix + ", ".join([body, *extra]) + ")"


METHODS = FUNCTIONS = ()
OPERATORS: dict[str, Callable[..., Any]] = {"__repr__": show}

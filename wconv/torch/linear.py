"""Products of matrices: float32's by numpy, half and bfloat16 accumulated in float32 and rounded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wconv.torch import dtypes
from wconv.torch.convert import convert
from wconv.torch.dtypes import FLOAT8, dtype
from wconv.torch.elementwise import NARROW
from wconv.torch.indexing import narrow
from wconv.torch.shapes import strided
from wconv.torch.size import axis
from wconv.torch.tensor import Tensor


def _product(name: str, compute: Callable[..., Any], *operands: Tensor) -> Tensor:
    kind: dtype = operands[0].dtype
    for operand in operands:
        if not isinstance(operand, Tensor):
            raise TypeError(f"{name}(): every operand must be Tensor, not {type(operand).__name__}")
        if operand.dtype is not kind:
            raise RuntimeError(
                f"expected m1 and m2 to have the same dtype, but got: {kind} != {operand.dtype}"
            )
    if kind.name in FLOAT8 or kind is dtypes.bool_:
        raise NotImplementedError(f'"{name}" not implemented for {kind}')
    computed = dtypes.float32 if kind in NARROW else kind
    arrays = [each._array if kind is computed else convert(each._array, computed) for each in operands]
    try:
        with np.errstate(all="ignore"):
            made = np.asarray(compute(*arrays))
    except ValueError as error:
        raise RuntimeError(
            f"{name}: shapes {[list(each.shape) for each in operands]} do not fit: {error}"
        ) from None
    return Tensor._of(
        np.asarray(made, order="C") if kind is computed else convert(made, kind, keep_order=False)
    )


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product, as `@`: vectors, matrices, or batches of them."""
    for each in (input, other):
        if isinstance(each, Tensor) and not each.ndim:
            raise RuntimeError("both arguments to matmul need to be at least 1D")
    return _product("matmul", np.matmul, input, other)


def _of_rank(name: str, *ranks: int) -> Callable[[Tensor, Tensor], Tensor]:
    def function(input: Tensor, other: Tensor) -> Tensor:
        if (input.ndim, other.ndim) != ranks:
            raise RuntimeError(f"{name}: expected tensors of {ranks} axes, got {(input.ndim, other.ndim)}")
        if name == "bmm" and input.shape[0] != other.shape[0]:
            raise RuntimeError(f"bmm: batches of {input.shape[0]} and {other.shape[0]}")
        return _product(name, np.matmul, input, other)

    function.__name__ = function.__qualname__ = name
    return function


mm, bmm, mv, dot = _of_rank("mm", 2, 2), _of_rank("bmm", 3, 3), _of_rank("mv", 2, 1), _of_rank("dot", 1, 1)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    if input.ndim != 1 or vec2.ndim != 1:
        raise RuntimeError(f"outer: Expected 1-D arguments, but got {input.ndim}-D and {vec2.ndim}-D.")
    made: Tensor = input.unsqueeze(1) * vec2
    return made


def einsum(equation: str, *operands: Any) -> Tensor:
    """Einstein summation, `einsum("bij,bjk->bik", a, b)`."""
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    return _product("einsum", lambda *arrays: np.einsum(equation, *arrays, optimize=True), *given)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input + alpha * (mat1 @ mat2)`."""
    return _product("addmm", lambda c, a, b: beta * c + alpha * (a @ b), input, mat1, mat2)


def _triangle(name: str, compute: Any) -> Callable[..., Tensor]:
    def function(input: Tensor, diagonal: int = 0) -> Tensor:
        if input.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        return Tensor._of(np.asarray(compute(input._array, diagonal), input.dtype.numpy, order="C"))

    function.__name__ = function.__qualname__ = name
    return function


tril, triu = _triangle("tril", np.tril), _triangle("triu", np.triu)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of a diagonal, as the last axis."""
    first, second = axis(dim1, input.ndim), axis(dim2, input.ndim)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    moved = narrow(input, second, offset, max(input.shape[second] - offset, 0)) if offset > 0 else input
    if offset < 0:
        moved = narrow(input, first, -offset, max(input.shape[first] + offset, 0))
    kept = [at for at in range(input.ndim) if at not in (first, second)]
    shape, steps = moved.shape, moved.stride()
    return strided(
        moved,
        [*(shape[at] for at in kept), min(shape[first], shape[second])],
        [*(steps[at] for at in kept), steps[first] + steps[second]],
    )


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A square matrix with the vector on a diagonal, or a copy of a matrix's diagonal."""
    if input.ndim not in (1, 2):
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return Tensor._of(np.array(np.diag(input._array, diagonal)))


METHODS = (matmul, mm, bmm, mv, dot, outer, addmm, tril, triu, diagonal, diag)
FUNCTIONS = (matmul, mm, bmm, mv, dot, outer, einsum, addmm, tril, triu, diagonal, diag)
OPERATORS = {"__matmul__": matmul}

"""Arithmetic, comparisons, functions of one tensor, reductions, products."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from tests.shim.table import Row, each, rows
from tests.shim.values import FLOAT8, FLOATS, INTS, cube, grid, mixed, positive, whole

OPERATORS: dict[str, Any] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
BITWISE: dict[str, Any] = {
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}

KINDS = ["float32", "float16", "bfloat16", "float64", "int64", "uint8", "bool"]
BY_NUMBER = [f"{kind} {name} 0.3" for kind in KINDS[:5] for name in OPERATORS]
BY_TENSOR = [
    f"{kind} {name} {other}"
    for kind, other in (
        ("float32", "float16"),
        ("bfloat16", "bfloat16"),
        ("float16", "bfloat16"),
        ("int64", "float16"),
        ("int32", "int64"),
        ("uint8", "int8"),
        ("bool", "bool"),
        ("float16", "float16"),
        ("int64", "int64"),
        ("complex64", "float32"),
    )
    for name in OPERATORS
]


def _by_number(t: Any, names: str) -> Any:
    kind, name, number = names.split(" ")
    return OPERATORS[name](mixed(t, kind) if kind != "int64" else whole(t), float(number))


def _number_by(t: Any, names: str) -> Any:
    kind, name, number = names.split(" ")
    return OPERATORS[name](float(number), mixed(t, kind) if kind != "int64" else whole(t))


def _by_tensor(t: Any, names: str) -> Any:
    kind, name, other = names.split(" ")
    first = mixed(t, kind) if kind.startswith(("float", "bfloat", "complex")) else whole(t, kind)
    second = positive(t, other) if other.startswith(("float", "bfloat")) else whole(t, other)
    return OPERATORS[name](first, second)


def _bitwise(t: Any, names: str) -> Any:
    kind, name = names.split(" ")
    return BITWISE[name](whole(t, kind), t.tensor([1, 2, 3, 1, 2, 3, 1, 2]).to(getattr(t, kind)))


UNARY_EXACT = [
    "abs",
    "neg",
    "square",
    "sign",
    "floor",
    "ceil",
    "trunc",
    "round",
    "relu",
    "isnan",
    "isinf",
    "isfinite",
    "logical_not",
    "absolute",
    "negative",
    "reciprocal",
]
UNARY_CLOSE = [
    "sqrt",
    "rsqrt",
    "exp",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "tanh",
    "sigmoid",
]


def _unary(t: Any, names: str) -> Any:
    name, kind = names.split(" of ")
    given = {"bool": t.tensor([True, False]), "int64": whole(t)}.get(kind)
    return getattr(t, name)(mixed(t, kind) if given is None else given)


def _positive(t: Any, names: str) -> Any:
    name, kind = names.split(" of ")
    return getattr(t, name)(positive(t, kind))


REDUCTIONS: dict[str, Any] = {
    "sum": lambda t, x: x.sum(),
    "sum dim": lambda t, x: x.sum(1),
    "sum dims keepdim": lambda t, x: x.sum((0, 2), keepdim=True),
    "sum dtype": lambda t, x: x.sum(dtype=t.float64),
    "mean": lambda t, x: x.mean(),
    "mean dim": lambda t, x: x.mean(-1),
    "mean dims": lambda t, x: t.mean(x, dim=(1, 2)),
    "prod": lambda t, x: x[0, :, :2].prod(),
    "prod dim": lambda t, x: x[0].prod(1),
    "std": lambda t, x: x.std(),
    "var dim": lambda t, x: x.var(1),
    "var biased": lambda t, x: x.var(2, unbiased=False),
    "norm": lambda t, x: x.norm(),
    "norm 1": lambda t, x: x.norm(1),
    "norm dim": lambda t, x: x.norm(dim=1),
    "norm inf": lambda t, x: x.norm(float("inf"), dim=2, keepdim=True),
    "norm 3": lambda t, x: x.norm(3, dim=0),
    "cumsum": lambda t, x: x.cumsum(1),
    "softmax": lambda t, x: x.softmax(-1),
    "min": lambda t, x: x.min(),
    "max": lambda t, x: x.max(),
    "min dim": lambda t, x: list(x.min(1)),
    "max dim keepdim": lambda t, x: list(x.max(-1, keepdim=True)),
    "max dim names": lambda t, x: [x.max(0).values, x.max(0).indices],
    "amin": lambda t, x: x.amin((0, 2)),
    "amax": lambda t, x: x.amax(1, keepdim=True),
    "argmax": lambda t, x: [x.argmax(), x.argmax(1), x.argmin(2, keepdim=True)],
    "all": lambda t, x: [x.all(), x.all(1), t.all(x)],
    "any": lambda t, x: [x.any(), t.any(x, 2), x.any(dim=0, keepdim=True)],
    "count_nonzero": lambda t, x: x.count_nonzero(),
    "sort": lambda t, x: [x.sort().values, x.sort(1, descending=True).values],
    "argsort": lambda t, x: x.argsort(1),
    "topk": lambda t, x: list(x[0, 0].topk(2)),
    "unique": lambda t, x: x.unique(),
}

PRODUCTS: dict[str, Any] = {
    "matmul": lambda t, x: t.matmul(x[0], x[1].t()),
    "@ batches": lambda t, x: x @ x.mT,
    "@ vector": lambda t, x: x[0] @ x[0, 0],
    "vector @ matrix": lambda t, x: x[0, :, 0] @ x[0],
    "mm": lambda t, x: t.mm(x[0].t(), x[1]),
    "bmm": lambda t, x: t.bmm(x, x.transpose(1, 2)),
    "dot": lambda t, x: x[0, 0].dot(x[1, 1]),
    "mv": lambda t, x: x[0].mv(x[0, 0]),
    "outer": lambda t, x: t.outer(x[0, 0], x[0, :, 0]),
    "einsum": lambda t, x: t.einsum("bij,bkj->bik", x, x),
    "einsum transpose": lambda t, x: t.einsum("bij->jb", x),
    "addmm": lambda t, x: t.addmm(t.ones(3, 3).to(x.dtype), x[0], x[1].t(), beta=2, alpha=0.5),
}

ROWS: list[Row] = [
    *each("number", BY_NUMBER, _by_number),
    *each("number first", BY_NUMBER, _number_by),
    *each("operator", BY_TENSOR, _by_tensor),
    *each(
        "bitwise",
        [f"{kind} {name}" for kind in ("int64", "uint8", "int8", "bool", "float32") for name in BITWISE],
        _bitwise,
    ),
    *each(
        "unary",
        [
            f"{name} of {kind}"
            for name in UNARY_EXACT
            for kind in ("float32", "bfloat16", "float16", "int64", "bool")
        ],
        _unary,
    ),
    *each(
        "function",
        [
            f"{name} of {kind}"
            for name in UNARY_CLOSE
            for kind in ("float32", "float64", "bfloat16", "float16", "int64")
        ],
        _positive,
        close=True,
    ),
    *each(
        "reduction of float32",
        list(REDUCTIONS),
        lambda t, n: REDUCTIONS[n](t, cube(t) * 0.37 - 3),
        close=True,
    ),
    *each(
        "reduction of bfloat16",
        list(REDUCTIONS),
        lambda t, n: REDUCTIONS[n](t, cube(t, "bfloat16")),
        close=True,
    ),
    *each(
        "reduction of int64",
        [n for n in REDUCTIONS if n not in ("sum dtype",)],
        lambda t, n: REDUCTIONS[n](t, cube(t, "int64")),
    ),
    *each(
        "reduction of bool",
        ["sum", "sum dim", "min", "all", "any", "mean", "max dim names", "argmax", "count_nonzero"],
        lambda t, n: REDUCTIONS[n](t, cube(t) > 11),
    ),
    *each(
        "reduction of uint8",
        ["sum", "all", "any", "max", "prod"],
        lambda t, n: REDUCTIONS[n](t, cube(t, "uint8")),
    ),
    *each(
        "reduction of float8",
        ["sum", "mean", "max", "all"],
        lambda t, n: REDUCTIONS[n](t, cube(t, "float8_e4m3fn")),
    ),
    *each("product of float32", list(PRODUCTS), lambda t, n: PRODUCTS[n](t, cube(t)), close=True),
    *each(
        "product of bfloat16",
        ["matmul", "@ batches", "mm", "bmm", "einsum"],
        lambda t, n: PRODUCTS[n](t, cube(t, "bfloat16")),
        close=True,
    ),
    *each(
        "product of int64",
        ["matmul", "@ batches", "mm", "dot"],
        lambda t, n: PRODUCTS[n](t, cube(t, "int64")),
    ),
    *each("power", FLOATS, lambda t, n: [positive(t, n) ** e for e in (2, 3, 0.5, -1, -2, 0, 1)], close=True),
    *each(
        "power of whole numbers",
        INTS,
        lambda t, n: [t.tensor([1, 2, 3]).to(getattr(t, n)) ** e for e in (2, 3, 0)],
    ),
    *each(
        "0-d does not widen",
        ["float16", "bfloat16", "float32"],
        lambda t, n: [
            mixed(t, n) * t.tensor(0.37),
            mixed(t, n) + t.tensor(0.37, dtype=t.float64),
            t.tensor(0.37) - mixed(t, n),
            mixed(t, n) / t.tensor(3),
        ],
    ),
    *each("float8", FLOAT8[:2], lambda t, n: mixed(t, n) + 1),
    *each("float8 compares", FLOAT8[:2], lambda t, n: mixed(t, n) == mixed(t, n)),
    *rows(
        "arithmetic",
        {
            "add alpha": lambda t: t.add(grid(t), grid(t), alpha=2),
            "sub alpha": lambda t: grid(t).sub(1, alpha=3),
            "alpha of integers": lambda t: t.add(t.tensor([1]), 1, alpha=1.5),
            "broadcast": lambda t: grid(t) + t.tensor([[1.0], [2.0], [3.0]]),
            "broadcast of a transpose": lambda t: grid(t).t() + t.tensor([1.0, 2.0, 3.0]),
            "permuted keeps its order": lambda t: cube(t).permute(2, 0, 1) * 2,
            "mixed order": lambda t: grid(t).t() + t.ones(4, 3),
            "sizes that do not match": lambda t: t.ones(3) + t.ones(4),
            "division by zero of integers": lambda t: t.tensor([1]) // 0,
            "remainder by zero of integers": lambda t: t.tensor([1]) % 0,
            "division by zero": lambda t: t.tensor([1.0, -1.0, 0.0]) / 0,
            "floor division by zero": lambda t: t.tensor([1.0, -1.0, 0.0]) // 0,
            "true division of integers": lambda t: t.tensor([1, 2]) / 0,
            "div floor": lambda t: t.div(t.tensor([-7, 7]), 2, rounding_mode="floor"),
            "div trunc": lambda t: t.div(t.tensor([-7, 7]), 2, rounding_mode="trunc"),
            "div trunc of floats": lambda t: t.div(t.tensor([-7.5, 7.5]), 2, rounding_mode="trunc"),
            "div of a wrong mode": lambda t: t.div(t.ones(1), 2, rounding_mode="up"),
            "negative power of integers": lambda t: t.tensor([2]) ** -1,
            "fmod": lambda t: t.fmod(t.tensor([-7.5, 7.5]), 2),
            "remainder": lambda t: t.remainder(t.tensor([-7, 7]), 4),
            "number to a power": lambda t: 2 ** t.tensor([1, 2, 3]),
            "whole power of floats": lambda t: t.tensor([2.0, 3.0]) ** t.tensor([2, 3]),
            "maximum": lambda t: t.maximum(t.tensor([1.0, float("nan")]), t.tensor([2.0, 0.0])),
            "minimum of kinds": lambda t: t.minimum(t.tensor([1, 5]), t.tensor([2.5, 2.5])),
            "maximum of a number": lambda t: t.maximum(t.ones(2), 1),
            "max of two": lambda t: t.max(t.tensor([1.0, 5.0]), t.tensor([2.0, 2.0])),
            "clamp": lambda t: [
                mixed(t).clamp(-1, 2),
                mixed(t).clamp(min=0),
                mixed(t, "bfloat16").clip(max=1),
                t.tensor([1, 5]).clamp(2, 3),
            ],
            "clamp of nothing": lambda t: mixed(t).clamp(),
            "atan2": lambda t: t.atan2(t.tensor([1.0]), t.tensor([0.0])),
            "logical": lambda t: [
                t.logical_and(t.tensor([1, 0]), t.tensor([1, 1])),
                t.logical_or(t.tensor([0.0]), t.tensor([True])),
                t.logical_xor(t.tensor([True]), t.tensor([True])),
            ],
            "lerp": lambda t: t.lerp(t.zeros(2), t.ones(2), 0.5),
            "bool minus bool": lambda t: t.tensor([True]) - t.tensor([True]),
            "minus bool": lambda t: -t.tensor([True]),
            "plus bool": lambda t: +t.tensor([True]),
            "invert": lambda t: [~t.tensor([True, False]), ~t.tensor([1, -2]), ~t.tensor([5], dtype=t.uint8)],
            "invert float": lambda t: ~t.ones(1),
            "numpy numbers": lambda t: [
                t.ones(2) * np.float64(2),
                t.ones(2) * np.float32(2.5),
                t.tensor([1]) + np.int64(1),
            ],
            "numpy number first": lambda t: np.float32(2) * t.ones(2),
            "numpy array": lambda t: t.ones(2) * np.arange(2.0),
            "numpy array first": lambda t: np.arange(2.0) * t.ones(2),
            "numpy function": lambda t: np.sqrt(t.tensor([4.0])),
            "None": lambda t: [(t.ones(2) == None), t.ones(2) != None],  # noqa: E711
            "a string": lambda t: t.ones(2) + "a",
            "a list": lambda t: t.add(t.ones(2), [1, 2]),
            "number wraps around": lambda t: t.tensor([1], dtype=t.uint8) + 300,
            "overflow wraps around": lambda t: t.tensor([127], dtype=t.int8) + t.tensor([1], dtype=t.int8),
            "uint8 times minus one": lambda t: t.tensor([1, 2], dtype=t.uint8) * -1,
            "half overflows": lambda t: t.tensor([60000.0]).half() * 2,
            "complex": lambda t: [
                t.tensor([1 + 2j]) * 2j,
                t.tensor([1.0]) + 2j,
                t.tensor([3 + 4j]).abs(),
                t.tensor([1]) * 1j,
            ],
            "complex order": lambda t: t.tensor([1j]) < 1,
            "complex parts": lambda t: [
                t.tensor([1 + 2j]).real,
                t.tensor([1 + 2j]).imag,
                t.view_as_real(t.tensor([1 + 2j])),
                t.view_as_complex(t.tensor([[1.0, 2.0]])),
            ],
            "imag of real": lambda t: t.tensor([1.0]).imag,
            "allclose": lambda t: [
                t.allclose(t.ones(2), t.ones(2) + 1e-9),
                t.allclose(t.ones(2), t.zeros(2)),
                t.allclose(t.tensor([float("nan")]), t.tensor([float("nan")]), equal_nan=True),
            ],
            "allclose of kinds": lambda t: t.allclose(t.ones(1), t.ones(1, dtype=t.float64)),
            "isclose": lambda t: t.isclose(t.tensor([1.0, 2.0]), t.tensor([1.0, 2.1]), atol=0.01),
            "equal": lambda t: [
                t.equal(t.ones(2), t.ones(2)),
                t.equal(t.ones(2), t.ones(3)),
                t.ones(2).equal(t.zeros(2)),
            ],
            "equal of kinds": lambda t: t.equal(t.ones(2), t.ones(2, dtype=t.int64)),
            "mean of integers": lambda t: t.tensor([1, 2]).mean(),
            "norm of integers": lambda t: t.tensor([3, 4]).norm(),
            "max of nothing": lambda t: t.zeros(0).max(),
            "max over nothing": lambda t: t.zeros(2, 0).max(1),
            "sum beyond": lambda t: t.zeros(2).sum(1),
            "sum of a dim twice": lambda t: t.zeros(2, 2).sum((0, 0)),
            "sum of nothing": lambda t: [
                t.zeros(0).sum(),
                t.zeros(0).prod(),
                t.zeros(0).all(),
                t.zeros(0).any(),
                t.zeros(2, 0).sum(1),
            ],
            "0-d reductions": lambda t: [
                t.tensor(2.0).sum(),
                t.tensor(2.0).max(),
                t.tensor(2.0).sum(0),
                t.tensor(2.0).all(),
                list(t.tensor(2.0).max(0)),
                t.tensor(2.0).mean(-1),
            ],
            "nan in max": lambda t: [
                t.tensor([1.0, float("nan"), 3.0]).max(),
                list(t.tensor([1.0, float("nan"), 3.0]).max(0)),
                t.tensor([1.0, float("nan")]).argmin(),
            ],
            "matmul of kinds": lambda t: t.ones(2, 2) @ t.ones(2, 2, dtype=t.float64),
            "matmul of sizes": lambda t: t.ones(2, 3) @ t.ones(2, 3),
            "matmul of 0-d": lambda t: t.tensor(1.0) @ t.ones(2),
            "mm of vectors": lambda t: t.mm(t.ones(2), t.ones(2)),
            "tril": lambda t: [
                t.tril(t.ones(3, 3)),
                t.ones(2, 3).triu(1),
                t.ones(3, 3, dtype=t.bool).tril(-1),
            ],
            "diag": lambda t: [t.diag(t.tensor([1, 2])), t.diag(grid(t)), t.diag(grid(t), 1)],
            "median-free sort of nan": lambda t: t.tensor([2.0, float("nan"), 1.0]).sort().values,
            "unique with more": lambda t: list(
                t.unique(t.tensor([3, 1, 3]), return_inverse=True, return_counts=True)
            ),
        },
    ),
]

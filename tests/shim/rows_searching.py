"""Chapter: functions of the array API beside arithmetic and reductions."""

from __future__ import annotations

from typing import Any

from tests.shim.table import Row, each, rows
from tests.shim.values import grid

SEARCHING = {
    "searchsorted": lambda t: [
        t.searchsorted(t.tensor([1, 3, 5]), t.tensor([[0, 1], [4, 9]])),
        t.searchsorted(t.tensor([1, 3, 3, 5]), t.tensor([3]), right=True),
        t.searchsorted(t.tensor([1.0, 3, 5]), 4.0),
        t.searchsorted(t.tensor([[1, 3], [2, 4]]), t.tensor([[3], [3]])),
        t.searchsorted(t.tensor([1, 3]), t.tensor([2]), out_int32=True),
        t.searchsorted(t.tensor([5, 1, 3]), t.tensor([2]), sorter=t.tensor([1, 2, 0])),
        t.searchsorted(t.tensor([1, 3]), t.tensor([3]), side="right"),
    ],
    "searchsorted dtypes": lambda t: t.searchsorted(t.tensor([1, 3]), t.tensor([2.0])),
    "searchsorted shapes": lambda t: t.searchsorted(t.tensor([[1, 3]]), t.tensor([2])),
    "searchsorted contradicts": lambda t: t.searchsorted(
        t.tensor([1, 3]), t.tensor([2]), side="left", right=True
    ),
    "bucketize": lambda t: [
        t.bucketize(t.tensor([0, 1, 4]), t.tensor([1, 3])),
        t.bucketize(t.tensor([1]), t.tensor([1, 3]), right=True),
    ],
    "isin": lambda t: [
        t.isin(t.tensor([[1, 2], [3, 4]]), t.tensor([2, 4])),
        t.isin(t.tensor([1, 2]), 2),
        t.isin(3, t.tensor([1, 2])),
        t.isin(t.tensor([1, 2]), t.tensor([2.0]), invert=True),
    ],
    "diff": lambda t: [
        t.diff(grid(t)),
        t.diff(grid(t), dim=0),
        t.diff(grid(t), n=2),
        grid(t).diff(axis=0),
        t.diff(t.tensor([True, False, False])),
        t.diff(t.arange(3), prepend=t.tensor([5]), append=t.tensor([9])),
        t.diff(t.arange(3), n=5),
        t.diff(t.tensor([1, 3], dtype=t.uint8)),
    ],
    "diff of a number": lambda t: t.diff(t.tensor(1)),
    "cumprod": lambda t: [
        t.cumprod(t.arange(1, 5), 0),
        t.cumprod(t.ones(2, 2, dtype=t.half) * 3, 1),
        t.cumprod(t.tensor([1, 2], dtype=t.int8), 0),
        t.cumprod(t.arange(1, 4), 0, dtype=t.float64),
        t.cumprod(t.tensor(3.0), 0),
    ],
    "tensordot": lambda t: [
        t.tensordot(grid(t), grid(t).t(), dims=1),
        t.tensordot(grid(t), grid(t), dims=([0, 1], [0, 1])),
        t.tensordot(t.arange(2), t.arange(3), dims=0),
        t.tensordot(grid(t), grid(t)),
    ],
    "tensordot lengths": lambda t: t.tensordot(t.ones(2, 3), t.ones(2, 3), dims=1),
    "argwhere": lambda t: [t.argwhere(t.tensor([[1, 0], [0, 2]])), t.argwhere(t.zeros(2))],
    "repeat_interleave": lambda t: [
        t.repeat_interleave(t.arange(3), 2),
        t.repeat_interleave(grid(t), 2, dim=0),
        t.repeat_interleave(grid(t), t.tensor([1, 0, 2]), dim=0),
        grid(t).repeat_interleave(2),
    ],
    "repeat_interleave lengths": lambda t: t.repeat_interleave(t.arange(3), t.tensor([1, 2])),
    "repeat_interleave negative": lambda t: t.repeat_interleave(t.arange(3), -1),
    "take_along_dim": lambda t: [
        t.take_along_dim(grid(t), t.tensor([[0], [1], [0]]), dim=1),
        t.take_along_dim(grid(t), t.tensor([3, 0])),
    ],
    "broadcast_tensors": lambda t: [
        list(t.broadcast_tensors(t.ones(2, 1), t.zeros(3))),
        t.broadcast_shapes((2, 1), (3,)),
    ],
    "broadcast_shapes that do not fit": lambda t: t.broadcast_shapes((2,), (3,)),
    "signbit": lambda t: [
        t.signbit(t.tensor([-0.0, 0.0, -1.0])),
        t.signbit(t.tensor([-1, 1])),
        t.signbit(t.tensor([True])),
    ],
    "copysign": lambda t: [
        t.copysign(t.tensor([1.0, -2]), t.tensor([-0.0, 1])),
        t.copysign(t.tensor([1, 2]), -1),
        t.copysign(t.tensor([1.0], dtype=t.half), t.tensor([-1.0], dtype=t.half)),
    ],
    "nextafter": lambda t: t.nextafter(t.tensor([1.0, 0.0]), t.tensor([2.0, -1.0])),
    "hypot of integers": lambda t: t.hypot(t.tensor([3]), t.tensor([4])),
}

UNARY = "acos acosh asin asinh atan atanh cosh sinh exp2 arccos arctanh".split()  # noqa: SIM905


def inputs(t: Any, name: str) -> list[Any]:
    """Where the function is defined, and beyond it; by dtype."""
    function = getattr(t, name)
    values = [0.0, 0.25, -0.5, 1.0, 1.5, 3.0, float("nan")]
    return [
        function(t.tensor(values)),
        function(t.tensor(values, dtype=t.float64)),
        function(t.tensor(values, dtype=t.bfloat16)),
        function(t.tensor([0, 1])),
        function(t.tensor([True, False])),
    ]


ROWS: list[Row] = [
    *rows("searching", SEARCHING),
    *each("function", UNARY, inputs, close=True),
    *rows(
        "function",
        {
            "hypot": lambda t: [t.hypot(t.tensor([3.0, 1]), t.tensor([4.0, 1]))],
            "logaddexp": lambda t: [t.logaddexp(t.tensor([0.0, -1]), t.tensor([1.0, -1]))],
        },
        close=True,
    ),
]

"""Creation: what tensors are made of, and their dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.shim.table import Row, rows
from tests.shim.values import cube, grid

CREATED: dict[str, Any] = {
    "number": lambda t: [t.tensor(1), t.tensor(1.5), t.tensor(True), t.tensor(1j)],
    "list": lambda t: [
        t.tensor([1, 2]),
        t.tensor([1.0, 2]),
        t.tensor([True, False]),
        t.tensor([True, 2]),
        t.tensor([1, 2j]),
    ],
    "nested": lambda t: t.tensor([[1, 2, 3], [4, 5, 6]]),
    "tuple": lambda t: t.tensor(((1.0, 2.0),)),
    "of 0-d tensors": lambda t: t.tensor([t.tensor(1), t.tensor(2)]),
    "of rows of 0-d tensors": lambda t: t.tensor([[t.tensor(1.5), 2], [3, t.tensor(4)]]),
    "numpy numbers": lambda t: [
        t.tensor(np.float32(1.5)),
        t.tensor([np.int64(1), np.int64(2)]),
        t.tensor(np.float64(2)),
    ],
    "numpy array": lambda t: t.tensor(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "numpy transpose": lambda t: t.tensor(np.arange(6.0).reshape(2, 3).T),
    "empty": lambda t: [t.tensor([]), t.tensor([[]]), t.tensor([[], []])],
    "range": lambda t: t.tensor(range(3)),
    "dtype": lambda t: [
        t.tensor([1, 2], dtype=t.float16),
        t.tensor([1.7, -1.7], dtype=t.int8),
        t.tensor([0, 2], dtype=t.bool),
        t.tensor(0.1, dtype=t.bfloat16),
    ],
    "float8": lambda t: t.tensor([0.1, 1.0, 500.0], dtype=t.float8_e4m3fn),
    "ragged": lambda t: t.tensor([[1, 2], [3]]),
    "string": lambda t: t.tensor("abc"),
    "None": lambda t: t.tensor(None),
    "dict": lambda t: t.tensor({"a": 1}),
    "overflow": lambda t: t.tensor(300, dtype=t.uint8),
    "requires_grad": lambda t: t.tensor([1.0], requires_grad=True).requires_grad,
    "requires_grad of integers": lambda t: t.tensor([1], requires_grad=True),
    "as_tensor": lambda t: (
        lambda x: [t.as_tensor(x) is x, t.as_tensor([1, 2]), t.as_tensor(x, dtype=t.half)]
    )(t.ones(2)),
    "as_tensor shares": lambda t: (lambda a: (t.as_tensor(a).add_(1), t.as_tensor(a))[1])(
        np.zeros(2, np.float32)
    ),
    "asarray": lambda t: [
        t.asarray([1, 2]),
        t.asarray(np.ones(2, np.float32)),
        t.asarray(b"\x01\x02", dtype=t.uint8),
        t.asarray(bytearray(8), dtype=t.float32),
    ],
    "from_numpy shares": lambda t: (lambda a: (t.from_numpy(a).mul_(2), t.from_numpy(a))[1])(np.arange(3.0)),
    "from_numpy strides": lambda t: t.from_numpy(np.arange(12).reshape(3, 4)[:, ::2]),
    "from_numpy transpose": lambda t: t.from_numpy(np.arange(12).reshape(3, 4).T),
    "from_numpy backwards": lambda t: t.from_numpy(np.arange(3)[::-1]),
    "from_numpy of strings": lambda t: t.from_numpy(np.array(["a"])),
    "from_numpy of a list": lambda t: t.from_numpy([1]),
    "frombuffer": lambda t: t.frombuffer(bytearray(b"\x00\x00\x80\x3f\x00\x00\x00\x40"), dtype=t.float32),
    "frombuffer part": lambda t: t.frombuffer(bytearray(range(16)), dtype=t.int16, offset=4, count=3),
    "frombuffer shares": lambda t: (lambda b: (t.frombuffer(b, dtype=t.uint8).fill_(7), list(b))[1])(
        bytearray(3)
    ),
    "frombuffer bfloat16": lambda t: t.frombuffer(bytearray(b"\x80\x3f\x00\x40"), dtype=t.bfloat16),
    "frombuffer odd size": lambda t: t.frombuffer(bytearray(5), dtype=t.int16),
    "frombuffer beyond": lambda t: t.frombuffer(bytearray(4), dtype=t.int16, offset=4),
    "zeros": lambda t: [
        t.zeros(2),
        t.zeros(2, 3),
        t.zeros((2, 3)),
        t.zeros([1], dtype=t.int8),
        t.zeros(()),
        t.zeros(0),
        t.zeros(size=(2,)),
    ],
    "zeros of a Size": lambda t: t.zeros(grid(t).shape),
    "zeros negative": lambda t: t.zeros(-1),
    "zeros of a float": lambda t: t.zeros(2.5),
    "ones": lambda t: [t.ones(2, 2), t.ones(2, dtype=t.bfloat16), t.ones(2, dtype=t.bool)],
    "empty shape": lambda t: [list(t.empty(2, 3).shape), str(t.empty(1, dtype=t.half).dtype)],
    "full": lambda t: [
        t.full((2,), 7),
        t.full((2,), 7.5),
        t.full((1, 2), True),
        t.full((2,), 1, dtype=t.half),
    ],
    "full overflow": lambda t: t.full((2,), 300, dtype=t.uint8),
    "like": lambda t: [
        t.zeros_like(grid(t, "int8")),
        t.ones_like(grid(t), dtype=t.half),
        t.full_like(grid(t), 3),
        list(t.empty_like(grid(t)).shape),
    ],
    "like keeps the order": lambda t: [
        t.zeros_like(grid(t).t()).stride(),
        t.ones_like(grid(t)[:, ::2]).stride(),
        t.zeros_like(cube(t).permute(2, 0, 1)).stride(),
        t.empty_like(grid(t).t(), memory_format=t.contiguous_format).stride(),
    ],
    "new": lambda t: (
        lambda x: [
            x.new_zeros(2),
            x.new_ones((2, 1)),
            x.new_full((2,), 3),
            x.new_tensor([1, 2]),
            str(x.new_empty(2).dtype),
        ]
    )(t.ones(1, dtype=t.half)),
    "arange": lambda t: [
        t.arange(5),
        t.arange(1, 4),
        t.arange(0, 10, 3),
        t.arange(5.0),
        t.arange(0, 1, 0.25),
        t.arange(3, dtype=t.float16),
        t.arange(5, 0, -2),
        t.arange(end=3),
        t.arange(start=1, end=3),
    ],
    "arange backwards": lambda t: t.arange(3, 1),
    "arange by 0": lambda t: t.arange(0, 3, 0),
    "linspace ends": lambda t: t.linspace(0, 1, 5),
    "eye": lambda t: [t.eye(3), t.eye(2, 3, dtype=t.int8)],
    "Tensor of a list": lambda t: [t.Tensor([1, 2]), t.Tensor([[1.5]])],
    "Tensor of sizes": lambda t: [list(t.Tensor(2, 3).shape), t.Tensor().shape],
    "from_dlpack": lambda t: t.from_dlpack(np.arange(3)),
}

ROWS: list[Row] = rows("created", CREATED)

"""Indexing with tensors, joining, writing in place, ways out."""

from __future__ import annotations

import enum
import io
from typing import Any

import numpy as np

from tests.shim.table import Row, each, rows
from tests.shim.values import COMMON, INTS, STORED, cube, grid, mixed


class Two(enum.IntEnum):
    TWO = 2


def _in_place(change: Any) -> Any:
    """The row that changes a 3 × 4 tensor and looks at it, at what came back, and at a view of it."""

    def call(t: Any) -> Any:
        x = grid(t)
        view = x[1]
        back = change(t, x)
        return [x, back is x, view]

    return call


IN_PLACE: dict[str, Any] = {
    "add_": lambda t, x: x.add_(1),
    "add_ alpha": lambda t, x: x.add_(t.ones(4), alpha=2),
    "sub_": lambda t, x: x.sub_(t.ones(3, 1)),
    "mul_": lambda t, x: x.mul_(0.5),
    "div_": lambda t, x: x.div_(3),
    "pow_": lambda t, x: x.pow_(2),
    "neg_": lambda t, x: x.neg_(),
    "abs_": lambda t, x: x.abs_(),
    "sqrt_": lambda t, x: x.sqrt_(),
    "clamp_": lambda t, x: x.clamp_(2, 5),
    "floor_": lambda t, x: x.floor_(),
    "remainder_": lambda t, x: x.remainder_(3),
    "zero_": lambda t, x: x.zero_(),
    "fill_": lambda t, x: x.fill_(7),
    "fill_ tensor": lambda t, x: x.fill_(t.tensor(2)),
    "copy_": lambda t, x: x.copy_(t.arange(4)),
    "copy_ half": lambda t, x: x.copy_(t.full((3, 4), 0.1).half()),
    "copy_ of another size": lambda t, x: x.copy_(t.ones(5)),
    "copy_ of numbers": lambda t, x: x.copy_([1, 2, 3, 4]),
    "masked_fill_": lambda t, x: x.masked_fill_(x > 5, -1),
    "masked_fill_ by numbers": lambda t, x: x.masked_fill_(t.ones(3, 4), -1),
    "add_ that grows": lambda t, x: x.add_(t.ones(2, 3, 4)),
    "add_ to an expanded": lambda t, x: x[:1].expand(2, 4).add_(1),
    "copy_ to an expanded": lambda t, x: x[:1].expand(2, 4).copy_(t.ones(2, 4)),
    "set int": lambda t, x: x.__setitem__(0, 5),
    "set row": lambda t, x: x.__setitem__(0, t.tensor([9, 8, 7, 6])),
    "set list": lambda t, x: x.__setitem__(0, [9, 8, 7, 6]),
    "set slice": lambda t, x: x.__setitem__((slice(None), slice(1, 3)), -1),
    "set element": lambda t, x: x.__setitem__((1, 2), 0.5),
    "set mask": lambda t, x: x.__setitem__(x > 5, 0),
    "set mask values": lambda t, x: x.__setitem__(x > 9, t.tensor([1.0, 2.0])),
    "set indices": lambda t, x: x.__setitem__(t.tensor([0, 2]), t.ones(4)),
    "set pairs": lambda t, x: x.__setitem__(([0, 1], [1, 2]), t.tensor([50.0, 60.0])),
    "set ellipsis": lambda t, x: x.__setitem__((..., 0), 3),
    "set all": lambda t, x: x.__setitem__(slice(None), t.zeros(())),
    "set other dtype": lambda t, x: x.__setitem__(0, t.tensor([1.5, 2.5, 3.5, 4.5], dtype=t.float64)),
    "set numpy": lambda t, x: x.__setitem__(0, t.from_numpy(np.arange(4.0))),
    "set of another size": lambda t, x: x.__setitem__(0, t.ones(5)),
    "set beyond": lambda t, x: x.__setitem__(3, 0),
    "set with a leading 1": lambda t, x: x.__setitem__(0, t.ones(1, 4)),
}

INDEXED: dict[str, Any] = {
    "list": lambda t, x: x[[0, 2]],
    "tensor": lambda t, x: x[t.tensor([2, 0, 0])],
    "negative": lambda t, x: x[t.tensor([-1, -3])],
    "matrix of indices": lambda t, x: x[t.tensor([[0, 1], [2, 0]])],
    "columns": lambda t, x: x[:, [1, 3]],
    "columns by tensor": lambda t, x: x[:, t.tensor([1, 3])],
    "pairs": lambda t, x: x[[0, 1], [2, 3]],
    "broadcast pairs": lambda t, x: x[t.tensor([[0], [2]]), t.tensor([1, 3])],
    "mask": lambda t, x: x[x > 5],
    "row mask": lambda t, x: x[t.tensor([True, False, True])],
    "column mask": lambda t, x: x[:, t.tensor([True, False, True, False])],
    "list mask": lambda t, x: x[[True, False, True]],
    "mask and slice": lambda t, x: x[t.tensor([True, False, True]), 1:],
    "int and list": lambda t, x: x[1, [0, 2]],
    "list and int": lambda t, x: x[[0, 2], 1],
    "None and list": lambda t, x: x[None, [0, 2]],
    "ellipsis and list": lambda t, x: x[..., [0, 2]],
    "uint8 indices are a mask": lambda t, x: x[t.tensor([1, 0, 1], dtype=t.uint8)],
    "int32 indices": lambda t, x: x[t.tensor([1, 0], dtype=t.int32)],
    "numpy indices": lambda t, x: x[np.array([1, 0])],
    "numpy integer": lambda t, x: x[np.int64(1)],
    "an enum": lambda t, x: x[Two.TWO],
    "empty list": lambda t, x: x[[]],
    "True": lambda t, x: x[True],
    "tuple of tensors": lambda t, x: x[(t.tensor([0]), t.tensor([1]))],
    "beyond": lambda t, x: x[[0, 3]],
    "float indices": lambda t, x: x[t.tensor([0.0])],
    "mask of another size": lambda t, x: x[t.tensor([True, False])],
    "indices that do not fit": lambda t, x: x[[0, 1], [0, 1, 2]],
    "index_select": lambda t, x: x.index_select(1, t.tensor([3, 0])),
    "index_select beyond": lambda t, x: x.index_select(1, t.tensor([4])),
    "index_select of floats": lambda t, x: x.index_select(1, t.tensor([0.0])),
    "gather": lambda t, x: x.gather(1, t.tensor([[0, 1], [3, 2], [1, 1]])),
    "gather of few rows": lambda t, x: t.gather(x, 1, t.tensor([[0, 1]])),
    "gather beyond": lambda t, x: x.gather(1, t.tensor([[4]])),
    "masked_select": lambda t, x: x.masked_select(x > 5),
    "masked_fill": lambda t, x: x.masked_fill(x > 5, 0.5),
    "nonzero": lambda t, x: x.nonzero(),
    "nonzero tuple": lambda t, x: list((x > 9).nonzero(as_tuple=True)),
    "take": lambda t, x: x.take(t.tensor([0, 5, -1])),
    "where": lambda t, x: t.where(x > 5, x, t.zeros(())),
    "where numbers": lambda t, x: t.where(x > 5, 1, 0.5),
    "where of kinds": lambda t, x: t.where(x > 5, x.half(), x.double()),
    "where indices": lambda t, x: list(t.where(x > 5)),
    "where method": lambda t, x: x.where(x > 5, t.tensor(-1.0)),
    "where of a wrong condition": lambda t, x: t.where(x, x, x),
    "in a cube, apart": lambda t, x: cube(t)[[0, 1], :, [0, 1]],
    "in a cube, beside": lambda t, x: cube(t)[:, [0, 1], [0, 1]],
    "in a cube, int between": lambda t, x: cube(t)[[0, 1], 1, [0, 1]],
    "in a cube, int apart": lambda t, x: cube(t)[0, :, [0, 1]],
    "in a cube, int and slice": lambda t, x: cube(t)[:, 1, [0, 1]],
    "in a cube, mask of two": lambda t, x: cube(t)[t.tensor([[True, False, True], [False, True, False]])],
}

JOINED: dict[str, Any] = {
    "cat": lambda t: t.cat([grid(t), grid(t)]),
    "cat dim": lambda t: t.cat((grid(t), grid(t)[:, :1]), dim=1),
    "cat negative": lambda t: t.cat([grid(t), grid(t)], -1),
    "cat of kinds": lambda t: [
        t.cat([t.ones(1, dtype=t.half), t.ones(1)]),
        t.cat([t.tensor([1]), t.tensor([True])]),
        t.cat([t.ones(1, dtype=t.half), t.ones(1, dtype=t.bfloat16)]),
    ],
    "cat with an old empty": lambda t: t.cat([t.zeros(0), grid(t)]),
    "cat of transposes": lambda t: t.cat([grid(t).t(), grid(t).t()]),
    "cat one": lambda t: t.cat([grid(t)]),
    "concat": lambda t: t.concat([t.ones(1), t.zeros(1)]),
    "concatenate": lambda t: t.concatenate([t.ones(1), t.zeros(1)], dim=0),
    "cat float8": lambda t: t.cat([mixed(t, "float8_e5m2"), mixed(t, "float8_e5m2")]),
    "stack": lambda t: t.stack([grid(t), grid(t)]),
    "stack dim": lambda t: t.stack((grid(t), grid(t)), dim=1),
    "stack -1": lambda t: t.stack([grid(t), grid(t)], -1),
    "stack 0-d": lambda t: t.stack([t.tensor(1), t.tensor(2)]),
    "vstack": lambda t: t.vstack([t.tensor([1, 2]), t.tensor([3, 4])]),
    "hstack": lambda t: [t.hstack([t.tensor([1, 2]), t.tensor([3])]), t.hstack([grid(t), grid(t)])],
    "meshgrid": lambda t: list(t.meshgrid(t.arange(2), t.arange(3), indexing="ij")),
    "cat of nothing": lambda t: t.cat([]),
    "cat of sizes": lambda t: t.cat([t.ones(2, 3), t.ones(2, 4)]),
    "cat of ranks": lambda t: t.cat([t.ones(2, 3), t.ones(2)]),
    "cat of 0-d": lambda t: t.cat([t.tensor(1), t.tensor(2)]),
    "cat of lists": lambda t: t.cat([[1], [2]]),
    "cat of one tensor": lambda t: t.cat(t.ones(2)),
    "stack of sizes": lambda t: t.stack([t.ones(2), t.ones(3)]),
    "stack of nothing": lambda t: t.stack([]),
    "cat beyond": lambda t: t.cat([t.ones(2), t.ones(2)], 1),
}

OUT: dict[str, Any] = {
    "positive is itself": lambda t: (lambda x: [(+x).data_ptr() == x.data_ptr(), t.tensor([True]).sign()])(
        t.ones(2)
    ),
    "of float8, not a number": lambda t: t.tensor([1.0, float("nan")]).to(t.float8_e4m3fn).isnan(),
    "of 0-d": lambda t: [t.tensor(2.0).softmax(0), t.tensor(2.0).flip(0)],
    "sign of bool is a copy": lambda t: (lambda x: (x.sign().fill_(False), x)[1])(t.tensor([True])),
    "item": lambda t: [
        t.tensor(1.5).item(),
        t.tensor([[3]]).item(),
        t.tensor(True).item(),
        t.tensor(0.1).half().item(),
        t.tensor(0.1).bfloat16().item(),
        t.tensor(1j).item(),
    ],
    "item of many": lambda t: t.ones(2).item(),
    "tolist": lambda t: [
        grid(t, "int64").tolist(),
        t.tensor(1.5).tolist(),
        mixed(t, "bfloat16").tolist(),
        t.tensor([True]).tolist(),
        t.zeros(0, 2).tolist(),
    ],
    "numpy shares": lambda t: (lambda x: (x.numpy().fill(3), x)[1])(t.zeros(2)),
    "numpy of bfloat16": lambda t: t.ones(2).bfloat16().numpy(),
    "numpy of float8": lambda t: t.ones(2).to(t.float8_e5m2).numpy(),
    "array of bfloat16": lambda t: np.asarray(t.ones(2).bfloat16()),
    "numpy of what requires grad": lambda t: t.ones(2, requires_grad=True).numpy(),
    "numpy by force": lambda t: t.ones(2, requires_grad=True).numpy(force=True).tolist(),
    "numpy of detached": lambda t: t.ones(2, requires_grad=True).detach().numpy().tolist(),
    "array": lambda t: [
        np.asarray(grid(t)).tolist(),
        np.array(t.tensor([1, 2]), dtype=np.float32).tolist(),
        np.asarray(t.ones(2), np.float16).dtype.name,
    ],
    "array of a list": lambda t: np.array([t.tensor(1.0), t.tensor(2.0)]).tolist(),
    "concatenate by numpy": lambda t: np.concatenate([t.ones(2), t.zeros(1)]).tolist(),
    "bool": lambda t: [bool(t.tensor(1)), bool(t.tensor([0.0])), bool(t.tensor([[True]]))],
    "bool of many": lambda t: bool(t.ones(2)),
    "bool of none": lambda t: bool(t.zeros(0)),
    "if": lambda t: 1 if t.tensor(2) > 1 else 0,
    "int": lambda t: [
        int(t.tensor(2.7)),
        float(t.tensor(3)),
        int(t.tensor([5])),
        complex(t.tensor(1.0)).real,
    ],
    "int of many": lambda t: int(t.ones(2)),
    "index": lambda t: [list(range(5))[t.tensor(2)], list(range(t.tensor(3)))],
    "index of a float": lambda t: [1, 2, 3][t.tensor(1.0)],
    "format": lambda t: [f"{t.tensor(1.23456):.2f}", f"{t.tensor(7):03d}"],
    "repr": lambda t: [
        repr(t.tensor([1, 2])),
        repr(t.tensor(3)),
        repr(t.tensor([True])),
        str(t.tensor([1, 2], dtype=t.int32)),
        repr(t.tensor([[1, 2], [3, 4]])),
    ],
    "in": lambda t: [3 in t.tensor([1, 2, 3]), 4 in t.tensor([1, 2, 3])],
    "hash": lambda t: (lambda x: {x: 1}[x])(t.ones(2)),
    "requires_grad_": lambda t: (
        lambda x: [x.requires_grad_() is x, x.requires_grad, x.detach().requires_grad, x.data.requires_grad]
    )(t.ones(2)),
    "requires_grad of integers": lambda t: t.tensor([1]).requires_grad_(),
    "no_grad": lambda t: _under_no_grad(t),
    "no_grad decorator": lambda t: t.no_grad()(lambda x: x + 1)(t.ones(1)),
    "inference_mode": lambda t: _under(t, t.inference_mode()),
    "set_grad_enabled": lambda t: _under(t, t.set_grad_enabled(False)),
    "Parameter": lambda t: _parameter(t),
    "Parameter repr kind": lambda t: [
        type(_nn(t).Parameter(t.ones(1))).__name__,
        isinstance(_nn(t).Parameter(t.ones(1)), t.Tensor),
    ],
    "deepcopy": lambda t: __import__("copy").deepcopy(grid(t)),
    "buffer written by numpy": lambda t: (lambda f: (np.save(f, grid(t).numpy()), len(f.getvalue()))[1])(
        io.BytesIO()
    ),
    "unknown attribute": lambda t: t.ones(1).nonsense,
    "unknown function": lambda t: t.nonsense,
    "hasattr": lambda t: [
        hasattr(t, "nonsense"),
        hasattr(t.ones(1), "nonsense"),
        hasattr(t, "float8_e4m3fn"),
        hasattr(t, "bfloat16"),
    ],
    "getattr by name": lambda t: [str(getattr(t, name)) for name in ("float16", "bfloat16", "float32")],
    "constants": lambda t: [t.pi, t.inf, t.e],
}


def _nn(t: Any) -> Any:
    return t.nn


def _parameter(t: Any) -> Any:
    p = t.nn.Parameter(t.ones(2))
    q = t.nn.parameter.Parameter(t.tensor([1]), requires_grad=False)
    return [
        p.requires_grad,
        q.requires_grad,
        p.detach(),
        p.data,
        type(p.data).__name__,
        p.numpy(force=True).tolist(),
        (p.detach() * 2),
    ]


def _under(t: Any, context: Any) -> Any:
    with context:
        inside = t.is_grad_enabled()
    return [inside, t.is_grad_enabled()]


def _under_no_grad(t: Any) -> Any:
    x = t.ones(2, requires_grad=True)
    with t.no_grad():
        return [x.numpy().tolist(), t.is_grad_enabled()]


ROWS: list[Row] = [
    *each("in place", list(IN_PLACE), lambda t, n: _in_place(IN_PLACE[n])(t)),
    *each("indexed", list(INDEXED), lambda t, n: INDEXED[n](t, grid(t))),
    *rows("joined", JOINED),
    *rows("out", OUT),
    *each("integers in place by a float", INTS, lambda t, n: t.ones(2).to(getattr(t, n)).mul_(1.5)),
    *each("integers in place", INTS, lambda t, n: t.ones(2).to(getattr(t, n)).mul_(3)),
    *each("clone", STORED, lambda t, n: t.zeros(2, 3).to(getattr(t, n)).t().clone()),
    *each("stack", STORED, lambda t, n: t.stack([t.ones(2).to(getattr(t, n))] * 2)),
    *each("index", STORED, lambda t, n: t.tensor([0.0, 1.0, 2.0]).to(getattr(t, n))[[2, 0]]),
    *each("zeros", STORED, lambda t, n: t.zeros(3, dtype=getattr(t, n))),
    *each("to numpy", COMMON, lambda t, n: str(t.ones(3).to(getattr(t, n)).numpy().dtype)),
    *each("from numpy", [n for n in COMMON if n != "bfloat16"], lambda t, n: t.from_numpy(np.ones(3, n))),
    *each("fill", [*COMMON, "float8_e4m3fn"], lambda t, n: t.zeros(3).to(getattr(t, n)).fill_(1)),
]

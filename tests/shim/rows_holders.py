"""Chapter: modules that hold names, sparse and complex tensors, comparisons for tests."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from tests.shim.table import Row, rows
from tests.shim.values import grid


def model(t: Any) -> Any:
    """Parameters, buffers, modules in modules, and a parameter of two names."""

    class Layer(t.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, size: int) -> None:
            super().__init__()
            self.weight = t.nn.Parameter(t.arange(float(size)))
            self.bias = None
            self.register_parameter("scale", None)
            self.register_buffer("mean", t.zeros(size))
            self.register_buffer("count", t.tensor(3))
            self.register_buffer("scratch", t.ones(2), persistent=False)
            self.size = size

    class Model(t.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.head = t.nn.Parameter(t.ones(2, 2))
            self.layers = t.nn.ModuleList([Layer(2), Layer(3)])
            self.block = t.nn.Sequential(OrderedDict(first=Layer(1)))
            self.named = t.nn.ModuleDict({"a": Layer(2)})
            self.rows = t.nn.ParameterList([t.ones(1), t.zeros(2)])
            self.tied = self.head

    return Model()


def changed(made: Any, change: Any) -> Any:
    change(made)
    return made


MODULES = {
    "state_dict": lambda t: dict(model(t).state_dict()),
    "state_dict with a prefix": lambda t: list(model(t).state_dict(prefix="net.")),
    "state_dict keeps what it is given": lambda t: list(model(t).state_dict(destination={"x": t.ones(1)})),
    "state_dict shares memory": lambda t: (lambda m: (m.state_dict()["head"].zero_(), m.head)[1])(model(t)),
    "named_parameters": lambda t: [name for name, _ in model(t).named_parameters()],
    "named_parameters under every name": lambda t: [
        name for name, _ in model(t).named_parameters(prefix="p", remove_duplicate=False)
    ],
    "named_parameters of itself": lambda t: [name for name, _ in model(t).named_parameters(recurse=False)],
    "named_buffers": lambda t: dict(model(t).named_buffers()),
    "named_modules": lambda t: [name for name, _ in model(t).named_modules()],
    "named_children": lambda t: [name for name, _ in model(t).named_children()],
    "counts": lambda t: [
        len(list(each))
        for each in (model(t).parameters(), model(t).buffers(), model(t).modules(), model(t).children())
    ],
    "attributes": lambda t: (lambda m: [m.head, m.layers[1].size, m.layers[0].bias, len(m.layers)])(model(t)),
    "slices": lambda t: (lambda m: [len(m.layers[1:]), len(m.block[:1]), list(m.named.keys())])(model(t)),
    "parts by path": lambda t: (lambda m: [
        m.get_parameter("layers.1.weight"),
        m.get_buffer("block.first.mean"),
        m.get_submodule("layers.0").size,
    ])(model(t)),
    "a part that is not there": lambda t: model(t).get_submodule("layers.7"),
    "a parameter that is not there": lambda t: model(t).get_parameter("layers.0.nothing"),
    "load_state_dict": lambda t: (
        lambda m, other: [
            list(map(list, m.load_state_dict({k: v + 1 for k, v in other.state_dict().items()}))),
            dict(m.state_dict()),
        ]
    )(model(t), model(t)),
    "load_state_dict casts": lambda t: changed(
        model(t), lambda m: m.load_state_dict({k: v.to(t.float64) + 2 for k, v in m.state_dict().items()})
    ).layers[0].weight,
    "load_state_dict not strict": lambda t: list(
        map(list, model(t).load_state_dict({"head": t.zeros(2, 2), "other": t.ones(1)}, strict=False))
    ),
    "load_state_dict missing": lambda t: model(t).load_state_dict({"head": t.zeros(2, 2)}),
    "load_state_dict another shape": lambda t: model(t).load_state_dict({"head": t.zeros(3)}, strict=False),
    "load_state_dict assign": lambda t: changed(
        model(t),
        lambda m: m.load_state_dict({"head": t.zeros(2, 2, dtype=t.half)}, strict=False, assign=True),
    ).state_dict()["head"],
    "dtypes": lambda t: [
        {name: str(each.dtype) for name, each in model(t).half().state_dict().items()},
        {name: str(each.dtype) for name, each in model(t).to(t.bfloat16).state_dict().items()},
        str(changed(model(t), lambda m: m.double()).head.dtype),
    ],
    "requires_grad_": lambda t: [p.requires_grad for p in model(t).requires_grad_(False).parameters()],
    "train and eval": lambda t: [
        [m.training for m in model(t).eval().modules()],
        [m.training for m in model(t).train().modules()],
    ],
    "data": lambda t: (lambda p: (setattr(p, "data", t.zeros(3)), p.shape, p.requires_grad, p)[1:])(
        t.nn.Parameter(t.ones(2))
    ),
    "deleted": lambda t: list(changed(model(t), lambda m: delattr(m, "head")).state_dict()),
    "replaced": lambda t: list(changed(model(t), lambda m: setattr(m, "head", None)).state_dict()),
    "a parameter made of a tensor": lambda t: setattr(model(t), "head", t.ones(2)),
    "a name with a dot": lambda t: model(t).register_buffer("a.b", t.ones(1)),
    "a name that is taken": lambda t: model(t).register_buffer("layers", t.ones(1)),
    "a name before init": lambda t: setattr(t.nn.Module.__new__(t.nn.Module), "w", t.nn.Parameter(t.ones(1))),
    "forward": lambda t: t.nn.Module()(1),
    "apply": lambda t: (lambda seen: (model(t).apply(lambda m: seen.append(type(m).__name__)), seen)[1])([]),
}  # fmt: skip


def coo(t: Any, **how: Any) -> Any:
    return t.sparse_coo_tensor(
        t.tensor([[0, 1, 1, 0], [2, 0, 0, 2]]), t.tensor([1.5, 2, 3, -1]), (2, 3), **how
    )


SPARSE = {
    "to_dense": lambda t: [
        coo(t).to_dense(),
        coo(t, dtype=t.float64).to_dense(),
        t.sparse_coo_tensor([[0, 2]], [[1, 2], [3, 4]], (3, 2)).to_dense(),
        t.sparse_coo_tensor([[0, 2], [1, 1]], [1, 2]).to_dense(),
        t.sparse_coo_tensor(t.zeros(1, 0, dtype=t.int64), t.zeros(0), (4,)).to_dense(),
    ],
    "coalesce": lambda t: [
        coo(t).coalesce().indices().contiguous(),
        coo(t).coalesce().values(),
        coo(t).is_coalesced(),
        coo(t).coalesce().is_coalesced(),
    ],
    "questions": lambda t: [
        coo(t).shape,
        coo(t)._nnz(),
        coo(t).is_sparse,
        str(coo(t).layout),
        str(coo(t).dtype),
        coo(t).sparse_dim(),
        coo(t).dense_dim(),
        isinstance(coo(t), t.Tensor),
        coo(t)._indices(),
        coo(t)._values(),
    ],
    "csr and csc": lambda t: [
        t.sparse_csr_tensor([0, 2, 2, 3], [0, 2, 1], [1.0, 2, 3], (3, 3)).to_dense(),
        t.sparse_csc_tensor([0, 2, 2, 3], [0, 2, 1], [1.0, 2, 3], (3, 3)).to_dense(),
        t.sparse_csr_tensor([0, 1, 3], [2, 0, 1], [1, 2, 3]).to_dense(),
        t.sparse_csr_tensor([0, 1, 3], [2, 0, 1], [1, 2, 3]).crow_indices(),
        t.sparse_csr_tensor([0, 1, 3], [2, 0, 1], [1, 2, 3]).col_indices(),
    ],
    "to_sparse": lambda t: [
        grid(t).to_sparse().indices(),
        grid(t).to_sparse().to_dense(),
        grid(t).to_dense(),
    ],
    "indices not coalesced": lambda t: coo(t).indices(),
    "outside": lambda t: t.sparse_coo_tensor([[0, 5]], [1, 2], (3,), check_invariants=True),
    "negative": lambda t: t.sparse_coo_tensor([[0, -1]], [1, 2], (3,), check_invariants=True),
    "counts that differ": lambda t: t.sparse_coo_tensor([[0, 1]], [1, 2, 3], (3,)),
    "strides": lambda t: coo(t).stride(),
}

COMPLEX = {
    "complex": lambda t: [
        t.complex(t.ones(2), t.zeros(2)),
        t.complex(t.arange(3.0, dtype=t.float64), -t.arange(3.0, dtype=t.float64)),
        t.complex(t.ones(2, 1), t.arange(3.0)),
        t.complex(t.tensor(1.0), t.tensor(2.0)),
    ],
    "complex of two dtypes": lambda t: t.complex(t.ones(2), t.zeros(2, dtype=t.float64)),
    "complex of integers": lambda t: t.complex(t.ones(2, dtype=t.int64), t.ones(2, dtype=t.int64)),
    "complex shapes": lambda t: t.complex(t.ones(2), t.ones(3)),
}

CLOSE = {
    "equal": lambda t: t.testing.assert_close(grid(t), grid(t)),
    "near": lambda t: t.testing.assert_close(t.ones(2), t.ones(2) * (1 + 1e-6)),
    "far": lambda t: t.testing.assert_close(t.ones(2), t.ones(2) * (1 + 1e-4)),
    "near in bfloat16": lambda t: t.testing.assert_close(
        t.ones(2, dtype=t.bfloat16), t.ones(2, dtype=t.bfloat16) * 1.01
    ),
    "integers": lambda t: t.testing.assert_close(t.tensor([1, 2]), t.tensor([1, 3])),
    "tolerances": lambda t: t.testing.assert_close(t.ones(2), t.ones(2) * 2, rtol=1, atol=0),
    "one tolerance": lambda t: t.testing.assert_close(t.ones(2), t.ones(2), rtol=1),
    "dtypes differ": lambda t: t.testing.assert_close(t.ones(2), t.ones(2, dtype=t.half)),
    "dtypes may differ": lambda t: t.testing.assert_close(
        t.ones(2), t.ones(2, dtype=t.half), check_dtype=False
    ),
    "shapes differ": lambda t: t.testing.assert_close(t.ones(2), t.ones(1)),
    "strides differ": lambda t: t.testing.assert_close(t.ones(2, 3), t.ones(3, 2).t(), check_stride=True),
    "NaN": lambda t: t.testing.assert_close(t.tensor([float("nan")]), t.tensor([float("nan")])),
    "equal NaN": lambda t: t.testing.assert_close(
        t.tensor([float("nan")]), t.tensor([float("nan")]), equal_nan=True
    ),
    "infinities": lambda t: t.testing.assert_close(t.tensor([float("inf")]), t.tensor([float("inf")])),
    "numbers": lambda t: [t.testing.assert_close(1.0, 1.0 + 1e-9), t.testing.assert_close(True, True)],
    "numbers that differ": lambda t: t.testing.assert_close(1.0, 1.1),
    "lists": lambda t: t.testing.assert_close([t.ones(1), 2], [t.ones(1), 2]),
    "lists of two lengths": lambda t: t.testing.assert_close([t.ones(1)], [t.ones(1), 2]),
    "mappings": lambda t: t.testing.assert_close({"a": t.ones(1)}, {"a": t.ones(1)}),
    "mappings with other keys": lambda t: t.testing.assert_close({"a": t.ones(1)}, {"b": t.ones(1)}),
    "a text": lambda t: t.testing.assert_close("a", "a"),
    "None": lambda t: t.testing.assert_close(None, None),
    "None and a tensor": lambda t: t.testing.assert_close(None, t.ones(1)),
}

ROWS: list[Row] = [
    *rows("modules", MODULES),
    *rows("sparse", SPARSE),
    *rows("complex", COMPLEX),
    *rows("assert_close", CLOSE),
]

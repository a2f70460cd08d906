"""Masks without axes, rolling, and promotion between every pair of dtypes."""

from __future__ import annotations

from typing import Any

from tests.shim.table import Row, each, rows
from tests.shim.values import grid

ZERO_DIM: dict[str, Any] = {
    "bool": lambda t: t.tensor(True),
    "bool unset": lambda t: t.tensor(False),
    "uint8": lambda t: t.tensor(1, dtype=t.uint8),
    "uint8 unset": lambda t: t.tensor(0, dtype=t.uint8),
    "uint8 of 2": lambda t: t.tensor(2, dtype=t.uint8),
    "int8": lambda t: t.tensor(1, dtype=t.int8),
    "uint16": lambda t: t.tensor(1, dtype=t.uint16),
    "float": lambda t: t.tensor(1.0),
    "numpy bool": lambda t: _numpy(True, "bool"),
    "numpy uint8": lambda t: _numpy(1, "uint8"),
    "numpy uint8 number": lambda t: _numpy(1, "uint8")[()],
}

AMONG_OTHERS: dict[str, Any] = {
    "alone in a tuple": lambda t, i: (i,),
    "before a number": lambda t, i: (i, 1),
    "after a number": lambda t, i: (1, i),
    "after a slice": lambda t, i: (slice(None), i),
    "twice": lambda t, i: (i, i),
    "with its opposite": lambda t, i: (i, t.tensor(False)),
    "before indices": lambda t, i: (i, t.tensor([0, 1])),
    "after indices": lambda t, i: (t.tensor([0, 1]), i),
    "apart from indices": lambda t, i: (t.tensor([0, 1]), slice(None), i),
    "before a mask": lambda t, i: (i, t.tensor([True, False, True])),
    "before True": lambda t, i: (i, True),
    "after None": lambda t, i: (None, i),
    "after ...": lambda t, i: (..., i),
    "before ...": lambda t, i: (i, ...),
    "between a number and indices": lambda t, i: (0, i, t.tensor([0])),
}

ROLLS: dict[str, Any] = {
    "of a 0-d tensor": lambda t, x: t.roll(t.tensor(5.0), 1),
    "of a 0-d tensor along 0": lambda t, x: t.roll(t.tensor(5.0), 1, 0),
    "of a 0-d tensor by two": lambda t, x: t.roll(t.tensor(5.0), (1, 2)),
    "along one axis twice": lambda t, x: x.roll((1, 1), (0, 0)),
    "along one axis twice, from both ends": lambda t, x: x.roll((1, 3), (1, -1)),
    "along two axes": lambda t, x: x.roll((1, -1), (0, 1)),
    "more shifts than axes": lambda t, x: x.roll((1, 2), (1,)),
    "shifts without axes": lambda t, x: x.roll((1, 2)),
    "no shifts": lambda t, x: x.roll(()),
    "of a transpose": lambda t, x: x.t().roll(5),
    "of nothing": lambda t, x: x[:0].roll(1, 0),
    "of nothing along no axis": lambda t, x: x[:0].roll(1, 9),
    "along no axis": lambda t, x: x.roll(1, 9),
}

NAMES = """
    float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint64 uint32 uint16
    uint8 bool complex64 complex128
""".split()  # noqa: SIM905


def _numpy(value: Any, dtype: str) -> Any:
    import numpy as np

    return np.array(value, dtype)


def _got_and_set(t: Any, index: Any) -> Any:
    """What an index picks, and what setting it leaves."""
    target = grid(t)
    target[index] = 9.0
    return [grid(t)[index], target]


def _types_with(t: Any, name: str) -> dict[str, str]:
    """`result_type` of this dtype with every other, for tensors with and without axes, and with numbers."""
    made: dict[str, str] = {}
    for axes in (0, 1):
        one = _zeros(t, name, axes)
        for number in (True, 1, 1.0, 1j):
            made[f"{axes}-d and {number}"] = _result_type(t, one, number)
        for other in NAMES:
            for other_axes in (0, 1):
                found = _result_type(t, one, _zeros(t, other, other_axes))
                made[f"{axes}-d and {other} {other_axes}-d"] = found
    return made


def _zeros(t: Any, name: str, axes: int) -> Any:
    return t.zeros([2] * axes).to(getattr(t, name))


def _result_type(t: Any, one: Any, other: Any) -> str:
    """complex32, which the shim has not, is refused by it."""
    try:
        found = str(t.result_type(one, other))
    except (RuntimeError, NotImplementedError) as error:
        return "not offered" if isinstance(error, NotImplementedError) else "refused"
    return "not offered" if found == "torch.complex32" else found


ROWS: list[Row] = [
    *rows(
        "0-d index", {kind: lambda t, make=make: _got_and_set(t, make(t)) for kind, make in ZERO_DIM.items()}
    ),
    *rows(
        "0-d mask",
        {
            f"{kind} {where}": lambda t, make=make, among=among: _got_and_set(t, among(t, make(t)))
            for kind, make in list(ZERO_DIM.items())[:4]
            for where, among in AMONG_OTHERS.items()
        },
    ),
    *rows("0-d mask of a 0-d tensor", {"set": lambda t: t.tensor(5.0)[t.tensor(True)]}),
    *rows("roll", {what: lambda t, call=call: call(t, grid(t)) for what, call in ROLLS.items()}),
    *each("result_type", NAMES, _types_with),
]

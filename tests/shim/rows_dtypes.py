"""Dtypes, promotion, casts."""

from __future__ import annotations

from typing import Any

from tests.shim.table import Row, each, rows
from tests.shim.values import COMMON, FLOAT8, FLOATS, HALVES, INTS, SPECIAL, STORED, WIDE_UNSIGNED, mixed


def _pair(t: Any, names: str) -> str:
    first, second = names.split(" + ")
    return str(t.promote_types(getattr(t, first), getattr(t, second)))


PAIRS = [
    f"{a} + {b}"
    for a in ["float32", "float16", "bfloat16", "int64", "int8", "uint8", "bool", "complex64"]
    for b in COMMON
]
ODD_PAIRS = [
    f"{a} + {b}"
    for a in ["uint16", "float8_e4m3fn"]
    for b in ["uint16", "float32", "int32", "float8_e4m3fn", "float8_e5m2", "complex64"]
]


def _cast(t: Any, names: str) -> Any:
    first, second = names.split(" to ")
    source = t.tensor([0.0, 1.0, 2.0, 3.5, 100.0, 17.0]).to(getattr(t, first))
    return source.to(getattr(t, second))


CASTS = [
    f"{a} to {b}" for a in ["float32", "bfloat16", "int64", "uint8", "bool", "float8_e5m2"] for b in STORED
]


def _edges(t: Any, name: str) -> Any:
    return t.tensor(SPECIAL + HALVES, dtype=t.float64).to(getattr(t, name))


def _edges32(t: Any, name: str) -> Any:
    return t.tensor(SPECIAL + HALVES).to(getattr(t, name))


def _flags(t: Any, name: str) -> Any:
    d = getattr(t, name)
    return [str(d), repr(d), d.itemsize, d.is_floating_point, d.is_complex, d.is_signed]


def _finfo(t: Any, name: str) -> Any:
    info = t.finfo(getattr(t, name))
    return [info.bits, info.eps, info.max, info.min, info.tiny, info.smallest_normal, info.dtype]


def _iinfo(t: Any, name: str) -> Any:
    info = t.iinfo(getattr(t, name))
    return [info.bits, info.max, info.min, info.dtype]


def _default_float64(t: Any) -> Any:
    t.set_default_dtype(t.float64)
    made = [t.tensor(1.5), t.zeros(2), t.tensor([1, 2]) / 2, str(t.get_default_dtype())]
    t.set_default_dtype(t.float32)
    return made


ROWS: list[Row] = [
    *each("promote", PAIRS + ODD_PAIRS, _pair),
    *each("cast", CASTS, _cast),
    *each("cast from float64 edges", [*FLOATS, *FLOAT8], _edges),
    *each("cast from float32 edges", [*FLOATS, *FLOAT8, "bool"], _edges32),
    *each("cast of fractions", [*INTS, "bool"], lambda t, n: mixed(t).to(getattr(t, n))),
    *each(
        "cast of large integers",
        ["float32", "float16", "bfloat16"],
        lambda t, n: t.tensor([2**24 + 1, 2**53 + 1, 2049, 65519, 65521, 2**40 + 2**31 + 1]).to(
            getattr(t, n)
        ),
    ),
    *each("dtype", [*STORED, "half", "float", "double", "long", "int", "short", "cfloat"], _flags),
    *each("finfo", [*FLOATS, "float8_e4m3fn", "float8_e5m2", "complex64"], _finfo),
    *each("iinfo", [*INTS, *WIDE_UNSIGNED], _iinfo),
    *each(
        "short form",
        ["half", "float", "double", "bfloat16", "long", "int", "short", "char", "byte", "bool", "cfloat"],
        lambda t, n: getattr(t.tensor([0, 1, 2]), n)(),
    ),
    *each("type name", COMMON, lambda t, n: t.zeros(1).to(getattr(t, n)).type()),
    *rows(
        "dtypes",
        {
            "default float64": _default_float64,
            "default must be floating": lambda t: t.set_default_dtype(t.int64),
            "finfo of an integer": lambda t: t.finfo(t.int8),
            "iinfo of a float": lambda t: t.iinfo(t.half),
            "finfo without a type": lambda t: t.finfo().eps,
            "identity of aliases": lambda t: [
                t.half is t.float16,
                t.float == t.float32,
                t.long is t.int64,
                t.float16 == t.bfloat16,
            ],
            "to_real": lambda t: str(t.complex64.to_real()),
            "as a key": lambda t: {t.float16: 1}[t.half],
            "to keeps the object": lambda t: (
                lambda x: [
                    x.to(t.float32) is x,
                    x.to("cpu") is x,
                    x.to(t.float32, copy=True) is x,
                    x.float() is x,
                    x.cpu() is x,
                ]
            )(t.ones(2)),
            "to device and dtype": lambda t: t.ones(2).to("cpu", t.half),
            "to device object": lambda t: t.ones(2).to(t.device("cpu")),
            "to by keyword": lambda t: t.ones(2).to(device="cpu", dtype=t.int8),
            "to other": lambda t: t.ones(2).to(t.ones(1, dtype=t.float64)),
            "to with flags": lambda t: t.ones(2).to(t.half, False, True),
            "to nonsense": lambda t: t.ones(2).to("nonsense"),
            "type_as": lambda t: t.ones(2).type_as(t.ones(1, dtype=t.int16)),
            "type of a dtype": lambda t: t.ones(2).type(t.int16),
            "type of a name": lambda t: t.ones(2).type("torch.HalfTensor"),
            "type of a wrong name": lambda t: t.ones(2).type("torch.Nonsense"),
            "can_cast": lambda t: [
                t.can_cast(t.float32, t.int64),
                t.can_cast(t.int64, t.float16),
                t.can_cast(t.int8, t.uint8),
                t.can_cast(t.float64, t.float16),
                t.can_cast(t.uint8, t.int8),
            ],
            "result_type with a number": lambda t: str(t.result_type(t.ones(2, dtype=t.half), 1.5)),
            "result_type with a 0-d tensor": lambda t: str(
                t.result_type(t.ones(2, dtype=t.half), t.tensor(1.5))
            ),
            "result_type int with a float": lambda t: str(t.result_type(t.tensor([1]), 2.5)),
            "result_type int with a complex": lambda t: str(t.result_type(t.tensor([1]), 2j)),
            "result_type double with a complex": lambda t: str(t.result_type(t.ones(2, dtype=t.float64), 2j)),
            "result_type 0-d int and 1-d bool": lambda t: str(t.result_type(t.tensor([True]), t.tensor(3))),
            "result_type two shapes": lambda t: str(t.result_type(t.ones(2), t.ones((), dtype=t.complex128))),
            "is_tensor": lambda t: [
                t.is_tensor(t.ones(1)),
                t.is_tensor([1]),
                isinstance(t.ones(1), t.Tensor),
            ],
            "is_floating_point": lambda t: [
                t.is_floating_point(t.ones(1)),
                t.is_floating_point(t.tensor(1)),
                t.ones(1).is_complex(),
            ],
        },
    ),
]

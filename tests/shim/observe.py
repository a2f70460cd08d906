"""What a call did, as plain data that can be stored: dtype, shape, strides, bits; or the error it raised."""

from __future__ import annotations

import builtins
import math
import warnings
from typing import Any

from tests.shim.table import Row

ULPS = {"torch.float64": 2**-50, "torch.float32": 2**-21, "torch.float16": 2**-10, "torch.bfloat16": 2**-7}
"""How far apart sums, products of matrices and functions such as exp may be, relatively."""


def observe(torch: Any, row: Row) -> Any:
    """Runs the row on a torch module. Equal calls give equal data, NaN payloads aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float32)
        try:
            result = row.call(torch)
        except Exception as error:
            return {
                "raises": next(
                    kind.__name__ for kind in type(error).__mro__ if hasattr(builtins, kind.__name__)
                )
            }
        return plain(torch, result)


def plain(torch: Any, result: Any) -> Any:
    """A result as JSON has it."""
    if isinstance(result, torch.Tensor):
        values = result.detach().contiguous()
        return {
            "tensor": str(result.dtype),
            "shape": list(result.shape),
            "strides": list(result.stride()) if result.numel() else None,
            "values": [number(value) for value in values.reshape(-1).tolist()],
        }
    if isinstance(result, (tuple, list)) and type(result).__name__ != "Size":
        return [plain(torch, each) for each in result]
    if isinstance(result, dict):
        return {str(key): plain(torch, each) for key, each in result.items()}
    if isinstance(result, (bool, int, str)) or result is None:
        return result
    if isinstance(result, (float, complex)):
        return number(result)
    return repr(result)


def number(value: complex) -> Any:
    """A number that survives JSON: the exact hexadecimal form of floats, one form for every NaN."""
    if isinstance(value, complex):
        return [number(value.real), number(value.imag)]
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value.hex()
    return value


def agree(row: Row, found: Any, expected: Any) -> bool:
    """Whether the shim did what torch did.

    An error agrees when whoever catches torch's catches the shim's. Rows marked `close` may differ in the
    last places.
    """
    if isinstance(expected, dict) and "raises" in expected:
        if not (isinstance(found, dict) and "raises" in found):
            return False
        return issubclass(getattr(builtins, found["raises"]), getattr(builtins, expected["raises"]))
    if isinstance(expected, dict) and "tensor" in expected and isinstance(found, dict):
        same = all(found.get(key) == expected[key] for key in ("tensor", "shape"))
        same = same and (row.strides is False or found.get("strides") == expected["strides"])
        if not same or not row.close or expected["tensor"] not in ULPS:
            return same and found["values"] == expected["values"]
        tolerance = ULPS[expected["tensor"]]
        return all(map(lambda a, b: near(a, b, tolerance), found["values"], expected["values"]))
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(lambda a, b: agree(row, a, b), found, expected))
    return found == expected and type(found) is type(expected)


def near(found: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(expected, list):
        return all(map(lambda a, b: near(a, b, tolerance), found, expected))
    if found == expected or not isinstance(expected, str) or "nan" in (found, expected):
        return bool(found == expected)
    a, b = float.fromhex(found), float.fromhex(expected)
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)

"""`torch.testing.assert_close`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wconv.torch import dtypes
from wconv.torch.promotion import promote_types
from wconv.torch.reductions import exact
from wconv.torch.tensor import Tensor

TOLERANCES = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "complex64": (1.3e-6, 1e-5),
    "complex128": (1e-7, 1e-7),
}
"""rtol and atol by dtype; other dtypes are compared exactly."""


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Compares tensors, numbers, and sequences and mappings of them.

    Raises:
        AssertionError: they are not close.
        ValueError: one of `rtol` and `atol` is given without the other.
        TypeError: values of these kinds cannot be compared.
    """
    if (rtol is None) != (atol is None):
        raise ValueError("rtol and atol must both be specified or both be unspecified")
    compare = _Comparison(rtol, atol, equal_nan, check_dtype, check_stride, allow_subclasses)
    try:
        compare(actual, expected, "")
    except AssertionError as error:
        text = str(error)
        raise AssertionError(msg(text) if callable(msg) else text if msg is None else msg) from None


class _Comparison:
    """The settings of one call."""

    def __init__(
        self,
        rtol: float | None,
        atol: float | None,
        equal_nan: bool,
        check_dtype: bool,
        check_stride: bool,
        allow_subclasses: bool,
    ) -> None:
        self.rtol, self.atol, self.equal_nan = rtol, atol, equal_nan
        self.check_dtype, self.check_stride = check_dtype, check_stride
        self.allow_subclasses = allow_subclasses

    def __call__(self, actual: Any, expected: Any, where: str) -> None:
        for kind, inner in ((Mapping, self._mappings), (Sequence, self._sequences)):
            if (
                isinstance(actual, kind)
                and isinstance(expected, kind)
                and not isinstance(actual, (str, bytes))
            ):
                return inner(actual, expected, where)
        if not self.allow_subclasses and type(actual) is not type(expected):
            raise TypeError(f"{type(actual)} and {type(expected)} differ and allow_subclasses is False")
        numbers = (bool, int, float, complex)
        if actual is None or expected is None:
            if actual is not expected:
                raise AssertionError(f"None mismatch: {actual} is not {expected}{where}")
            return None
        if isinstance(actual, numbers) and isinstance(expected, numbers):
            return self._tensors(_of_number(actual), _of_number(expected), where, number=True)
        if not (_is_array(actual) and _is_array(expected)):
            raise TypeError(
                f"No comparison pair was able to handle inputs of type {type(actual)} and"
                f" {type(expected)}.{where}"
            )
        return self._tensors(_tensor(actual), _tensor(expected), where)

    def _mappings(self, actual: Any, expected: Any, where: str) -> None:
        if actual.keys() != expected.keys():
            one = sorted(map(str, actual.keys() - expected.keys()))
            other = sorted(map(str, expected.keys() - actual.keys()))
            raise AssertionError(
                f"The keys of the mappings do not match:\nMissing keys in the actual mapping: {other}\n"
                f"Missing keys in the expected mapping: {one}{where}"
            )
        for key in actual:
            self(actual[key], expected[key], f"{where}\n\nThe failure occurred for item [{key!r}]")

    def _sequences(self, actual: Any, expected: Any, where: str) -> None:
        if len(actual) != len(expected):
            raise AssertionError(
                f"The length of the sequences mismatch: {len(actual)} != {len(expected)}{where}"
            )
        for at in range(len(actual)):
            self(actual[at], expected[at], f"{where}\n\nThe failure occurred for item [{at}]")

    def _tensors(self, actual: Tensor, expected: Tensor, where: str, number: bool = False) -> None:
        if actual.shape != expected.shape:
            raise AssertionError(
                f"The values for attribute 'shape' do not match: {actual.shape} != {expected.shape}.{where}"
            )
        if self.check_dtype and actual.dtype is not expected.dtype and not number:
            raise AssertionError(
                f"The values for attribute 'dtype' do not match: {actual.dtype} != {expected.dtype}.{where}"
            )
        if self.check_stride and actual.stride() != expected.stride():
            raise AssertionError(
                f"The values for attribute 'stride()' do not match: {actual.stride()} !="
                f" {expected.stride()}.{where}"
            )
        rtol, atol = self._tolerances(actual.dtype, expected.dtype)
        common = promote_types(actual.dtype, expected.dtype)
        first, second = exact(actual.to(common)._array), exact(expected.to(common)._array)
        close = np.isclose(first, second, rtol=rtol, atol=atol, equal_nan=self.equal_nan)
        if close.all():
            return
        far = int((~close).sum())
        if number or not actual.ndim:
            raise AssertionError(
                f"Scalars are not close!\n\nExpected {expected.item()} but got {actual.item()}.{where}"
            )
        with np.errstate(all="ignore"):
            apart = np.where(close, 0, np.abs(first.astype(complex) - second.astype(complex)))
        worst = np.unravel_index(int(np.argmax(apart)), apart.shape)
        raise AssertionError(
            f"Tensor-likes are not {'equal' if rtol == atol == 0 else 'close'}!\n\n"
            f"Mismatched elements: {far} / {close.size} ({far / close.size:.1%})\n"
            f"Greatest absolute difference: {float(apart[worst])} at index {tuple(map(int, worst))}"
            f" (up to {atol} allowed, rtol {rtol}){where}"
        )

    def _tolerances(self, *given: dtypes.dtype) -> tuple[float, float]:
        if self.rtol is not None and self.atol is not None:
            return self.rtol, self.atol
        each = [TOLERANCES.get(kind.name, (0.0, 0.0)) for kind in given]
        return max(rtol for rtol, _ in each), max(atol for _, atol in each)


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray, np.generic, bool, int, float, complex))


def _tensor(value: Any) -> Tensor:
    from wconv.torch.creation import as_tensor

    return as_tensor(value)


def _of_number(value: complex) -> Tensor:
    from wconv.torch.creation import tensor

    kinds = {bool: dtypes.bool_, int: dtypes.int64, float: dtypes.float64}
    return tensor(value, dtype=kinds.get(type(value), dtypes.by_name("complex128")))

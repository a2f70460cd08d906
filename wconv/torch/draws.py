"""Random tensors with torch's own numbers: `manual_seed(0); randn(3)` is what torch gives on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import box_muller, dtypes
from wconv.torch.convert import convert
from wconv.torch.creation import Device, empty, empty_like
from wconv.torch.dtypes import FLOAT8, dtype
from wconv.torch.generator import Generator, default_generator, initial_seed, manual_seed, seed
from wconv.torch.size import lengths, whole
from wconv.torch.strides import memory_order
from wconv.torch.tensor import Tensor


def normal_(self: Tensor, mean: float = 0, std: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fills with normally distributed numbers."""
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    _require_floating(self, "normal_kernel_cpu")
    source, count = generator or default_generator, self.numel()
    if count >= 16 and self.is_contiguous():
        narrow, double = self.dtype.itemsize < 4, self.dtype.itemsize == 8
        return _put(self, box_muller.filled(source, count, double, float(mean), float(std), narrow))
    return _put(self, box_muller.one_by_one(source, count, float(mean), float(std)))


def uniform_(self: Tensor, from_: float = 0, to: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Fills with numbers from `from_` on and below `to`."""
    if from_ > to:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={from_} > to={to}")
    _require_floating(self, "uniform_kernel_cpu")
    source, count = generator or default_generator, self.numel()
    if self.dtype.itemsize == 8:
        first, width = np.float64(from_), np.float64(to) - np.float64(from_)
        unit = source.unit64(count)
        if (from_, to) != (0, 1):
            unit = np.array([box_muller.fma64(each, float(width), float(first)) for each in unit.tolist()])
        return _put(self, _below(unit, self.dtype, from_, to))
    low, high = np.float32(from_), np.float32(to)
    return _put(self, _below(box_muller.fma(source.unit32(count), high - low, low), self.dtype, from_, to))


def _below(values: Array, to: dtype, first: float, end: float) -> Array:
    """In the dtype `to`; what a rounding has made equal to the end becomes the start."""
    made = convert(values, to)
    low, high = (convert(np.asarray(bound, np.float64), to) for bound in (first, end))
    made[made == high] = low
    return made


def random_(self: Tensor, *bounds: int, generator: Generator | None = None) -> Tensor:
    """Fills with whole numbers: `random_(from, to)`, `random_(to)`.

    Raises:
        NotImplementedError: no bound is given.
    """
    if not bounds:
        raise NotImplementedError("random_() without bounds is not offered by wconv.torch: give it an end")
    low, high = bounds if len(bounds) == 2 else (0, bounds[0])
    return _integers(self, whole(low), whole(high), generator)


def _integers(self: Tensor, low: int, high: int, generator: Generator | None) -> Tensor:
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    _require_range(self.dtype, low, high)
    width, source = high - low, generator or default_generator
    draws = source.draw64(self.numel()) if width >= 1 << 28 else source.draw32(self.numel())
    remainder = draws.astype(np.uint64) % np.uint64(width)
    return _put(self, remainder.astype(np.int64) + np.int64(low))


def _require_range(to: dtype, low: int, high: int) -> None:
    """Raises: RuntimeError: a dtype of integers cannot hold what would be drawn."""
    if to.is_complex or to.name in FLOAT8:
        raise NotImplementedError(f'"random_from_to_kernel_cpu" not implemented for {to}')
    if to.row.kind == "int":
        limits = dtypes.iinfo(to)
        for name, value in (("from", low), ("to - 1", high - 1)):
            if not limits.min <= value <= limits.max:
                raise RuntimeError(f"{name} is out of bounds for {to}")


def _require_floating(tensor: Tensor, name: str) -> None:
    if not tensor.is_floating_point() or tensor.dtype.name in FLOAT8:
        raise NotImplementedError(f'"{name}" not implemented for {tensor.dtype}')


def _put(self: Tensor, values: Array) -> Tensor:
    """Writes numbers in the order of a tensor's memory."""
    array = self._array
    order = memory_order(array.shape, array.strides)
    by_memory = array.transpose(order)
    by_memory[...] = convert(values, self.dtype).reshape(by_memory.shape)
    return self


Maker = Callable[..., Tensor]


def _makers(name: str, fill: Callable[..., Tensor]) -> tuple[Maker, Maker]:
    """`rand` and `rand_like` out of the function that fills."""

    def function(*size: Any, generator: Generator | None = None, **how: Any) -> Tensor:
        made = empty(*size, **how)
        fill(made, generator=generator)
        return made

    def like(input: Tensor, *, generator: Generator | None = None, **how: Any) -> Tensor:
        made = empty_like(input, **how)
        fill(made, generator=generator)
        return made

    for made, called in ((function, name), (like, f"{name}_like")):
        made.__name__ = made.__qualname__ = called
        made.__doc__ = f"torch.{called}."
    return function, like


rand, rand_like = _makers("rand", uniform_)
randn, randn_like = _makers("randn", normal_)


def randint(
    *given: Any, generator: Generator | None = None, dtype: dtype | None = None, **how: Any
) -> Tensor:
    """Whole numbers: `randint(high, size)` or `randint(low, high, size)`, below `high`."""
    names = (
        ("low", "high", "size")
        if len(given) + len(how.keys() & {"low", "high", "size"}) == 3
        else ("high", "size")
    )
    named = dict(zip(names, given, strict=False)) | how
    if "high" not in named or "size" not in named or len(given) > len(names):
        raise TypeError(f"randint() needs high and size, got {given!r:.60}")
    low, high = whole(named.pop("low", 0)), whole(named.pop("high"))
    made = empty(lengths((named.pop("size"),)), dtype=dtype or dtypes.int64, **named)
    return _integers(made, low, high, generator)


def randint_like(input: Tensor, *bounds: int, generator: Generator | None = None, **how: Any) -> Tensor:
    """`randint_like(input, high)` or `randint_like(input, low, high)`."""
    given = dict(zip(("low", "high") if len(bounds) == 2 else ("high",), bounds, strict=True))
    given |= {name: how.pop(name) for name in ("low", "high") if name in how}
    made = empty_like(input, **how)
    return _integers(made, whole(given.get("low", 0)), whole(given["high"]), generator)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: dtype | None = None, device: Device = None
) -> Tensor:
    """The numbers from 0 to n - 1, shuffled."""
    order = list(range(n))
    draws = (generator or default_generator).draw32(max(n - 1, 0)).tolist()
    for at, draw in enumerate(draws):
        other = at + draw % (n - at)
        order[at], order[other] = order[other], order[at]
    made = empty(n, dtype=dtype or dtypes.int64, device=device)
    made._array[...] = convert(np.array(order, np.int64), made.dtype)
    return made


def normal_tensor(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, **how: Any
) -> Tensor:
    """`torch.normal(mean, std, size)`.

    Raises:
        NotImplementedError: a mean or deviation for each element.
    """
    if isinstance(mean, Tensor) or isinstance(std, Tensor) or size is None:
        raise NotImplementedError(
            "normal() with tensors is not offered by wconv.torch: give numbers and a size"
        )
    return normal_(empty(lengths((size,)), **how), mean, std, generator=generator)


METHODS = (normal_, uniform_, random_)
FUNCTIONS = (
    rand,
    rand_like,
    randn,
    randn_like,
    randint,
    randint_like,
    randperm,
    manual_seed,
    seed,
    initial_seed,
)
FUNCTION_ALIASES = {"normal": normal_tensor, "Generator": Generator, "default_generator": default_generator}

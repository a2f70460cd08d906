"""One dtype to another, buffer to buffer, counting what overflows.

Every value equals torch's (2.13) bit for bit; NaN stays NaN, its payload is not promised, and torch's own is
not one. Where `astype` is both right and fast it is used; `kernels` has the pairs for which it is slow, and
`compiled` those of a library that is faster still where it is installed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wconv.errors import WconvError
from wconv.tensors import compiled, dtypes
from wconv.tensors.kernels import BLOCK, KERNELS, Kernel, Scratch, flushes_subnormals, not_finite

Array = NDArray[Any]

SMALL = 1 << 11
"""Elements below which the overhead of a kernel's many calls exceeds its gain."""

RUN = 8
"""Neighbours cast again together when one of them is irregular: their flags are looked at as one integer."""

IRREGULAR = 4
"""When more than one run in so many is irregular, the whole block goes through `astype`."""


class Overflow(NamedTuple):
    """Finite values that the new dtype cannot hold: how many, and the largest magnitude among them.

    They became infinite; NaN in a dtype without infinities (float8_e4m3fnuz, float8_e5m2fnuz,
    float8_e8m0fnu); the largest finite value in float8_e4m3fn, as torch has it. Of complex values each
    component counts.
    """

    count: int = 0  # type: ignore[assignment]
    largest: float = 0.0

    def plus(self, other: Overflow) -> Overflow:
        """Those of two parts of a tensor together."""
        return Overflow(self.count + other.count, max(self.largest, other.largest))


NONE = Overflow()

Step = Callable[[Array, Array, Scratch], Overflow]


class _Local(threading.local):
    """Of each thread: the scratch for casts that bring none, and what its casts lost since it was asked."""

    def __init__(self) -> None:
        self.scratch = Scratch()
        self.lost = NONE


_local = _Local()


def take_losses() -> Overflow:
    """What all casts of this thread lost since the last call, wherever in a lazy graph they stand.

    A tally of work, not of results: what was cast but not picked counts too, and what was cast twice counts
    twice. `losses.exactly` tells what a tensor's own elements lost.
    """
    lost = _local.lost
    _local.lost = NONE
    return lost


def scratch() -> Scratch:
    """The calling thread's own buffers for kernels; what they hold lasts until its next cast."""
    return _local.scratch


def add_loss(lost: Overflow) -> None:
    """Counts what was lost in another way than by a cast, for `take_losses`."""
    _local.lost = _local.lost.plus(lost)


def losses() -> Overflow:
    """What `take_losses` would tell, left for it."""
    return _local.lost


def cast(source: Array, out: Array, scratch: Scratch | None = None) -> Overflow:
    """Writes `source` into `out` in `out`'s dtype, rounded to nearest even as torch does.

    Args:
        source: 1-D, contiguous, of native byte order.
        out: likewise and of the same length; it may not overlap `source`.
        scratch: buffers to work in, not shared with another thread; the calling thread's own by default.

    Returns:
        What was lost, which `take_losses` tells too: no caller needs to pass it on.

    Raises:
        WconvError: the cast would lose more than precision (complex to real), or the target is a dtype
            of fewer than 8 bits, which nothing computes in.
    """
    lost = _cast(source, out, scratch or _local.scratch)
    if lost.count:
        _local.lost = _local.lost.plus(lost)
    return lost


def _cast(source: Array, out: Array, scratch: Scratch) -> Overflow:
    step = _route(source.dtype, out.dtype)
    with np.errstate(all="ignore"):
        if source.size <= BLOCK:
            return step(source, out, scratch)
        total = NONE
        for at in range(0, source.size, BLOCK):
            total = total.plus(step(source[at : at + BLOCK], out[at : at + BLOCK], scratch))
        return total


def holding(largest: float) -> str | None:
    """The narrowest dtype of MLX, float16 aside, in which a magnitude is finite; None where there is none."""
    with np.errstate(over="ignore"):
        single = np.float32(largest)  # on the way to a narrow dtype, as in a cast
    if single < _BFLOAT16_ROUNDS_UP:
        return "bfloat16"
    return "float32" if np.isfinite(single) else None


def count_not_finite(values: Array) -> int:
    """How many values are infinite or NaN; integers never are."""
    if values.dtype.kind in "iub":
        return 0
    if infinity := _INFINITIES.get(values.dtype):
        odd = not_finite(values, infinity)
        return 0 if odd is None else int(np.count_nonzero(odd))
    return values.size - int(np.count_nonzero(np.isfinite(values)))


@functools.cache
def _route(source: np.dtype[Any], out: np.dtype[Any]) -> Step:
    """How to get from one dtype to another."""
    own = own_step(source, out)
    pair = dtypes.from_numpy(source).name, dtypes.from_numpy(out).name
    return functools.partial(_compiled, pair, own) if pair in compiled.LIMITS else own


@functools.cache
def own_step(source: np.dtype[Any], out: np.dtype[Any]) -> Step:
    """How to get from one dtype to another with numpy alone."""
    old, new = dtypes.from_numpy(source), dtypes.from_numpy(out)
    if old is new:
        return _copy
    if new.bits < 8:
        raise WconvError(f"{new.name} can be read but not written: cast to another dtype")
    if old.kind == "complex" and new.kind != "complex":
        raise WconvError(f"a cast from {old.name} to {new.name} would lose the imaginary parts")
    if new.kind == "complex":
        component = np.dtype(f"f{out.itemsize // 2}")
        if old.kind == "complex":
            return functools.partial(_by_component, np.dtype(f"f{source.itemsize // 2}"), component)
        return _plain if source == component else functools.partial(_through, component)
    if not new.is_floating:
        return _plain
    wide = old.bits > 32 or (old.bits == 32 and old.kind == "int")
    if (wide and new.bits < 32) or (new.bits == 8 and old.name != "float32"):
        # torch makes its narrow floats out of float32, which rounds a wide value twice
        return functools.partial(_through, np.dtype(np.float32))
    if old.name == "float8_e5m2" and new.name != "float16":
        return functools.partial(_through, np.dtype(np.float16))
    if new.bits == 8:
        return functools.partial(_encoded, _ENCODERS.get(new.name, _encode))
    if kernel := KERNELS.get((old.name, new.name)):
        return functools.partial(_by_kernel, kernel)
    return _counted if _range(old) > _range(new) else _plain


def _range(dtype: dtypes.DType) -> float:
    """The largest magnitude a real dtype holds."""
    if dtype.kind == "bool":
        return 1.0
    if dtype.kind == "int":
        return float(np.iinfo(dtype.numpy).max)
    if dtype.module == "numpy":
        return float(np.finfo(dtype.numpy).max)
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).max)  # type: ignore[no-untyped-call]


def _copy(source: Array, out: Array, scratch: Scratch) -> Overflow:
    np.copyto(out.view(np.uint8), source.view(np.uint8))
    return NONE


def _plain(source: Array, out: Array, scratch: Scratch) -> Overflow:
    np.copyto(out, source, casting="unsafe")
    return NONE


def _counted(source: Array, out: Array, scratch: Scratch | None = None) -> Overflow:
    np.copyto(out, source, casting="unsafe")
    infinity = _INFINITIES.get(out.dtype)
    infinite = not_finite(out, infinity) if infinity else ~np.isfinite(out)
    if infinite is None or not infinite.any():
        return NONE
    return _overflow(source, infinite & np.isfinite(source))


def _overflow(source: Array, lost: NDArray[np.bool_]) -> Overflow:
    values = source[lost].astype(np.float64)
    return Overflow(values.size, float(np.abs(values).max(initial=0.0)))


def _by_kernel(kernel: Kernel, source: Array, out: Array, scratch: Scratch) -> Overflow:
    if source.size < SMALL:
        return _counted(source, out)
    odd = kernel(source, out, scratch)
    if odd is None:
        return NONE
    whole = source.size // RUN * RUN
    at = np.flatnonzero(odd[:whole].view(np.uint64) != 0)
    if at.size * RUN * IRREGULAR > source.size:
        return _by_table(source, out) if source.itemsize == 1 else _counted(source, out)
    overflow = _counted(source[whole:], out[whole:])
    if at.size:
        picked = source[:whole].reshape(-1, RUN).take(at, axis=0).reshape(-1)
        redone = np.empty(picked.size, out.dtype)
        overflow = overflow.plus(_counted(picked, redone))
        run = np.dtype((np.void, RUN * out.itemsize))
        out[:whole].view(run)[at] = redone.view(run)
    return overflow


def _by_table(source: Array, out: Array) -> Overflow:
    """Of 8 bits into more: a value for each pattern, in an eighth of the time of `astype`."""
    table = _table(source.dtype, out.dtype)
    np.take(table, source.view(np.uint8), out=out.view(table.dtype), mode="clip")
    return NONE


@functools.cache
def _table(source: np.dtype[Any], out: np.dtype[Any]) -> Array:
    """What each pattern of 8 bits becomes, as a pattern; none of a source in `KERNELS` overflows."""
    return np.arange(256, dtype=np.uint8).view(source).astype(out).view(f"u{out.itemsize}")


def _compiled(pair: tuple[str, str], own: Step, source: Array, out: Array, scratch: Scratch) -> Overflow:
    """By the library where there is one, if the block has nothing that it might take otherwise."""
    if source.size >= compiled.FEWEST and not flushes_subnormals():
        cast = _trusted(pair, own)
        # looked at while it is in the cache: it was just read
        if cast is not None and compiled.holds(source, compiled.LIMITS[pair]):
            cast(source, out)
            return NONE
    return own(source, out, scratch)


@functools.cache
def _trusted(pair: tuple[str, str], own: Step) -> compiled.Compiled | None:
    return compiled.trusted(*pair, lambda values, out: own(values, out, scratch()))


def _through(middle: np.dtype[Any], source: Array, out: Array, scratch: Scratch) -> Overflow:
    values = np.empty(source.size, middle)
    before = _route(source.dtype, middle)(source, values, scratch)
    return before.plus(_route(middle, out.dtype)(values, out, scratch))


def _by_component(
    old: np.dtype[Any], new: np.dtype[Any], source: Array, out: Array, scratch: Scratch
) -> Overflow:
    return _cast(source.view(old), out.view(new), scratch)


def _encoded(
    encode: Callable[[Array, Array], NDArray[np.bool_]], source: Array, out: Array, scratch: Scratch
) -> Overflow:
    lost = encode(source, out)
    return _overflow(source, lost) if lost.any() else NONE


def _encode(source: Array, out: Array) -> NDArray[np.bool_]:
    """float32 to a dtype of 8 bits; returns which finite values were lost."""
    np.copyto(out, source, casting="unsafe")
    lost: NDArray[np.bool_] = np.isfinite(source) & ~np.isfinite(out)
    return lost


def _encode_e4m3(source: Array, out: Array) -> NDArray[np.bool_]:
    """float8_e4m3fn has no infinity, and torch saturates: 464 is the last value that rounds down to 448."""
    np.copyto(out, np.clip(source, -448, 448), casting="unsafe")
    return np.isfinite(source) & (np.abs(source) > 464)


def _encode_e8m0(source: Array, out: Array) -> NDArray[np.bool_]:
    """float8_e8m0fnu keeps the exponent of the magnitude; half a binade rounds up, except from zero's."""
    bits = source.view(np.uint32) & np.uint32(0x7FFFFFFF)
    bits -= bits == 1 << 22
    bits += np.uint32(1 << 22)
    bits >>= np.uint32(23)
    np.copyto(out.view(np.uint8), np.minimum(bits, 255), casting="unsafe")
    lost: NDArray[np.bool_] = np.isfinite(source) & (out.view(np.uint8) == 255)
    return lost


_ENCODERS = {"float8_e4m3fn": _encode_e4m3, "float8_e8m0fnu": _encode_e8m0}

_BFLOAT16_ROUNDS_UP = (2 - 2**-8) * 2.0**127
"""The least magnitude that rounds to infinity: half a step beyond the largest value."""

_INFINITIES = {np.dtype(np.float16): 0x7C00, dtypes.by_name("bfloat16").numpy: 0x7F80}

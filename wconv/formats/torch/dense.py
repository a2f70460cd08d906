"""Dense tensors over storages: in place where they are contiguous, gathered by range where they are not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.formats.sources import FileSource
from wconv.formats.torch.objects import TorchTensor, UnavailableError
from wconv.tensors import dtypes, operations
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, FileTensor, LazyTensor, PackedFileTensor, Shape
from wconv.tensors.nodes import UnaryNode

SPAN = 1 << 20
"""Elements of a storage that a gather reads at once, where a view does not need all of them."""

RAW = {"bits8": "uint8", "bits16": "uint16", "bits1x8": "uint8", "bits2x4": "uint8", "bits4x2": "uint8"}
"""What the dtypes that are mere bits are read as."""

QUANTIZED = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}


def lazy(tensor: TorchTensor) -> LazyTensor:
    """The tensor's values. Raises `UnavailableError` where no dtype can hold them."""
    if type(tensor.dtype) is DType and tensor.dtype.bits >= 8:
        return strided(tensor, tensor.dtype)
    name = str(tensor.dtype)
    if name in RAW:
        return strided(tensor, dtypes.by_name(RAW[name]))
    if name in QUANTIZED:
        return dequantized(tensor, strided(tensor, dtypes.by_name(QUANTIZED[name])))
    if name in ("quint4x2", "quint2x4"):
        return dequantized(tensor, _sub_byte(tensor, 4 if name == "quint4x2" else 2))
    if name == "complex32":
        return _complex32(tensor)
    if name == "float4_e2m1fn_x2":
        return _pairs(tensor)
    raise UnavailableError(f"its dtype {name} has no place in the output")


def strided(tensor: TorchTensor, dtype: DType) -> LazyTensor:
    """A view of a storage read as `dtype`."""
    storage = tensor.storage
    shape, stride = tensor.shape, tensor.stride
    if not (tensor.conj or tensor.neg) and contiguous(shape, stride):
        if 0 in shape:
            return Strided(FileTensor("", 0, dtype, (0,)), 0, shape, stride)
        source = storage.source
        if type(source) is FileSource:
            start = source.start + storage.start + tensor.offset * dtype.itemsize
            return FileTensor(source.path, start, dtype, shape, storage.swap)
    flat = storage.as_tensor(dtype)
    return gathered(flat, tensor.offset, shape, stride, tensor.conj and dtype.kind == "complex", tensor.neg)


def contiguous(shape: Shape, stride: Shape) -> bool:
    """Whether the elements lie one after another in C order."""
    expected = 1
    for length, step in zip(reversed(shape), reversed(stride), strict=True):
        if length != 1:
            if step != expected:
                return 0 in shape
            expected *= length
    return True


def gathered(
    flat: LazyTensor, offset: int, shape: Shape, stride: Shape, conj: bool = False, neg: bool = False
) -> LazyTensor:
    """A view of a 1-D tensor; with its axes in the storage's order, so that neighbours are read together."""
    axes = [axis for axis in range(len(shape)) if shape[axis] > 1 and stride[axis] > 0]
    order = list(range(len(shape)))
    for axis, by_stride in zip(axes, sorted(axes, key=lambda axis: -stride[axis]), strict=True):
        order[axis] = by_stride
    inner = Strided(
        flat,
        offset,
        tuple(shape[axis] for axis in order),
        tuple(stride[axis] for axis in order),
        conj,
        neg,
    )
    if order == sorted(order):
        return inner
    return operations.transpose(inner, [order.index(axis) for axis in range(len(shape))])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Strided(LazyTensor):
    """Elements of a 1-D tensor at regular distances.

    Attributes:
        flat: the storage.
        offset: of the first element, in elements.
        shape, stride: the view, checked to lie within `flat`.
        conj, neg: the values are conjugated, negated.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("flat",)

    flat: LazyTensor
    offset: int
    shape: Shape
    stride: Shape
    conj: bool = False
    neg: bool = False

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.flat.dtype

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self._gather(0, self.offset, start, stop, out)
        if self.conj:
            np.conjugate(out, out=out)
        if self.neg:
            np.negative(out, out=out)

    def _gather(self, axis: int, origin: int, start: int, stop: int, out: Array) -> None:
        """Flattened elements `start` to `stop` of the axes from `axis` on, whose first one is at `origin`."""
        shape, stride = self.shape[axis:], self.stride[axis:]
        if not shape:
            self.flat.read_into(origin, origin + 1, out)
            return
        row = math.prod(shape[1:])
        first, last = start // row, -(-stop // row)
        span = 1 + sum((n - 1) * step for n, step in zip((last - first, *shape[1:]), stride, strict=True))
        count = (last - first) * row
        if span == count and contiguous((last - first, *shape[1:]), stride):
            begin = origin + first * stride[0] + start - first * row
            self.flat.read_into(begin, begin + stop - start, out)
            return
        if span <= SPAN and (span <= 8 * count or span * self.dtype.itemsize <= 4096) and count <= 2 * SPAN:
            begin = origin + first * stride[0]
            line = self.flat.read_range(begin, begin + span)
            size = line.itemsize
            picked = np.lib.stride_tricks.as_strided(
                line, (last - first, *shape[1:]), [step * size for step in stride], writeable=False
            )
            if count == stop - start:
                np.copyto(out.reshape(picked.shape), picked)
            else:
                out[:] = picked.reshape(-1)[start - first * row : stop - first * row]
            return
        if len(shape) == 1:
            self._gather_line(origin, stride[0], start, stop, out)
            return
        for index in range(first, last):
            begin, end = max(start, index * row), min(stop, (index + 1) * row)
            part = out[begin - start : end - start]
            self._gather(axis + 1, origin + index * stride[0], begin - index * row, end - index * row, part)

    def _gather_line(self, origin: int, step: int, start: int, stop: int, out: Array) -> None:
        """One axis: in windows where its elements are close, one by one where they are far apart."""
        if step <= 1 and step == 1:
            self.flat.read_into(origin + start, origin + stop, out)
            return
        if step == 0:
            out[:] = self.flat.read_range(origin, origin + 1)[0]
            return
        if step * self.dtype.itemsize >= 4096:
            for index in range(start, stop):
                at = origin + index * step
                self.flat.read_into(at, at + 1, out[index - start : index - start + 1])
            return
        lines = max(SPAN // step, 1)
        for begin in range(start, stop, lines):
            end = min(begin + lines, stop)
            window = self.flat.read_range(origin + begin * step, origin + (end - 1) * step + 1)
            out[begin - start : end - start] = window[::step]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DequantizedTorchTensor(UnaryNode):
    """Quantized integers as float32: `(q - zero point) * scale`, per tensor or along an axis."""

    scale: Array
    zero: Array
    axis: int

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return dtypes.by_name("float32")

    def read_into(self, start: int, stop: int, out: Array) -> None:
        q = self.parent.read_range(start, stop)
        scale, zero = self.scale, self.zero
        if scale.size > 1:
            inner = math.prod(self.shape[self.axis + 1 :])
            channel = (np.arange(start, stop) // inner) % self.shape[self.axis]
            scale, zero = scale[channel], zero[channel]
        if zero.dtype.kind == "f":
            # float zero points: value = q * scale + zero, as torch's embedding kernels have it
            out[:] = q.astype(np.float32) * scale + zero
        else:
            out[:] = (q.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32)


def dequantized(tensor: TorchTensor, integers: LazyTensor) -> LazyTensor:
    """The float32 values of a quantized tensor."""
    quantizer = tensor.quantizer
    if quantizer is None:
        raise UnavailableError("it is quantized and its scale is missing")
    if len(quantizer) == 2:
        scale, zero = np.array([quantizer[0]], np.float64), np.array([quantizer[1]], np.int64)
        return DequantizedTorchTensor(integers, scale, zero, 0)
    scales, zeros, axis = quantizer
    return DequantizedTorchTensor(integers, lazy(scales).numpy(), lazy(zeros).numpy(), axis)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SubBytes(LazyTensor):
    """Unsigned integers of 2 or 4 bits, the first in the lowest bits of a byte; one byte each in memory."""

    PARENTS: ClassVar[tuple[str, ...]] = ("flat",)

    flat: LazyTensor
    bits: int
    shape: Shape
    dtype: DType

    def read_into(self, start: int, stop: int, out: Array) -> None:
        per = 8 // self.bits
        first = start // per
        raw = self.flat.read_range(first, -(-stop // per)).view(np.uint8)
        lanes = [(raw >> np.uint8(self.bits * lane)) & np.uint8(2**self.bits - 1) for lane in range(per)]
        out.view(np.uint8)[:] = np.stack(lanes, axis=1).reshape(-1)[start - first * per : stop - first * per]


def _sub_byte(tensor: TorchTensor, bits: int) -> LazyTensor:
    uint8 = dtypes.by_name("uint8")
    flat = tensor.storage.as_tensor(uint8)
    values = SubBytes(flat, bits, (flat.size * 8 // bits,), uint8)
    return gathered(values, tensor.offset, tensor.shape, tensor.stride)


def _pairs(tensor: TorchTensor) -> LazyTensor:
    """float4: torch counts bytes of two values each; here the last axis counts values."""
    if not tensor.shape:
        raise UnavailableError("it is a 0-d tensor of float4 pairs")
    float4 = dtypes.by_name("float4_e2m1fn_x2")
    shape = (*tensor.shape[:-1], 2 * tensor.shape[-1])
    raw = strided(without_conj_or_neg(tensor), dtypes.by_name("uint8"))
    if isinstance(raw, FileTensor):
        return PackedFileTensor(raw.path, raw.offset, float4, shape)
    return SubBytes(operations.reshape(raw, (raw.size,)), 4, shape, float4)


def without_conj_or_neg(tensor: TorchTensor) -> TorchTensor:
    """The same view of the bytes, without conj or neg."""
    other = tensor.copy()
    other.conj = other.neg = False
    return other


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ComplexPairs(UnaryNode):
    """complex32 as complex64: pairs of float16, the last axis of the parent."""

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return dtypes.by_name("complex64")

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.parent.shape[:-1]

    def read_into(self, start: int, stop: int, out: Array) -> None:
        out.view(np.float32)[:] = self.parent.read_range(2 * start, 2 * stop)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Signed(UnaryNode):
    """The parent conjugated, negated, or both."""

    conj: bool
    neg: bool

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)
        if self.conj:
            np.conjugate(out, out=out)
        if self.neg:
            np.negative(out, out=out)


def _complex32(tensor: TorchTensor) -> LazyTensor:
    flat = tensor.storage.as_tensor(dtypes.by_name("float16"))
    shape = (*tensor.shape, 2)
    stride = (*(2 * step for step in tensor.stride), 1)
    pairs: LazyTensor = ComplexPairs(gathered(flat, 2 * tensor.offset, shape, stride))
    return Signed(pairs, tensor.conj, tensor.neg) if tensor.conj or tensor.neg else pairs

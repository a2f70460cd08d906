"""One Zarr array, of version 2 or 3: what its metadata say, and its chunks as lazy tensors.

Read are arrays in chunks of equal size, each in C or Fortran order, as they are or packed by Zstandard, and
the chunks within chunks that version 3 calls shards. Other codecs are refused by name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wconv.errors import FormatError, UnsafeError
from wconv.formats import json_text
from wconv.formats.sources import Source
from wconv.formats.zarr import crc32c
from wconv.formats.zarr.zstd import ZstdSource
from wconv.tensors import dtypes, operations
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor, Shape, checked_shape
from wconv.tensors.nodes import ZerosNode
from wconv.tensors.pieces import Piece, joined

METADATA = {2: ".zarray", 3: "zarr.json"}
"""The key of an array's metadata below its name, by Zarr's version."""

METADATA_LIMIT = 1 << 20

INNER_LIMIT = 1_000_000
"""Chunks within one, and chunks that are not stored, at most."""

NOWHERE = 2**64 - 1
"""Offset and length of a chunk that a shard does not hold."""

CODES = {
    "b1": "bool",
    **{
        f"{kind}{size}": f"{name}{8 * size}"
        for kind, name in (("i", "int"), ("u", "uint"))
        for size in (1, 2, 4, 8)
    },
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    **{f"c{size}": f"complex{8 * size}" for size in (8, 16)},
}
"""NumPy's codes of types, which version 2 uses, without the byte order."""

AS_BYTES = {"int4": "int8", "uint4": "uint8"}
"""Types of less than a byte whose elements take one each."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What an array's metadata say.

    Attributes:
        chunks: the shape of a chunk.
        separator: what is between the numbers of a chunk's key.
        prefix: how such a key begins: "c/" in version 3.
        order: the axes in the order in which they lie in a chunk; None where that is the array's.
        swap: bytes are in the other order than this machine's.
        packed: chunks are packed by Zstandard.
        inner: the shape of the chunks within a chunk; None where there are none.
        index_first: a shard's index is at its beginning; else at its end.
        checked: the index has a checksum.
        zeros: what is not stored is zero; else it is missing.
    """

    dtype: DType
    shape: Shape
    chunks: Shape
    separator: str
    prefix: str
    order: tuple[int, ...] | None
    swap: bool
    packed: bool
    inner: Shape | None = None
    index_first: bool = False
    checked: bool = False
    zeros: bool = True

    @property
    def count(self) -> int:
        """How many chunks it has."""
        return math.prod(-(-length // step) for length, step in zip(self.shape, self.chunks, strict=True))


def parse(text: bytes, version: int, where: str) -> Spec:
    """The metadata of an array.

    Raises:
        FormatError: they are damaged, or ask for something that is not read; the message says what.
    """
    found = json_text.read(text, where)
    if not isinstance(found, dict) or found.get("zarr_format") != version:
        raise FormatError(f"{where} holds no metadata of Zarr's version {version}")
    return _version_2(found, where) if version == 2 else _version_3(found, where)


def _version_2(found: Mapping[str, Any], where: str) -> Spec:
    code = found.get("dtype")
    if not isinstance(code, str):
        raise FormatError(f"{where}: wconv reads no arrays of records ({code!r:.60})")
    big = code.startswith(">")
    shape, chunks = _shapes(found.get("shape"), found.get("chunks"), where)
    compressor = found.get("compressor")
    name = compressor.get("id") if isinstance(compressor, dict) else compressor
    if found.get("filters"):
        raise FormatError(f"{where} has filters, which wconv does not read")
    if name not in (None, "zstd"):
        raise _unread(name, where)
    order = tuple(reversed(range(len(shape)))) if found.get("order") == "F" and len(shape) > 1 else None
    separator = found.get("dimension_separator", ".")
    if separator not in (".", "/"):
        raise FormatError(f"{where} is damaged: it separates chunks by {separator!r:.20}")
    bare = code.lstrip("<>|=")
    dtype = _dtype(CODES.get(bare, bare), where)
    zeros = _is_zero(found.get("fill_value"))
    return Spec(dtype, shape, chunks, separator, "", order, big, name == "zstd", zeros=zeros)


def _version_3(found: Mapping[str, Any], where: str) -> Spec:
    grid, keys = found.get("chunk_grid"), found.get("chunk_key_encoding")
    if _name(grid) != "regular" or found.get("node_type") != "array":
        raise FormatError(f"{where} is not of chunks of equal size ({_name(grid)!r:.40})")
    shape, chunks = _shapes(found.get("shape"), _settings(grid).get("chunk_shape"), where)
    encoding = _name(keys)
    separator = _settings(keys).get("separator", "/" if encoding == "default" else ".")
    if encoding not in ("default", "v2") or separator not in (".", "/"):
        raise FormatError(f"{where} names chunks in a way that wconv does not know ({encoding!r:.40})")
    dtype = _dtype(found.get("data_type"), where)
    prefix = f"c{separator}" if encoding == "default" else ""
    zeros = _is_zero(found.get("fill_value"))
    codecs = found.get("codecs")
    if isinstance(codecs, list) and [_name(codec) for codec in codecs] == ["sharding_indexed"]:
        settings = _settings(codecs[0])
        inner = _shape(settings.get("chunk_shape"), where)
        if len(inner) != len(chunks) or 0 in inner or any(a % b for a, b in zip(chunks, inner, strict=True)):
            raise FormatError(
                f"{where} is damaged: chunks of {inner!r:.60} do not fill one of {chunks!r:.60}"
            )
        order, swap, packed, _ = _codecs(settings.get("codecs"), len(shape), where)
        _, other, packed_index, checked = _codecs(settings.get("index_codecs"), len(shape) + 1, where)
        place = settings.get("index_location", "end")
        if other or packed_index or place not in ("start", "end"):
            raise FormatError(f"{where} has an index of chunks in a form that wconv does not read")
        return Spec(
            dtype,
            shape,
            chunks,
            separator,
            prefix,
            order,
            swap,
            packed,
            inner,
            place == "start",
            checked,
            zeros,
        )
    order, swap, packed, _ = _codecs(codecs, len(shape), where)
    return Spec(dtype, shape, chunks, separator, prefix, order, swap, packed, zeros=zeros)


def _codecs(codecs: Any, ndim: int, where: str) -> tuple[tuple[int, ...] | None, bool, bool, bool]:
    """Of a chain of codecs: the order of the axes; whether bytes are swapped, are packed, have a checksum."""
    names = [_name(codec) for codec in codecs] if isinstance(codecs, list) else []
    order, at = None, 0
    if names[:1] == ["transpose"]:
        axes = _settings(codecs[0]).get("order")
        if not isinstance(axes, list) or any(type(axis) is not int for axis in axes):
            raise FormatError(f"{where} is damaged: it has an order of axes that is none")
        if sorted(axes) != list(range(ndim)):
            raise FormatError(f"{where} is damaged: it has an order of axes that is none")
        order, at = tuple(axes), 1
    rest = names[at:]
    if rest[:1] != ["bytes"] or rest[1:] not in ([], ["zstd"], ["crc32c"]):
        unread = next((name for name in rest if name not in ("bytes", "zstd", "crc32c")), None)
        raise _unread(unread or "+".join(map(str, rest)), where)
    swap = _settings(codecs[at]).get("endian", "little") == "big"
    return order if order != tuple(range(ndim)) else None, swap, rest[1:] == ["zstd"], rest[1:] == ["crc32c"]


def _unread(codec: Any, where: str) -> FormatError:
    return FormatError(f"{where} is packed by {codec!r:.40}, which wconv does not read: Orbax's own is zstd")


def _name(codec: Any) -> Any:
    return codec.get("name") if isinstance(codec, dict) else None


def _settings(codec: Any) -> Mapping[str, Any]:
    found = codec.get("configuration") if isinstance(codec, dict) else None
    return found if isinstance(found, dict) else {}


def _dtype(name: Any, where: str) -> DType:
    name = AS_BYTES.get(name, name) if isinstance(name, str) else name
    if isinstance(name, str) and name in _NAMES:
        return dtypes.by_name(name)
    raise FormatError(f"{where}: its dtype {name!r:.40} has no place in the output")


_NAMES = frozenset(dtype.name for dtype in dtypes.TABLE if dtype.bits >= 8)


def _is_zero(value: Any) -> bool:
    return value is None or value is False or (type(value) in (int, float) and value == 0)


def _shape(value: Any, where: str) -> Shape:
    if not isinstance(value, list):
        raise FormatError(f"{where} is damaged: it has no shape")
    return checked_shape(value, where)


def _shapes(shape: Any, chunks: Any, where: str) -> tuple[Shape, Shape]:
    whole, part = _shape(shape, where), _shape(chunks, where)
    if len(whole) != len(part) or 0 in part:
        raise FormatError(f"{where} is damaged: an array of {whole!r:.60} in chunks of {part!r:.60}")
    return whole, part


def tensor(spec: Spec, chunks: Mapping[str, Source], name: str, where: str, *, whole: bool) -> LazyTensor:
    """An array out of its chunks.

    Args:
        chunks: what is stored, by the keys below the array's name.
        whole: all chunks are stored, so that what is not is missing; else it is zero.
        name, where: the tensor and its files, for errors.

    Raises:
        FormatError: a chunk is missing, is none of the array, or damaged.
    """
    pieces: list[Piece] = []
    for key, source in chunks.items():
        begin = _begin(spec, key)
        if begin is None:
            raise FormatError(f"{where}: {key!r:.60} is no chunk of {name:.200}, which is {spec.shape!r:.60}")
        pieces += _pieces(spec, begin, source)
    if not whole and 0 not in spec.shape:
        pieces += _absent(spec, pieces, name, where)
    return joined(pieces, spec.dtype, spec.shape, name, where)


def _absent(spec: Spec, held: Sequence[Piece], name: str, where: str) -> Iterable[Piece]:
    """Zeros for chunks that are not stored."""
    size = spec.inner or spec.chunks
    counts = [-(-length // step) for length, step in zip(spec.shape, size, strict=True)]
    there = {piece.offsets for piece in held}
    if math.prod(counts) == len(there):
        return ()
    if not spec.zeros:
        raise FormatError(
            f"{where}: chunks of {name:.200} are not stored and are not zero, which wconv does not read"
        )
    if not there:
        return (Piece((0,) * len(spec.shape), ZerosNode(spec.shape, spec.dtype)),)
    if math.prod(counts) > INNER_LIMIT:
        raise UnsafeError(f"{where}: {name:.200} lacks most of its {math.prod(counts):,} chunks: refused")
    return (
        Piece(begin, ZerosNode(_valid(spec, begin, size), spec.dtype))
        for begin in _grid((0,) * len(counts), counts, size)
        if begin not in there
    )


def _grid(start: Shape, counts: Sequence[int], size: Shape) -> Iterable[Shape]:
    """Where the boxes of a grid begin."""
    steps = [
        range(begin, begin + count * step, step)
        for begin, count, step in zip(start, counts, size, strict=True)
    ]
    return itertools.product(*steps)


def _begin(spec: Spec, key: str) -> Shape | None:
    """Where a chunk begins in the array; None where its key is none."""
    if not spec.shape:
        return () if key in ("0", "c") else None
    text = key.removeprefix(spec.prefix)
    parts = text.split(spec.separator)
    if not key.startswith(spec.prefix) or len(parts) != len(spec.shape):
        return None
    if any(not part.isascii() or not part.isdigit() or len(part) > 18 for part in parts):
        return None
    begin = tuple(int(part) * step for part, step in zip(parts, spec.chunks, strict=True))
    return begin if all(at < length for at, length in zip(begin, spec.shape, strict=True)) else None


def _valid(spec: Spec, begin: Shape, size: Shape) -> Shape:
    """How much of a chunk lies within the array."""
    return tuple(min(step, length - at) for at, step, length in zip(begin, size, spec.shape, strict=True))


def _pieces(spec: Spec, begin: Shape, source: Source) -> Iterable[Piece]:
    if spec.inner is None:
        return (Piece(begin, _chunk(spec, begin, spec.chunks, source)),)
    return _shard(spec, begin, spec.inner, source)


def _shard(spec: Spec, begin: Shape, inner: Shape, source: Source) -> list[Piece]:
    """The chunks within a chunk."""
    counts = [whole // part for whole, part in zip(spec.chunks, inner, strict=True)]
    count = math.prod(counts)
    if count > INNER_LIMIT:
        raise UnsafeError(f"{source.where} claims {count:,} chunks in one: refused")
    length = 16 * count + 4 * spec.checked
    index = source.read(0 if spec.index_first else source.size - length, length)
    if spec.checked and count < 10_000 and crc32c.crc32c(index[:-4]) != int.from_bytes(index[-4:], "little"):
        raise FormatError(
            f"{source.where} is damaged: the checksum of its chunks is wrong; download it again"
        )
    found: list[Piece] = []
    for number, at in enumerate(_grid(begin, counts, inner)):
        offset = int.from_bytes(index[16 * number : 16 * number + 8], "little")
        size = int.from_bytes(index[16 * number + 8 : 16 * number + 16], "little")
        if any(a >= b for a, b in zip(at, spec.shape, strict=True)) or (offset, size) == (NOWHERE, NOWHERE):
            continue
        if offset + size > source.size:
            raise FormatError(f"{source.where} is damaged: a chunk lies beyond its {source.size:,} bytes")
        found.append(Piece(at, _chunk(spec, at, inner, source.part(offset, size))))
    return found


def _chunk(spec: Spec, begin: Shape, size: Shape, source: Source) -> LazyTensor:
    """The elements of a chunk that lie within the array."""
    count = math.prod(size)
    nbytes = spec.dtype.nbytes(count)
    if spec.packed:
        source = ZstdSource(source, nbytes, source.where)
    elif source.size != nbytes:
        raise FormatError(f"{source.where} is damaged: a chunk of {nbytes:,} bytes has {source.size:,}")
    found = source.tensor(0, spec.dtype, count, spec.swap)
    if spec.order is None:
        found = found.reshape(size)
    else:
        found = operations.transpose(
            found.reshape(tuple(size[axis] for axis in spec.order)),
            tuple(spec.order.index(axis) for axis in range(len(size))),
        )
    for axis, length in enumerate(_valid(spec, begin, size)):
        found = found.slice(axis, 0, length)
    return found

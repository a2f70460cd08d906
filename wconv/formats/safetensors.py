"""safetensors: eight bytes of header length, a JSON header, then the tensors' bytes without gaps.

The checks are those of the format's own validator: offsets within the file, in order, without overlap or
hole; sizes that match dtype and shape; no name twice. Nothing but the header is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from wconv.errors import FormatError
from wconv.formats import json_text
from wconv.formats.contents import Contents
from wconv.stores import files
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import FileTensor, LazyTensor, PackedFileTensor, Shape, is_shape

HEADER_LIMIT = 100_000_000
"""Bytes of header that are read at most: the format's own limit."""


def open_file(path: str) -> Contents:
    """Opens a safetensors file: every tensor in the order of its bytes, and the `__metadata__` strings.

    Raises:
        FormatError: the file is not safetensors, is truncated, or its header contradicts itself.
    """
    file = files.opened(path)
    if file.size < 8:
        raise FormatError(f"{path} is no safetensors file: it has only {file.size} bytes")
    length = int.from_bytes(file.read(0, 8), "little")
    if length > HEADER_LIMIT:
        raise FormatError(f"{path} is no safetensors file: its header would have {length:,} bytes")
    if 8 + length > file.size:
        raise FormatError(f"{path} is truncated: it ends within its header; download it again")
    header = parse_header(bytes(file.read(8, length)), path)
    metadata = header.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{path} has a damaged header: __metadata__ must map strings to strings")
    return Contents("safetensors", tensors(header, path, 8 + length, file.size), metadata)


def parse_header(text: bytes, path: str) -> dict[str, Any]:
    """The header's JSON object, refused when a name stands in it twice."""
    header = json_text.parse(text, f"{path}'s header", constant=_no_number, real=_Fraction)
    if not isinstance(header, dict):
        raise FormatError(f"{path} has a damaged header: it is no JSON object")
    if not _names_once(text, header):
        # a hook takes as long as all else: it is there to find the twin
        json_text.parse(text, f"{path}'s header", pairs=_without_twins)
    if b"true" in text or b"false" in text:
        _check_no_booleans(header, path)
    return header


def _names_once(text: bytes, header: dict[str, Any]) -> bool:
    """Whether `header` has as many names as its text; False too where only a careful look can tell."""
    metadata = header.get("__metadata__")
    names = 4 * len(header) + (len(metadata) - 3 if isinstance(metadata, dict) else 0)
    # without escapes a quote before a colon ends a name, and here no colon stands elsewhere
    return b"\\" not in text and names == text.count(b":") == text.count(b'":')


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twin = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{twin!r} stands in it twice")
    return found


class _Fraction:
    """A number that no field of a header may be; a field that the format does not have may."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no whole number")


def _check_no_booleans(header: dict[str, Any], path: str) -> None:
    """Python takes True for 1; a header does not."""
    for name, entry in header.items():
        fields = [entry.get("shape"), entry.get("data_offsets")] if isinstance(entry, dict) else []
        lists = (value for value in fields if isinstance(value, list))
        if any(isinstance(number, bool) for one in lists for number in one):
            raise FormatError(f"{path} has a damaged header: {name!r:.80} has a boolean for a number")


def tensors(header: dict[str, Any], path: str, base: int, size: int) -> dict[str, LazyTensor]:
    """The tensors of a header that `parse_header` read, by offset.

    Empties `header`, so that its memory serves for them.
    """
    found: list[tuple[int, int, str, DType, Shape]] = []
    known: dict[tuple[str, Shape], tuple[DType, Shape, int | None]] = {}
    while header:
        name, entry = header.popitem()
        try:
            code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            described = known.get((code, tuple(shape)))
            nbytes = end - begin
            in_order = begin >= 0
        except (TypeError, KeyError, ValueError):
            raise FormatError(f"{path} has a damaged header: {name!r:.80} is no tensor") from None
        if not in_order or not isinstance(shape, list):
            raise FormatError(f"{path} has a damaged header: impossible offsets of {name!r:.80}")
        if described is None:
            described = known[code, tuple(shape)] = _described(code, shape, name, path)
        dtype, lengths, wanted = described
        if nbytes != wanted:
            raise FormatError(
                f"{path} has a damaged header: {name!r:.80} is {code} {shape!r:.80},"
                f" which is not {nbytes:,} bytes"
            )
        found.append((begin, end, name, dtype, lengths))
    found.reverse()
    found.sort(key=itemgetter(0, 1))
    _check_cover(found, path, base, size)
    tensors: dict[str, LazyTensor] = {}
    for begin, _, name, dtype, shape in found:
        leaf = FileTensor if dtype.bits >= 8 else PackedFileTensor
        tensors[name] = leaf(path, base + begin, dtype, shape)
    return tensors


def _described(code: Any, shape: list[Any], name: str, path: str) -> tuple[DType, Shape, int | None]:
    """What tensors of a dtype's code and a shape are, and their bytes; None where they end within one."""
    dtype = dtypes.BY_CODE.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise FormatError(f"{path} holds {name:.80} as {code!r:.40}, a dtype that wconv does not know")
    if not is_shape(shape):
        raise FormatError(f"{path}: {name!r:.80} has an impossible shape {shape!r:.80}")
    bits = math.prod(shape) * dtype.bits
    return dtype, tuple(shape), None if bits % 8 else bits // 8


def _check_cover(found: list[tuple[int, int, str, DType, Shape]], path: str, base: int, size: int) -> None:
    """The tensors, sorted by offset, must cover the data from its first byte to its last."""
    at = 0
    for begin, end, name, _, _ in found:
        if begin != at:
            what = "overlaps the tensor before it" if begin < at else "leaves a hole before it"
            raise FormatError(f"{path} has a damaged header: {name!r:.80} {what}")
        at = end
    if base + at > size:
        raise FormatError(f"{path} is truncated: {size:,} bytes of {base + at:,}; download it again")
    if base + at < size:
        raise FormatError(f"{path} has {size - base - at:,} bytes behind its last tensor: it is damaged")


JOINED = 4096
"""Entries of a header that are made into bytes at once: all of them would be in memory three times."""


def make_header(entries: Iterable[tuple[str, DType, Shape]], metadata: Mapping[str, str] | None) -> bytes:
    """The bytes before the first tensor, padded with spaces so that data starts at a multiple of 8.

    Args:
        entries: name, dtype and shape in the order in which the bytes will follow.

    Raises:
        FormatError: a name or a text has no place in a header: nobody could read the file.
    """
    text = bytearray(8)
    text += b"{"
    parts: list[str] = []
    if metadata:
        for pair in metadata.items():
            _check_texts(*pair)
        parts.append('"__metadata__":' + json.dumps(dict(metadata), separators=(",", ":")))
    at = 0
    quote = json.encoder.encode_basestring_ascii
    known: dict[tuple[str, Shape], tuple[str, int]] = {}
    for name, dtype, shape in entries:
        if type(name) is not str or not name.isascii():
            _check_texts(name)
        if name == "__metadata__":
            raise FormatError(f"a safetensors file cannot hold a tensor called {name}: leave it out")
        described = known.get((dtype.code, shape))
        if described is None:
            lengths = ",".join(map(str, shape))
            about = f':{{"dtype":"{dtype.code}","shape":[{lengths}],"data_offsets":['
            described = known[dtype.code, shape] = about, dtype.nbytes(math.prod(shape))
        end = at + described[1]
        parts.append(f"{quote(name)}{described[0]}{at},{end}]}}")
        at = end
        if len(parts) == JOINED:
            text += (",".join(parts) + ",").encode()
            parts.clear()
    text += ",".join(parts).encode()
    if text.endswith(b","):
        del text[-1:]
    text += b"}"
    text += b" " * (-len(text) % 8)
    text[:8] = (len(text) - 8).to_bytes(8, "little")
    return bytes(text)


def _check_texts(*texts: str) -> None:
    """Refuses what JSON would take and other readers would not: numbers, and halves of characters."""
    for text in texts:
        if not isinstance(text, str):
            raise FormatError(f"a safetensors header holds texts, not {text!r:.80}: turn it into one first")
        try:
            text.isascii() or text.encode()
        except UnicodeEncodeError:
            raise FormatError(f"{text!r:.80} is no text (it has half a character): rename it") from None

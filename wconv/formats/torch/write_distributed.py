"""Writes what `torch.distributed.checkpoint` saves of one rank, which torch loads and spreads over others.

A rank's file is a row of what `torch.save` writes, one for each tensor; `.metadata` says where each lies and
that it is whole (torch 2.13, `distributed/checkpoint/filesystem.py`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wconv.formats.torch import write as torch_write
from wconv.formats.torch.pickle.write import Call, Name, PickleWriter
from wconv.formats.zip.write import ALIGNMENT, Arranged
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor, Shape

MODULE = "torch.distributed.checkpoint.metadata"


def arranged(tensors: Iterable[LazyTensor]) -> tuple[Arranged, list[tuple[int, int]]]:
    """A rank's file without its tensors' elements, and where each tensor's archive lies: offset and length.

    Raises:
        OutputError: torch lacks a tensor's dtype.
    """
    offsets, begins, ends, local, central = (array("Q") for _ in range(5))
    known = bytearray()
    places: list[tuple[int, int]] = []
    at = 0
    for tensor in tensors:
        one, _ = torch_write.arranged(tensor, "archive")
        offsets.extend(at + begin for begin in one.offsets)
        begins.extend(at + begin for begin in one.begins)
        ends.extend(len(known) + end for end in one.ends)
        local.extend(at + place for place in one.local)
        central.extend(at + place for place in one.central)
        known += one.known
        places.append((at, one.nbytes))
        at += one.nbytes
        # elements stay aligned in the file, so that it can be mapped
        padding = -at % ALIGNMENT
        if padding:
            begins.append(at)
            known += bytes(padding)
            ends.append(len(known))
            at += padding
    return Arranged(offsets, at, known, begins, ends, local, central), places


@dataclass(frozen=True, slots=True)
class SavedRange:
    """A tensor that lies whole in a range of a file."""

    name: str
    dtype: DType
    shape: Shape
    file: str
    offset: int
    length: int


def metadata(tensors: Sequence[SavedRange]) -> bytes:
    """The bytes of `.metadata`."""

    def size(lengths: Shape) -> Call:
        return Call(Name("torch", "Size"), lengths)

    described, places = {}, {}
    for one in tensors:
        begin = (0,) * len(one.shape)
        chunk = Call(Name(MODULE, "ChunkStorageMetadata"), size(begin), size(one.shape))
        properties = Call(Name(MODULE, "TensorProperties"), one.dtype)
        kind = Name(MODULE, "TensorStorageMetadata")
        described[one.name] = Call(kind, properties, size(one.shape), [chunk])
        index = Call(Name(MODULE, "MetadataIndex"), one.name, size(begin), 0)
        info = Name("torch.distributed.checkpoint.filesystem", "_StorageInfo")
        places[index] = Call(info, one.file, one.offset, one.length)
    paths = {one.name: (one.name,) for one in tensors}
    whole = Call(Name(MODULE, "Metadata"), described, paths, places, None, "1.0.0")
    return PickleWriter(lambda value: Name("torch", value.name) if isinstance(value, DType) else value).dump(
        whole
    )

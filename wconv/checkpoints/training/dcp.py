"""torch.distributed.checkpoint: `.metadata` says which pieces there are, and where in the ranks' files.

`.metadata` is a pickle of `torch.distributed.checkpoint.metadata.Metadata`; where the ranks are not
coordinated, each has its own, `__0.metadata` and so on. A rank's file is a row of what `torch.save` writes,
one for each piece, or with `SerializationFormat.SAFETENSORS` objects and then one safetensors file (torch
2.13, `distributed/checkpoint/filesystem.py`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wconv.checkpoints.training.file_names import METADATA
from wconv.checkpoints.training.saved import RankFiles, SavedPiece, load_range
from wconv.errors import FormatError
from wconv.formats import load_tree, safetensors
from wconv.formats.sources import FileSource
from wconv.formats.torch.objects import Fields, JoinedTensor, LostTensor, Size, shown
from wconv.formats.torch.pickle.reading import Reading
from wconv.formats.torch.pickle.state import Constructor, MachineState
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor, Shape, checked_shape
from wconv.tensors.pieces import Piece, joined

OF_RANK = re.compile(r"__(\d{1,9})\.metadata")
"""What a rank writes that is not coordinated with others."""

EXTRA = "._extra_state"
"""What Transformer Engine keeps beside weights, under their names: settings of its kernels."""

SHARDING = "DCP_SHARDING_INFO"
"""The header string in which a safetensors file says where its pieces belong."""

OBJECTS = 20_000
"""Objects that are no tensors and are read when a checkpoint is opened: parameter groups have many."""

_CLASSES: dict[str, dict[str, tuple[str, ...]]] = {
    "torch.distributed.checkpoint.metadata": {
        "ChunkStorageMetadata": ("offsets", "sizes"),
        "TensorStorageMetadata": ("properties", "size", "chunks"),
        "BytesStorageMetadata": (),
        "TensorProperties": ("dtype", "layout", "requires_grad", "memory_format", "pin_memory"),
        "MetadataIndex": ("fqn", "offset", "index"),
        "StorageMeta": ("checkpoint_id", "save_id", "load_id", "modules"),
        "Metadata": ("state_dict_metadata", "planner_data", "storage_data", "storage_meta", "version"),
    },
    "torch.distributed.checkpoint.filesystem": {
        "_StorageInfo": ("relative_path", "offset", "length", "transform_descriptors")
    },
}


def _constructor(module: str, name: str, fields: Sequence[str]) -> Constructor:
    def call(machine: MachineState, args: Sequence[Any]) -> Fields:
        machine.charge(100)
        made = Fields(name)
        if args:
            made.values = dict(zip(fields, args, strict=False))
        return made

    return Constructor(f"{module}.{name}", call)


NAMES = {
    (module, name): _constructor(module, name, fields)
    for module, classes in _CLASSES.items()
    for name, fields in classes.items()
}
"""The classes of torch's that `.metadata` is made of, as mere fields."""


def find(directory: Path, names: Sequence[str]) -> list[str]:
    """What describes a checkpoint among a directory's files: one file, or one for each rank, in order."""
    if METADATA in names:
        return [METADATA]
    ranks = {int(match[1]): name for name in names if (match := OF_RANK.fullmatch(name))}
    return [ranks[rank] for rank in sorted(ranks)]


def read(directory: Path, described: Sequence[str]) -> tuple[dict[Any, Any], RankFiles]:
    """The object that was saved, as far as it is tensors and small objects, and the files it lies in.

    Args:
        described: what `find` found.

    Raises:
        FormatError: a file is missing or damaged, or a tensor has a hole.
        UnsafeError: a file asks for something that no weights need.
    """
    files = RankFiles(directory, described[0])
    root: dict[Any, Any] = {}
    ranks = [_Metadata(directory / name) for name in described]
    if len(ranks) > 1:
        for rank in range(len(ranks)):
            files.listed = described[rank]
            if described[rank] != f"__{rank}{METADATA}":
                raise FormatError(
                    f"{directory / f'__{rank}{METADATA}'} is missing: copy the files of all ranks"
                )
    for name, leaf, path in _leaves(ranks, files):
        _put(root, path, leaf, f"{directory / described[0]}: {name:.100}")
    for name in described:
        files.path(name)
    return listed(root), files


class _Metadata:
    """One metadata file, checked as far as its kinds go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = load_tree(str(path), Reading(names=NAMES))
        self.tensors = self._dict(found, "state_dict_metadata")
        paths = found.field("planner_data")
        self.paths: Mapping[Any, Any] = paths if isinstance(paths, dict) else {}
        self.places: dict[str, dict[str, Fields]] = {}
        for index, info in self._dict(found, "storage_data").items():
            name = index.field("fqn") if type(index) is Fields else None
            if type(name) is not str or type(info) is not Fields:
                raise self.damaged("its storage data are none")
            offset = index.field("offset")
            self.places.setdefault(name, {})[_text(offset)] = info

    def _dict(self, found: Any, name: str) -> dict[Any, Any]:
        value = found.field(name) if type(found) is Fields and found.kind == "Metadata" else None
        if isinstance(value, dict):
            return value
        raise FormatError(f"{self.path} is no metadata of torch.distributed.checkpoint")

    def damaged(self, why: str) -> FormatError:
        return FormatError(f"{self.path} is damaged: {why}")


def _text(offset: Any) -> str:
    """An offset as a key that nobody can make collide."""
    if offset is None:
        return ""
    return str(tuple(offset)) if type(offset) is Size and all(type(at) is int for at in offset) else "?"


def _leaves(ranks: Sequence[_Metadata], files: RankFiles) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Every tensor and object: its name, itself, and the keys under which it was saved."""
    pieces: dict[str, list[Piece]] = {}
    described: dict[str, tuple[DType | str, Shape]] = {}
    paths: dict[str, tuple[Any, ...]] = {}
    headers: dict[tuple[str, int], dict[str, LazyTensor]] = {}
    objects, extra = 0, set[str]()
    for rank in ranks:
        files.listed = rank.path.name
        for name, kind in rank.tensors.items():
            if type(name) is not str or type(kind) is not Fields:
                raise rank.damaged("its state dict is none")
            first = name not in paths
            paths.setdefault(name, _path(rank, name))
            places = rank.places.get(name, {})
            if kind.kind == "BytesStorageMetadata":
                if EXTRA in name:
                    extra.add(name)
                elif first:
                    objects += 1
                    yield name, _object(rank, files, name, places, objects), paths[name]
                continue
            dtype, shape, chunks = _tensor(rank, name, kind)
            if described.setdefault(name, (dtype, shape)) != (dtype, shape):
                raise rank.damaged(f"{name:.100} is another tensor than in {ranks[0].path.name}")
            if not isinstance(dtype, DType):
                if first:
                    yield name, LostTensor(f"its dtype {dtype:.40} has no place in the output"), paths[name]
                continue
            if len(chunks) > len(places):
                raise rank.damaged(
                    f"{name:.100} should have {len(chunks):,} pieces, and it says where {len(places):,} are"
                )
            held = pieces.setdefault(name, [])
            for chunk in chunks:
                held.append(_piece(rank, files, name, chunk, places, dtype, headers))
    if extra:
        files.notes.append(f"left out {len(extra):,} objects called {EXTRA[1:]}, which hold no weights")
    for name, held in pieces.items():
        dtype, shape = described[name]
        assert isinstance(dtype, DType)
        yield name, JoinedTensor(joined(held, dtype, shape, name, str(files.directory))), paths[name]


def _path(rank: _Metadata, name: str) -> tuple[Any, ...]:
    """The keys and positions that a name was made of: it alone does not tell, for keys have dots."""
    path = rank.paths.get(name)
    if type(path) is not tuple or not 0 < len(path) <= 100:
        return (name,)
    if any(type(key) not in (str, int) for key in path) or type(path[0]) is not str:
        return (name,)
    return path


def _tensor(rank: _Metadata, name: str, kind: Fields) -> tuple[DType | str, Shape, list[Any]]:
    properties, size, chunks = kind.field("properties"), kind.field("size"), kind.field("chunks")
    values = properties.values if type(properties) is Fields else None
    dtype = values[0] if type(values) is tuple and values else None
    if type(values) is dict:
        dtype = values.get("dtype")
    if type(size) is not Size or type(chunks) is not list:
        raise rank.damaged(f"{name:.100} is not described")
    shape = checked_shape(size, f"{rank.path}: {name:.100}")
    return dtype if type(dtype) is DType else shown(dtype), shape, chunks


def _piece(
    rank: _Metadata,
    files: RankFiles,
    name: str,
    chunk: Any,
    places: Mapping[str, Fields],
    dtype: DType,
    headers: dict[tuple[str, int], dict[str, LazyTensor]],
) -> Piece:
    offsets = chunk.field("offsets") if type(chunk) is Fields else None
    sizes = chunk.field("sizes") if type(chunk) is Fields else None
    if type(offsets) is not Size or type(sizes) is not Size:
        raise rank.damaged(f"a piece of {name:.100} is not described")
    info = places.get(_text(offsets))
    if info is None:
        raise rank.damaged(f"it does not say where the piece of {name:.100} at {tuple(offsets)!r:.60} lies")
    shape = checked_shape(sizes, f"{rank.path}: a piece of {name:.100}")
    begin = tuple(offsets)
    if any(type(at) is not int for at in begin):
        raise rank.damaged(f"a piece of {name:.100} begins nowhere")
    path, offset, length = _range(files, name, info)
    nbytes = dtype.nbytes(math.prod(shape))
    if length < nbytes:
        raise rank.damaged(f"a piece of {name:.100} has {nbytes:,} bytes and should lie in {length:,}")
    if length == nbytes and nbytes:
        # torch.save's own is longer
        key = str(info.field("relative_path")), offset
        header = headers.get(key)
        if header is None:
            header = headers[key] = _header(path, offset)
        tensor = header.get(f"{name}@{_text(offsets)}")
        if tensor is None or tensor.dtype is not dtype or tensor.shape != shape:
            raise FormatError(f"{path}: the piece of {name:.100} at {begin!r:.60} is not in it, or another")
        return Piece(begin, tensor)
    return Piece(begin, SavedPiece(path, offset, length, dtype, shape, name))


def _range(files: RankFiles, name: str, info: Fields) -> tuple[str, int, int]:
    """Where a piece lies: file, offset and length. Raises `FormatError`."""
    relative, offset, length = info.field("relative_path"), info.field("offset"), info.field("length")
    path = files.path(relative)
    files.check_range(relative, offset, length, name)
    transforms = info.field("transform_descriptors")
    if transforms:
        raise FormatError(
            f"{path}: {name:.100} was saved through {shown(transforms)}, which wconv cannot undo"
        )
    return path, offset, length


def _header(path: str, offset: int) -> dict[str, LazyTensor]:
    """The tensors of the safetensors file that begins at an offset, by name and where they belong."""
    source = FileSource(path)
    length = int.from_bytes(source.read(offset, 8), "little")
    if length > safetensors.HEADER_LIMIT:
        raise FormatError(f"{path} holds no safetensors at byte {offset:,}")
    header = safetensors.parse_header(source.read(offset + 8, length), path)
    saved = saved_offsets(header.pop("__metadata__", None), path)
    found = safetensors.tensors(header, path, offset + 8 + length, source.size)
    return {f"{name}@{tuple(saved.get(name, [0] * tensor.ndim))}": tensor for name, tensor in found.items()}


def saved_offsets(metadata: Any, path: str) -> dict[str, list[int]]:
    """Where the tensors of a safetensors file begin in those that they are pieces of.

    Raises:
        FormatError: the file says something else than offsets.
    """
    text = metadata.get(SHARDING) if isinstance(metadata, dict) else None
    if text is None:
        return {}
    try:
        found = json.loads(text)
        offsets = {name: entry["saved_offsets"] for name, entry in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise FormatError(f"{path} has a damaged header: {SHARDING} is none") from None
    for name, begin in offsets.items():
        if not isinstance(begin, list) or any(type(at) is not int or not 0 <= at < 2**60 for at in begin):
            raise FormatError(f"{path} has a damaged header: {name!r:.80} begins nowhere")
    return offsets


def _object(rank: _Metadata, files: RankFiles, name: str, places: Mapping[str, Fields], count: int) -> Any:
    """An object that is no tensor."""
    info = next(iter(places.values()), None)
    if info is None:
        raise rank.damaged(f"it does not say where {name:.100} lies")
    path, offset, length = _range(files, name, info)
    return load_range(path, offset, length) if count <= OBJECTS else f"an object of {length:,} bytes"


def _put(root: dict[Any, Any], path: tuple[Any, ...], leaf: Any, where: str) -> None:
    """Places a leaf where it was in the object that was saved; lists are dicts of their positions yet."""
    place: Any = root
    for key in path[:-1]:
        place = place.setdefault(key, {})
        if type(place) is not dict:
            raise FormatError(f"{where} lies within another value")
    if path[-1] in place:
        raise FormatError(f"{where} stands in it twice")
    place[path[-1]] = leaf


def listed(value: Any) -> Any:
    """The same with lists again for dicts of positions: keys of dicts are texts. Changes dicts in place."""
    if type(value) is not dict:
        return value
    for key in value:
        value[key] = listed(value[key])
    if value and all(type(key) is int for key in value):
        return [value[key] for key in sorted(value)]
    return value

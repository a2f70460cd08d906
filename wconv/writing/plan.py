"""A plan fixes every byte of the output before any moves: which tensor, in which shard, at which offset."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from wconv.errors import WconvError
from wconv.formats import safetensors
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import FileTensor, LazyTensor, Shape
from wconv.tensors.multi import may_hold_outputs, output_of
from wconv.tensors.nodes import CastNode
from wconv.wording import fitted, plural

if TYPE_CHECKING:
    from wconv.formats.zip.write import Arranged

MAX_SHARD_SIZE = 5 * 10**9
"""Bytes of tensors in one shard: where transformers cuts, and below what mlx-lm and mlx-vlm cut at."""

_UNITS = {
    "": 1,
    "B": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
}


LONGEST_SIZE = 40
"""Characters of a size at most."""


@dataclass(slots=True)
class Entry:
    """One tensor of the output: what it is called, where its elements come from, how they are stored.

    Nobody changes one; it is not frozen because a plan makes tens of thousands, which takes thrice as long.
    """

    name: str
    tensor: LazyTensor
    dtype: DType
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.nbytes = self.dtype.nbytes(math.prod(self.tensor.shape))

    def __repr__(self) -> str:
        return fitted(f"<Entry {self.name}: {self.dtype.name} {self.shape}>")

    @property
    def shape(self) -> Shape:
        return self.tensor.shape

    @property
    def uncast(self) -> LazyTensor:
        """The tensor before a last cast to the entry's dtype, so that the writer casts and counts."""
        tensor = self.tensor
        # most are; to ask an abstract class takes longer than all else
        if type(tensor) is FileTensor:
            return tensor
        if isinstance(tensor, CastNode) and tensor.dtype is self.dtype:
            return tensor.parent
        return tensor


@dataclass(frozen=True, slots=True)
class Shard:
    """One output file: a header, then the entries' bytes one after another. It can be pickled.

    Attributes:
        filename: within the output; with a directory and `/` before it for a component of a pipeline.
        archive: where the entries are and what lies between them, when they do not follow each other.
    """

    filename: str
    header: bytes | bytearray
    entries: tuple[Entry, ...]
    data_bytes: int
    archive: Arranged | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return self.archive.nbytes if self.archive else len(self.header) + self.data_bytes

    @property
    def pieces(self) -> Iterable[tuple[int, bytes | bytearray | memoryview]]:
        """Offset and bytes of all that is known before any tensor is read."""
        return self.archive.pieces if self.archive else ((0, self.header),)

    def __repr__(self) -> str:
        return fitted(f"<Shard {self.filename}: {plural(len(self.entries), 'tensor')}>")

    def label(self, name: str) -> str:
        """The name of an entry among those of all components: "transformer/proj_out.weight"."""
        return within(self.filename.rpartition("/")[0], name)


@dataclass(frozen=True, slots=True)
class Plan:
    """All files of tensors of an output.

    Attributes:
        shards: every file, the model's first.
        beside: names of those that are not the model's and that its index leaves out.
        index_name: the name of the model's index.
        about: what the index says of the model, instead of its size.
    """

    shards: tuple[Shard, ...]
    beside: frozenset[str] = frozenset()
    index_name: str = "model.safetensors.index.json"
    about: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        held = plural(sum(len(shard.entries) for shard in self.shards), "tensor")
        return fitted(f"<Plan of {held} in {plural(len(self.shards), 'file')}, {self.nbytes:,} bytes>")

    @property
    def entries(self) -> Iterator[Entry]:
        return (entry for shard in self.shards for entry in shard.entries)

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(shard.data_bytes for shard in self.shards)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights files."""
        return sum(shard.nbytes for shard in self.shards)

    def index(self) -> dict[str, Any]:
        """What the index says: as mlx-lm writes it."""
        model = Plan(tuple(shard for shard in self.shards if shard.filename not in self.beside))
        files = {entry.name: shard.filename for shard in model.shards for entry in shard.entries}
        parameters = sum(math.prod(entry.tensor.shape) for entry in model.entries)
        return {
            "metadata": self.about or {"total_size": model.data_bytes, "total_parameters": parameters},
            "weight_map": {name: files[name] for name in sorted(files)},
        }


def make(
    entries: Sequence[Entry],
    metadata: Mapping[str, str],
    *,
    max_shard_size: int = MAX_SHARD_SIZE,
    filename: str | None = None,
    names: Callable[[int], list[str]] | None = None,
    shard: Callable[[str, list[Entry], Mapping[str, str]], Shard] | None = None,
    by_file: bool = True,
) -> Plan:
    """Distributes the entries over shards.

    The order is that of the source's bytes, and a shard ends where a source file ends: so every output file
    is written from one place, and several can be written at once. A tensor above the limit has a shard of
    its own. All outputs of one node are in the same shard, one after another, so that one pass computes them.

    Args:
        metadata: the header's `__metadata__` of every shard.
        max_shard_size: bytes of tensors in a shard at most.
        filename: write one file of that name instead of `model-0000i-of-0000N.safetensors`.
        names: other names for so many files.
        shard: makes a file of a name, entries and metadata; a safetensors file when absent.
        by_file: a shard ends where a source file ends; else only where it is full.
    """
    ordered, sources = _in_source_order(entries)
    groups: list[list[Entry]] = [ordered] if filename or not entries else []
    filled, current, left = 0, None, 0
    together = _together(ordered) if filename is None else {}
    for entry, source in zip(ordered, sources, strict=True) if filename is None else ():
        size = entry.nbytes
        if left == 0:
            left = together.get(id(entry), size) if together else size
            if not groups or filled + left > max_shard_size or (by_file and source != current):
                groups.append([])
                filled, current = 0, source
        groups[-1].append(entry)
        filled += size
        left -= size
    given = [filename] if filename else (names or shard_names)(len(groups))
    make_shard = shard or safetensors_shard
    return Plan(tuple(make_shard(name, group, metadata) for name, group in zip(given, groups, strict=True)))


def shard_names(count: int) -> list[str]:
    """As mlx-lm, mlx-vlm and transformers number them."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def within(directory: str, name: str) -> str:
    """`name` in a sub-directory of the output, or in the output itself where that is ""."""
    return f"{directory}/{name}" if directory else name


def _in_source_order(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """The entries, and the files that they come from."""
    paths: list[str] = []
    offsets: list[int] = []
    for entry in entries:
        path, offset = entry.tensor.file_position
        paths.append(path)
        offsets.append(offset)
    rank = {path: at for at, path in enumerate(dict.fromkeys(paths))}
    files = np.fromiter(map(rank.__getitem__, paths), np.int64, len(paths))
    places = np.array(offsets, np.int64)
    later = (files[1:] > files[:-1]) | ((files[1:] == files[:-1]) & (places[1:] >= places[:-1]))
    if later.all():
        return list(entries), paths
    order = np.lexsort((places, files)).tolist()
    return [entries[at] for at in order], [paths[at] for at in order]


def _together(ordered: list[Entry]) -> dict[int, int]:
    """Moves outputs of one node to the place of the first of them; the bytes of all, by the first's id."""
    if not may_hold_outputs(entry.tensor for entry in ordered):
        return {}
    nodes: dict[int, list[Entry]] = {}
    first: dict[int, int] = {}
    for entry in ordered:
        output = output_of(entry.uncast)
        if output is not None:
            siblings = nodes.setdefault(id(output.node), [])
            siblings.append(entry)
            first[id(entry)] = id(siblings[0])
    if nodes:
        siblings_of = {id(siblings[0]): siblings for siblings in nodes.values()}
        ordered[:] = [
            one
            for entry in ordered
            if first.get(id(entry), id(entry)) == id(entry)
            for one in siblings_of.get(id(entry), (entry,))
        ]
    return {id(one[0]): sum(entry.nbytes for entry in one) for one in nodes.values()}


def safetensors_shard(filename: str, entries: list[Entry], metadata: Mapping[str, str]) -> Shard:
    """A safetensors file."""
    # wide types first, so that every tensor starts at a multiple of its item size
    if len({entry.dtype.itemsize for entry in entries}) > 1:
        entries.sort(key=lambda entry: -entry.dtype.itemsize)
    header = safetensors.make_header(((e.name, e.dtype, e.tensor.shape) for e in entries), metadata)
    return Shard(filename, header, tuple(entries), sum(entry.nbytes for entry in entries))


def parse_size(text: str) -> int:
    """Bytes of "5GB" or "5G" (10^9, as transformers counts), "500MB", "2GiB" or a plain number.

    Raises:
        WconvError: it is no size, or not a positive one.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    size = int(float(match[1]) * unit) if match and unit and len(text) <= LONGEST_SIZE else 0
    if size < 1:
        raise WconvError(f"{text!r:.60} is no size: write 5GB, 500MB or a number of bytes")
    return size

"""The formats in which weights are written: safetensors, zips that torch loads, distributed checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from wconv.errors import WconvError
from wconv.formats import registry
from wconv.formats.format import Format
from wconv.writing.plan import Entry, Plan, Shard, safetensors_shard, shard_names

if TYPE_CHECKING:
    from wconv.formats.zip.write import Arranged


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format of weights files.

    Attributes:
        name: what the user calls it.
        read_as: the format in which wconv reads what is written.
        suffixes: of a single file, some of those of `read_as`; the first is the usual one. None where there
            are directories of them only.
        names: of so many files in a directory.
        index: the name of the file that tells which tensor is where.
        shard: makes one file of a name, entries and the header's metadata.
        for_torch: torch alone reads it, so that names are the hub's and dtypes torch's.
    """

    name: str
    read_as: Format
    suffixes: tuple[str, ...]
    names: Callable[[int], list[str]]
    index: str
    shard: Callable[[str, list[Entry], Mapping[str, str]], Shard]
    for_torch: bool


def torch_names(count: int) -> list[str]:
    """As transformers numbers `.bin` files."""
    if count == 1:
        return ["pytorch_model.bin"]
    return [f"pytorch_model-{number:05d}-of-{count:05d}.bin" for number in range(1, count + 1)]


def torch_shard(filename: str, entries: list[Entry], metadata: Mapping[str, str]) -> Shard:
    """A zip that holds a state dict; it has no place for metadata.

    Raises:
        OutputError: torch lacks a tensor's dtype.
    """
    from wconv.formats.torch import write as torch_write

    state = {entry.name: entry.tensor.cast(entry.dtype) for entry in entries}
    archive, _ = torch_write.arranged(state, PurePath(filename).stem or "archive")
    data_bytes = sum(entry.nbytes for entry in entries)
    return Shard(filename, archive.known, tuple(entries), data_bytes, archive)


def distributed_shard(filename: str, entries: list[Entry], metadata: Mapping[str, str]) -> Shard:
    """A file of the first rank; it has no place for metadata.

    Raises:
        OutputError: torch lacks a tensor's dtype.
    """
    archive, _ = _distributed(entries)
    return Shard(filename, archive.known, tuple(entries), sum(entry.nbytes for entry in entries), archive)


def _distributed(entries: Iterable[Entry]) -> tuple[Arranged, list[tuple[int, int]]]:
    from wconv.formats.torch import write_distributed

    return write_distributed.arranged(entry.tensor.cast(entry.dtype) for entry in entries)


def distributed_index(plan: Plan) -> bytes:
    """What says where the tensors of a distributed checkpoint lie."""
    from wconv.formats.torch.write_distributed import SavedRange, metadata

    return metadata(
        [
            SavedRange(entry.name, entry.dtype, entry.tensor.shape, shard.filename, *place)
            for shard in plan.shards
            for entry, place in zip(shard.entries, _distributed(shard.entries)[1], strict=True)
        ]
    )


def distributed_names(count: int) -> list[str]:
    """As torch numbers the files of the first rank."""
    return [f"__0_{number}.distcp" for number in range(count)]


SAFETENSORS = FileFormat(
    "safetensors",
    registry.SAFETENSORS,
    registry.SAFETENSORS.suffixes,
    shard_names,
    "model.safetensors.index.json",
    safetensors_shard,
    for_torch=False,
)
PT = FileFormat(
    "pt",
    registry.TORCH_ZIP,
    (".pt", ".pth", ".bin"),
    torch_names,
    "pytorch_model.bin.index.json",
    torch_shard,
    for_torch=True,
)
DCP = FileFormat(
    "dcp",
    registry.TORCH_ZIP,
    (),
    distributed_names,
    ".metadata",
    distributed_shard,
    for_torch=True,
)
FORMATS = {one.name: one for one in (SAFETENSORS, PT, DCP)}

NOT_WRITTEN = (*registry.FOREIGN, ".hdf5", ".keras", ".zip")
"""Suffixes of files of weights that are neither read by their names nor written."""


def suffixes() -> tuple[str, ...]:
    """What the names of files end in that are written."""
    return tuple(suffix for one in FORMATS.values() for suffix in one.suffixes)


INDEXES_OF_SINGLE_FILES = (SAFETENSORS.index, DCP.index)
"""Indexes that are written for a single file too; others only where there are several files."""


def with_stem(kind: FileFormat, stem: str) -> FileFormat:
    """The same format under other names of files: `stem` in place of "model" or "pytorch_model".

    >>> with_stem(SAFETENSORS, "weights").names(1)
    ['weights.safetensors']
    """
    usual = "pytorch_model" if kind.for_torch else "model"
    return replace(
        kind,
        names=lambda count: [name.replace(usual, stem, 1) for name in kind.names(count)],
        index=kind.index.replace(usual, stem, 1),
    )


def single(filename: str) -> FileFormat | None:
    """The format of a single file of that name; None for a directory's name."""
    return next((one for one in FORMATS.values() if filename.endswith(one.suffixes)), None)


def choose_format(name: str | None, output: str | None) -> FileFormat:
    """The format that the user asked for, by name or by the output's.

    Raises:
        WconvError: there is no such format, or the two say different things.
    """
    if name is not None and name not in FORMATS:
        raise WconvError(f"{name!r} is no format of weights: one of {', '.join(FORMATS)}")
    by_name = single(output) if output is not None else None
    # a name in capitals, too, asks for a file: it must not become a directory's
    not_written = (*registry.suffixes(), *NOT_WRITTEN)
    if output is not None and by_name is None and output.lower().endswith(not_written):
        *others, last = suffixes()
        raise WconvError(
            f"{output} is no kind of file that is written: end its name in {', '.join(others)} or {last}, or"
            " name a directory"
        )
    if name is not None and by_name is not None and by_name.name != name:
        raise WconvError(f"{output} is the name of a {by_name.name} file, and --format says {name}")
    return FORMATS[name] if name is not None else by_name or SAFETENSORS

"""Objects that `torch.save` wrote into a range of a file: tensors that are opened when they are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv.errors import FormatError
from wconv.formats import registry, side_files
from wconv.formats.sources import FileSource
from wconv.formats.torch.materialise import materialise
from wconv.formats.torch.objects import UnavailableError
from wconv.stores import files
from wconv.stores.files import FileStamp, SourcePath
from wconv.tensors.array_cache import array_cache
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape


class RankFiles:
    """The files of a directory in which pieces lie: each is looked at once, and bound to what it is then.

    Args:
        directory: where they are.
        listed: what names them, for errors.

    Attributes:
        notes: what the user should be told.
    """

    def __init__(self, directory: Path, listed: str) -> None:
        self.directory = directory
        self.listed = listed
        self.roots = side_files.roots(directory)
        self.sizes: dict[str, int] = {}
        self.paths: dict[str, SourcePath] = {}
        self.notes: list[str] = []

    def path(self, name: Any) -> SourcePath:
        """The file of that name.

        Raises:
            FormatError: it is not there, or the name leads out of the directory.
        """
        found = self.paths.get(name) if type(name) is str else None
        return self._look(name) if found is None else found

    def _look(self, name: Any) -> SourcePath:
        if not is_below(name):
            raise FormatError(
                f"{self.directory / self.listed} names {name!r:.80}, no file of its directory: refused"
            )
        place = self.directory / name
        if not os.path.lexists(place):
            raise FormatError(f"{place} is missing: {self.listed} names it; copy the files of all ranks")
        if side_files.leads_out(place, self.roots):
            raise FormatError(f"{place} is {side_files.OUTSIDE}, which is not followed: refused")
        bound = files.stamped(str(place))
        self.paths[name], self.sizes[name] = bound, files.size(bound)
        return bound

    def check_range(self, name: str, offset: Any, length: Any, what: str) -> None:
        """Refuses a range that is not within a file that `path` gave. Raises `FormatError`."""
        size = self.sizes[name]
        if type(offset) is not int or type(length) is not int or not 0 <= offset <= offset + length <= size:
            raise FormatError(
                f"{self.directory / name} is truncated or {self.listed} is damaged: {what:.200} should lie at"
                f" byte {offset!r:.20}, {length!r:.20} bytes long, in {size:,} bytes"
            )

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that was asked for, sorted by name."""
        return tuple(self.directory / name for name in sorted(self.paths))

    @property
    def nbytes(self) -> int:
        return sum(self.sizes.values())


def is_below(name: Any) -> bool:
    """Whether a path from a file stays within its directory, on every system."""
    if type(name) is not str or not 0 < len(name) < 1000 or not name.isprintable():
        return False
    return not any(part in ("", ".", "..") for part in name.split("/")) and not any(c in name for c in "\\:")


@dataclass(slots=True, eq=False, repr=False)
class SavedPiece(LazyTensor):
    """A tensor that `torch.save` wrote into a range of a file; the range is opened when it is read.

    Nobody changes one; it is not frozen because thousands are made, most of which are never read.

    Attributes:
        offset, length: the range, in bytes.
        dtype, shape: what is told of it elsewhere; what is there must be so.
        name: what it is called, for errors.
    """

    path: str
    offset: int
    length: int
    dtype: DType
    shape: Shape
    name: str

    @property
    def file_position(self) -> tuple[str, int]:
        return self.path, self.offset

    @property
    def opened(self) -> LazyTensor:
        """The tensor that is there.

        Raises:
            FormatError: it is another than was told.
        """
        try:
            found = _opened((self.path, getattr(self.path, "stamp", None), self.offset, self.length))
        except UnavailableError as error:
            raise FormatError(f"{self.path}: {self.name:.200} cannot be read: {error}") from None
        if found.dtype is not self.dtype or found.shape != self.shape:
            raise FormatError(
                f"{self.path}: a piece of {self.name:.200} is {found.dtype.name} {found.shape!r:.60}, not"
                f" {self.dtype.name} {self.shape!r:.60}: the files are of different checkpoints"
            )
        return found

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.opened.read_into(start, stop, out)


@array_cache(1024)
def _opened(place: tuple[str, FileStamp | None, int, int]) -> LazyTensor:
    """What a range of a file holds: it is read in several parts, and its stamp tells it from a later one."""
    path, _, offset, length = place
    return materialise(load_range(path, offset, length))


def load_range(path: str, offset: int, length: int) -> Any:
    """The object that `torch.save` wrote into a range of a file.

    Raises:
        FormatError: there is none, or it is damaged.
        UnsafeError: it asks for something that no weights need.
    """
    return registry.read_nested(FileSource(path, offset, length))

"""What a format of weights files is to wconv: one row of the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wconv.formats.contents import Contents, Tree
from wconv.formats.sources import Source

if TYPE_CHECKING:
    from wconv.formats.zip.directory import ZipDirectory

ZIP = b"PK\x03\x04"
"""What a zip archive that holds anything begins with."""

START = 512
"""Bytes at the beginning of a file that formats are told by: a block of a tar archive."""


class Candidate:
    """A file whose format is to be found out.

    Attributes:
        source: all of its bytes.
        start: the first `START` of them, or as many as there are.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.start = source.read(0, min(START, source.size))
        self._archive: ZipDirectory | None = None

    @property
    def is_zip(self) -> bool:
        """Whether it is a zip archive that holds anything."""
        return self.start.startswith(ZIP)

    @property
    def archive(self) -> ZipDirectory:
        """The directory of the zip archive that it is; read once.

        Raises:
            FormatError: it is damaged, or no zip archive.
        """
        if self._archive is None:
            from wconv.formats.zip.directory import ZipDirectory

            self._archive = ZipDirectory(self.source)
        return self._archive

    def folder(self, member: str) -> str | None:
        """What the names in a zip archive start with ("model/"), where a member of that name is in it.

        None where there is no such member, and for a file of another kind.

        Raises:
            FormatError: several folders of the archive have such a member, or the archive is damaged.
        """
        return self.archive.folder(member) if self.is_zip else None

    def holds(self, member: str) -> bool:
        """Whether it is a zip archive with a member of exactly that name."""
        return self.is_zip and member in self.archive.entries


def _never(start: bytes) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Format:
    """One format of weights files.

    Attributes:
        name: what it is called in messages and in `Contents.format`.
        recognise: whether a file is of this format, by its content; the first row that says so counts.
        read: opens a file that was recognised; nothing is read but what describes its tensors. The second
            argument allows tensors that take far more than the file. It returns the tensors by name, or an
            object tree in which they are found.
        suffixes: what the names of its files end in, with the dot; the usual one first.
        directory: patterns of the files that are a directory's weights, the preferred ones first.
        shards: what the shards end in that an index lists; "" where such indexes are not known.
        begins: whether these first `START` bytes are surely such a file's, even if the rest is missing.
    """

    name: str
    recognise: Callable[[Candidate], bool]
    read: Callable[[Candidate, bool], Contents | Tree]
    suffixes: tuple[str, ...] = ()
    directory: tuple[str, ...] = ()
    shards: str = ""
    begins: Callable[[bytes], bool] = _never

"""One row per on-disk format in `registry`; `open_file` picks it by the file's content, never by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wconv.errors import FormatError, UnsafeError
from wconv.formats import registry, sniff
from wconv.formats.contents import Contents, Tree
from wconv.formats.format import Candidate
from wconv.formats.sources import FileSource, Source
from wconv.stores.files import stamped

if TYPE_CHECKING:
    from wconv.formats.torch.pickle.reading import Reading

__all__ = ["Contents", "load_tree", "open_file"]


LONGEST_NAME = 2_000
"""Characters of a tensor's name at most: ten times as many as any model's has."""


def open_file(path: str, *, key: str | None = None, allow_inflation: bool = False) -> Contents:
    """Opens one weights file of any supported format.

    Args:
        key: the path to the state dict within a wrapped checkpoint ("model.encoder"); found when absent.
        allow_inflation: allows tensors that take far more than the file: expanded views, sparse and
            deflated ones.

    Raises:
        FormatError: the file is damaged or of another kind, which the message names.
        UnsafeError: the file asks for something that no weights need.
    """
    contents = _open(stamped(path), key, allow_inflation)
    check_names(contents, path)
    return contents


def check_names(contents: Contents, path: str) -> None:
    """Refuses names that no model has. Raises `UnsafeError`."""
    for names in (contents.tensors, contents.skipped):
        longest = max(names, key=len, default="")
        if len(longest) > LONGEST_NAME:
            raise UnsafeError(
                f"{path} names a tensor in {len(longest):,} characters ({longest:.40}…):"
                f" more than {LONGEST_NAME:,} are refused"
            )


def _open(path: str, key: str | None, allow_inflation: bool) -> Contents:
    source = FileSource(path)
    found = _read(source, allow_inflation)
    if isinstance(found, Tree):
        from wconv.formats.torch import file

        return file.contents(found, source, key, allow_inflation)
    if key is not None:
        raise FormatError(f"{path} is flat ({found.format}): there is nothing to pick with --key")
    return found


def _read(source: Source, allow_inflation: bool) -> Tree | Contents:
    """What a file of a known format holds; others are named in the error."""
    candidate = Candidate(source)
    row = registry.recognise(candidate)
    if row is None:
        raise sniff.refuse(candidate)
    return row.read(candidate, allow_inflation)


def load_tree(path: str, how: Reading | None = None) -> Any:
    """The first of `load_first`, which has no more to say where a file holds one object."""
    return load_first(path, how)[0]


def load_first(path: str, how: Reading | None = None) -> tuple[Any, int | None]:
    """The object that a checkpoint holds, with the leaves that `wconv.formats.torch.objects` describes.

    For files that are flat (safetensors, NumPy archives), a dict of `LazyTensor`s.

    Args:
        how: what is wanted beside plain data.

    Returns:
        It, and where it ends, for another may follow in a stream; None where it is all of the file.

    Raises:
        FormatError: the file is damaged or of another kind, which the message names.
        UnsafeError: the file asks for something that no weights need, nesting beyond all measure among it.
    """
    from wconv.formats.torch import state_dict
    from wconv.formats.torch.pickle.reading import reading

    path = stamped(path)
    with reading(how):
        found = _read(FileSource(path), allow_inflation=False)
        if isinstance(found, Contents):
            check_names(found, path)
            return found.tensors, None
        state_dict.check_tree(found.root, found.program, path)
    return found.root, found.end

"""One module per on-disk format; `open_file` picks it by the file's first bytes, never by its name."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wconv.errors import FormatError, UnsafeError
from wconv.formats.contents import Contents
from wconv.stores.files import stamped

if TYPE_CHECKING:
    from wconv.formats.sources import Source
    from wconv.formats.torch.file import Tree
    from wconv.formats.torch.pickle.reading import Reading
    from wconv.formats.zip.directory import ZipDirectory

__all__ = ["Contents", "load_tree", "open_file"]


LONGEST_NAME = 2_000
"""Characters of a tensor's name at most: ten times as many as any model's has."""


def open_file(path: str, *, key: str | None = None, expand: bool = False) -> Contents:
    """Opens one weights file of any supported format.

    Args:
        key: the path to the state dict within a wrapped checkpoint ("model.encoder"); found when absent.
        expand: allows tensors that take far more than the file (expanded views, sparse and deflated ones).

    Raises:
        FormatError: the file is damaged or of another kind, which the message names.
        UnsafeError: the file asks for something that no weights need.
    """
    with _no_collector():
        contents = _open(stamped(path), key, expand)
    for names in (contents.tensors, contents.skipped):
        longest = max(names, key=len, default="")
        if len(longest) > LONGEST_NAME:
            raise UnsafeError(
                f"{path} names a tensor in {len(longest):,} characters ({longest:.40}…):"
                f" more than {LONGEST_NAME:,} are refused"
            )
    return contents


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Opening makes a million objects and no garbage: looking for it would take a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _open(path: str, key: str | None, expand: bool) -> Contents:
    from wconv.formats.sources import FileSource

    source = FileSource(path)
    start = source.read(0, min(16, source.size))
    if len(start) > 8 and start[8:9] == b"{" and not start.startswith((b"PK", b"\x93NUMPY")):
        from wconv.formats import safetensors

        contents = safetensors.open_file(path)
    elif start.startswith(b"\x93NUMPY"):
        from wconv.formats.numpy import file as numpy_file

        # one of objects has parts to pick from
        contents = numpy_file.open_npy(source, key, expand)
        if contents.root is not None:
            return contents
    else:
        from wconv.formats.torch import file as torch_file

        found = _read(source, expand)
        if not isinstance(found, Contents):
            return torch_file.contents(found, source, key, expand)
        contents = found
    if key is not None:
        raise FormatError(f"{path} is flat ({contents.format}): there is nothing to pick with --key")
    return contents


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
    from wconv.formats.sources import FileSource
    from wconv.formats.torch import state_dict
    from wconv.formats.torch.pickle.reading import reading

    path = stamped(path)
    source = FileSource(path)
    start = source.read(0, min(16, source.size))
    if start[8:9] == b"{" or start.startswith(b"\x93NUMPY"):
        contents = open_file(path)
        return (contents.tensors if contents.root is None else contents.root), None
    with _no_collector(), reading(how):
        found = _read(source)
        if isinstance(found, Contents):
            return found.tensors, None
        state_dict.check_tree(found.root, found.program, path)
    return found.root, found.end


def _read(source: Source, expand: bool = False) -> Tree | Contents:
    """A file that is neither safetensors nor `.npy`: an archive, a stream or a pickle; others are named."""
    from wconv.formats import sniff
    from wconv.formats.torch import file as torch_file
    from wconv.formats.torch import legacy, tar

    start = source.read(0, min(512, source.size))
    if start.startswith(b"PK\x03\x04"):
        from wconv.formats.zip.directory import ZipDirectory

        return _read_zip(ZipDirectory(source), expand)
    if start[:1] == b"\x80" or legacy.recognise(source) or tar.recognise(start):
        return torch_file.read(source)
    if start[:1] in _PLAIN_STARTS and not start[:512].isascii():
        return torch_file.read(source)
    if start[:1] in _PLAIN_STARTS and _looks_like_old_pickle(source):
        return torch_file.read(source)
    raise sniff.refuse(source)


_PLAIN_STARTS = (b"(", b"]", b"}", b"c", b"(")
"""First bytes of pickles of protocol 0 and 1 that could hold tensors."""


def _looks_like_old_pickle(source: Source) -> bool:
    """Whether the file ends as a pickle does; protocols 0 and 1 have no signature."""
    start = source.read(0, 2)
    return source.read(source.size - 1, 1) == b"." and start[:1] + start[1:2] in (
        b"(d",
        b"(l",
        b"(i",
        b"cc",
        b"ct",
        b"cn",
        b"(c",
        b"}q",
        b"]q",
        b"c_",
    )


def _read_zip(directory: ZipDirectory, expand: bool) -> Tree | Contents:
    from wconv.formats.numpy import file as numpy_file
    from wconv.formats.torch import archive
    from wconv.formats.torch import export as torch_export
    from wconv.formats.torch import file as torch_file
    from wconv.formats.torch import script as torchscript

    where = directory.source.where
    names = directory.entries
    folder = archive.root_folder(directory)
    if folder is not None and folder + "archive_format" not in names:
        return torch_file.read_zip(directory)
    folder = archive.root_folder(directory, "archive_format")
    if folder is not None:
        return torch_file.Tree("torch.export archive", torch_export.load(directory, folder), 0)
    if archive.root_folder(directory, "serialized_exported_program.json") is not None:
        return torch_file.Tree("torch.export archive", torch_export.load_old(directory), 0)
    folder = archive.root_folder(directory, "model.json")
    if folder is not None:
        return torch_file.Tree("TorchScript archive", torchscript.load_json(directory, folder), 0)
    if numpy_file.is_npz(directory):
        return numpy_file.open_npz(directory, expand)
    if any(name.startswith("MAR-INF/") for name in names):
        raise FormatError(f"{where} is a TorchServe archive (.mar): unpack it and convert the weights in it")
    if any(name.endswith((".safetensors", ".pt", ".pth", ".bin", ".ckpt")) for name in names):
        raise FormatError(f"{where} is a zip archive of checkpoints: unpack it first")
    if any(name.endswith(("config.json", "metadata.json")) for name in names) and "model.weights.h5" in names:
        raise FormatError(f"{where} is a Keras archive: save it from Keras as safetensors or .npz")
    raise FormatError(f"{where} is a zip archive without a PyTorch checkpoint (no data.pkl)")

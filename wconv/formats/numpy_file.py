"""`.npy` files and `.npz` archives."""

from __future__ import annotations

from wconv.errors import FormatError
from wconv.formats import npy, torch_file
from wconv.formats.contents import Contents
from wconv.formats.objects import UnavailableError
from wconv.formats.sources import Source
from wconv.formats.zip_directory import ZipDirectory
from wconv.tensor import LazyTensor


def open_npy(source: Source) -> Contents:
    """One array, named "tensor". Raises `FormatError` when it is damaged or not of numbers."""
    return Contents("NumPy array", {"tensor": npy.read_npy(source).lazy()})


def is_npz(directory: ZipDirectory) -> bool:
    """Whether an archive's members are all arrays."""
    return bool(directory.entries) and all(name.endswith(".npy") for name in directory.entries)


def open_npz(directory: ZipDirectory, expand: bool) -> Contents:
    """The arrays of an archive under their names.

    Raises:
        FormatError: an array is damaged, or none is of numbers.
        UnsafeError: they inflate to far more than the file and `expand` was not asked for.
    """
    tensors: dict[str, LazyTensor] = {}
    skipped: dict[str, str] = {}
    for member in directory.entries:
        name = member.removesuffix(".npy")
        try:
            tensors[name] = npy.read_npy(directory.part(member)).lazy()
        except (npy.NotNumbersError, UnavailableError) as error:
            skipped[name] = str(error)
    if not tensors:
        raise FormatError(f"{directory.source.where} is an .npz archive without arrays of numbers")
    if not expand:
        torch_file.check_inflation(tensors, directory.source)
    return Contents("NumPy archive", tensors, skipped=skipped)

"""`.npy` files and `.npz` archives."""

from __future__ import annotations

from wconv.errors import FormatError
from wconv.formats import npy, torch_file
from wconv.formats.contents import Contents
from wconv.formats.objects import NotNumbersError, NumpyArray, UnavailableError
from wconv.formats.sources import Source
from wconv.formats.zip_directory import ZipDirectory
from wconv.tensor import LazyTensor


def open_npy(source: Source, key: str | None = None, expand: bool = False) -> Contents:
    """One array, named "tensor"; of an array of objects the tensors within.

    Raises:
        FormatError: it is damaged or not of numbers.
    """
    try:
        array = npy.read_npy(source)
    except NotNumbersError as error:
        raise FormatError(f"{source.where} holds no tensors: {error}") from None
    if isinstance(array.data, list):
        return torch_file.contents(torch_file.Tree("NumPy array", array, source.size), source, key, expand)
    return Contents("NumPy array", {"tensor": array.lazy()})


def is_npz(directory: ZipDirectory) -> bool:
    """Whether an archive's members are all arrays."""
    return bool(directory.entries) and all(name.endswith(".npy") for name in directory.entries)


def open_npz(directory: ZipDirectory, expand: bool) -> Contents | torch_file.Tree:
    """The arrays of an archive under their names; a tree where some are of objects.

    Raises:
        FormatError: an array is damaged, or none is of numbers.
        UnsafeError: they inflate to far more than the file and `expand` was not asked for.
    """
    arrays: dict[str, NumpyArray] = {}
    skipped: dict[str, str] = {}
    program = 0
    for member in directory.entries:
        name = member.removesuffix(".npy")
        part = directory.part(member)
        try:
            arrays[name] = npy.read_npy(part)
        except (NotNumbersError, UnavailableError) as error:
            skipped[name] = str(error)
            continue
        program += part.size if isinstance(arrays[name].data, list) else 0
    if program:
        return torch_file.Tree("NumPy archive", {**arrays, **dict.fromkeys(skipped, NumpyArray())}, program)
    if not arrays:
        raise FormatError(f"{directory.source.where} is an .npz archive without arrays of numbers")
    tensors: dict[str, LazyTensor] = {name: array.lazy() for name, array in arrays.items()}
    if not expand:
        torch_file.check_inflation(tensors, directory.source)
    return Contents("NumPy archive", tensors, skipped=skipped, not_numbers=frozenset(skipped))

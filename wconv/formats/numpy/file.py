"""`.npy` files and `.npz` archives."""

from __future__ import annotations

from wconv.errors import FormatError
from wconv.formats.contents import Contents
from wconv.formats.numpy import arrays as npy
from wconv.formats.sources import Source
from wconv.formats.torch import file as torch_file
from wconv.formats.torch.objects import LostTensor, NotNumbersError, NumpyArray, UnavailableError
from wconv.formats.zip.directory import ZipDirectory
from wconv.tensors.lazy import LazyTensor


def open_npy(source: Source, key: str | None = None, expand: bool = False) -> Contents:
    """One array, named "tensor"; of an array of objects the tensors within.

    Raises:
        FormatError: it is damaged or not of numbers.
    """
    try:
        array = npy.read_npy(source)
    except UnavailableError as error:
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
        UnsafeError: they inflate to far more than the file and `allow_inflation` was not asked for.
    """
    arrays: dict[str, NumpyArray | LostTensor] = {}
    skipped: dict[str, str] = {}
    not_numbers: set[str] = set()
    program = 0
    for member in directory.entries:
        name = member.removesuffix(".npy")
        part = directory.part(member)
        try:
            array = arrays[name] = npy.read_npy(part)
        except UnavailableError as error:
            skipped[name] = str(error)
            arrays[name] = _without_values(error)
            not_numbers.update({name} if isinstance(error, NotNumbersError) else ())
            continue
        program += part.size if isinstance(array.data, list) else 0
    if program:
        return torch_file.Tree("NumPy archive", arrays, program)
    if len(not_numbers) == len(arrays):
        raise FormatError(f"{directory.source.where} is an .npz archive without arrays of numbers")
    tensors: dict[str, LazyTensor] = {
        name: array.lazy()
        for name, array in arrays.items()
        if name not in skipped and isinstance(array, NumpyArray)
    }
    if not expand:
        torch_file.check_inflation(tensors, directory.source)
    return Contents("NumPy archive", tensors, skipped=skipped, not_numbers=frozenset(not_numbers))


def _without_values(error: UnavailableError) -> NumpyArray | LostTensor:
    """What stands for an array in a tree."""
    return NumpyArray() if isinstance(error, NotNumbersError) else LostTensor(str(error))

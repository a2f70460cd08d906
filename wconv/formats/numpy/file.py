"""`.npy` files and `.npz` archives."""

from __future__ import annotations

import re

from wconv.errors import FormatError
from wconv.formats.contents import Contents, Tree
from wconv.formats.numpy import arrays
from wconv.formats.sources import Source
from wconv.formats.torch.archive import ReadNested
from wconv.formats.torch.file import check_inflation
from wconv.formats.torch.objects import LostTensor, NotNumbersError, NumpyArray, UnavailableError
from wconv.formats.torch.pickle.machine import Machine
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.zip.directory import ZipDirectory
from wconv.tensors.lazy import LazyTensor

HEADER_LIMIT = 64 << 10
"""Bytes of a `.npy` header."""

_HEADER = re.compile(
    r"""\s*\{\s*'descr':\s*'(?P<code>[^']{1,20})',\s*'fortran_order':\s*(?P<fortran>True|False),"""
    r"""\s*'shape':\s*\((?P<shape>\s*|\s*\d+L?\s*,\s*|\s*\d+L?(?:\s*,\s*\d+L?)+\s*,?\s*)\),?\s*\}\s*"""
)


def open_npy(source: Source, read_nested: ReadNested) -> Contents | Tree:
    """One array, named "tensor"; a tree where it is of objects.

    Raises:
        FormatError: it is damaged or not of numbers.
    """
    try:
        array = read_npy(source, read_nested)
    except UnavailableError as error:
        raise FormatError(f"{source.where} holds no tensors: {error}") from None
    if isinstance(array.data, list):
        return Tree("NumPy array", array, source.size)
    return Contents("NumPy array", {"tensor": arrays.lazy(array)})


def open_npz(directory: ZipDirectory, allow_inflation: bool, read_nested: ReadNested) -> Contents | Tree:
    """The arrays of an archive under their names; a tree where some are of objects.

    Raises:
        FormatError: an array is damaged, or none is of numbers.
        UnsafeError: they inflate to far more than the file and `allow_inflation` was not asked for.
    """
    held: dict[str, NumpyArray | LostTensor] = {}
    skipped: dict[str, str] = {}
    not_numbers: set[str] = set()
    program = 0
    for member in directory.entries:
        name = member.removesuffix(".npy")
        part = directory.part(member)
        try:
            array = held[name] = read_npy(part, read_nested)
        except UnavailableError as error:
            skipped[name] = str(error)
            held[name] = _without_values(error)
            not_numbers.update({name} if isinstance(error, NotNumbersError) else ())
            continue
        program += part.size if isinstance(array.data, list) else 0
    if program:
        return Tree("NumPy archive", held, program)
    if len(not_numbers) == len(held):
        raise FormatError(f"{directory.source.where} is an .npz archive without arrays of numbers")
    tensors: dict[str, LazyTensor] = {
        name: arrays.lazy(array)
        for name, array in held.items()
        if name not in skipped and isinstance(array, NumpyArray)
    }
    if not allow_inflation:
        check_inflation(tensors, directory.source)
    return Contents("NumPy archive", tensors, skipped=skipped, not_numbers=frozenset(not_numbers))


def _without_values(error: UnavailableError) -> NumpyArray | LostTensor:
    """What stands for an array in a tree."""
    return NumpyArray() if isinstance(error, NotNumbersError) else LostTensor(str(error))


def read_npy(source: Source, read_nested: ReadNested) -> NumpyArray:
    """The array of one `.npy` file.

    Raises:
        FormatError: the header is damaged or the file is shorter than it says.
        UnavailableError: its elements are texts, dates or records (`NotNumbersError`), or too wide.
    """
    start = source.read(0, min(12, source.size))
    if len(start) < 10 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise FormatError(f"{source.where} is a damaged .npy file: its header cannot be read")
    width = 2 if start[6] == 1 else 4
    size = int.from_bytes(start[8 : 8 + width], "little")
    if size > HEADER_LIMIT:
        raise FormatError(f"{source.where} is a damaged .npy file: its header claims {size:,} bytes")
    header = source.read(8 + width, size).decode("latin-1")
    match = _HEADER.fullmatch(header)
    if match is None:
        raise NotNumbersError("it is an array of structured or unknown elements, not of numbers")
    array = NumpyArray()
    array.dtype = match["code"]
    array.fortran = match["fortran"] == "True"
    lengths = match["shape"].replace("L", "").split(",")
    if any(len(text) > 40 for text in lengths):
        raise FormatError(f"{source.where} is a damaged .npy file: its shape is impossible")
    array.shape = tuple(int(text) for text in lengths if text.strip())
    start_of_data = 8 + width + size
    if array.dtype in ("O", "|O"):
        return _objects(source, start_of_data, read_nested)
    if arrays.element_type(array.dtype) is None:
        raise arrays.unavailable(array.dtype)
    array.data = source.part(start_of_data, source.size - start_of_data)
    arrays.check(array, source.where)
    return array


def _objects(source: Source, at: int, read_nested: ReadNested) -> NumpyArray:
    """An array of objects, which numpy pickles behind the header."""
    found = Machine(source, NAMES, at=at, read_nested=read_nested).run()
    if not isinstance(found, NumpyArray):
        raise FormatError(f"{source.where} is a damaged .npy file: its objects are in no array")
    return found

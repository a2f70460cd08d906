"""Checks of a reader: opens what it should, and ends in a clear error for whatever else it meets."""

from __future__ import annotations

import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wconv.errors import WconvError
from wconv.tensors.lazy import Array, LazyTensor
from wconv.testing import damage

Reader = Callable[[str], Mapping[str, LazyTensor]]
"""Takes the path of a file, and returns its tensors by name."""

MEMORY = 64 << 20
"""Bytes that reading a file may take beside eight times the file's own."""

SECONDS = 5.0
"""Seconds of processor time that reading one file may take."""


def read_registered(path: str) -> Mapping[str, LazyTensor]:
    """The tensors of a file of any format of the registry: the reader to check a row with."""
    from wconv import formats

    return formats.open_file(path).tensors


def check_reader(
    read: Reader, path: str | os.PathLike[str], arrays: Mapping[str, Array], *, fuzz: int = 500
) -> None:
    """All checks of this module on one file: the smaller it is, the more is looked at.

    Args:
        read: the reader: takes a path, returns lazy tensors by name.
        path: a file that it should open, of a few kilobytes at most.
        arrays: what is in the file.
        fuzz: how many randomly damaged copies are read.

    Raises:
        AssertionError: a check failed; the text says which, and with what copy of the file.

    Example:
        >>> import tempfile, numpy as np, wconv
        >>> from wconv import testing
        >>> arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     wconv.save(arrays, f"{directory}/x.safetensors")
        ...     testing.check_reader(testing.read_registered, f"{directory}/x.safetensors", arrays, fuzz=20)
    """
    check_opens(read, path, arrays)
    check_truncated(read, path)
    check_sizes(read, path)
    check_fuzzed(read, path, count=fuzz)


def check_opens(read: Reader, path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """The file opens to these tensors: names, dtypes, shapes, all bits, and any range of a tensor's elements.

    Raises:
        AssertionError: something is missing, too much, or different.
    """
    tensors = read(os.fspath(path))
    assert list(tensors) == list(arrays), f"the names are {list(tensors)!r:.300}, not {list(arrays)!r:.300}"
    for name, array in arrays.items():
        tensor = tensors[name]
        assert tuple(tensor.shape) == array.shape, f"{name} has the shape {tensor.shape}, not {array.shape}"
        assert tensor.dtype.numpy == array.dtype, f"{name} is {tensor.dtype.name}, not {array.dtype}"
        assert _bits(tensor.numpy()) == _bits(array), f"{name} has other values"
        flat = np.ascontiguousarray(array).reshape(-1)
        for start, stop in _ranges(flat.size):
            part = tensor.read_range(start, stop)
            assert _bits(part) == _bits(flat[start:stop]), f"{name} has others from {start:,} to {stop:,}"


def check_truncated(read: Reader, path: str | os.PathLike[str]) -> None:
    """A file that ends early, wherever it does, is refused, or all of its tensors are there and right.

    Raises:
        AssertionError: a shorter file lacked tensors or had others without a word, or did what `check_sizes`
            forbids.
    """
    whole = _values(read(os.fspath(path)))
    for what, found in _each(read, path, damage.truncated(Path(path).read_bytes())):
        assert found is None or found == whole, f"{what}: it opened, with other tensors than the whole file"


def check_sizes(read: Reader, path: str | os.PathLike[str]) -> None:
    """A file whose numbers are replaced, one at a time, by nothing or by huge ones is refused or read.

    In time and memory that are in proportion to the file (`SECONDS`, `MEMORY`), with no exception but
    `WconvError`, and tensors that have the dtype and shape that they said.

    Raises:
        AssertionError: it was not.
    """
    for _ in _each(read, path, damage.other_sizes(Path(path).read_bytes())):
        pass


def check_fuzzed(read: Reader, path: str | os.PathLike[str], *, count: int = 500, seed: int = 0) -> None:
    """A file with random changes is refused or read, as for `check_sizes`.

    Args:
        count: how many damaged copies are read.
        seed: the number of the first; the same number makes the same copy.

    Raises:
        AssertionError: it was not.
    """
    for _ in _each(read, path, damage.fuzzed(Path(path).read_bytes(), count, seed)):
        pass


def _each(
    read: Reader, path: str | os.PathLike[str], copies: Iterable[tuple[str, bytes]]
) -> Iterable[tuple[str, dict[str, Any] | None]]:
    """For each copy of the file, what was done to it and its values; None where it was refused."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / Path(path).name
        for what, data in copies:
            place.write_bytes(data)
            yield what, _outcome(read, place, len(data), what)
            place.unlink()


def _outcome(read: Reader, path: Path, size: int, what: str) -> dict[str, Any] | None:
    """The values that a reader finds; None where it raises a `WconvError`, whose text must name the file."""
    most = MEMORY + 8 * size
    began = time.process_time()
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start(1)
    tracemalloc.reset_peak()
    found: dict[str, Any] | None = None
    refusal = ""
    try:
        tensors = read(str(path))
        total = sum(tensor.nbytes for tensor in tensors.values())
        assert total <= most, f"{what}: its tensors would take {total:,} bytes"
        found = _values(tensors)
    except WconvError as error:
        refusal = str(error)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error!s:.200}, not a WconvError") from error
    finally:
        _, peak = tracemalloc.get_traced_memory()
        if not tracing:
            tracemalloc.stop()
    assert found is not None or path.name in refusal, f"{what}: the error does not name the file: {refusal}"
    seconds = time.process_time() - began
    assert peak <= most, f"{what}: reading it took {peak:,} bytes of memory"
    assert seconds <= SECONDS, f"{what}: reading it took {seconds:.1f} seconds"
    return found


def _values(tensors: Mapping[str, LazyTensor]) -> dict[str, Any]:
    """All tensors' bits, each read, and found to be what it said it would be."""
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        array = tensor.numpy()
        assert array.shape == tuple(tensor.shape), f"{name} said {tensor.shape} and is {array.shape}"
        assert array.dtype == tensor.dtype.numpy, f"{name} said {tensor.dtype.name} and is {array.dtype}"
        found[name] = _bits(array)
    return found


def _bits(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes()


def _ranges(size: int) -> set[tuple[int, int]]:
    """The whole, either half, the middle, the first and last elements, and none."""
    half, quarter = size // 2, size // 4
    ranges = {(0, size), (0, half), (half, size), (quarter, size - quarter), (0, 0), (size, size)}
    return ranges | {(0, min(1, size)), (max(size - 1, 0), size)}

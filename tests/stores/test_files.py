"""Bytes are read by range, from regular files only, and never from another file than was opened."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wconv.errors import FormatError
from wconv.stores import files


def test_many_files_and_threads_share_few_descriptors(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3 * files.OPEN_FILES)]
    for number, path in enumerate(paths):
        path.write_bytes(number.to_bytes(4, "big") * 100)

    def read(number: int) -> bool:
        number %= len(paths)
        return bytes(files.source(str(paths[number])).read(40, 8)) == number.to_bytes(4, "big") * 2

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(2000)))
    assert len(os.listdir("/dev/fd")) < 2 * files.OPEN_FILES


def test_a_stamped_path_crosses_processes_and_names_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old!")
    bound = pickle.loads(pickle.dumps(files.stamped(str(path))))
    assert bound == str(path)
    assert bytes(files.source(bound).read(0, 4)) == b"old!"
    (tmp_path / "y").write_bytes(b"new!")
    os.replace(tmp_path / "y", path)
    assert bytes(files.source(str(path)).read(0, 4)) == b"new!"
    with pytest.raises(FormatError, match="changed since"):
        files.source(bound)


def test_a_file_that_was_removed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old!")
    assert files.source(str(path)).size == 4
    path.unlink()
    with pytest.raises(FormatError, match="No such file"):
        files.source(str(path))


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(FormatError, match="not a regular file"):
            files.SourceFile(str(path))
    with pytest.raises(FormatError, match="cannot be read"):
        files.SourceFile(str(tmp_path / "absent"))


def test_reading_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345678")
    with pytest.raises(FormatError, match="truncated"):
        files.source(str(tmp_path / "x")).read(4, 8)

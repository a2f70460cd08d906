"""What threads read ahead comes in order, and as one of them would read it. Covers `writing/arrays.py`."""

from __future__ import annotations

import numpy as np
import pytest

from wconv.errors import FormatError
from wconv.stores import files
from wconv.tensors import dtypes
from wconv.tensors.casts import Overflow
from wconv.tensors.lazy import FileTensor, from_array
from wconv.writing import arrays
from wconv.writing.plan import Entry

FLOAT16 = dtypes.by_name("float16")


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 21])
def test_entries_come_in_order(monkeypatch: pytest.MonkeyPatch, jobs: int, chunk: int) -> None:
    monkeypatch.setattr(arrays, "CHUNK", chunk)
    sources = [np.full((at % 5, 3), 1e5 if at == 7 else at, np.float32) for at in range(40)]
    entries = [Entry(f"t{at}", from_array(one), FLOAT16) for at, one in enumerate(sources)]
    found = list(arrays.read(entries, jobs))
    assert [entry for entry, _, _ in found] == entries
    with np.errstate(over="ignore"):
        assert all(
            np.array_equal(a, b.astype(np.float16)) for (_, a, _), b in zip(found, sources, strict=True)
        )
    assert [lost for _, _, lost in found if lost.count] == [Overflow(6, 1e5)]


def test_the_error_of_a_thread_is_raised_and_the_rest_is_not_read(tmp_path: object) -> None:
    path = f"{tmp_path}/short"
    with open(path, "wb") as file:
        file.write(bytes(100))
    short = FileTensor(files.stamped(path), 0, dtypes.by_name("float32"), (30,))
    entries = [Entry("a", from_array(np.ones(3)), FLOAT16), Entry("b", short, FLOAT16)]
    with pytest.raises(FormatError, match="truncated"):
        list(arrays.read(entries, 2))

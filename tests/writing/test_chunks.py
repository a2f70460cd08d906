"""Small neighbours are joined into the same units, whether one by one or in one loop."""

from __future__ import annotations

import math

import pytest

from wconv.tensors import dtypes
from wconv.tensors.lazy import FileTensor
from wconv.writing import chunks
from wconv.writing.plan import Entry, make

F16, BF16, F32 = (dtypes.by_name(name) for name in ("float16", "bfloat16", "float32"))

Row = tuple[str, int, dtypes.DType, tuple[int, ...], dtypes.DType]


def rows(case: str) -> list[Row]:
    """File, gap before it, dtype, shape and written dtype of many tensors."""
    same: list[Row] = [("a", 0, BF16, (9, 5), F16)] * 7000
    found = {
        "neighbours": same,
        "gaps": [("a", at % 3 * 2, BF16, (9, 5), F16) for at in range(50)],
        "empty": [("a", 0, BF16, (at % 4, 5), F16) for at in range(50)],
        "large": [("a", 0, BF16, (1 << 19 if at % 5 == 4 else 300_000,), F16) for at in range(20)],
        "dtypes": [("a", 0, F32 if at % 7 == 6 else BF16, (8,), F16) for at in range(50)],
        "written": [("a", 0, BF16, (8,), F32 if at > 20 else F16) for at in range(50)],
        "files": [("ab"[at > 20], 0, BF16, (8,), F16) for at in range(50)],
    }
    return found[case]


def pieces(unit: chunks.WorkUnit) -> list[tuple[object, ...]]:
    """What is read for a unit."""
    assert isinstance(unit.work, tuple)
    return [(one.tensor.file_position, one.tensor.shape, one.start, one.stop, one.name) for one in unit.work]


@pytest.mark.parametrize("case", ["neighbours", "gaps", "empty", "large", "dtypes", "written", "files"])
def test_neighbours_are_joined_alike(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = {"a": 8, "b": 8}
    entries = []
    for number, (path, gap, dtype, shape, written) in enumerate(rows(case)):
        at[path] += gap
        entries.append(Entry(f"t{number}", FileTensor(path, at[path], dtype, shape), written))
        at[path] += math.prod(shape) * dtype.itemsize
    plan = make(entries, {}, filename="out.safetensors")

    def described() -> list[tuple[int, tuple[chunks.OutputRange, ...], list[tuple[object, ...]]]]:
        units = [unit for shard in plan.shards for unit in chunks.work_units(shard)]
        return [(unit.number, unit.targets, pieces(unit)) for unit in units]

    together = described()
    monkeypatch.setattr(chunks._Joiner, "add_following", lambda joiner, entries, at: at)
    assert together == described()
    assert sum(target.nbytes for _, targets, _ in together for target in targets) == plan.data_bytes

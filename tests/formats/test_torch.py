"""Files that torch wrote, read without torch: every value is the one that torch itself has.

Covers `formats/torch/`.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv.formats
from wconv.formats.contents import Contents
from wconv.tensors.lazy import LazyTensor

FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "torch"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))


def spell(tensor: LazyTensor) -> dict[str, Any]:
    values = np.ascontiguousarray(tensor.numpy())
    return {"dtype": tensor.dtype.name, "shape": list(tensor.shape), "hex": values.tobytes().hex()}


def check(contents: Contents, expected: dict[str, Any]) -> None:
    """Compares all that is promised about a file."""
    assert contents.format == expected["format"]
    found = {name: spell(tensor) for name, tensor in contents.tensors.items()}
    assert found == expected["tensors"]
    assert set(contents.skipped) == set(expected["skipped"])
    if expected["ties"] != "any":
        assert {frozenset(group) for group in contents.ties} == {
            frozenset(group) for group in expected["ties"]
        }
    notes = "\n".join(contents.notes)
    for words in expected["notes"]:
        assert words in notes
    if not expected["notes"]:
        assert not notes
    for name, value in expected["metadata"].items():
        held = contents.metadata[name]
        assert (list(held) if isinstance(held, tuple) else held) == value


@pytest.mark.parametrize("name", EXPECTED)
def test_torch_file_is_read_as_torch_reads_it(name: str) -> None:
    contents = wconv.formats.open_file(str(FIXTURES / f"{name}.bin"))
    check(contents, EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED)
def test_any_range_of_any_tensor_is_the_same_as_a_part_of_the_whole(name: str) -> None:
    contents = wconv.formats.open_file(str(FIXTURES / f"{name}.bin"))
    for tensor in contents.tensors.values():
        whole = tensor.read_range().tobytes()
        width = tensor.dtype.itemsize
        step = max(tensor.size // 5, 1)
        for start in range(0, tensor.size, step):
            for stop in range(start + 1, tensor.size + 1, step):
                assert tensor.read_range(start, stop).tobytes() == whole[start * width : stop * width]


@pytest.mark.parametrize("name", EXPECTED)
def test_lazy_tensors_can_be_sent_to_another_process(name: str) -> None:
    contents = wconv.formats.open_file(str(FIXTURES / f"{name}.bin"))
    for tensor in contents.tensors.values():
        assert spell(pickle.loads(pickle.dumps(tensor))) == spell(tensor)


def test_contiguous_tensors_lie_in_the_file_as_they_are() -> None:
    from wconv.tensors.lazy import FileTensor

    contents = wconv.formats.open_file(str(FIXTURES / "many_tensors.bin"))
    assert all(type(tensor) is FileTensor for tensor in contents.tensors.values())

"""What people read: sizes, counts, names by reason, the time left."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

import wconv
from wconv.cli.progress import Bar, clock
from wconv.conversion.report import changes, command_for, grouped, overflow_line
from wconv.tensors.casts import Overflow
from wconv.wording import gigabytes, plural


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (360_808, "361 kB"),
        (999_999, "1 MB"),
        (16_584_333_312, "16.6 GB"),
        (7 * 10**15, "7,000 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert gigabytes(count) == text


def test_names_are_grouped_by_reason_and_the_rest_counted() -> None:
    reasons = {str(at): "no use" for at in range(7)} | {"x": "tied"}
    assert list(grouped("dropped", reasons)) == [
        "  dropped (no use): 0, 1, 2, 3 and 3 more",
        "  dropped (tied): x",
    ]


def test_overflow_in_one_sentence() -> None:
    lost = {"a": Overflow(2, 7e4), "b": Overflow(1, 3.1e5)}
    assert overflow_line(lost).startswith(
        "2 tensors overflow: 3 values became infinite (largest 3.1e+05 in b)"
    )
    assert overflow_line({"a": Overflow(1, 7e4)}).startswith("1 tensor overflows: 1 value became")


def test_changes_are_counted_most_frequent_first() -> None:
    pairs = [("int64", "int64"), ("bfloat16", "float16"), ("bfloat16", "float16")]
    assert changes(pairs) == {"bfloat16 → float16": 2, "int64": 1}


def test_plurals() -> None:
    assert (plural(1, "tensor"), plural(2000, "tensor")) == ("1 tensor", "2,000 tensors")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (65, "1:05"), (3_725, "1:02:05")])
def test_the_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_the_bar_draws_over_itself_and_disappears() -> None:
    stream = io.StringIO()
    bar = Bar(2_000_000_000, stream)
    bar(500_000_000)
    bar(1_000_000_000)
    shown = stream.getvalue()
    assert " 50%" in shown
    assert "1.00/2.00 GB" in shown
    assert "left" in shown
    bar.clear()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_the_command_that_loads_a_path_with_spaces_can_be_pasted() -> None:
    path = Path("it's my model")
    assert command_for("run --model {model} x", path) == "run --model 'it'\"'\"'s my model' x"
    assert command_for("load('{model}')", path) == 'load("it\'s my model")'


def test_one_tensor_is_not_called_tensors(tmp_path: Path) -> None:
    wconv.save({"a": np.ones(2)}, tmp_path / "a.safetensors")
    report = wconv.prepare(tmp_path / "a.safetensors").report
    assert next(report.lines()).startswith("1 tensor, ")

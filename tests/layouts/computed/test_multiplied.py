"""Weights multiplied with numbers of config.json: rounded as MLX rounds, and not undone."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import wconv
from wconv.layouts.apply import apply
from wconv.layouts.file.rules_file import parse, write
from wconv.layouts.inverse import restore
from wconv.tensors.lazy import from_array

RULES = """
rules = [
  { rename = "old.**", to = "new.**" },
  { scale = "new.whole", by = ["a", { setting = "numbers.1", default = 2.0 }] },
  { scale = "new.rows", by = ["a"], rows = [["numbers.0", "n * m"], ["numbers.1", 1]] },
]
"""
CONFIG = {"a": 1.1, "numbers": [0.3, 0.7], "n": 2, "m": 1}


def layout() -> wconv.Layout:
    return parse('names = ["new.**"]\nconsumers = ["mlx"]\n' + RULES)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_each_product_is_rounded_to_the_dtype(dtype: type) -> None:
    values = np.linspace(-3, 3, 15).reshape(3, 5).astype(dtype)
    made = apply(layout(), {"old.whole": from_array(values), "old.rows": from_array(values)}, CONFIG).tensors
    assert np.array_equal(made["new.whole"].numpy(), values * dtype(1.1 * 0.7))
    each = np.array([0.3, 0.3, 0.7], np.float32).astype(dtype) * dtype(1.1)
    assert np.array_equal(made["new.rows"].numpy(), values * each[:, None])
    part = np.empty(5, dtype)
    made["new.rows"].read_into(5, 10, part)
    assert np.array_equal(part, made["new.rows"].numpy()[1])


def test_the_rules_file_says_it_again() -> None:
    assert parse(write(layout())) == layout()


def test_there_is_no_way_back_but_from_ones() -> None:
    tensors = {"old.rows": from_array(np.ones((3, 5), np.float32))}
    with pytest.raises(wconv.WconvError, match=r"new\.rows was multiplied with numbers of config\.json"):
        restore(layout(), apply(layout(), tensors, CONFIG).tensors, CONFIG)
    ones = {**CONFIG, "a": 1.0, "numbers": [1, 1]}
    restored = restore(layout(), apply(layout(), tensors, ones).tensors, ones)
    assert restored is not None
    assert list(restored.tensors) == ["old.rows"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({**CONFIG, "a": "x"}, "config.json: a is 'x', expected a finite number"),
        ({**CONFIG, "a": float("inf")}, "config.json: a is inf"),
        ({**CONFIG, "n": 4}, "config.json has multipliers for 5 rows"),
        ({**CONFIG, "numbers": []}, "config.json has no numbers.0"),
        ({**CONFIG, "a": 1e39}, "overflows"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(config: dict, told: str) -> None:
    tensors = {"old.rows": from_array(np.ones((3, 5), np.float16))}
    with pytest.raises(wconv.WconvError, match=told):
        apply(layout(), tensors, config).tensors["new.rows"].numpy()


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(wconv.WconvError, match="int64"):
        apply(layout(), {"old.rows": from_array(np.ones((3, 5), np.int64))}, CONFIG)


def test_a_rule_without_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(wconv.WconvError, match="scale needs 'by' or 'rows'"):
        parse('names = ["**"]\nconsumers = ["mlx"]\nrules = [{ scale = "a" }]')

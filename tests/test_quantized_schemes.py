"""Weights in every scheme, as its own library wrote them, against the dense values that it makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from wconv.quantized import recognise
from wconv.quantized.scheme import Dense, Scheme

FIXTURES = Path(__file__).parent.parent / "fixtures" / "quantized"
CASES = sorted(path.parent.name for path in FIXTURES.glob("*/expected.safetensors"))


def opened(case: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    path = FIXTURES / case
    config = json.loads((path / "config.json").read_text())
    source = wconv.open(path / "model.safetensors")
    return source, config, dict(source.metadata)


def scheme_of(case: str) -> tuple[Scheme, Any, dict[str, Any]]:
    tensors, config, metadata = opened(case)
    scheme = recognise(tensors, config, metadata)
    assert scheme is not None
    return scheme, tensors, config


def same(name: str, one: np.ndarray, other: np.ndarray) -> None:
    assert one.shape == other.shape, name
    assert one.dtype == other.dtype, name
    assert np.array_equal(one.view(np.uint8), other.view(np.uint8)), name


def check(dense: Dense, case: str) -> None:
    expected = wconv.open(FIXTURES / case / "expected.safetensors")
    assert dense.tensors.keys() == expected.keys()
    for name, tensor in dense.tensors.items():
        same(name, tensor.cast(expected[name].dtype).numpy(), expected[name].numpy())


@pytest.mark.parametrize("case", CASES)
def test_dense_values_are_the_librarys(case: str) -> None:
    scheme, tensors, config = scheme_of(case)
    check(scheme.decode(tensors, config), case)
    assert not scheme.notes


@pytest.mark.parametrize("case", CASES)
def test_any_range_is_that_of_the_whole(case: str) -> None:
    scheme, tensors, config = scheme_of(case)
    random = np.random.default_rng(0)
    for name, tensor in scheme.decode(tensors, config).tensors.items():
        whole = tensor.numpy().reshape(-1)
        for _ in range(8):
            start, stop = sorted(random.integers(0, whole.size + 1, 2))
            same(name, tensor.elements(int(start), int(stop)), whole[start:stop])

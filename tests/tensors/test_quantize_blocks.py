"""What is quantized does not depend on how it is cut into blocks, nor on what memory they are computed in.

Covers `tensors/quantize_columns.py`, `tensors/quantize_affine.py`, `tensors/quantize_floats.py`.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from wconv.tensors import quantize_columns
from wconv.tensors.borrowed import keeping
from wconv.tensors.quantize import MODES, Quantization, quantize

DTYPES: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
WAYS = [
    *(Quantization.of("affine", bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)),
    *(Quantization.of(mode) for mode in MODES if mode != "affine"),
]


def values(dtype: str) -> Any:
    """Groups of every kind, whose order makes blocks of each size hold some of it."""
    rng = np.random.default_rng(7)
    plain = rng.standard_normal((60, 128)) * np.exp2(rng.integers(-12, 4, (60, 1)))
    plain[5], plain[6], plain[7] = 0, -np.abs(plain[7]), np.abs(plain[8])
    plain[20, 3], plain[31, 77], plain[44, 1] = np.nan, np.inf, 3e38
    plain[50] *= 1e-38
    with np.errstate(all="ignore"):
        return plain.reshape(-1).astype(DTYPES[dtype])


def parts(result: Any) -> list[bytes]:
    return [part.tobytes() for part in (result.codes, result.scales, result.biases) if part is not None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", WAYS, ids=str)
def test_blocks_of_every_size_give_the_same(how: Quantization, dtype: str, monkeypatch: Any) -> None:
    numbers = values(dtype)
    whole = parts(quantize(numbers, how))
    for at_once in (128, 1024, 7 * 128):
        monkeypatch.setattr(quantize_columns, "AT_ONCE", at_once)
        assert parts(quantize(numbers, how)) == whole


@pytest.mark.parametrize("how", WAYS[1::5], ids=str)
def test_what_is_left_in_memory_does_not_count(how: Quantization) -> None:
    numbers = values("bfloat16")
    fresh = parts(quantize(numbers, how))
    with keeping():
        for other in WAYS:
            quantize(numbers[::-1].copy(), other)
            assert parts(quantize(numbers, how)) == fresh


def test_threads_do_not_share_memory() -> None:
    inputs = [np.random.default_rng(seed).standard_normal(1 << 14).astype(np.float32) for seed in range(4)]
    expected = [parts(quantize(numbers, Quantization.of())) for numbers in inputs]
    wrong: list[int] = []

    def work(at: int) -> None:
        with keeping():
            wrong.extend(
                at for _ in range(20) if parts(quantize(inputs[at], Quantization.of())) != expected[at]
            )

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(at,)) for at in range(len(inputs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_a_signaling_nan_hides_no_number() -> None:
    numbers = np.arange(1, 65, dtype=np.float32).astype(ml_dtypes.bfloat16)
    numbers.view(np.uint16)[-4] = 0x7F81
    result = quantize(np.tile(numbers, 3), Quantization.of())
    assert result.biases is not None
    assert (result.biases.astype(np.float32) == 64).all()

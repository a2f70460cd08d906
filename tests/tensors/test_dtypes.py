"""One table of dtypes, and its inverses are really inverse."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from wconv.errors import WconvError
from wconv.tensors import dtypes


def test_every_row_is_found_by_each_of_its_names() -> None:
    for row in dtypes.TABLE:
        assert dtypes.by_name(row.name) is row
        assert dtypes.by_name(f"torch.{row.name}") is row
        assert dtypes.BY_CODE[row.code] is row
        assert dtypes.from_numpy(row.numpy) is row
        assert row.numpy.itemsize == row.itemsize
    assert len(dtypes.BY_NAME) == len(dtypes.BY_CODE) == len(dtypes.TABLE)


def test_what_crosses_a_process_is_the_same_row() -> None:
    for row in dtypes.TABLE:
        assert pickle.loads(pickle.dumps(row)) is row


def test_mlx_names_are_mlx_dtypes_of_the_same_size() -> None:
    mx = pytest.importorskip("mlx.core")
    for row in dtypes.TABLE:
        if row.mlx is not None:
            assert getattr(mx, row.mlx).size == row.itemsize


def test_bytes_on_disk() -> None:
    assert dtypes.by_name("bfloat16").nbytes(3) == 6
    assert dtypes.by_name("float4_e2m1fn_x2").nbytes(5) == 3
    assert dtypes.by_name("float6_e2m3fn").nbytes(4) == 3


@pytest.mark.parametrize("name", ["float17", "", "torch.", "str"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(WconvError, match="not a dtype"):
        dtypes.by_name(name)


@pytest.mark.parametrize("dtype", ["U3", "O", "M8[s]", "S2"])
def test_numpy_dtypes_without_a_tensor_are_refused(dtype: str) -> None:
    with pytest.raises(WconvError, match="cannot be stored"):
        dtypes.from_numpy(np.dtype(dtype))


def test_either_byte_order_is_the_same_row() -> None:
    assert dtypes.from_numpy(np.dtype(">f4")) is dtypes.from_numpy(np.dtype("<f4"))


def test_the_table_alone_imports_no_numpy() -> None:
    code = "import sys, wconv.tensors.dtypes; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

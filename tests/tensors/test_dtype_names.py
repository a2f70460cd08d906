"""A dtype is taken under every name that a library has for it, wherever a dtype is taken."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import wconv
import wconv.torch as shim
from tests.making import random, write_directory, write_file
from tests.oracles import oracle
from wconv.cli.program import main
from wconv.errors import WconvError
from wconv.tensors import dtypes
from wconv.tensors.lazy import from_array

HALF = ["fp16", "f16", "half", "float16", "torch.float16", "mlx.core.float16", "np.float16"]
OBJECTS = [np.float16, np.dtype("float16"), np.dtype(">f2"), shim.float16, dtypes.by_name("float16")]


@pytest.mark.parametrize("value", [*HALF, *OBJECTS], ids=repr)
def test_every_name_of_float16_is_float16(value: Any) -> None:
    assert dtypes.of(value) is dtypes.by_name("float16")


@pytest.mark.parametrize("row", dtypes.TABLE, ids=str)
def test_every_row_is_told_by_what_other_libraries_call_it(row: dtypes.DType) -> None:
    mx = pytest.importorskip("mlx.core")
    assert dtypes.of(row.numpy) is row
    assert dtypes.of(row.numpy.type) is row
    if row.name in shim.__dict__:
        assert dtypes.of(getattr(shim, row.name)) is row
    if row.mlx is not None:
        assert dtypes.of(getattr(mx, row.mlx)) is row


@pytest.mark.oracle
def test_torchs_own_dtypes_are_told() -> None:
    torch = oracle("torch")
    for row in dtypes.TABLE:
        if hasattr(torch, row.name):
            assert dtypes.of(getattr(torch, row.name)) is row


@pytest.mark.parametrize(
    "value", [float, int, complex, None, np.str_, np.dtype("U3"), object, 3, [1], "x" * 999]
)
def test_what_names_no_dtype_or_several_is_refused_in_a_line(value: Any) -> None:
    with pytest.raises(WconvError) as refused:
        dtypes.of(value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("row", dtypes.TABLE, ids=str)
def test_a_dtype_equals_its_name_and_hashes_as_it(row: dtypes.DType) -> None:
    assert row == row.name
    assert row.name == row
    assert row != "float17"
    assert {row.name: 1}[row] == {row: 1}[row.name] == 1
    assert [other for other in dtypes.TABLE if other == row] == [row]
    assert pickle.loads(pickle.dumps({row: 1})) == {row: 1}


@pytest.mark.parametrize("row", dtypes.TABLE, ids=str)
def test_numpy_takes_a_dtype_for_its_own(row: dtypes.DType) -> None:
    assert np.dtype(row) == row.numpy
    assert np.zeros(2, row).dtype == row.numpy
    assert row == row.numpy
    assert row.numpy == row
    assert row != np.dtype("U3")


@pytest.mark.parametrize("name", ["fp16", "torch.float16", "half"])
def test_the_command_takes_every_name(name: str, tmp_path: Path) -> None:
    model = write_directory(tmp_path / "model", [{"a": random((4, 4), np.float32)}])
    done = CliRunner().invoke(main, [str(model), "--dtype", name])
    assert done.exit_code == 0, done.output
    assert wconv.open(tmp_path / "model-MLX")["a"].dtype == "float16"


def test_the_command_refuses_other_names_by_the_ones_it_takes(tmp_path: Path) -> None:
    for name in ("fp17", "int8", "float64"):
        done = CliRunner().invoke(main, [str(tmp_path), "--dtype", name])
        assert done.exit_code == 2
        assert f"{name!r} is not one of float16, bfloat16, float32" in done.output


@pytest.mark.parametrize("value", ["bf16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16), shim.bfloat16])
def test_the_library_takes_every_name(value: Any, tmp_path: Path) -> None:
    source = write_file(tmp_path / "a.safetensors", {"a": random((4, 4), np.float32)})
    wconv.convert(source, tmp_path / "b.safetensors", dtype=value)
    assert wconv.open(tmp_path / "b.safetensors")["a"].dtype == "bfloat16"


def test_mlx_dtypes_are_taken_where_a_dtype_is(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    source = write_file(tmp_path / "a.safetensors", {"a": random((4, 4), np.float32)})
    wconv.convert(source, tmp_path / "b.safetensors", dtype=mx.float16)
    assert wconv.open(tmp_path / "b.safetensors")["a"].dtype == "float16"
    assert wconv.load_mlx(source, dtype=mx.bfloat16)["a"].dtype == mx.bfloat16
    assert wconv.load_mlx(source, dtype=np.float16)["a"].dtype == mx.float16


def test_lazy_tensors_cast_by_every_name_and_under_three() -> None:
    values = np.arange(6, dtype=np.float32)
    lazy = from_array(values)
    for made in (lazy.cast("fp16"), lazy.astype(np.float16), lazy.to(shim.float16)):
        assert made.dtype == "float16"
        assert np.array_equal(made.numpy(), values.astype(np.float16))
        # what is derived has the aliases too
        assert made.to("bf16").astype(np.float32).dtype == "float32"
    assert lazy.view(np.int32).to("float64").dtype == "float64"
    with pytest.raises(WconvError, match="not a dtype"):
        lazy.to("cuda")

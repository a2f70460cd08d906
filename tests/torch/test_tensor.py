"""Tensors on their way to MLX, numpy and DLPack, and what their table of calls does not show."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest

import wconv.torch as torch
from tests.oracles import oracle
from tests.shim.values import FLOAT8

SAME = "float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 complex64"
MLX = {"float64": "float32", "bool": "bool_"} | {name: name for name in SAME.split()}
"""What MLX makes of each dtype: its arrays of float64 would live on the CPU only."""


@pytest.mark.parametrize(("name", "expected"), MLX.items())
def test_mlx_makes_arrays_of_tensors(name: str, expected: str) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(getattr(torch, name))
    for given in (
        tensor,
        tensor.t(),
        tensor[0],
        tensor[0, 1],
        tensor[:, ::2],
        torch.zeros(0).to(tensor.dtype),
    ):
        for array in (mx.array(given), given.__mlx_array__()):
            assert array.dtype == getattr(mx, expected)
            assert array.shape == tuple(given.shape)
            assert array.astype(mx.float32).tolist() == given.float().tolist()


@pytest.mark.oracle
@pytest.mark.parametrize("name", MLX)
def test_mlx_makes_the_same_arrays_of_torch_tensors(name: str) -> None:
    real = oracle("torch")
    arrays = [mx.array(t.arange(6).reshape(2, 3).to(getattr(t, name)).t()) for t in (torch, real)]
    assert arrays[0].dtype == arrays[1].dtype
    assert mx.array_equal(*arrays)


def test_mlx_arrays_are_copies() -> None:
    tensor = torch.ones(3).bfloat16()
    array = mx.array(tensor)
    mx.eval(array)
    tensor.fill_(5)
    assert array.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", [*FLOAT8, "complex128"])
def test_dtypes_that_mlx_lacks_are_refused(name: str) -> None:
    tensor = torch.ones(2).to(getattr(torch, name))
    with pytest.raises(TypeError, match=f"MLX has no {name}"):
        tensor.__mlx_array__()
    if name in FLOAT8:
        with pytest.raises(BufferError):
            tensor.__dlpack__()


def test_dlpack_shares_memory_with_numpy() -> None:
    tensor = torch.arange(4)
    array = np.from_dlpack(tensor)
    array[0] = 9
    assert tensor[0].item() == 9
    assert torch.from_dlpack(array).data_ptr() == tensor.data_ptr()


def test_the_refusal_of_bfloat16_says_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"BFloat16.*\.float\(\).*mx\.array"):
        torch.ones(1).bfloat16().numpy()


def test_ml_dtypes_arrays_become_tensors() -> None:
    array = np.ones(3, ml_dtypes.bfloat16)
    tensor = torch.from_numpy(array)
    assert tensor.dtype is torch.bfloat16
    tensor.mul_(2)
    assert array.tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float8_e4m3fn"])
def test_tensors_dtypes_and_sizes_pickle_and_copy(name: str) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(getattr(torch, name)).requires_grad_()
    for again in (pickle.loads(pickle.dumps(tensor)), copy.deepcopy(tensor)):
        assert again.dtype is tensor.dtype
        assert again.requires_grad
        assert again.tolist() == tensor.tolist()
        assert again.data_ptr() != tensor.data_ptr()
    assert pickle.loads(pickle.dumps(torch.bfloat16)) is torch.bfloat16
    assert pickle.loads(pickle.dumps(tensor.shape)) == (2, 3)
    assert type(pickle.loads(pickle.dumps(torch.nn.Parameter(tensor)))) is torch.nn.Parameter


def test_storages_are_mapped_from_files(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(np.arange(8, dtype=np.float32).tobytes())
    storage = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=32)
    part = torch.asarray(storage.untyped()[8:16], dtype=torch.uint8).view(dtype=torch.float32).reshape([2, 1])
    assert part.tolist() == [[2], [3]]
    part.zero_()
    assert np.frombuffer(path.read_bytes(), np.float32).tolist() == list(range(8))
    with pytest.raises(RuntimeError, match="shared"):
        torch.UntypedStorage.from_file(str(path), shared=True, nbytes=32)
    with pytest.raises(RuntimeError, match="holds 32"):
        torch.UntypedStorage.from_file(str(path), nbytes=33)


def test_casts_to_real_warn_of_what_is_lost() -> None:
    with pytest.warns(UserWarning, match="imaginary"):
        assert torch.tensor([1 + 2j]).float().tolist() == [1]


def test_no_call_warns_of_overflow_or_invalid_values() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wild = torch.tensor([1e38, float("nan"), float("inf"), -1.0])
        for made in (
            wild * 10,
            wild.half(),
            wild.sqrt(),
            wild.int(),
            wild / 0,
            wild.sum(),
            wild.log(),
            wild @ wild,
        ):
            assert made.numel()


def test_unexpected_arguments_are_refused() -> None:
    x = torch.ones(2)
    for call in (
        lambda: torch.add(x, x, out=x),
        lambda: torch.zeros(2, nonsense=1),
        lambda: torch.tensor([1], pin_memory=True),
        lambda: x.clone(memory_format=torch.channels_last),
        lambda: torch.zeros(2, layout=torch.sparse_coo),
        lambda: x.to(torch.half, memory_format=torch.channels_last),
        lambda: x.round(decimals=2),
        lambda: x.bfloat16().add(x.bfloat16(), alpha=2),
        lambda: x.norm(p="nuc"),
    ):
        with pytest.raises((TypeError, RuntimeError)):
            call()


def test_typed_names_are_kinds_of_tensors() -> None:
    assert isinstance(torch.ones(1), torch.FloatTensor)
    assert not isinstance(torch.ones(1), torch.HalfTensor)
    assert torch.LongTensor([1, 2]).dtype is torch.int64
    assert torch.ones(1).type(torch.HalfTensor).dtype is torch.float16


@pytest.mark.oracle
def test_every_offered_name_is_one_of_torchs() -> None:
    """Nothing is made up: each function and method is known to the torch that scripts are written for."""
    real = oracle("torch")
    from wconv.torch.methods import gathered

    assert [name for name in gathered() if not hasattr(real, name)] == []
    public = [name for name in vars(torch.Tensor) if not name.startswith("_")]
    assert [name for name in public if not hasattr(real.Tensor, name)] == []

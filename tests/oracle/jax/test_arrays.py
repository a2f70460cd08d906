"""JAX takes the arrays as they are, and a host reads just its own rows of a sharded one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import wconv
from tests.making import bits, random, write_directory
from tests.oracles import oracle
from wconv.stores import files

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def jax() -> Any:
    """JAX on the CPU with eight virtual devices."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"
    module = oracle("jax")
    assert module.device_count() == 8
    return module


@pytest.fixture
def transformer(tmp_path: Path) -> Path:
    """The names and dtypes of a diffusers transformer, in two shards."""
    block = "transformer_blocks.0"
    return write_directory(
        tmp_path / "transformer",
        [
            {
                "x_embedder.weight": random((64, 16), seed=1),
                f"{block}.attn.to_q.weight": random((64, 64), seed=2),
            },
            {"norm_out.linear.weight": random((128, 64), seed=3), "scale": random((8,), np.float32, seed=4)},
        ],
    )


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
)
def test_jax_takes_loaded_arrays_bit_for_bit(dtype: Any, jax: Any, tmp_path: Path) -> None:
    array = random((8, 8), dtype)
    wconv.save({"a": array}, tmp_path / "x.safetensors")
    taken = jax.numpy.asarray(wconv.load(tmp_path / "x.safetensors")["a"])
    assert taken.dtype == array.dtype
    assert bits(np.asarray(taken)) == bits(array)


def test_each_device_reads_its_own_rows(jax: Any, transformer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = files.SourceFile.read_into

    def counted(self: files.SourceFile, offset: int, buffer: memoryview) -> None:
        read.append(len(buffer))
        original(self, offset, buffer)

    mesh = jax.make_mesh((8,), ("rows",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    opened, whole = wconv.open(transformer), wconv.load(transformer)
    monkeypatch.setattr(files.SourceFile, "read_into", counted)
    for name, tensor in opened.items():
        read.clear()
        array = jax.make_array_from_callback(
            tensor.shape, sharding, lambda index, tensor=tensor: tensor[index]
        )
        assert read == [tensor.nbytes // 8] * 8
        assert bits(np.asarray(array)) == bits(whole[name])
        assert {shard.data.shape[0] for shard in array.addressable_shards} == {tensor.shape[0] // 8}


def test_columns_can_be_sharded_too(jax: Any, transformer: Path) -> None:
    mesh = jax.make_mesh((2, 4), ("rows", "columns"))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows", "columns"))
    tensor = wconv.open(transformer)["x_embedder.weight"]
    array = jax.make_array_from_callback(tensor.shape, sharding, lambda index: tensor[index])
    assert bits(np.asarray(array)) == bits(tensor.numpy())


def test_stages_of_a_pipeline_hand_bfloat16_on(jax: Any, tmp_path: Path) -> None:
    embeddings = jax.numpy.asarray(random((2, 16, 8)))
    wconv.save(
        {"prompt_embeds": embeddings, "latents": np.asarray(embeddings)}, tmp_path / "stage.safetensors"
    )
    loaded = wconv.load(tmp_path / "stage.safetensors")
    assert {str(array.dtype) for array in loaded.values()} == {"bfloat16"}
    assert bits(loaded["prompt_embeds"]) == bits(np.asarray(embeddings))

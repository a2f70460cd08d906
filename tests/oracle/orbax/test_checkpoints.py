"""What Orbax saves of arrays on eight devices is read as JAX holds them, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wconv
from tests.oracle import tiny_llama
from tests.oracle.consumers import (
    assert_same_logits,
    assert_same_parameters,
    logits,
    mlx_lm_conversion,
    mlx_lm_model,
    stored,
)
from tests.oracles import directory_of, oracle

pytestmark = pytest.mark.oracle
SCRIPT = Path(__file__).parents[3] / "fixtures" / "training" / "make_orbax.py"
CASES = ["ocdbt", "ocdbt-zarr3", "zarr", "zarr3", "manager", "v1", "chunked", "many"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    oracle("jax")
    folder = tmp_path_factory.mktemp("orbax")
    environment = {**os.environ, "PYTHONPATH": directory_of("orbax-checkpoint")}
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, *CASES], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_the_same_bits(case: str, saved: Path) -> None:
    found, expected = wconv.open(saved / case), wconv.open(saved / f"{case}.safetensors")
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_the_same_values_as_tensorstore(saved: Path) -> None:
    """Every key and value of a tree of several levels."""
    sys.path.append(directory_of("orbax-checkpoint"))
    try:
        tensorstore = oracle("tensorstore")
    finally:
        sys.path.pop()
    from wconv.formats.sources import FileSource
    from wconv.formats.zarr import ocdbt

    place = saved / "many"
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{place}/"}).result()
    keys = store.list().result()
    found = ocdbt.read(
        FileSource(str(place / "manifest.ocdbt")),
        lambda at: FileSource(str(place / at.file), at.offset, at.length),
    )
    assert sorted(found) == sorted(keys)
    for key in keys[::50]:
        assert found[key].read(0, found[key].size) == store.read(key).result().value


def test_mlx_lm_computes_the_same(tmp_path: Path) -> None:
    """A Llama whose weights JAX has saved under the hub's names."""
    model = tiny_llama.saved(tmp_path / "llama")
    place = tmp_path / "saved"
    environment = {**os.environ, "PYTHONPATH": directory_of("orbax-checkpoint")}
    command = [sys.executable, SCRIPT, place, f"of:{model / 'model.safetensors'}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = wconv.convert(place / "of", tmp_path / "ours", dtype="float16", config=model, key="params")
    theirs = mlx_lm_conversion(model, tmp_path / "theirs")
    assert_same_parameters(stored(report.output), stored(theirs))
    assert_same_logits(logits(mlx_lm_model(report.output)), logits(mlx_lm_model(theirs)))

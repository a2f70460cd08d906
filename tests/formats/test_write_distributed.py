"""Distributed checkpoints are written of one rank, as torch writes them; wconv reads them back the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.making import bits, random, write_file
from wconv.errors import WconvError
from wconv.stores.files import SourceFile

FIXTURES = Path(__file__).parents[2] / "fixtures" / "training"


def test_there_and_back(tmp_path: Path) -> None:
    source = FIXTURES / "expected.safetensors"
    report = wconv.convert(source, tmp_path / "out", format="dcp")
    assert {path.name for path in report.output.iterdir()} == {".metadata", "__0_0.distcp"}
    assert report.command.startswith("torch.distributed.checkpoint.load(")
    found, expected = wconv.open(report.output), wconv.open(source)
    assert found.format == "torch.distributed.checkpoint"
    assert {name: bits(found[name].numpy()) for name in found} == {
        name: bits(expected[name].numpy()) for name in expected
    }
    wconv.convert(FIXTURES / "dcp-4", tmp_path / "out", format="dcp", overwrite=True)
    assert set(wconv.open(tmp_path / "out")) == set(expected)


def test_several_files(tmp_path: Path) -> None:
    arrays = {f"w{at}": random((100, 10), np.float32, seed=at) for at in range(5)}
    source = write_file(tmp_path / "x.safetensors", arrays)
    report = wconv.convert(source, format="dcp", max_shard_size=8000)
    assert report.output == tmp_path / "x-HF"
    assert report.shards == ("__0_0.distcp", "__0_1.distcp", "__0_2.distcp")
    found = wconv.open(report.output)
    assert {name: bits(found[name].numpy()) for name in found} == {
        name: bits(array) for name, array in arrays.items()
    }
    for name in report.shards:
        # elements are aligned, as torch's are
        data = bytes(SourceFile(str(report.output / name)).read(0, 1000))
        assert data.startswith(b"PK")
    assert found["w1"].opened.offset % 64 == 0  # type: ignore[attr-defined]


def test_a_file_is_no_distributed_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WconvError, match="--format says dcp"):
        wconv.convert(FIXTURES / "expected.safetensors", tmp_path / "x.pt", format="dcp")

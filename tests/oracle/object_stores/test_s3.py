"""`s3://…` as a source and as an output, through s3fs, against moto's server on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.making import random, write_directory
from tests.oracles import directory_of, oracle

pytestmark = pytest.mark.oracle

HERE = Path(__file__).parent
SECRET = "very-secret-key-of-a-bucket"

MAKE = """
import fsspec, pathlib, sys
system = fsspec.filesystem("s3")
system.mkdir("bucket")
for path in pathlib.Path(sys.argv[1]).iterdir():
    system.put_file(str(path), f"bucket/models/Tiny/{path.name}")
"""


class Bucket:
    def __init__(self, port: str) -> None:
        self.environment = {
            **os.environ,
            "PYTHONPATH": directory_of("s3"),
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert SECRET not in done.stdout + done.stderr
        return done

    def convert(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "wconv", *words)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shards = [{"a.weight": random((300, 400))}, {"b.weight": random((2000, 400))}]
    return write_directory(tmp_path_factory.mktemp("m") / "Tiny", shards, {"model_type": "of-my-own"})


@pytest.fixture(scope="module")
def bucket(model: Path) -> Iterator[Bucket]:
    oracle("fsspec")
    server = subprocess.Popen(
        [sys.executable, str(HERE / "loopback_s3.py")],
        env={**os.environ, "PYTHONPATH": directory_of("s3")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    made = Bucket(server.stdout.readline().strip())
    done = made.run("-c", MAKE, model)
    assert done.returncode == 0, done.stderr
    yield made
    server.communicate("")


def same(there: Path, here: Path) -> bool:
    names = {path.name for path in here.iterdir()}
    return {path.name for path in there.iterdir()} == names and all(
        (there / name).read_bytes() == (here / name).read_bytes() for name in names
    )


def test_a_directory_of_a_bucket_is_converted_as_a_local_one(
    bucket: Bucket, model: Path, tmp_path: Path
) -> None:
    assert bucket.convert(model, "-o", tmp_path / "here", "--dtype", "float16").returncode == 0
    done = bucket.convert("s3://bucket/models/Tiny", "-o", tmp_path / "there", "--dtype", "float16")
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "there", tmp_path / "here")
    one = bucket.convert("inspect", "s3://bucket/models/Tiny/model-00001-of-00002.safetensors")
    assert "a.weight" in one.stdout


def test_a_result_goes_to_a_bucket_and_comes_back(bucket: Bucket, model: Path, tmp_path: Path) -> None:
    assert bucket.convert(model, "-o", tmp_path / "here", "--dtype", "float16").returncode == 0
    words = (model, "-o", "s3://bucket/results/Tiny", "--dtype", "float16")
    done = bucket.convert(*words)
    assert done.returncode == 0, done.stderr
    assert "s3://bucket/results/Tiny: 4 files" in done.stdout
    assert bucket.convert("s3://bucket/results/Tiny", "-o", tmp_path / "back").returncode == 0
    assert same(tmp_path / "back", tmp_path / "here")
    again = bucket.convert(*words)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert bucket.convert(*words, "--overwrite").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("s3://bucket/nothing",), "there is nothing at that address"),
        (("s3://nowhere/x.safetensors",), "there is nothing at that address"),
        (("gs://bucket/x",), "gs:// needs gcsfs, which is not installed: pip install 'wconv[hub]' gcsfs"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    bucket: Bucket, words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = bucket.convert(*words, "-o", tmp_path / "o")
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()

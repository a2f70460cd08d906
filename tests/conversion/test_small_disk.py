"""A model that is larger than the disk is converted from a server: it is never whole there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.making import random, write_directory
from tests.serving import Served, put_model, serving
from tests.stores.test_mount_points import in_namespace

MODEL = "someone/Large"
BLOCK = (2048, 1024)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    config = {"model_type": "llama", "tie_word_embeddings": False}
    names = [f"model.layers.{at}.mlp.up_proj.weight" for at in range(8)]
    shards = [{name: random(BLOCK) for name in names[at : at + 4]} for at in (0, 4)]
    shards.append({"lm_head.weight": random((256, 1024))})
    directory = write_directory(tmp_path / "m", shards, config)
    with serving() as served:
        put_model(served, MODEL, {path.name: path.read_bytes() for path in directory.iterdir()})
        yield served


def test_a_file_system_smaller_than_the_model_holds_the_run(server: Served, tmp_path: Path) -> None:
    size = sum(map(len, server.files.values()))
    (tmp_path / "small").mkdir()
    done = in_namespace(
        tmp_path,
        f"""mount -t tmpfs -o size=20M none small
        export HF_ENDPOINT={server.url} HF_HOME=$PWD/small/hf TMPDIR=$PWD/small HF_HUB_OFFLINE=0
        cd small
        "$PYTHON" -m wconv {MODEL} -o quantized -q --layout mlx-lm --json
        du -sb quantized
        "$PYTHON" -m wconv {MODEL} -o whole --layout mlx-lm && exit 9
        ls
        """,
    )
    assert done.returncode == 0, done.stderr
    assert size > 32 << 20
    assert "quantized" in done.stdout.splitlines()[-1]
    assert "whole" not in done.stdout.splitlines()[-1]
    assert "is needed" in done.stderr or "free" in done.stderr, done.stderr

"""Settings in YAML are read as far as they are plain, and are text where they are not; NeMo's archives."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
import wconv.torch as torch
from wconv.errors import FormatError
from wconv.formats import yaml_text

TEXT = """
# settings
name: Conformer   # of speech
rate: 16000
eps: 1.0e-3
flag: true
nothing:
also: null
quoted: "a # b: c"
'key': 'x'
list: [1, two, 3.5]
empty: {}
labels:
- a
- ' '
optim:
  betas: [0.9, 0.98]
  sched:
    name: cosine
  groups:
    - name: x
      v: -1
    - name: y
    - - deep
after: .5
"""


def test_what_settings_say() -> None:
    assert yaml_text.parse(TEXT) == {
        "name": "Conformer",
        "rate": 16000,
        "eps": 0.001,
        "flag": True,
        "nothing": None,
        "also": None,
        "quoted": "a # b: c",
        "key": "x",
        "list": [1, "two", 3.5],
        "empty": {},
        "labels": ["a", " "],
        "optim": {
            "betas": [0.9, 0.98],
            "sched": {"name": "cosine"},
            "groups": [{"name": "x", "v": -1}, {"name": "y"}, ["deep"]],
        },
        "after": 0.5,
    }
    assert yaml_text.parse("") is None


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1",
        "a: *x",
        "a: !!python/object:os.system x",
        "a: |\n  text",
        "a: [[1]]",
        "a: 'x",
        "a: 1\na: 2",
        "a:\n    b: 1\n  c: 2",
        "a: 1\n  b: 2",
        "\t- x",
        "".join(f"{' ' * at}a:\n" for at in range(60)),
        "x" * (yaml_text.LIMIT + 1),
    ],
)
def test_what_is_more_than_settings(text: str) -> None:
    with pytest.raises(yaml_text.NotPlain):
        yaml_text.parse(text)


def nemo(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def weights() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.from_numpy(np.arange(3000, dtype=np.float32))}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["x.nemo", "x.nemo.gz"])
def test_an_archive_of_nemo(name: str, tmp_path: Path) -> None:
    held: dict[str, Any] = {"./model_config.yaml": TEXT.encode(), "./model_weights.ckpt": weights()}
    opened = wconv.open(nemo(tmp_path / name, held))
    assert np.array_equal(opened["w"].numpy(), np.arange(3000, dtype=np.float32))
    assert opened.metadata["model_config"]["rate"] == 16000
    odd = nemo(tmp_path / f"odd-{name}", {**held, "./model_config.yaml": b"a: &x 1"})
    assert wconv.open(odd).metadata["model_config"] == "a: &x 1"


def test_an_archive_with_a_distributed_checkpoint(tmp_path: Path) -> None:
    path = nemo(tmp_path / "x.nemo", {"./model_weights/.metadata": b""})
    with pytest.raises(FormatError, match=r"holds a distributed checkpoint .* unpack it with tar -xf"):
        wconv.open(path)


def test_a_gzip_file_whose_end_lies(tmp_path: Path) -> None:
    data = nemo(tmp_path / "x.nemo", {"./model_weights.ckpt": weights()}).read_bytes()
    packed = gzip.compress(data)
    for end in (b"\0\0\0\0", b"\xff\xff\xff\xff", (len(data) - 512).to_bytes(4, "little")):
        path = tmp_path / "lies.gz"
        path.write_bytes(packed[:-4] + end)
        with pytest.raises(wconv.WconvError):
            wconv.open(path)["w"].numpy()

"""In what two checkpoints differ.

Covers `cli/diff.py`, `examine/pairing.py`, `tensors/parallel.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import wconv
from wconv.cli.program import main

MODEL = Path(__file__).parents[2] / "fixtures" / "qwen2_5_vl"


def write(path: Path, **tensors: object) -> Path:
    wconv.save({name: np.asarray(value) for name, value in tensors.items()}, path)
    return path


def test_a_checkpoint_is_the_same_as_itself() -> None:
    found = wconv.diff(MODEL, MODEL)
    assert found.same
    assert not found.differing
    assert not found.config


def test_one_flipped_bit_is_found(tmp_path: Path) -> None:
    one = write(tmp_path / "a.safetensors", w=np.ones(1000, np.float32), v=np.zeros(3, np.int8))
    data = bytearray(one.read_bytes())
    data[-2000] ^= 1
    (tmp_path / "b.safetensors").write_bytes(data)
    found = wconv.diff(one, tmp_path / "b.safetensors")
    assert not found.same
    assert [tensor.name for tensor in found.differing] == ["w"]
    assert found.differing[0].distance is not None
    assert found.differing[0].distance.differing == 1


def test_names_and_shapes_that_differ_are_told(tmp_path: Path) -> None:
    one = write(tmp_path / "a.safetensors", x=np.ones(2), y=np.ones(3), both=np.ones((2, 2)))
    other = write(tmp_path / "b.safetensors", x=np.ones(2), z=np.ones(3), both=np.ones((4, 1)))
    found = wconv.diff(one, other)
    assert found.only == (("y",), ("z",))
    text = "\n".join(found.lines())
    assert "both: [2, 2], [4, 1]" in text
    assert text.endswith("they differ")


def test_dtypes_alone_do_not_make_a_difference(tmp_path: Path) -> None:
    one = write(tmp_path / "a.safetensors", x=np.float32([1, 2, 0.5]))
    other = write(tmp_path / "b.safetensors", x=np.float16([1, 2, 0.5]))
    found = wconv.diff(one, other)
    assert found.same
    assert "dtypes: float32 → float16: 1 tensor" in list(found.lines())


def test_a_tolerance_allows_differences(tmp_path: Path) -> None:
    one = write(tmp_path / "a.safetensors", x=np.float32([1, 2]))
    other = write(tmp_path / "b.safetensors", x=np.float32([1, 2.25]))
    assert not wconv.diff(one, other, tolerance=0.2).same
    assert wconv.diff(one, other, tolerance=0.25).same
    assert wconv.diff(one, other, relative_tolerance=0.12).same
    with pytest.raises(wconv.WconvError, match="a tolerance is a number of at least 0, not nan"):
        wconv.diff(one, other, tolerance=float("nan"))


@pytest.mark.parametrize("options", [{}, {"layout": "mlx-vlm"}, {"format": "pt"}])
def test_a_conversion_has_the_values_of_its_source(tmp_path: Path, options: dict[str, str]) -> None:
    """Names, axes and formats are brought together first."""
    wconv.convert(MODEL, tmp_path / "out", **options)  # type: ignore[arg-type]
    for pair in ((MODEL, tmp_path / "out"), (tmp_path / "out", MODEL)):
        found = wconv.diff(*pair)
        assert found.same
        assert len(found.tensors) == 57


def test_quantized_weights_are_compared_by_what_they_stand_for(tmp_path: Path) -> None:
    wconv.convert(MODEL, tmp_path / "q", quantize=wconv.Quantize(bits=8))
    found = wconv.diff(MODEL, tmp_path / "q")
    assert not any(found.only)
    worst = found.differing[0].distance
    assert worst is not None
    assert 0 < worst.error < 0.02


def test_config_and_tokenizer_are_compared(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "m")
    config = json.loads((MODEL / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "vocab_size": 7}))
    (tmp_path / "m" / "vocab.json").write_text("{}")
    (tmp_path / "m" / "merges.txt").unlink()
    found = wconv.diff(MODEL, tmp_path / "m")
    assert found.same, "weights are the same"
    assert found.config["vocab_size"] == (config.get("vocab_size"), 7)
    assert found.files == {"vocab.json": "different", "merges.txt": f"only in {MODEL}"}


def test_the_command_exits_with_1_where_values_differ(tmp_path: Path) -> None:
    one = write(tmp_path / "a.safetensors", x=np.float32([1, 2]))
    other = write(tmp_path / "b.safetensors", x=np.float32([1, 3]))
    run = CliRunner().invoke
    assert run(main, ["diff", str(one), str(one)]).exit_code == 0
    differs = run(main, ["diff", str(one), str(other), "--json"])
    assert differs.exit_code == 1
    said = json.loads(differs.output)
    assert said["tensors"][0]["largest_difference"] == 1.0
    assert run(main, ["diff", str(one), str(other), "--quiet"]).output == ""
    assert run(main, ["diff", str(one), str(other), "--tolerance", "1"]).exit_code == 0


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["diff", str(MODEL), str(tmp_path / "none")])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1

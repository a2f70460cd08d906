"""Weights that stay as they are stored are looked at as those that are decoded: nothing is copied in part."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import wconv

FIXTURES = Path(__file__).parents[2] / "fixtures"
SCALES = (".weight_scale", ".SCB", ".absmax", ".scales")
KINDS = (
    "bnb-int8",
    "bnb-nf4",
    "bitnet",
    "ct-int4",
    "ct-nvfp4",
    "ct-mxfp4",
    "modelopt-nvfp4",
    "gptq-4",
    "awq-gemm",
)


def without(kind: str, target: Path, ends: tuple[str, ...], model_type: str | None) -> Path:
    """A fixture without the first tensor whose name ends so."""
    source = FIXTURES / "quantized" / kind
    tensors = wconv.load(source)
    dropped = next(name for name in tensors if name.endswith(ends))
    target.mkdir()
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(
        json.dumps({**config, **({"model_type": model_type} if model_type else {})})
    )
    metadata = {key: one for key, one in wconv.open(source).metadata.items() if isinstance(one, str)}
    kept = {name: array for name, array in tensors.items() if name != dropped}
    wconv.save(kept, target / "model.safetensors", metadata or None)
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_without_its_scale_is_not_copied(tmp_path: Path, kind: str) -> None:
    source = without(kind, tmp_path / "m", SCALES, None)
    with pytest.raises(wconv.FormatError):
        wconv.convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("key", "value"), [("bits", 8), ("group_size", 16)])
def test_bits_and_groups_that_the_tensors_deny_are_told(tmp_path: Path, key: str, value: int) -> None:
    source = tmp_path / "m"
    shutil.copytree(FIXTURES / "quantized" / "gptq-4", source)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"][key] = value
    (source / "config.json").write_text(json.dumps(config))
    report = wconv.convert(source, tmp_path / "out", dequantize=True)
    assert any(f"the config says {key} {value}, and the tensors have" in line for line in report.lines())
    whole = wconv.convert(FIXTURES / "quantized" / "gptq-4", tmp_path / "whole", dequantize=True)
    assert not any("the config says" in line for line in whole.lines())

"""Whole models that the schemes' own libraries quantized: from their files to the logits of mlx-lm.

`fixtures/quantized_models/make.py` had them written; transformers computed the logits.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracle.consumers import assert_same_parameters, logits, mlx_lm_model, parameters
from tests.oracle.tiny import FIXTURE
from tests.oracles import oracle
from wconv.consumers.quantization import Quantize

pytestmark = pytest.mark.oracle

MODELS = Path(__file__).parents[2] / "fixtures" / "quantized_models"
ROUNDED = {"bnb-int8": 5e-3}
"""Of values that the library computes in float32: how far those in 16 bits may lead."""

TAKEN = ("bitnet",)
"""What mlx-lm takes as it is, with a kernel that needs Metal."""


def source_of(name: str, to: Path) -> Path:
    """The model with a tokenizer, which mlx-lm wants."""
    shutil.copytree(MODELS / name, to)
    (to / "logits.safetensors").unlink()
    shutil.copy(FIXTURE / "tokenizer.json", to)
    (to / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return to


def assert_computes_the_same(path: Path, expected: Any, *, within: float = 1e-4) -> None:
    mx = oracle("mlx.core")
    found = logits(mlx_lm_model(path), wide=True)
    assert float(mx.abs(expected).max()) > 1
    assert mx.allclose(found, expected, rtol=0, atol=within), float(mx.abs(found - expected).max())


@pytest.mark.parametrize("name", sorted(path.name for path in MODELS.iterdir() if path.is_dir()))
def test_logits_are_those_of_the_librarys_values(name: str, tmp_path: Path) -> None:
    mx = oracle("mlx.core")
    source = source_of(name, tmp_path / "source")
    expected = mx.load(str(MODELS / name / "logits.safetensors"))["logits"]
    wconv.convert(source, tmp_path / "wide", dequantize=True, dtype="float32")
    assert_computes_the_same(tmp_path / "wide", expected)
    wconv.convert(source, tmp_path / "dense", dequantize=True)
    assert_computes_the_same(tmp_path / "dense", expected, within=ROUNDED.get(name, 1e-4))
    report = wconv.convert(source, tmp_path / "auto")
    assert report.layout == "mlx-lm"
    if name in TAKEN:
        assert any("stay as they are: mlx-lm loads them so" in note for note in report.notes)
    else:
        assert_same_parameters(*(parameters(mlx_lm_model(tmp_path / one)) for one in ("auto", "dense")))


@pytest.mark.parametrize("name", ["bnb-nf4", "torchao-int8", "bitnet"])
def test_quantized_anew_is_what_the_dense_model_gives(name: str, tmp_path: Path) -> None:
    """In one pass: the same as mlx-lm makes of the decoded directory."""
    source = source_of(name, tmp_path / "source")
    wconv.convert(source, tmp_path / "dense", dequantize=True)
    oracle("mlx_lm.convert").convert(
        str(tmp_path / "dense"), str(tmp_path / "theirs"), quantize=True, q_bits=4, q_group_size=64
    )
    wconv.convert(source, tmp_path / "ours", quantize=Quantize(bits=4, group_size=64))
    ours, theirs = (mlx_lm_model(tmp_path / one) for one in ("ours", "theirs"))
    assert_same_parameters(parameters(ours), parameters(theirs))
    assert oracle("mlx.core").array_equal(logits(ours, wide=True), logits(theirs, wide=True))

"""A receipt's digests are a manifest that model-signing (OpenSSF) signs, and verifies against the files."""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv
from tests.oracles import directory_of, run_script
from wconv.examine.receipt import write_receipt

pytestmark = pytest.mark.oracle

MODEL = Path(__file__).parents[3] / "fixtures" / "qwen2_5_vl"


def test_model_signing_takes_a_receipts_digests(tmp_path: Path) -> None:
    packages = directory_of("model-signing")
    planned = wconv.prepare(MODEL, tmp_path / "model", layout="mlx-lm")
    wconv.run(planned)
    write_receipt(planned, tmp_path / "model" / "wconv.json")
    run_script(Path(__file__).with_name("sign_receipt.py"), str(tmp_path / "model"), beside=packages)

"""A receipt proves a result without its source.

Covers `examine/receipt_check.py`, `examine/digests.py`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import wconv
from tests.examine.flips import unseen
from wconv.cli.program import main
from wconv.examine.receipt import write_receipt
from wconv.examine.receipt_check import check_receipt

MODEL = Path(__file__).parents[2] / "fixtures" / "qwen2_5_vl"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A result with its receipt in it."""
    target = tmp_path / "out"
    done = run(MODEL, target, "--dtype", "float16", "--receipt", target / "wconv.json")
    assert done.exit_code == 0, done.output
    return target


def test_a_receipt_says_what_was_made_of_what_and_how(out: Path) -> None:
    said = json.loads((out / "wconv.json").read_text())
    assert (said["source"], said["options"]["dtype"], said["rules"]) == (MODEL.name, "float16", "mlx-vlm")
    name = "language_model.model.norm.weight"
    tensor = said["tensors"][name]
    assert tensor["from"] == ["model.norm.weight"]
    assert tensor["sha256"] == hashlib.sha256(wconv.load(out)[name].tobytes()).hexdigest()
    assert str(MODEL) not in (out / "wconv.json").read_text(), "no path of this machine"


def test_a_result_is_proved_by_its_receipt_whatever_its_shards(out: Path, tmp_path: Path) -> None:
    proved = run("verify", out)
    assert proved.exit_code == 0
    assert "proved: 57 tensors" in proved.output
    wconv.convert(MODEL, tmp_path / "again", dtype="float16", max_shard_size="30kB")
    assert check_receipt(tmp_path / "again", out / "wconv.json").proved


def test_what_was_changed_is_told(out: Path) -> None:
    place, offset = wconv.open(out)["language_model.lm_head.weight"].file_position
    with open(place, "r+b") as file:
        file.seek(offset)
        file.write(b"\xaa\xaa")
    found = check_receipt(out)
    assert found.different == {"language_model.lm_head.weight": "has other values"}
    said = json.loads((out / "wconv.json").read_text())
    said["tensors"].pop("language_model.model.norm.weight")
    said["tensors"]["more"] = {"dtype": "float16", "shape": [1], "sha256": "", "from": []}
    (out / "wconv.json").write_text(json.dumps(said))
    found = check_receipt(out)
    assert found.missing == ("more",)
    assert found.extra == ("language_model.model.norm.weight",)
    told = run("verify", out)
    assert told.exit_code == 1
    assert "more: is missing" in told.output


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "wconv receipt 1", "tensors": {"a": 1}, "parts": [], "beside": []}']
)
def test_what_is_no_receipt_is_one_line(out: Path, text: str) -> None:
    (out / "wconv.json").write_text(text)
    told = run("verify", out)
    assert (told.exit_code, told.output.count("\n")) == (1, 1)


@pytest.mark.parametrize("place", ["../up", "/etc", "a/../../b"])
def test_a_receipt_does_not_lead_out_of_the_result(out: Path, place: str) -> None:
    said = json.loads((out / "wconv.json").read_text())
    (out / "wconv.json").write_text(json.dumps({**said, "parts": [place]}))
    with pytest.raises(wconv.FormatError, match="names places that are none"):
        check_receipt(out)


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    """In headers, tensors, the index, config.json and copies alike."""
    out = tmp_path / "out"
    done = run(
        MODEL, out, "--include", "model.norm|layers.0.mlp", "--layout", "hf", "--receipt", out / "wconv.json"
    )
    assert done.exit_code == 0, done.output
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (out / name).write_text("{}")
    planned = wconv.prepare(MODEL, out, include="model.norm|layers.0.mlp", layout="hf")
    write_receipt(planned, out / "wconv.json", jobs=1)
    assert check_receipt(out, jobs=1).proved
    files = sorted(path for path in out.iterdir() if path.name != "wconv.json")
    assert not unseen(files, 500, lambda: check_receipt(out, jobs=1).proved)
    assert check_receipt(out, jobs=1).proved


def test_options_without_a_source_are_refused(out: Path) -> None:
    assert run("verify", out, "--dtype", "float16").exit_code == 2
    assert run("verify", out, "--against", MODEL, "--receipt", out / "wconv.json").exit_code == 2
    assert run("verify", out.parent).exit_code == 1

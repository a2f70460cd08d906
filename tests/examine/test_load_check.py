"""Which program is asked to load a result, and when none is; the programs themselves are oracles.

Covers `cli/proofs.py`, `consumers/mlx/loading.py`, `consumers/mlx_lm/loading.py`,
`consumers/mlx_vlm/loading.py`, `consumers/mlx_whisper/loading.py`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import wconv
from wconv.cli.program import main
from wconv.consumers import registry
from wconv.consumers.consumer import Consumer
from wconv.consumers.mlx.loading import TOKENS, LoadedModel, tokens
from wconv.examine import load_check as checks

MODEL = Path(__file__).parents[2] / "fixtures" / "qwen2_5_vl"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Programs that load whatever they are given; the list of what that was."""
    given: list[Path] = []

    def load(path: Path) -> LoadedModel:
        given.append(path)
        if (path / "raise").exists():
            raise KeyError("no such\nparameter")
        return LoadedModel(1234, (1, 8, 272), 3 if (path / "nan").exists() else 0)

    def instead(one: Consumer) -> Consumer:
        return dataclasses.replace(one, loader=lambda: load, package=("numpy", "numpy"))

    made = tuple(instead(one) if one.loader is not None else one for one in registry.CONSUMERS)
    monkeypatch.setattr(registry, "CONSUMERS", made)
    return given


def test_the_program_of_the_layout_loads_the_result(tmp_path: Path, program: list[Path]) -> None:
    done = run(MODEL, tmp_path / "out", "--verify=load")
    assert done.exit_code == 0, done.output
    assert program == [tmp_path / "out"]
    assert "loads it: 1,234 parameters, 1 x 8 x 272 finite logits in one forward pass" in done.output
    said = json.loads(run(MODEL, tmp_path / "json", "--verify=load", "--json").output)
    assert said["loaded"]["loads"] is True
    assert said["verified"]["proved"] is True


def test_a_result_is_loaded_by_verify_alone_too(tmp_path: Path, program: list[Path]) -> None:
    out = tmp_path / "out"
    assert run(MODEL, out, "--receipt", out / "wconv.json").exit_code == 0
    assert not program
    assert run("verify", out, "--load").exit_code == 0
    assert run("verify", out, "--against", MODEL, "--load").exit_code == 0
    assert program == [out, out]


def test_what_does_not_load_or_is_not_finite_is_told(tmp_path: Path, program: list[Path]) -> None:
    wconv.convert(MODEL, tmp_path / "out")
    (tmp_path / "out" / "nan").touch()
    assert not checks.load_check(tmp_path / "out").loads
    told = run("verify", tmp_path / "out", "--against", MODEL, "--load")
    assert told.exit_code == 1
    assert "of 1 x 8 x 272 logits 3 are NaN or infinite" in told.output
    (tmp_path / "out" / "raise").touch()
    assert "does not load it: KeyError: 'no such\\nparameter'" in "".join(
        checks.load_check(tmp_path / "out").lines()
    )


def test_a_missing_program_is_told_before_anything_is_written(
    tmp_path: Path, program: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = [dataclasses.replace(one, package=("such-a", "no_such_module")) for one in registry.CONSUMERS]
    monkeypatch.setattr(registry, "CONSUMERS", tuple(gone))
    done = run(MODEL, tmp_path / "out", "--verify=load")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "pip install such-a" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("out.safetensors",), "has no config.json for a program to load it by"),
        (("out", "--layout", "mflux"), ""),
    ],
)
def test_what_no_program_loads_is_refused_first(
    tmp_path: Path, program: list[Path], words: tuple[str, ...], why: str
) -> None:
    done = run(MODEL, tmp_path / words[0], *words[1:], "--verify=load")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert why in done.output
    assert not list(tmp_path.iterdir())


def test_code_of_the_directory_is_never_run(tmp_path: Path, program: list[Path]) -> None:
    """Some programs import the file that a config names, without asking."""
    wconv.convert(MODEL, tmp_path / "out")
    for name in ("generation_config.json", "config.json"):
        (tmp_path / "out" / name).write_text('{"model_file": "x.py", "model_type": "qwen2_5_vl"}')
        with pytest.raises(wconv.WconvError, match="names code of its own"):
            checks.load_check(tmp_path / "out")
    assert not program


def test_another_value_of_the_option_is_refused(tmp_path: Path) -> None:
    assert run(MODEL, tmp_path / "out", "--verify=lode").exit_code == 2


def test_tokens_are_of_the_vocabulary() -> None:
    assert tokens({"vocab_size": 1000}) == list(TOKENS)
    assert max(tokens({"text_config": {"vocab_size": 7}})) < 7
    assert tokens({})


def test_every_program_with_a_loader_says_its_package() -> None:
    assert [one.package for one in registry.CONSUMERS if one.loader is not None] == [
        ("mlx-vlm", "mlx_vlm"),
        ("mlx-lm", "mlx_lm"),
        ("mlx-whisper", "mlx_whisper"),
    ]
    assert all((one.loader is None) == (one.package == ("", "")) for one in registry.CONSUMERS)

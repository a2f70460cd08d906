"""What people type by habit from other converters, and what the command shows programs and shells."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from tests.cli.running import run
from tests.making import random, write_directory
from wconv.cli import progress
from wconv.cli.program import main
from wconv.consumers import registry
from wconv.errors import WconvError
from wconv.extras import require


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "model", [{"a.weight": random((30, 20)), "b": random((4,))}])


def test_the_destination_may_follow_the_source(model: Path) -> None:
    assert run(model, model.parent / "there").exit_code == 0
    assert (model.parent / "there" / "model.safetensors").exists()


@pytest.mark.parametrize("word", ["--hf-path", "--model"])
def test_the_words_of_mlx_lm_and_mlx_vlm_convert(model: Path, word: str) -> None:
    out = model.parent / ("out" + word)
    assert run(word, model, "--mlx-path", out, "--dtype", "float16").exit_code == 0
    assert (out / "model.safetensors").exists()


def test_a_place_said_twice_is_not_guessed(model: Path, tmp_path: Path) -> None:
    twice = run(model, tmp_path / "a", "-o", tmp_path / "b")
    assert twice.exit_code == 2
    assert "given twice" in twice.stderr
    assert run("--model", model, model, tmp_path / "a").exit_code == 2
    assert run("--dtype", "float16").exit_code == 2
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("size", ["1G", "500M", "1g", "2GiB"])
def test_sizes_may_be_written_short(model: Path, size: str) -> None:
    assert run(model, model.parent / "o", "--max-shard-size", size).exit_code == 0


def test_only_what_reads_like_a_hub_id_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    told = run("Qwen/Qwen2.5-0.5B-Instruct").stderr
    assert "Qwen/Qwen2.5-0.5B-Instruct does not exist here, nor (main) in the cache of the hub" in told
    assert "hub" not in run("sub/model.safetensors").stderr
    (tmp_path / "Qwen").mkdir()
    assert "hub" not in run("Qwen/Qwen2.5-0.5B-Instruct").stderr
    assert "mystery:// " in run("mystery://host/org/model.safetensors").stderr
    assert "in the cache of the hub" in run("hf://org/model").stderr


def test_a_dry_run_names_the_output_and_says_whether_it_exists(model: Path) -> None:
    out = model.parent / "o"
    assert f"{out} does not exist yet" in run(model, out, "--dry-run").stdout
    assert json.loads(run(model, out, "--dry-run", "--json").stdout)["output_exists"] is False
    out.mkdir()
    assert f"{out} exists already" in run(model, out, "--dry-run").stdout
    assert json.loads(run(model, out, "--dry-run", "--json").stdout)["output_exists"] is True


def test_programs_get_errors_as_json_with_the_same_exit_codes(model: Path, tmp_path: Path) -> None:
    for words in (
        [tmp_path / "absent"],
        [model, "--include", "("],
        [model, "--jobs", "none"],
        ["inspect", tmp_path / "absent"],
        [model, "--no-such-option"],
    ):
        plain, told = run(*words), run(*words, "--json")
        assert told.exit_code == plain.exit_code != 0
        assert list(json.loads(told.stdout)) == ["error"]
        assert told.stderr == ""


def test_help_fits_80_columns_in_groups_and_names_every_layout() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "wconv", "--help"],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert max(map(len, text.splitlines())) <= 80
    shown = " ".join(text.split())
    names = {*registry.layout_names(), *registry.adapter_layout_names()}
    assert set(registry.adapter_namings()) <= names
    for name in names:
        assert name in shown
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings[:4] == ["The result:", "Quantization:", "What is converted:", "How it is read:"]
    assert "..." not in text


def completed(*words: str) -> list[str]:
    completion = BashComplete(main, {}, "wconv", "_WCONV_COMPLETE")
    return [
        item.value if item.type == "plain" else item.type
        for item in completion.get_completions(list(words[:-1]), words[-1])
    ]


def test_shells_complete_options_sub_commands_and_paths() -> None:
    assert "--dtype" in completed("--d")
    assert "--dry-run" in completed("--d")
    assert "--dtype" in completed("model", "--d")
    assert completed("ins") == ["inspect", "file"]
    assert "file" in completed("")
    assert completed("inspect", "--k") == ["--key"]
    assert completed("model", "--dtype", "b") == ["bfloat16"]
    assert "mlx-vlm" in completed("model", "--layout", "mlx")


def test_the_completion_script_is_printed() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'wconv'; from wconv.cli import program; program.entry()",
        ],
        env={**os.environ, "_WCONV_COMPLETE": "zsh_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "#compdef wconv" in done.stdout


@pytest.mark.parametrize("columns", [5, 10, 20, 40, 79, 200])
def test_the_bar_fits_any_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    bar = progress.Bar(10**12, stream)
    monkeypatch.setattr(bar, "_columns", lambda: columns)
    for done in (0, 10**11, 10**12):
        bar(done)
    drawn = [line.removeprefix("\x1b[K") for line in stream.getvalue().split("\r")]
    assert max(map(len, drawn)) <= columns
    assert any("%" in line for line in drawn)


def test_without_a_terminal_a_line_comes_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    lines = progress.for_stream(stream, 10**9)
    assert lines is not None
    for second in range(35):
        now = float(second)
        lines(second * 10**7)
    assert len(stream.getvalue().splitlines()) == 3
    assert "\r" not in stream.getvalue()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    import wconv

    monkeypatch.setitem(sys.modules, "mlx.core", None)
    monkeypatch.setitem(sys.modules, "mlx", None)
    with pytest.raises(WconvError, match=r"pip install 'wconv\[mlx\]'"):
        wconv.load_mlx(model)
    with pytest.raises(WconvError, match="load_mlx needs mlx"):
        require("mlx.core", "load_mlx")


def test_every_option_of_every_command_is_described() -> None:
    for command in main.commands.values():
        context = click.Context(command)
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert (option.get_help_record(context) or ("", ""))[1], option.name

"""What is typed and what is seen: options, the summary, errors of one line, exit codes.

Covers `cli/progress.py`, `cli/places.py`, `cli/values.py`, `examine/inspect.py`,
`cli/convert.py`, `cli/docs.py`, `cli/inspect.py`, `cli/rules.py`, `cli/text.py`.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import wconv
import wconv.torch as shim
from tests.cli.running import run
from tests.making import random, raw_safetensors, write_directory
from wconv.tensors.dtypes import TABLE

FIXTURE = Path(__file__).parent.parent.parent / "fixtures" / "qwen2_5_vl"
LIBRARIES = "numpy|ml_dtypes|mlx|safetensors|torch"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_directory(
        tmp_path / "model", [{"a.weight": random((30, 20)), "big": np.array([1e6], np.float32)}]
    )


def test_a_path_converts_without_a_sub_command(model: Path) -> None:
    result = run(model, "--dtype", "float16")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert f"{model}-MLX" in lines[-2]
    assert "before" in lines[-2]
    assert " s, " in lines[-2]
    assert lines[-1].startswith("names unchanged: whether mlx-lm knows nobody_knows is not known here")
    assert any("1 tensor overflows" in line and "in big" in line for line in lines)


def test_the_command_that_loads_the_result_is_the_consumers(tmp_path: Path) -> None:
    result = run(FIXTURE, "-o", tmp_path / "o")
    assert f"mlx_vlm.generate --model {tmp_path / 'o'}" in result.stdout


def test_the_sub_command_can_be_written_out(model: Path) -> None:
    assert run("convert", model, "-o", model.parent / "o").exit_code == 0
    assert (model.parent / "o" / "model.safetensors").exists()


def test_a_path_named_like_a_sub_command(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.rename(model.parent / "inspect")
    monkeypatch.chdir(model.parent)
    assert run("./inspect").exit_code == 0


def test_errors_are_one_line_with_exit_code_1(model: Path, tmp_path: Path) -> None:
    bad = raw_safetensors(
        tmp_path / "bad.safetensors", {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    )
    for words in ((bad,), (tmp_path / "absent",), (model, "--include", "("), (model, "-o", model)):
        result = run(*words)
        assert result.exit_code == 1
        assert result.stderr.startswith("wconv: ")
        assert result.stderr.count("\n") == 1
        assert "Traceback" not in result.output


def test_quiet_prints_nothing(model: Path) -> None:
    result = run(model, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_json_is_the_whole_summary(model: Path) -> None:
    summary = json.loads(run(model, "--dtype", "float16", "--json").stdout)
    assert summary["output"] == f"{model}-MLX"
    assert summary["overflows"] == {"big": {"count": 1, "largest": 1e6}}
    assert summary["dtypes"] == {"bfloat16 → float16": 1, "float32 → float16": 1}
    assert summary["bytes_after"] > 0
    assert summary["seconds"] >= 0


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    result = run(FIXTURE, "-o", tmp_path / "o", "--dtype", "float16", "--dry-run")
    assert result.exit_code == 0
    assert not list(tmp_path.iterdir())
    assert "model-00001-of-00003.safetensors" in result.stdout
    line = next(line for line in result.stdout.splitlines() if "vision_tower.patch_embed.proj.weight" in line)
    assert "float16 (from bfloat16)" in line
    assert "[32, 2, 14, 14, 3]" in line
    assert "visual.patch_embed.proj.weight" in line
    plan = json.loads(run(FIXTURE, "-o", tmp_path / "o", "--dry-run", "--json").stdout)["plan"]
    assert sum(len(shard["tensors"]) for shard in plan) == len(wconv.open(FIXTURE))


def test_a_dry_run_of_a_huge_checkpoint_reads_only_headers(tmp_path: Path) -> None:
    """200 GB that exist only in headers: sparse files."""
    model = tmp_path / "m"
    model.mkdir()
    for shard in range(4):
        size = 2 * 5000 * 5000
        tensor = {"dtype": "BF16", "shape": [5000, 5000]}
        header = {
            f"{shard}.{at}": {**tensor, "data_offsets": [at * size, (at + 1) * size]} for at in range(1000)
        }
        path = raw_safetensors(model / f"model-{shard + 1:05d}-of-00004.safetensors", header)
        os.truncate(path, path.stat().st_size + 1000 * size)
    began = time.monotonic()
    result = run(model, "--dry-run", "--dtype", "float16")
    assert time.monotonic() - began < 3
    assert "4,000 tensors" in result.stdout
    refused = run(model, "--dtype", "float32")
    assert "GB are needed" in refused.stderr


def test_the_help_shows_the_table_of_substitutes() -> None:
    text = run("--help").stdout
    assert all(row.name in text for row in TABLE if row.mlx is None)
    assert "inspect" in text
    assert "--max-shard-size" in text


def test_help_and_import_load_no_heavy_library() -> None:
    code = (
        "import sys, wconv, wconv.cli.program; from click.testing import CliRunner;"
        "assert CliRunner().invoke(wconv.cli.program.main, ['--help']).exit_code == 0;"
        f"import re; print([m for m in sys.modules if re.fullmatch('{LIBRARIES}', m)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


NOT_FOR_PLAIN = [
    "asyncio",
    "email",
    "http",
    "importlib.metadata",
    "mlx",
    "multiprocessing",
    "numpy.random",
    "numpy.testing",
    "ssl",
    "subprocess",
    "torch",
    "unittest",
    "wconv.examine",
    "wconv.gguf",
    "wconv.lora",
    "wconv.mlx",
    "wconv.optimizers",
    "wconv.torch",
    "wconv.consumers.mlx_nn",
    "wconv.consumers.quantization",
    "wconv.conversion.pack",
    "wconv.conversion.pipeline",
    "wconv.conversion.quantize",
    "wconv.formats.torch",
    "wconv.formats.zarr",
    "wconv.quantized.values",
    "wconv.stores.http",
]
"""Modules that a conversion from safetensors to safetensors has no use for."""


def test_a_plain_conversion_imports_what_it_needs(model: Path) -> None:
    """Start-up is what a small model takes, and each module costs."""
    code = f"""
import sys, wconv
wconv.convert({str(model)!r})
print(*({{*{NOT_FOR_PLAIN!r}}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_library_name_stays_a_function_whatever_is_imported_first(model: Path) -> None:
    imports = "import wconv.cli.program, wconv.conversion.run, wconv"
    code = f"{imports}; print(wconv.convert({str(model)!r}).tensors_written)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"


def test_inspect_lists_tensors(model: Path) -> None:
    result = run("inspect", model)
    assert "a.weight" in result.stdout
    assert "bfloat16" in result.stdout
    shown = json.loads(run("inspect", model, "--json").stdout)
    assert shown["tensors"]["a.weight"] == {"dtype": "bfloat16", "shape": [30, 20], "bytes": 1200}


def test_inspect_shows_tensors_larger_than_their_file_when_asked(tmp_path: Path) -> None:
    shim.save({"x": shim.ones(1).expand(10**9)}, tmp_path / "x.pt")
    assert "--allow-inflation" in run("inspect", tmp_path / "x.pt").stderr
    assert "[1000000000]" in run("inspect", tmp_path / "x.pt", "--allow-inflation").stdout


def on_a_terminal(*words: object) -> bytes:
    """What the command shows when a terminal watches."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "wconv", *(str(word) for word in words)])
    shown = b""
    try:
        while part := os.read(fd, 65536):
            shown += part
    except OSError:
        pass
    os.waitpid(pid, 0)
    os.close(fd)
    return shown


def test_a_terminal_sees_progress_and_a_pipe_does_not(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{str(at): random((3000, 2000)) for at in range(4)}])
    assert b"GB/s" in on_a_terminal(model, "-o", tmp_path / "a", "--dtype", "float16")
    assert b"GB/s" not in on_a_terminal(model, "-o", tmp_path / "b", "--quiet")
    assert run(model, "-o", tmp_path / "c").stderr == ""


SLOW_DISK = """
import os, time, wconv.cli.program
write = os.pwrite
os.pwrite = lambda *words: (time.sleep(0.2), write(*words))[1]
wconv.cli.program.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_at_the_final_place(number: signal.Signals, tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{str(at): random((2000, 2000)) for at in range(8)}])
    out = tmp_path / "o"
    words = [sys.executable, "-c", SLOW_DISK, str(model), "-o", str(out), "--dtype", "float16"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("o.partial/*.part")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "interrupted" in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_a_terminal_that_lacks_the_arrows_and_a_full_disk_under_the_summary(model: Path) -> None:
    command = [sys.executable, "-m", "wconv", str(model), "--dry-run", "--dtype", "float16"]
    latin = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    shown = subprocess.run(command, env=latin, capture_output=True, check=True)
    assert rb"bfloat16 \u2192 float16" in shown.stdout
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            told = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert (told.returncode, told.stderr.count("\n")) == (1, 1)
        assert told.stderr.startswith("wconv: the summary cannot be written: No space")


def test_tensors_far_larger_than_their_file_must_be_asked_for(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "zeros.npz", a=np.zeros((5000, 5000), np.float32))
    refused = run(tmp_path / "zeros.npz")
    assert refused.exit_code == 1
    assert "--allow-inflation" in refused.stderr
    assert run(tmp_path / "zeros.npz", "--expand", "-o", tmp_path / "o.safetensors").exit_code == 0
    assert "[5000, 5000]" in run("inspect", "--expand", tmp_path / "zeros.npz").stdout

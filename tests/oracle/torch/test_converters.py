"""Converters of the field, unchanged, give the same bytes without PyTorch; the table of them is up to date.

`python -m tests.oracle.torch.test_converters` writes the table, with the versions.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.oracle import no_torch
from tests.oracle.torch.converters.case import Case
from tests.oracle.torch.converters.cases import CASES
from tests.oracles import oracle
from tests.shim import tables

pytestmark = pytest.mark.oracle

DRIVER = ["-m", "tests.oracle.torch.converters.driver"]


def is_there(case: Case) -> bool:
    """Whether the program's directory is named, or it is installed."""
    return not case.home or bool(os.environ.get(case.home))


def run_all(site: Path, folder: Path, cases: list[Case]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What each converter gives with PyTorch and without, by its name."""
    names = [case.name for case in cases]
    no_torch.succeed(no_torch.run(None, [*DRIVER, "make", str(folder), "x", *names], folder))
    no_torch.succeed(no_torch.run(None, [*DRIVER, "run", str(folder), "with", *names], folder))
    without = ["-m", "wconv.torch", *DRIVER, "run", str(folder), "without", *names]
    no_torch.succeed(no_torch.run(site, without, folder))
    found = [json.loads((folder / f"{side}.json").read_text()) for side in ("with", "without")]
    return found[0], found[1]


def apart(case: Case, wanted: Any, found: Any) -> int | None:
    """By how many units in the last place results differ; None where they are not comparable."""
    if (
        not isinstance(wanted, dict)
        or not isinstance(found, dict)
        or not wanted
        or wanted.keys() != found.keys()
    ):
        return None
    most = 0
    for name, one in wanted.items():
        other = found[name]
        if one == other:
            continue
        if len(one) < 4 or len(other) < 4 or one[:2] != other[:2]:
            return None
        bits = np.array([one[3], other[3]], np.int64)
        most = max(most, int(np.abs(np.diff(bits, axis=0)).max()))
    return most


def test_converters_give_the_same_bytes(site: Path, tmp_path: Path) -> None:
    oracle("mlx_audio")
    cases = [case for case in CASES if is_there(case)]
    if os.environ.get("CI"):
        assert {case.home for case in CASES} - {case.home for case in cases} <= {"WCONV_SCRIPTS"}
    wanted, found = run_all(site, tmp_path, cases)
    for case in cases:
        distance = apart(case, wanted[case.name], found[case.name])
        assert distance is not None, f"{case.name}\n{wanted[case.name]}\n{found[case.name]}"
        assert distance <= case.close, case.name


def test_the_table_lists_every_converter() -> None:
    listed = {row["what"] for row in tables.read("converters")["rows"]}
    assert {f"{case.program}: {case.what}" for case in CASES} <= listed


NOT_RUN = {
    "mlx-audio: tts tada": "its aligner is one of torch's models, and is run",
    "mlx-audio: tts chatterbox from ONNX": "s3tokenizer's reader of ONNX makes a model of torch's layers",
    "mlx-audio: stt, tts, sts in MLX alone": "no torch in them",
    "mlx-whisper 0.4.3: torch_whisper": "a model of torch's layers",
    "mlx-examples: whisper/convert.py": "imports that model",
    "mlx-examples: llms/llama tiny_llama": "loads a model of transformers",
    "peft 0.21.2": "imports transformers' models, which need torch",
    "accelerate, ComfyUI, lycoris-lora": "run models, or compute singular values; ComfyUI is in no registry",
    "sd-scripts: merging, extracting, resizing": "compute with layers and singular values",
}
"""What of the list was not compared, and why."""


def versions() -> dict[str, str]:
    """Of the programs that are installed, or lie where a variable says."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "mlx-audio", "mlx-vlm", "mflux")}
    for name, home in (("diffusers", "WCONV_DIFFUSERS"), ("spandrel", "WCONV_SPANDREL")):
        for entry in Path(os.environ.get(home, "/nowhere")).glob(f"{name}-*.dist-info"):
            found[name] = entry.name.removesuffix(".dist-info").rpartition("-")[2]
    return found


def main(folder: Path) -> None:
    """Runs all, and writes the table."""
    cases = [case for case in CASES if is_there(case)]
    wanted, found = run_all(no_torch.packages(folder / "site-packages"), folder, cases)
    rows = []
    for case in cases:
        distance = apart(case, wanted[case.name], found[case.name])
        said = {None: "differs", 0: "the same bytes"}.get(distance, f"to {distance} in the last place")
        rows.append({"what": f"{case.program}: {case.what}", "result": said})
        if distance is None or distance > case.close:
            sys.stdout.write(f"{case.name}: {wanted[case.name]!r:.200} {found[case.name]!r:.200}\n")
    rows += [{"what": what, "result": f"not run: {reason}"} for what, reason in NOT_RUN.items()]
    tables.write("converters", versions(), rows)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))

"""What torch, accelerate and DeepSpeed save of several processes gives what their own programs join it to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracle import tiny_llama
from tests.oracle.consumers import (
    assert_same_logits,
    assert_same_parameters,
    logits,
    mlx_lm_conversion,
    stored,
)
from tests.oracle.torch import distributed_programs as programs
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

CASES = [
    "dcp-1",
    "dcp-2",
    "dcp-4",
    "dcp-nested",
    "dcp-safetensors",
    "hf",
    "hf-consolidated",
    "uncoordinated",
    "ranks-2",
    "ranks-4",
    "fsdp1-2",
    "fsdp1-4",
]
ZERO = ["zero-1", "zero-2", "zero-3", "zero-1-fp32", "zero-2-fp32", "zero-3-fp32", "zero-2-alone"]
PREFIX = {"dcp-nested": "model.", "dcp-safetensors": "model."}


def bits(tensor: Any) -> tuple[str, tuple[int, ...], bytes]:
    torch = oracle("torch")
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), data


def ours(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (tensor.dtype.name, tensor.shape, tensor.numpy().tobytes())
        for name, tensor in wconv.open(path).items()
    }


@pytest.mark.parametrize("case", CASES)
def test_the_same_as_torch_joins(case: str, tmp_path: Path) -> None:
    torch = oracle("torch")
    make = programs.maker()
    world, kind = make.CASES[case]
    programs.spawn(programs.save_case, world, str(tmp_path / case), kind)
    expected = {name: bits(tensor) for name, tensor in make.whole().state_dict().items()}
    if kind == "hf-consolidated":
        expected = {name: value for name, value in expected.items() if value[0] != "int64"}
    assert ours(tmp_path / case) == expected
    if kind == "hf-consolidated":
        assert ours(tmp_path / case / "sharded") == expected
    if kind.startswith("dcp") and kind != "dcp-safetensors":
        from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

        dcp_to_torch_save(tmp_path / case, tmp_path / "whole.pt")
        state = torch.load(tmp_path / "whole.pt", weights_only=False)
        state = state.get("model", state)
        assert ours(tmp_path / case) == {name: bits(tensor) for name, tensor in state.items()}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.saved(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("kind", ["dcp", "prefixed", "ranks", "fsdp1", "hf", "safetensors", "uncoordinated"])
def test_mlx_lm_computes_the_same(kind: str, llama: Path, tmp_path: Path) -> None:
    programs.spawn(programs.save_llama, 2, str(llama), str(tmp_path / "checkpoint-5"), kind)
    report = wconv.convert(tmp_path / "checkpoint-5", tmp_path / "ours", dtype="float16", config=llama)
    theirs = mlx_lm_conversion(llama, tmp_path / "theirs")
    assert_same_parameters(stored(report.output), stored(theirs))
    from tests.oracle.consumers import mlx_lm_model

    assert_same_logits(logits(mlx_lm_model(report.output)), logits(mlx_lm_model(theirs)))
    assert json.loads((report.output / "config.json").read_text())["model_type"] == "llama"


def test_torch_loads_what_is_written(tmp_path: Path) -> None:
    torch = oracle("torch")
    import torch.distributed.checkpoint as dcp

    expected = programs.maker().whole().state_dict()
    wconv.convert(programs.FIXTURES / "dcp-4", tmp_path / "ours", format="dcp")
    found = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
    dcp.load(found, checkpoint_id=str(tmp_path / "ours"))
    assert {name: bits(tensor) for name, tensor in found.items()} == {
        name: bits(tensor) for name, tensor in expected.items()
    }


def test_what_accelerate_saves(tmp_path: Path) -> None:
    oracle("torch")
    pytest.importorskip("accelerate")
    programs.spawn(programs.save_accelerate, 2, str(tmp_path / "state"))
    expected = {name: bits(tensor) for name, tensor in programs.maker().whole().float().state_dict().items()}
    assert ours(tmp_path / "state") == expected


@pytest.mark.parametrize("case", ["moe-0-bf16", "moe-1-bf16", "moe-2-fp32", "moe-2-fp32-wide"])
def test_the_same_experts_as_in_deepspeed(case: str, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    import os
    import subprocess
    import sys

    script = programs.FIXTURES / "make_moe.py"
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    subprocess.run([sys.executable, script, tmp_path, case], check=True, capture_output=True, env=environment)
    found = wconv.open(tmp_path / case / "global_step2")
    expected = wconv.open(tmp_path / case / "expected.safetensors")
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].cast(tensor.dtype.name).numpy().tobytes() == tensor.numpy().tobytes(), name


@pytest.mark.parametrize("case", ZERO)
def test_the_same_as_deepspeed_joins(case: str, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    import subprocess
    import sys

    script = programs.FIXTURES / "make_zero.py"
    subprocess.run([sys.executable, script, tmp_path, case], check=True, capture_output=True)
    shutil.move(tmp_path / case / "expected.safetensors", tmp_path / "expected.safetensors")
    expected = ours(tmp_path / "expected.safetensors")
    found = ours(tmp_path / case)
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) <= {"frozen.weight"}
    universal = tmp_path / case / "global_step2-universal"
    if universal.exists():
        again = ours(universal)
        assert {name: again[name] for name in expected} == expected

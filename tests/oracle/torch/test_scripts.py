"""Convert scripts run by `python -m wconv.torch`, without PyTorch, write what they write with it."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.oracle import no_torch
from tests.oracles import oracle
from wconv.formats import open_file

pytestmark = pytest.mark.oracle

SCRIPTS = Path(__file__).with_name("scripts")


@pytest.fixture
def torch() -> Any:
    module = oracle("torch")
    module.manual_seed(7)
    return module


def run_both(script: str, arguments: list[str], site: Path, folder: Path) -> None:
    """Runs the script with PyTorch and with wconv.torch: what they write and print must be equal."""
    path = str(SCRIPTS / f"{script}.py")
    with_torch = no_torch.run(None, [path, *(a.format(out="with") for a in arguments)], folder)
    without = no_torch.run(
        site, ["-m", "wconv.torch", path, *(a.format(out="without") for a in arguments)], folder
    )
    assert no_torch.succeed(with_torch) == no_torch.succeed(without)
    expected = open_file(str(folder / "with" / "weights.safetensors")).tensors
    found = open_file(str(folder / "without" / "weights.safetensors")).tensors
    assert set(found) == set(expected) != set()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        ours, wanted = found[name].read_range(), tensor.read_range()
        assert np.array_equal(ours.view(np.uint8), wanted.view(np.uint8)), name


def test_torch_cannot_be_imported_where_the_scripts_run(site: Path, tmp_path: Path) -> None:
    found = no_torch.run(site, ["-c", "import torch"], tmp_path)
    assert found.returncode == 1
    assert "No module named 'torch'" in found.stderr


def test_whisper(torch: Any, site: Path, tmp_path: Path) -> None:
    state = OrderedDict()
    for part in ("encoder", "decoder"):
        state[f"{part}.positional_embedding"] = torch.randn(6, 4)
        state[f"{part}.blocks.0.attn.query.weight"] = torch.randn(4, 4).half()
        state[f"{part}.blocks.0.mlp.0.weight"] = torch.randn(8, 4) * 1e5
        state[f"{part}.blocks.0.mlp.2.bias"] = torch.randn(4).bfloat16()
    state["encoder.conv1.weight"] = torch.randn(4, 5, 3)
    dims = {"n_mels": 5, "n_text_layer": 4, "n_text_head": 2}
    torch.save({"dims": dims, "model_state_dict": state}, tmp_path / "tiny.pt")
    run_both("whisper_style", ["--torch-path", "tiny.pt", "--mlx-path", "{out}"], site, tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_llama(torch: Any, site: Path, tmp_path: Path, dtype: str) -> None:
    for shard in range(2):
        state = {"rope.freqs": torch.randn(2), "norm.weight": torch.ones(8).bfloat16()}
        for name, shape in (("wq", (16, 8)), ("wo", (8, 4)), ("w2", (8, 6)), ("output", (5, 8))):
            state[f"layers.0.attention.{name}.weight"] = torch.randn(shape).bfloat16()
        torch.save(
            state, tmp_path / f"consolidated.{shard:02d}.pth", _use_new_zipfile_serialization=bool(shard)
        )
    run_both("llama_style", [".", "{out}", dtype], site, tmp_path)


def test_clip(torch: Any, site: Path, tmp_path: Path) -> None:
    token = torch.randn(7, 4)
    state = OrderedDict(
        [
            ("text.position_ids", torch.arange(5)[None]),
            ("text.token.weight", token),
            ("head.weight", token),
            ("vision.patch_embedding.weight", torch.randn(4, 3, 2, 2).half()),
            ("attn.in_proj_weight", torch.randn(12, 4).t().contiguous().t()),
            ("attn.in_proj_bias", torch.randn(12)),
            ("logit_scale", torch.tensor(4.6)),
        ]
    )
    state._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]
    torch.save(state, tmp_path / "pytorch_model.bin")
    run_both("clip_style", [".", "{out}"], site, tmp_path)


def test_encodec(torch: Any, site: Path, tmp_path: Path) -> None:
    state = {
        "conv.weight_g": torch.nn.Parameter(torch.rand(4, 1, 1)),
        "conv.weight_v": torch.nn.Parameter(torch.randn(4, 3, 5)),
        "lstm.weight_ih_l0": torch.randn(16, 4),
        "lstm.bias_ih_l0": torch.randn(16),
        "codebook.inited": torch.tensor([True]),
        "codebook.cluster_size": torch.tensor([0.5, 2.0, 3.0]),
        "codebook.embed_avg": torch.randn(3, 4),
        "norm.weight": torch.nn.Parameter(torch.randn(4)),
    }
    torch.save({"best_state": state, "epoch": 3}, tmp_path / "codec.th")
    run_both("encodec_style", ["codec.th", "{out}"], site, tmp_path)


def test_depth_pro(torch: Any, site: Path, tmp_path: Path) -> None:
    state = {
        "encoder.upsample0.weight": torch.randn(3, 4, 2, 2).half(),
        "encoder.proj.weight": torch.randn(4, 3, 2, 2).bfloat16(),
        "encoder.ls1.gamma": torch.randn(1, 1, 6),
        "fov.head.weight": torch.randn(2, 2),
        "head.weight": torch.randn(5, 4, 1, 1),
        "count": 3,
    }
    torch.save({"model": state, "args": argparse.Namespace(name="tiny")}, tmp_path / "depth.pt")
    run_both("depth_pro_style", ["depth.pt", "{out}"], site, tmp_path)


def test_lora(torch: Any, site: Path, tmp_path: Path) -> None:
    up = torch.randn(8, 2).half()
    up[2:4, 0] = 0
    state = {"down.weight": torch.randn(4, 6).half(), "up.weight": up, "alpha": torch.tensor(1.7).half()}
    oracle("safetensors.torch").save_file(state, str(tmp_path / "lora.safetensors"))
    run_both("lora_style", ["lora.safetensors", "{out}"], site, tmp_path)

"""Whisper as OpenAI and as transformers keep it: mlx-whisper computes what transformers computes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.tiny import randomise
from tests.oracles import directory_of, oracle, run_script
from wconv.errors import WconvError

pytestmark = pytest.mark.oracle

DIMS = {
    "n_mels": 8,
    "n_audio_ctx": 16,
    "n_audio_state": 64,
    "n_audio_head": 4,
    "n_audio_layer": 2,
    "n_vocab": 272,
    "n_text_ctx": 24,
    "n_text_state": 64,
    "n_text_head": 4,
    "n_text_layer": 3,
}
CONFIG: dict[str, Any] = {
    "num_mel_bins": 8,
    "max_source_positions": 16,
    "max_target_positions": 24,
    "d_model": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
    "vocab_size": 272,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}

NAMES = (
    (r"^model\.", ""),
    (r"\.layers\.", ".blocks."),
    (r"\.self_attn\.", ".attn."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.out_proj\.", ".out."),
    (r"\.self_attn_layer_norm\.", ".attn_ln."),
    (r"\.encoder_attn_layer_norm\.", ".cross_attn_ln."),
    (r"\.final_layer_norm\.", ".mlp_ln."),
    (r"\.fc1\.", ".mlp.0."),
    (r"\.fc2\.", ".mlp.2."),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."),
    (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"\.embed_positions\.weight$", ".positional_embedding"),
    (r"\.embed_tokens\.", ".token_embedding."),
)
"""transformers' names → OpenAI's."""


@pytest.fixture(scope="module")
def packages() -> str:
    """The directory that mlx-whisper is installed in."""
    return directory_of("mlx-whisper")


@pytest.fixture(scope="module")
def model() -> Any:
    torch, transformers = oracle("torch"), oracle("transformers")
    torch.manual_seed(0)
    made = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**CONFIG)).eval()
    sinusoids = made.model.encoder.embed_positions.weight.detach().clone()
    randomise(made)
    with torch.no_grad():
        made.model.encoder.embed_positions.weight.copy_(sinusoids)
    return made


@pytest.fixture(scope="module")
def openai(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenAI's file of the same model."""
    state = {}
    for name, tensor in model.state_dict().items():
        if name != "proj_out.weight":
            for pattern, replacement in NAMES:
                name = re.sub(pattern, replacement, name)
            state[name] = tensor
    path = tmp_path_factory.mktemp("openai") / "tiny.pt"
    oracle("torch").save({"dims": DIMS, "model_state_dict": state}, path)
    return path


def assert_mlx_whisper_computes_the_same(model: Any, converted: Path, packages: str, place: Path) -> None:
    torch = oracle("torch")
    mel = np.random.default_rng(0).standard_normal((2, 32, 8), np.float32)
    tokens = np.array([[3, 17, 200, 45, 5], [3, 9, 31, 120, 8]])
    np.savez(place / "inputs.npz", mel=mel, tokens=tokens)
    with torch.no_grad():
        features = torch.from_numpy(mel).mT.contiguous()
        expected = model(features, decoder_input_ids=torch.from_numpy(tokens)).logits.numpy()
    script = Path(__file__).with_name("mlx_whisper_logits.py")
    arguments = (packages, str(converted), str(place / "inputs.npz"), str(place / "logits.npy"))
    run_script(script, *arguments)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(np.load(place / "logits.npy"), expected, rtol=1e-3, atol=2e-4)


def test_openais_file_becomes_a_directory_that_mlx_whisper_loads(
    model: Any, openai: Path, packages: str, tmp_path: Path
) -> None:
    report = wconv.convert(openai)
    assert report.output == openai.with_name("tiny-MLX")
    assert sorted(path.name for path in report.output.iterdir()) == ["config.json", "weights.safetensors"]
    assert json.loads((report.output / "config.json").read_text()) == {**DIMS, "model_type": "whisper"}
    assert report.layout == "mlx-examples"
    assert_mlx_whisper_computes_the_same(model, report.output, packages, tmp_path)


def test_transformers_directory_becomes_the_same(
    model: Any, openai: Path, packages: str, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "hub")
    report = wconv.convert(tmp_path / "hub", layout="mlx-whisper")
    assert report.layout == "mlx-whisper"
    assert json.loads((report.output / "config.json").read_text()) == {**DIMS, "model_type": "whisper"}
    ours, other = wconv.load(report.output), wconv.load(wconv.convert(openai, tmp_path / "openai").output)
    assert ours.keys() == other.keys()
    assert all(np.array_equal(ours[name], other[name]) for name in ours)
    assert_mlx_whisper_computes_the_same(model, report.output, packages, tmp_path)


def test_a_source_of_several_files_becomes_the_one_that_mlx_whisper_reads(
    model: Any, openai: Path, packages: str, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "hub", max_shard_size="200KB")
    assert len(list((tmp_path / "hub").glob("*.safetensors"))) > 1
    out = wconv.convert(tmp_path / "hub").output
    assert [path.name for path in out.glob("*.safetensors*")] == ["weights.safetensors"]
    assert_mlx_whisper_computes_the_same(model, out, packages, tmp_path)
    with pytest.raises(WconvError, match=r"must be in one file, weights\.safetensors"):
        wconv.convert(tmp_path / "hub", tmp_path / "other", max_shard_size="100KB")


def test_a_converted_model_is_left_as_it_is(openai: Path, tmp_path: Path) -> None:
    first = wconv.convert(openai, tmp_path / "first").output
    again = wconv.convert(first, tmp_path / "again").output
    assert (first / "config.json").read_text() == (again / "config.json").read_text()
    before, after = wconv.load(first), wconv.load(again)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)

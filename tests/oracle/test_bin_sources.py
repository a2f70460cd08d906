"""Pickled checkpoints, in shards or in one file of the older kind, give the same model as safetensors do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracle.consumers import assert_same_parameters, stored
from tests.oracle.mlx_lm import language, language_moe
from tests.oracle.mlx_vlm import vision
from tests.oracle.tiny import Tiny, as_published, save
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

EMBEDDINGS = {
    "model.embed_tokens.weight": "lm_head.weight",
    "backbone.embeddings.weight": "lm_head.weight",
    "wte.weight": "lm_head.weight",
    "language_model.model.embed_tokens.weight": "language_model.lm_head.weight",
    "model.text_model.embed_tokens.weight": "lm_head.weight",
}
"""Where a tied model keeps its embedding → what an old checkpoint calls the same storage as its head."""

BUFFERS = {
    "gpt2": "h.0.attn.bias",
    "gpt_neox": "gpt_neox.layers.0.attention.masked_bias",
}
"""A buffer that old checkpoints have, by model type."""

USUAL_BUFFER = "model.layers.0.self_attn.rotary_emb.inv_freq"


def old_state(model: Path, tiny: Tiny) -> dict[str, Any]:
    """The tensors as an older torch.save had them: with the tied head and a stray buffer."""
    torch, files = oracle("torch"), oracle("safetensors.torch")
    state = {name: at for path in model.glob("*.safetensors") for name, at in files.load_file(path).items()}
    if tiny in language.WITHOUT_A_TABLE:
        return state
    for embedding, head in EMBEDDINGS.items():
        if embedding in state:
            state.setdefault(head, state[embedding])
    state[BUFFERS.get(tiny.model_type, USUAL_BUFFER)] = torch.ones(4)
    return state


def without_weights(model: Path, to: Path) -> Path:
    to.mkdir()
    for path in model.iterdir():
        if ".safetensors" not in path.name:
            (to / path.name).write_bytes(path.read_bytes())
    return to


def in_shards(model: Path, state: dict[str, Any]) -> Path:
    torch = oracle("torch")
    names = list(state)
    weight_map = {}
    for at, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-{at:05d}-of-00002.bin"
        torch.save({name: state[name] for name in part}, model / file)
        weight_map.update(dict.fromkeys(part, file))
    (model / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return model


def in_one_older_file(model: Path, state: dict[str, Any]) -> Path:
    torch = oracle("torch")
    torch.save(state, model / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    return model


@pytest.mark.parametrize("tiny", [*language.MODELS, *language_moe.MODELS, *vision.MODELS], ids=str)
def test_bin_files_give_what_safetensors_give(tiny: Tiny, tmp_path: Path) -> None:
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    wconv.convert(source, tmp_path / "expected", dtype="float16")
    expected = stored(tmp_path / "expected")
    state = old_state(source, tiny)
    for write in (in_shards, in_one_older_file):
        pickled = write(without_weights(source, tmp_path / write.__name__), state)
        wconv.convert(pickled, tmp_path / f"{write.__name__}-converted", dtype="float16")
        assert_same_parameters(stored(tmp_path / f"{write.__name__}-converted"), expected)

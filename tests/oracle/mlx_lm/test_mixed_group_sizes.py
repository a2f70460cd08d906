"""`"group_size": null`, which `mlx_lm.convert` writes for mixed recipes: read as 64, but not good for all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.consumers import assert_same_logits, assert_same_parameters, logits, parameters, silence
from tests.oracle.mlx_lm.language import ROPE, THETA, UNTIED
from tests.oracle.quantized_layers import quantized
from tests.oracle.tiny import Tiny, as_published, save
from tests.oracles import oracle
from wconv.consumers.quantization import Quantize

pytestmark = pytest.mark.oracle

LLAMA = Tiny("llama", {**ROPE, **UNTIED, "intermediate_size": 128}, THETA)
EXPERTS = Tiny(
    "qwen3_moe",
    {
        **ROPE,
        **UNTIED,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "head_dim": 16,
    },
    {**THETA, "num_experts": 4},
)


def with_group_size(source: Path, group_size: int | None, to: Path) -> Path:
    """The directory with this group size in every entry of a layer."""
    shutil.copytree(source, to)
    config = json.loads((to / "config.json").read_text())
    for key in ("quantization", "quantization_config"):
        for entry in config[key].values():
            if isinstance(entry, dict):
                entry["group_size"] = group_size
    (to / "config.json").write_text(json.dumps(config))
    return to


def mixed(tiny: Tiny, scratch: Path) -> Path:
    """A directory as `mlx_lm.convert --quant-predicate mixed_3_6` makes it."""
    source = as_published(save(tiny, scratch / "modern"), tiny, scratch / "published")
    made = scratch / "theirs"
    assert quantized("mlx-lm", source, made, Quantize(predicate="mixed_3_6")) is None
    entries = json.loads((made / "config.json").read_text())["quantization"]
    assert {entry["group_size"] for entry in entries.values() if isinstance(entry, dict)} == {None}
    return made


@pytest.mark.parametrize("reader", ["mlx_lm", "mlx_vlm"])
@pytest.mark.parametrize("tiny", [LLAMA, EXPERTS], ids=str)
def test_64_is_what_the_readers_take_null_for(tiny: Tiny, reader: str, tmp_path: Path) -> None:
    theirs = mixed(tiny, tmp_path)
    left_open = loaded(reader, theirs)
    said = loaded(reader, with_group_size(theirs, 64, tmp_path / "said"))
    assert_same_parameters(parameters(left_open), parameters(said))
    assert_same_logits(answer(left_open), answer(said))
    with pytest.raises(ValueError, match="shape"):  # a number that is not the files' is noticed
        loaded(reader, with_group_size(theirs, 32, tmp_path / "other"))


def test_mlx_lm_cannot_train_adapters_on_experts_with_null(tmp_path: Path) -> None:
    theirs = mixed(EXPERTS, tmp_path)
    layer = oracle("mlx_lm.tuner.lora").LoRASwitchLinear
    with pytest.raises(TypeError, match="NoneType"):
        layer.from_base(experts(loaded("mlx_lm", theirs)))
    said = with_group_size(theirs, 64, tmp_path / "said")
    assert layer.from_base(experts(loaded("mlx_lm", said))).lora_a.shape[-1] == 64


def experts(model: Any) -> Any:
    return model.layers[0].mlp.switch_mlp.gate_proj


def loaded(reader: str, path: Path) -> Any:
    """The model as a program makes it."""
    with silence():
        model = oracle(f"{reader}.utils").load_model(path)
    return model[0] if isinstance(model, tuple) else model


def answer(model: Any) -> Any:
    found = logits(model, wide=True)
    return getattr(found, "logits", found)

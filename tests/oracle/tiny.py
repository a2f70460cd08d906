"""Tiny models with random weights, saved by transformers, in each form that checkpoints are published in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.oracles import oracle

FIXTURE = Path(__file__).parents[2] / "fixtures" / "qwen2_5_vl"
SIZES = {
    "vocab_size": 272,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": 1,
}


GONE = object()
"""In `Tiny.hub`: a field that older transformers did not write."""


@dataclass(frozen=True)
class Tiny:
    """A model to be made.

    Attributes:
        model_type: as transformers registers it.
        config: what differs from `SIZES`.
        hub: config.json's fields as older transformers wrote them, in place of `rope_parameters`.
        auto: the class of transformers that builds it.
        sized: whether `SIZES` belong into the config's root.
        names: how published checkpoints spell names: (theirs, transformers') prefixes, the first that fits.
        swapped: endings of names whose last two axes are the other way round in published checkpoints.
        fused: published checkpoints hold each layer's experts in two tensors.
        variant: tells two of the same type apart.
    """

    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    hub: Mapping[str, Any] = field(default_factory=dict)
    auto: str = "AutoModelForCausalLM"
    sized: bool = True
    names: Sequence[tuple[str, str]] = ()
    swapped: tuple[str, ...] = ()
    fused: bool = False
    variant: str = ""

    def __str__(self) -> str:
        return self.model_type + (f"-{self.variant}" if self.variant else "")


def save(tiny: Tiny, to: Path) -> Path:
    """Writes the model as transformers saves it: bfloat16, several shards, a tokenizer beside it."""
    torch, transformers = oracle("torch"), oracle("transformers")
    sizes = SIZES if tiny.sized else {}
    config = transformers.CONFIG_MAPPING[tiny.model_type](**{**sizes, **tiny.config})
    torch.manual_seed(0)
    model = getattr(transformers, tiny.auto).from_config(config)
    randomise(model)
    model.to(torch.bfloat16).save_pretrained(to, max_shard_size="60KB")
    shutil.copy(FIXTURE / "tokenizer.json", to)
    (to / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (to / "generation_config.json").unlink(missing_ok=True)
    return to


def randomise(model: Any) -> None:
    """Every parameter and buffer of weights random, so that one that is lost or mixed up shows."""
    torch = oracle("torch")
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            around = 1.0 if "norm" in name or "ln_" in name else 0.0
            tensor.normal_(around, 0.1)
        for name, tensor in model.named_buffers():
            if "correction_bias" in name:
                tensor.normal_(0.0, 0.1)


def as_published(source: Path, tiny: Tiny, to: Path) -> Path:
    """The same weights with config.json as older transformers wrote it."""
    shutil.copytree(source, to)
    if tiny.names or tiny.swapped or tiny.fused:
        respell(to, tiny)
    config = json.loads((source / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    config.pop("rope_parameters", None)
    for part in (value for value in config.values() if isinstance(value, dict)):
        part.pop("rope_parameters", None)
        part.pop("dtype", None)
    (to / "config.json").write_text(json.dumps(merged(config, tiny.hub)))
    return to


def respell(model: Path, tiny: Tiny) -> None:
    """Gives the tensors in `model` the names and axes that they have in published checkpoints."""
    files = oracle("safetensors.torch")
    state: dict[str, Any] = {}
    for path in sorted(model.glob("*.safetensors")):
        state.update(files.load_file(path))
        path.unlink()
    (model / "model.safetensors.index.json").unlink(missing_ok=True)
    if tiny.fused:
        state = fused(state)
    respelt = {
        published(name, tiny.names): tensor.mT.contiguous()
        if tiny.swapped and name.endswith(tiny.swapped)
        else tensor
        for name, tensor in state.items()
    }
    files.save_file(respelt, model / "model.safetensors", metadata={"format": "pt"})


def fused(state: dict[str, Any]) -> dict[str, Any]:
    """Each layer's experts as two tensors: gates above ups, and downs."""
    torch = oracle("torch")
    layers = sorted({name.split(".experts.")[0] for name in state if ".experts." in name})
    whole = {name: tensor for name, tensor in state.items() if ".experts." not in name}
    for layer in layers:
        experts = range(sum(name.startswith(f"{layer}.experts.") for name in state) // 3)
        gate, up, down = (
            torch.stack([state[f"{layer}.experts.{at}.{part}_proj.weight"] for at in experts])
            for part in ("gate", "up", "down")
        )
        whole[f"{layer}.experts.gate_up_proj"] = torch.cat([gate, up], dim=1)
        whole[f"{layer}.experts.down_proj"] = down
    return whole


def published(name: str, names: Sequence[tuple[str, str]]) -> str:
    for theirs, ours in names:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def merged(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with `changes`, into its parts, too; `GONE` takes a field away."""
    for key, value in changes.items():
        inner = config.pop(key, None)
        if isinstance(inner, dict) and isinstance(value, dict):
            config[key] = merged(inner, value)
        elif value is not GONE:
            config[key] = value
    return config

"""Small models, rules files and adapters for the commands that meet them, and pipes in their place."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.hostile.commands import Make, model, tensors

HUGE = 10**12
LLAMA = {"model_type": "llama", "num_hidden_layers": 1, "vocab_size": 4, "tie_word_embeddings": False}
LAYER = "model.layers.0."
SMALL = {
    "model.embed_tokens.weight": (4, 4),
    "model.norm.weight": (4,),
    "lm_head.weight": (4, 4),
    LAYER + "self_attn.q_proj.weight": (4, 4),
    LAYER + "self_attn.k_proj.weight": (4, 4),
    LAYER + "self_attn.v_proj.weight": (4, 4),
    LAYER + "self_attn.o_proj.weight": (4, 4),
    LAYER + "mlp.gate_proj.weight": (4, 4),
    LAYER + "mlp.up_proj.weight": (4, 4),
    LAYER + "mlp.down_proj.weight": (4, 4),
    LAYER + "input_layernorm.weight": (4,),
    LAYER + "post_attention_layernorm.weight": (4,),
}
EXPERTS = {
    "model.embed_tokens.weight": (4, 4),
    "model.norm.weight": (4,),
    "lm_head.weight": (4, 4),
    **{
        f"{LAYER}mlp.experts.{number}.{name}.weight": (4, 4)
        for number in range(2)
        for name in ("gate_proj", "up_proj", "down_proj")
    },
}
GPT_OSS = (
    "mlp.experts.gate_up_proj",
    "mlp.experts.gate_up_proj_bias",
    "mlp.experts.gate_up_proj_blocks",
    "mlp.experts.gate_up_proj_scales",
    "mlp.experts.down_proj",
    "mlp.experts.down_proj_bias",
    "mlp.experts.down_proj_blocks",
    "mlp.experts.down_proj_scales",
)


def rules(text: str, shapes: Mapping[str, tuple[int, ...]] | None = None, config: Any = None) -> Make:
    """A small model and a rules file whose rules are `text`, or which is `text` where that has rules."""
    whole = text if "rules" in text else f"rules = [\n{text}\n]\n"
    return model(config or {"model_type": "mine"}, shapes or {"a": (4, 4), "b.0.c": (4,)}, rules=whole)


def option(*options: str, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Make:
    return model({"model_type": "mine"}, shapes or {"a" * 60: (2,), "b": (2,)}, *options)


def file(data: bytes, *options: str, name: str = "model.safetensors") -> Make:
    def make(directory: Path) -> list[str]:
        (directory / name).write_bytes(data)
        return [str(directory / name), "-o", str(directory / "out"), *options]

    return make


def pipe(which: str) -> Make:
    """A model where one file is a pipe that nobody writes to."""

    def make(directory: Path) -> list[str]:
        arguments = model({"model_type": "llama"}, SMALL)(directory)
        path = directory / "model" / which
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return arguments

    return make


def rules_pipe(directory: Path) -> list[str]:
    os.mkfifo(directory / "rules.toml")
    return [*model({"model_type": "mine"})(directory), "--rules", str(directory / "rules.toml")]


def rules_device(directory: Path) -> list[str]:
    (directory / "rules.toml").symlink_to("/dev/zero")
    return [*model({"model_type": "mine"})(directory), "--rules", str(directory / "rules.toml")]


def source_pipe(directory: Path) -> list[str]:
    os.mkfifo(directory / "model.safetensors")
    return [str(directory / "model.safetensors"), "-o", str(directory / "out")]


def index(entries: int) -> Make:
    def make(directory: Path) -> list[str]:
        arguments = model(None, {"w": (2,)})(directory)
        body = ",".join(f'"model.layers.{at}.weight":"model.safetensors"' for at in range(entries))
        (directory / "model" / "model.safetensors.index.json").write_text('{"weight_map":{' + body + "}}")
        return arguments

    return make


def adapter(config: str | dict[str, Any], names: Mapping[str, tuple[int, ...]] | None = None) -> Make:
    """An adapter in PEFT's directory."""

    def make(directory: Path) -> list[str]:
        source = directory / "adapter"
        source.mkdir()
        text = config if isinstance(config, str) else json.dumps(config)
        (source / "adapter_config.json").write_text(text)
        module = "base_model.model.model.layers.0.self_attn.q_proj"
        shapes = names or {f"{module}.lora_A.weight": (2, 4), f"{module}.lora_B.weight": (4, 2)}
        (source / "adapter_model.safetensors").write_bytes(tensors(shapes))
        return [str(source), "-o", str(directory / "out"), "--layout", "peft"]

    return make


def adapter_pipe(which: str) -> Make:
    """An adapter where one file is a pipe."""

    def make(directory: Path) -> list[str]:
        arguments = adapter({"peft_type": "LORA", "r": 2, "lora_alpha": 2})(directory)
        (directory / "adapter" / which).unlink()
        os.mkfifo(directory / "adapter" / which)
        return arguments

    return make


def merged_pipe(directory: Path) -> list[str]:
    os.mkfifo(directory / "lora.safetensors")
    return [*model(LLAMA, SMALL)(directory), "--merge-lora", str(directory / "lora.safetensors")]


def merge(names: Mapping[str, tuple[int, ...]]) -> Make:
    """An adapter of these tensors, merged into a small model."""

    def make(directory: Path) -> list[str]:
        (directory / "lora.safetensors").write_bytes(tensors(names))
        return [*model(LLAMA, SMALL)(directory), "--merge-lora", str(directory / "lora.safetensors")]

    return make

"""What is known of the programs that load a result: their model types, their quantizations, their commands.

The model types are those of one version of each, in `model_types.json`; a newer one may have more, so that
nothing is refused for them: only a command that may not work is not printed.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

COMMANDS = {
    "mlx-lm": "mlx_lm.generate --model {model} --prompt 'Hello'",
    "mlx-vlm": "mlx_vlm.generate --model {model} --prompt 'Hello'",
    "transformers": "transformers.AutoModel.from_pretrained('{model}')",
}
"""What loads a model of which no table says more; `{model}` stands for its path."""

IGNORES_CASE = ("mlx-vlm",)
"""Programs that take `model_type` in capitals, too."""

TAKES: Mapping[str, tuple[Mapping[str, str], ...]] = {
    "mlx-lm": (
        {"quant_method": "bitnet"},
        {"quant_method": "mxfp4"},
        {"quant_method": "mxfp8"},
        {"quant_method": "awq"},
        {"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": "[32, 32]"},
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
        {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    ),
    "mlx-vlm": (
        {"quant_method": "mxfp4"},
        {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"},
        {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    ),
}
"""The fields of `quantization_config` by which a program is known to decode weights that stay quantized."""

TAKES_OF: Mapping[str, tuple[Mapping[str, str], ...]] = {
    "kimi_k2": ({"quant_method": "compressed-tensors", "format": "pack-quantized"},),
}
"""The same for one model type alone."""

WITHOUT_TEXT = re.compile(
    r"(?<!LMHead)(?<!Chat)Model|For(Sequence|Token|Image|Audio)Classification|ForQuestionAnswering|ForMaskedLM"
    r"|ForMultipleChoice|ForNextSentencePrediction|ForFeatureExtraction|ForRewardModel"
)
"""Classes that embed or classify, and generate no text, as `architectures` calls them in its end."""


@functools.cache
def _data() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(
        resources.files("wconv.consumers").joinpath("model_types.json").read_text("utf-8")
    )
    return found


@functools.cache
def model_types(consumer: str) -> frozenset[str]:
    """The model types of a program, as it spells them."""
    return frozenset(_data()["consumers"][consumer]["model_types"])


def version(consumer: str) -> str:
    """The version of a program whose model types are known."""
    return f"{consumer} {_data()['consumers'][consumer]['version']}"


@functools.cache
def readers(field: str, part: str) -> frozenset[str] | None:
    """The model types of which a program reads a field of config.json; None for a field of which all do.

    Args:
        part: "root", or "text" for the language model's part.
    """
    found = _data()["reads"].get(field)
    return None if found is None else frozenset(found[part])


def loading(consumer: str | None, config: Mapping[str, Any] | None, command: str = "") -> tuple[str, str]:
    """The command that loads a model, or "" and a sentence on what is known instead.

    Args:
        consumer: whose layout the model has; None where its names are unchanged.
        config: its config.json.
        command: what the consumer's table says, where there is one.
    """
    config = config or {}
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        kind = str(config.get("_class_name") or "this model")
        return command, "" if command else f"which program loads {kind:.80} in this form is not known here"
    if consumer is not None:
        why = doubt(consumer, config)
        return ("", why) if why else (command or COMMANDS[consumer], "")
    likely = ("mlx-vlm", "mlx-lm") if "vision_config" in config else ("mlx-lm", "mlx-vlm")
    doubts = [doubt(one, config) for one in likely]
    for one, why in zip(likely, doubts, strict=True):
        if not why:
            return COMMANDS[one], ""
    having = [why for one, why in zip(likely, doubts, strict=True) if _has(one, model_type)]
    return "", f"names unchanged: {(having or doubts)[0]}"


def doubt(consumer: str, config: Mapping[str, Any]) -> str:
    """Why a program is not known to load a model in its own layout or the hub's; "" when it is."""
    model_type = str(config.get("model_type") or "")
    if not _has(consumer, model_type):
        return f"whether {consumer} knows {model_type:.80} is not known here ({version(consumer)} does not)"
    if consumer == "transformers":
        return ""
    classes = config.get("architectures")
    named = [one for one in classes if isinstance(one, str)] if isinstance(classes, list) else []
    if named and all(re.search(f"(?:{WITHOUT_TEXT.pattern})$", one[:200]) for one in named):
        return f"whether {consumer} loads a {named[0]:.80} is not known here"
    stored = _quantization(config)
    wanted = (*TAKES.get(consumer, ()), *TAKES_OF.get(model_type, ()))
    if stored is not None and not any(
        all(str(stored.get(key)) == value for key, value in one.items()) for one in wanted
    ):
        method = str(stored.get("quant_method") or "quantized")
        return f"whether {consumer} loads {method:.40} weights of {model_type:.80} is not known here"
    return ""


def _has(consumer: str, model_type: str) -> bool:
    name = model_type.lower() if consumer in IGNORES_CASE else model_type
    return name in model_types(consumer)


def _quantization(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What says how weights are stored that are quantized by another program than MLX."""
    if isinstance(config.get("quantization"), Mapping):
        return None
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        if isinstance(found := part.get("quantization_config"), Mapping):
            return found
    return None

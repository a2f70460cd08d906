"""Which command loads a result, as far as that is known.

The model types that are known are those of one version of each program; a newer one may have more, so that
nothing is refused for them: only a command that may not work is not printed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wconv.consumers import registry
from wconv.consumers.consumer import Consumer

WITHOUT_TEXT = re.compile(
    r"(?<!LMHead)(?<!Chat)Model|For(Sequence|Token|Image|Audio)Classification|ForQuestionAnswering|ForMaskedLM"
    r"|ForMultipleChoice|ForNextSentencePrediction|ForFeatureExtraction|ForRewardModel"
)
"""Classes that embed or classify, and generate no text, as `architectures` calls them in its end."""


def likeliest_first(config: Mapping[str, Any]) -> list[Consumer]:
    """The consumers that "auto" asks and whose model types are known, those for models like this first."""
    known = [one for one in registry.with_role("automatic") if one.known_models is not None]

    def unlikely(one: Consumer) -> bool:
        is_multimodal = any(isinstance(config.get(name), Mapping) for name in multimodal)
        return bool(one.multimodal_fields) is not is_multimodal

    multimodal = {name for one in known for name in one.multimodal_fields}
    return sorted(known, key=unlikely)


def load_command(
    consumer: str | None, config: Mapping[str, Any] | None, command: str = ""
) -> tuple[str, str]:
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
        found = registry.find_consumer(consumer)
        why = doubt(found, config) if found is not None else f"how {consumer} loads it is not known here"
        return ("", why) if found is None or why else (command or found.command, "")
    likely = likeliest_first(config)
    doubts = [doubt(one, config) for one in likely]
    for one, why in zip(likely, doubts, strict=True):
        if not why:
            return one.command, ""
    having = [why for one, why in zip(likely, doubts, strict=True) if knows(one, model_type)]
    return "", f"names unchanged: {(having or doubts)[0]}"


def doubt(consumer: Consumer, config: Mapping[str, Any]) -> str:
    """Why a program is not known to load a model in its own layout or the hub's; "" when it is."""
    model_type = str(config.get("model_type") or "")
    if not knows(consumer, model_type):
        version = f"{consumer.name} {consumer.known_models().version}" if consumer.known_models else ""
        return f"whether {consumer.name} knows {model_type:.80} is not known here ({version} does not)"
    if consumer.without_text:
        return ""
    classes = config.get("architectures")
    named = [one for one in classes if isinstance(one, str)] if isinstance(classes, list) else []
    if named and all(re.search(f"(?:{WITHOUT_TEXT.pattern})$", one[:200]) for one in named):
        return f"whether {consumer.name} loads a {named[0]:.80} is not known here"
    stored = stored_quantization(config)
    accepted = consumer.quantization_configs
    wanted = (*accepted.of_all, *accepted.of_model_type.get(model_type, ()))
    if stored is not None and not any(
        all(str(stored.get(key)) == value for key, value in one.items()) for one in wanted
    ):
        method = str(stored.get("quant_method") or "quantized")
        return f"whether {consumer.name} loads {method:.40} weights of {model_type:.80} is not known here"
    return ""


def knows(consumer: Consumer, model_type: str) -> bool:
    """Whether a program has models of a type, as far as that is known here."""
    if consumer.known_models is None:
        return False
    name = model_type.lower() if consumer.ignores_case else model_type
    return name in consumer.known_models().model_types


def stored_quantization(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What says how weights are stored that are quantized by another program than MLX."""
    if isinstance(config.get("quantization"), Mapping):
        return None
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        if isinstance(found := part.get("quantization_config"), Mapping):
            return found
    return None

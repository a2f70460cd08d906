"""What checkpoints may hold besides a model's weights; whether sanitize leaves it out is tried."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.derive.plain_rules import LEFT_OUT
from tests.derive.sources import Shape, Source
from wconv.layouts.conditions import Setting
from wconv.layouts.patterns import compile_pattern
from wconv.layouts.rules import DropRule, Rule

FURTHER = "predicts further tokens, which the consumer's sanitize leaves out"
LAYER = re.compile(r"(.*?\blayers)\.(\d+)\.(.*)")

PREDICTORS = ("mtp", "model.mtp", "model.mtp_layers", "mtp_layers", "model.mtp_block")
SEEING = (
    "vision_tower",
    "multi_modal_projector",
    "visual",
    "model.visual",
    "model.vision_tower",
    "audio_tower",
)


def left_out(source: Source) -> list[Rule]:
    """Rules for tensors that are not in the source and that sanitize would leave out."""
    import mlx.core as mx

    weights = {name: mx.zeros(shape) for name, shape in source.shapes.items()}
    try:
        expected = set(source.model.fresh(dict(weights)))
    except Exception:
        return []
    rules: list[Rule] = []
    for rule, names in _candidates(source):
        if any(name in weights or compile_pattern(rule.source).match(name) is None for name in names):
            continue
        if rule.beyond is None and any(compile_pattern(rule.source).match(name) for name in weights):
            continue
        more = {name: mx.zeros(shape) for name, shape in names.items()}
        try:
            got = set(source.model.fresh({**weights, **more}))
        except Exception:
            continue
        if got == expected:
            rules.append(rule)
    return rules


def _candidates(source: Source) -> Iterator[tuple[DropRule, dict[str, Shape]]]:
    """Rules, each with tensors that it would leave out."""
    names = list(source.shapes)
    attention = sorted(
        {name.rpartition(".")[0].rpartition(".")[0] for name in names if ATTENTION.search(name)}
    )
    if attention:
        parents = attention[:1]
        yield (
            DropRule("**rotary_emb.inv_freq", LEFT_OUT),
            {f"{one}.rotary_emb.inv_freq": (4,) for one in parents},
        )
        for leaf in ("masked_bias", "rope.inv_freq"):
            yield DropRule(f"**.{leaf}", LEFT_OUT), {f"{one}.{leaf}": (1,) for one in parents}
    embeddings = sorted(
        {name.rpartition(".")[0].rpartition(".")[0] for name in names if "position_embedding" in name}
    )
    if embeddings:
        yield DropRule("**.position_ids", LEFT_OUT), {f"{one}.position_ids": (1, 4) for one in embeddings}
    for start in PREDICTORS:
        tensors: dict[str, Shape] = {
            f"{start}.layers.0.input_layernorm.weight": (4,),
            f"{start}.norm.weight": (4,),
        }
        yield DropRule(f"{start}.**", FURTHER), tensors
    for start in SEEING:
        yield (
            DropRule(f"{start}.**", LEFT_OUT),
            {f"{start}.encoder.layers.0.norm.weight": (4,), f"{start}.norm.bias": (4,)},
        )
    yield from _beyond(source)
    yield DropRule("lm_head.weight", LEFT_OUT), {"lm_head.weight": (8, 4)}


ATTENTION = re.compile(
    r"\b(self_attn|attention|attn)\.[^.]*(q|qkv|query|query_key_value|Wqkv|c_attn)[^.]*\.weight$"
)


def _beyond(source: Source) -> Iterator[tuple[DropRule, dict[str, Shape]]]:
    """Layers after the last one, which predict further tokens."""
    found = [match for name in source.shapes if (match := LAYER.fullmatch(name))]
    for start in dict.fromkeys(match[1] for match in found):
        numbers = [int(match[2]) for match in found if match[1] == start]
        last = max(numbers)
        layers = Setting("num_hidden_layers")
        text = source.config.get("text_config") or source.config
        if last + 1 != text.get("num_hidden_layers", source.config.get("num_hidden_layers")):
            continue
        names = {
            f"{start}.{last + 1}.{match[3]}": source.shapes[match[0]]
            for match in found
            if match[1] == start and int(match[2]) == last
        }
        names[f"{start}.{last + 1}.eh_proj.weight"] = (4, 4)
        pattern = ".".join("#" if part.isdigit() else part for part in start.split("."))
        yield DropRule(f"{pattern}.#.**", FURTHER, layers), names

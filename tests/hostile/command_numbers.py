"""Counts, numbers and shapes that have no end, and tensors of too few axes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.hostile.command_making import EXPERTS, GPT_OSS, HUGE, LAYER, LLAMA, file, option, rules
from tests.hostile.commands import Command, model, tensors


def numbers() -> Iterator[Command]:
    """Counts that are far larger than what is there, and numbers that are none."""
    for name, value in {
        "huge": HUGE,
        "digits-400": 10**400,
        "negative": -(10**12),
        "infinite": float("inf"),
        "text": "1" * 5000,
        "list": [[1]] * 50,
        "boolean": True,
    }.items():
        for field in ("num_hidden_layers", "num_experts", "num_attention_heads", "vocab_size"):
            config = {"model_type": "qwen2_moe", **LLAMA, field: value}
            yield Command(
                f"config-{field}-{name}", model({**config, "model_type": "qwen2_moe"}, EXPERTS), "either"
            )
    for digits in (400, 5000):
        text = json.dumps({"model_type": "qwen2_moe", "num_experts": 0}).replace(": 0", ": " + "9" * digits)
        yield Command(f"config-digits-{digits}", model(text, EXPERTS))
        yield Command(
            f"rules-digits-{digits}", rules(f'{{ split = "a", into = ["c", "d"], axis = {"9" * digits} }}')
        )
        yield Command(
            f"rules-hex-{digits}", rules(f'{{ split = "a", into = ["c", "d"], axis = 0x{"f" * digits} }}')
        )
        yield Command(f"shard-size-digits-{digits}", option("--max-shard-size", "9" * digits), "either")
        yield Command(f"shard-size-unit-{digits}", option("--max-shard-size", "9" * digits + "GB"), "either")
        yield Command(f"jobs-digits-{digits}", option("-j", "9" * digits), "usage")
        yield Command(f"lora-scale-{digits}", option("--merge-lora", "x:" + "9" * digits))
    text = json.dumps({"model_type": "qwen2_moe", "num_experts": 0}).replace(": 0", ": 1e999")
    yield Command("config-exponent", model(text, EXPERTS))
    stacked = '{ stack = "b.{e}.c", to = "c", count = { setting = "n", default = 1000000000000 } }'
    yield Command("rules-stack-count", rules(stacked))
    yield Command(
        "rules-stack-count-config", rules('{ stack = "b.{e}.c", to = "c", count = "n" }', config={"n": HUGE})
    )
    yield Command(
        "rules-unstack-count", rules('{ unstack = "a", to = "x.{e}", count = "n" }', config={"n": HUGE})
    )
    sizes = '{ split = "a", into = ["c", "d"], axis = 0, sizes = ["n", "n"] }'
    yield Command("rules-split-sizes", rules(sizes, config={"n": HUGE}), says="a")
    yield Command("rules-reshape", rules('{ reshape = "a", to = [1000000000000, -1] }'), says="a")
    yield Command("rules-reshape-negative", rules('{ reshape = "a", to = [-5, -4] }'), says="a")
    yield Command("rules-rotary", rules('{ rotary = "a", heads = "n" }', config={"n": HUGE}), says="a")
    yield Command("rules-rotary-none", rules('{ rotary = "a", heads = "n" }', config={"n": 0}), says="a")
    yield Command(
        "rules-float-for-count",
        rules('{ stack = "b.{e}.c", to = "c", count = { setting = "n", default = 1e999 } }'),
    )
    yield Command("rules-add-infinite", rules('{ add = "b.0.c", value = 1e999 }'), "either")
    yield Command(
        "rules-stack-number-huge", rules('{ stack = "b.{e}.c", to = "c" }', {f"b.{'9' * 3000}.c": (4,)})
    )
    yield Command(
        "rules-unstack-rows", rules('{ unstack = "a", to = "x.{e}" }', {"a": (10**7, 0), "b": (2,)})
    )


def axes() -> Iterator[Command]:
    """Tensors of too few axes, and rules on axes that they lack."""
    on = {
        "split": '{ split = "s", into = ["c", "d"], axis = 99 }',
        "split-negative": '{ split = "s", into = ["c", "d"], axis = -99 }',
        "split-interleaved": '{ split = "s", into = ["c", "d"], axis = 99, interleaved = true }',
        "split-sizes": '{ split = "s", into = ["c", "d"], axis = 99, sizes = ["n", "n"] }',
        "join": '{ join = "s", with = ["t"], to = "c", axis = 99 }',
        "join-interleaved": '{ join = "s", with = ["t"], to = "c", axis = 99, interleaved = true }',
        "conv2d": '{ transpose = "s", as = "conv2d" }',
        "conv2d-last": '{ transpose = "s", as = "conv2d", last = 3 }',
        "swap": '{ transpose = "s", as = "swap_last" }',
        "swap-only": '{ transpose = "s", as = "swap_last", only = [99, "n"] }',
        "view": '{ view = "s", as = "uint32" }',
        "view-back": '{ view = "s", as = "uint32", back = ["uint8", 0] }',
        "rotary": '{ rotary = "s", heads = "n" }',
        "unstack": '{ unstack = "s", to = "c.{e}" }',
        "reshape": '{ reshape = "s", to = [0, 0, 0, 0] }',
        "weight-norm": '{ compute = "s", with = "t", by = "weight_norm" }',
        "dequantized": '{ compute = "s", with = "t", by = "dequantized" }',
        "summed": '{ compute = "s", with = "t", by = "summed" }',
    }
    for name, rule in on.items():
        for count in range(4):
            shapes = {"s": (2, 4, 6)[:count], "t": (3,)}
            says = "" if name in ("swap", "reshape", "view", "view-back", "unstack") else "s"
            yield Command(f"axes-{name}-{count}", rules(rule, shapes, {"n": 2}), "either", says)
    for part in GPT_OSS:
        for count in range(4):
            base = part.removesuffix("_blocks").removesuffix("_scales")
            pair = {f"{base}_blocks", f"{base}_scales"} if base != part else {part}
            shapes = {LAYER + one: (2, 4, 3)[:count] for one in sorted(pair)}
            make = model({"model_type": "gpt_oss", "num_local_experts": 2}, shapes)
            yield Command(f"gpt_oss-{part}-{count}", make, "either")
    yield Command(
        "shape-huge-and-empty", file(tensors({"w": (7 * 10**18, 0), "v": (0, 7 * 10**18)})), "either"
    )
    yield Command(
        "shape-huge-and-empty-cast", file(tensors({"w": (7 * 10**18, 0)}), "--dtype", "float32"), "either"
    )
    yield Command(
        "shape-huge-and-empty-pt", file(tensors({"w": (7 * 10**18, 0)}), "--format", "pt"), "either"
    )


def commands() -> Iterator[Command]:
    for room in (numbers, axes):
        yield from room()

"""The commands that `tests.hostile.commands` runs: every kind of thing that could hang, burst or crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.hostile.commands import Command, Make, model, tensors
from tests.hostile.containers import safetensors

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
            yield Command(f"config-{field}-{name}", model({**config, "model_type": "qwen2_moe"}, EXPERTS), "either")
    for digits in (400, 5000):
        text = json.dumps({"model_type": "qwen2_moe", "num_experts": 0}).replace(": 0", ": " + "9" * digits)
        yield Command(f"config-digits-{digits}", model(text, EXPERTS))
        yield Command(f"rules-digits-{digits}", rules(f'{{ split = "a", into = ["c", "d"], axis = {"9" * digits} }}'))
        yield Command(f"rules-hex-{digits}", rules(f'{{ split = "a", into = ["c", "d"], axis = 0x{"f" * digits} }}'))
        yield Command(f"shard-size-digits-{digits}", option("--max-shard-size", "9" * digits), "either")
        yield Command(f"shard-size-unit-{digits}", option("--max-shard-size", "9" * digits + "GB"), "either")
        yield Command(f"jobs-digits-{digits}", option("-j", "9" * digits), "usage")
        yield Command(f"lora-scale-{digits}", option("--merge-lora", "x:" + "9" * digits))
    text = json.dumps({"model_type": "qwen2_moe", "num_experts": 0}).replace(": 0", ": 1e999")
    yield Command("config-exponent", model(text, EXPERTS))
    stacked = '{ stack = "b.{e}.c", to = "c", count = { setting = "n", default = 1000000000000 } }'
    yield Command("rules-stack-count", rules(stacked))
    yield Command("rules-stack-count-config", rules('{ stack = "b.{e}.c", to = "c", count = "n" }', config={"n": HUGE}))
    yield Command("rules-unstack-count", rules('{ unstack = "a", to = "x.{e}", count = "n" }', config={"n": HUGE}))
    sizes = '{ split = "a", into = ["c", "d"], axis = 0, sizes = ["n", "n"] }'
    yield Command("rules-split-sizes", rules(sizes, config={"n": HUGE}), says="a")
    yield Command("rules-reshape", rules('{ reshape = "a", to = [1000000000000, -1] }'), says="a")
    yield Command("rules-reshape-negative", rules('{ reshape = "a", to = [-5, -4] }'), says="a")
    yield Command("rules-rotary", rules('{ rotary = "a", heads = "n" }', config={"n": HUGE}), says="a")
    yield Command("rules-rotary-none", rules('{ rotary = "a", heads = "n" }', config={"n": 0}), says="a")
    yield Command("rules-float-for-count", rules('{ stack = "b.{e}.c", to = "c", count = { setting = "n", default = 1e999 } }'))
    yield Command("rules-add-infinite", rules('{ add = "b.0.c", value = 1e999 }'), "either")
    yield Command("rules-stack-number-huge", rules('{ stack = "b.{e}.c", to = "c" }', {f"b.{'9' * 3000}.c": (4,)}))
    yield Command("rules-unstack-rows", rules('{ unstack = "a", to = "x.{e}" }', {"a": (10**7, 0), "b": (2,)}))


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
    yield Command("shape-huge-and-empty", file(tensors({"w": (7 * 10**18, 0), "v": (0, 7 * 10**18)})), "either")
    yield Command("shape-huge-and-empty-cast", file(tensors({"w": (7 * 10**18, 0)}), "--dtype", "float32"), "either")
    yield Command("shape-huge-and-empty-pt", file(tensors({"w": (7 * 10**18, 0)}), "--format", "pt"), "either")


def expressions() -> Iterator[Command]:
    """Regular expressions that a backtracking matcher never comes back from."""
    never = {
        "nested": "(a+)+$",
        "nested-star": "(a*)*b",
        "alternatives": "(a|a)*b",
        "overlapping": "(a|aa)+$b",
        "digits": r"(\w+\d*)+:",
        "counted": "(a{1,30}){1,30}b",
        "in-turn": ".*.*.*.*.*.*.*.*b\\Z\\Zx",
        "deep-stars": "(((((a*b?)*b?)*b?)*b?)*b?)*c",
    }
    long = {"a" * 4000: (2,), "w": (2,)}
    for name, text in never.items():
        yield Command(f"include-{name}", option("--include", text, shapes=long), "either")
        yield Command(f"exclude-{name}", option("--exclude", text, shapes=long), "either")
    wrong = {
        "groups-500": "(" * 500 + "a" + ")" * 500,
        "groups-100000": "(" * 100_000,
        "count": "a{99999999999999}",
        "counts-nested": "(((((a{900}){900}){900}){900}){900})",
        "backreference": r"(a+)\1+$",
        "open": "(a",
        "long": "(a|b)" * 10_000,
        "long-open": "[" + "a" * 400_000,
    }
    for name, text in wrong.items():
        yield Command(f"include-{name}", option("--include", text), says="--include")
        yield Command(f"exclude-{name}", option("--exclude", text), says="--exclude")


def patterns() -> Iterator[Command]:
    """Rules files whose patterns, keys or lists are beyond all measure."""
    words = "(a|b)" * 40
    yield Command("names-words", rules(f'names = ["{words}"]\nrules = []\n', {"z": (2,)}))
    yield Command("rename-words", rules(f'{{ rename = "{words}", to = "{words}" }}'), "either")
    many = "**.a" * 40
    dotted = ".a" * 1500 + ".b"
    yield Command("names-stars", rules(f'names = ["{many}"]\nrules = []\n', {dotted: (2,)}))
    yield Command("rename-stars", rules(f'{{ rename = "{many}", to = "x.{many}" }}', {dotted: (2,)}), "either")
    hashes = "#*" * 40 + "x"
    yield Command("rename-hashes", rules(f'{{ rename = "{hashes}", to = "{hashes}y" }}', {"1" * 3000: (2,)}), "either")
    copies = "\n".join(f'{{ copy = "a", to = "c{at}" }},' for at in range(20_000))
    yield Command("copies", rules(copies))
    chained = "\n".join(f'{{ rename = "n{at}", to = "n{at + 1}" }},' for at in range(5000))
    yield Command("renames-chained", rules(chained, {"n0": (2,), **{f"m{at}": (2,) for at in range(2000)}}))
    yield Command("key-dotted", rules("rules = []\n" + ".".join("a" * 20_000) + " = 1\n"))
    yield Command("key-dotted-quoted", rules("rules = []\n" + ".".join(['"a"'] * 20_000) + " = 1\n"))
    yield Command("key-dotted-spaced", rules("rules = []\n" + " . ".join("a" * 20_000) + " = 1\n"))
    yield Command("key-dotted-table", rules("rules = []\n[" + ".".join("a" * 20_000) + "]\n"))
    yield Command("toml-deep", rules("rules = []\nnames = " + "[" * 5000 + "]" * 5000 + "\n"))
    yield Command("toml-tables", rules("rules = []\n" + "".join(f"[a.b{at}]\n" for at in range(50_000))))
    yield Command("toml-deep-tables", rules("rules = []\nform = " + "{a=" * 500 + "1" + "}" * 500))
    yield Command("toml-keys", rules("rules = []\n" + "".join(f"k{at} = 1\n" for at in range(90_000))))
    yield Command("toml-key-long", rules("rules = []\n" + "k" * 400_000 + " = 1\n"))
    yield Command("toml-quotes", rules("rules = []\nnames = [" + "'''a" * 100_000))
    setting = " - ".join("n" * 5000)
    yield Command("setting-minus", rules(f'{{ stack = "b.{{e}}.c", to = "c", count = "{setting}" }}', config={"n": 1}))
    yield Command("setting-dotted", rules(f'{{ stack = "b.{{e}}.c", to = "c", count = "{".".join("n" * 9000)}" }}'))
    yield Command("pattern-long", rules(f'{{ rename = "{"a" * 400_000}", to = "{"b" * 400_000}" }}'), "either")
    yield Command("split-into-many", rules('{ split = "a", axis = 0, into = [' + '"c",' * 100_000 + "] }"))
    yield Command("form-braces", rules('rules = []\nform = { shard = "{number}.safetensors", max_shard_size = 0 }\n'), "either")
    casts = 'rules = []\ncasts = { "float32" = "nothing" }\n'
    yield Command("casts-unknown", rules(casts), "either")
    yield Command("rules-pipe", rules_pipe, says="rules.toml")
    yield Command("rules-device", rules_device, says="rules.toml")
    yield Command("rules-directory", lambda directory: [*model({"model_type": "mine"})(directory), "--rules", str(directory)])
    yield Command("key-option", file(tensors({"w": (2,)}), "--key", ".".join("a" * 20_000)))
    yield Command("rules-long-unknown", lambda directory: ["rules", "m" * 100_000])


def names() -> Iterator[Command]:
    """Names without end."""
    kinds = {"ia3": ".ia3_l." * 50_000, "plain": "n" * 400_000, "dots": "a." * 200_000, "newlines": "a\n\x1b[2J" * 9000}
    kinds["digits"] = "model.layers." + "1" * 5000 + ".weight"
    kinds["ia3-4000"] = ".ia3_l." * 570
    kinds["lora-4000"] = ".lora_A." * 500
    kinds["oft-4000"] = ".oft_w" * 600 + "-"
    for name, text in kinds.items():
        yield Command(f"name-{name}", file(tensors({text: (2,)})), "either")
        yield Command(f"name-{name}-llama", model(LLAMA, {**SMALL, text: (2, 2)}), says="")
        yield Command(f"name-{name}-inspect", lambda d, text=text: ["inspect", file(tensors({text: (2,)}))(d)[0]], "either")
    many = {f"{'.ia3_l.' * 50}{at}": (1,) for at in range(3000)}
    yield Command("names-ia3", file(tensors(many)), "either")
    yield Command("output-long", lambda d: [str(d / "x"), "-o", "o" * 100_000])
    yield Command("source-long", lambda d: ["s" * 100_000])
    yield Command("source-missing-newlines", lambda d: [str(d / ("a\n" * 50))])
    for one in ("--layout", "--variant", "--component", "--merge-lora", "--max-shard-size", "--key"):
        yield Command(f"option-long-{one}", option(one, "x" * 100_000))
    yield Command("option-long-dtype", option("--dtype", "x" * 100_000), "usage")
    yield Command("option-unknown-long", option("--" + "x" * 100_000), "usage")


def configs() -> Iterator[Command]:
    """JSON beyond all measure."""
    deep = '{"model_type": "llama", "x": ' + "[" * 500 + "]" * 500 + "}"
    yield Command("config-deep", model(deep, SMALL), says="config.json")
    objects = '{"model_type": "llama", "x": ' + '{"a":' * 500 + "1" + "}" * 501
    yield Command("config-deep-objects", model(objects, SMALL), says="config.json")
    parts = '{"model_type": "llama", "text_config": ' * 300 + "1" + "}" * 300
    yield Command("config-deep-parts", model(parts, SMALL), says="config.json")
    yield Command("config-wide", model('{"x": [' + "[]," * 3_000_000 + "0]}", SMALL), seconds=3)
    yield Command("config-type-long", model({"model_type": "m" * 400_000}, SMALL), "either")
    yield Command("config-type-object", model({"model_type": {"a": ["b"]}}, SMALL), "either")
    yield Command("config-architectures", model({**LLAMA, "architectures": {"a": 1}}, SMALL), "either")
    for part in ("text_config", "vision_config", "quantization", "quantization_config", "rope_scaling"):
        for value in (1, [], "x", None, {}, True, {"bits": 10**30}, [[[]]]):
            yield Command(f"config-{part}-{value!r}", model({**LLAMA, part: value}, SMALL), "either")
    yield Command("index-of-2.5-million", index(2_500_000), says="index.json", seconds=3)
    for name, text in {
        "deep": '{"peft_type": "LORA", "x": ' + "[" * 500 + "]" * 500 + "}",
        "digits": '{"peft_type": "LORA", "r": 1, "lora_alpha": ' + "9" * 400 + "}",
        "digits-5000": '{"peft_type": "LORA", "r": 1, "lora_alpha": ' + "9" * 5000 + "}",
        "exponent": '{"peft_type": "LORA", "r": 1, "lora_alpha": 1e999}',
        "list": '{"peft_type": "LORA", "r": 1, "lora_alpha": [1]}',
        "patterns": json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 1, "alpha_pattern": {"(a+)+$": 3}}),
        "patterns-long": json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 1, "rank_pattern": {"(a+)+$" * 9999: 3}}),
        "type-long": json.dumps({"peft_type": "L" * 100_000}),
        "null": "null",
        "empty": "",
    }.items():
        yield Command(f"adapter-{name}", adapter(text), "either")
    for which in ("config.json", "model.safetensors", "model.safetensors.index.json", "params.json", "tokenizer.json"):
        yield Command(f"pipe-{which}", pipe(which), "either")
    yield Command("pipe-source", source_pipe)
    header = safetensors(b'{"__metadata__":{"lora_adapter_metadata":"' + b"[" * 100_000 + b'"},"x.lora_A.weight":'
        b'{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}', bytes(4))
    yield Command("header-metadata-deep", file(header), "either")


def commands() -> list[Command]:
    rooms = (numbers, axes, expressions, patterns, names, configs)
    return [command for room in rooms for command in room()]

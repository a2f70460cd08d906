"""Names, options and JSON without end, and pipes in place of files."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.hostile.command_making import (
    LAYER,
    LLAMA,
    SMALL,
    adapter,
    adapter_pipe,
    file,
    index,
    merge,
    merged_pipe,
    option,
    pipe,
    source_pipe,
)
from tests.hostile.commands import Command, model, tensors
from tests.hostile.containers import safetensors


def names() -> Iterator[Command]:
    """Names without end."""
    kinds = {
        "ia3": ".ia3_l." * 50_000,
        "plain": "n" * 400_000,
        "dots": "a." * 200_000,
        "newlines": "a\n\x1b[2J" * 9000,
    }
    kinds["digits"] = "model.layers." + "1" * 5000 + ".weight"
    kinds["ia3-4000"] = ".ia3_l." * 570
    kinds["lora-4000"] = ".lora_A." * 500
    kinds["oft-4000"] = ".oft_w" * 600 + "-"
    for name, text in kinds.items():
        yield Command(f"name-{name}", file(tensors({text: (2,)})), "either")
        yield Command(f"name-{name}-llama", model(LLAMA, {**SMALL, text: (2, 2)}), says="")
        yield Command(
            f"name-{name}-inspect",
            lambda d, text=text: ["inspect", file(tensors({text: (2,)}))(d)[0]],
            "either",
        )
    for name, text in {"ia3": ".ia3_l.", "lora": ".lora_A.", "oft": ".oft_w"}.items():
        many = {f"{at}{text * 120}\n": (1,) for at in range(1000)}
        yield Command(f"names-{name}", file(tensors(many)), "either")
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
        "patterns": json.dumps(
            {"peft_type": "LORA", "r": 2, "lora_alpha": 1, "alpha_pattern": {"(a+)+$": 3}}
        ),
        "patterns-long": json.dumps(
            {"peft_type": "LORA", "r": 2, "lora_alpha": 1, "rank_pattern": {"(a+)+$" * 9999: 3}}
        ),
        "type-long": json.dumps({"peft_type": "L" * 100_000}),
        "null": "null",
        "empty": "",
    }.items():
        yield Command(f"adapter-{name}", adapter(text), "either")
    for ending in ("diff", "diff_b", "lora_A.weight", "lora_B.weight", "dora_scale"):
        module = "diffusion_model." + LAYER + "self_attn.q_proj."
        pair = {module + "lora_A.weight": (2, 4), module + "lora_B.weight": (4, 2)}
        merged = merge({**pair, module + ending: ()})
        yield Command(f"merged-{ending}-of-no-axes", merged)
    for which in (
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "params.json",
        "tokenizer.json",
    ):
        yield Command(f"pipe-{which}", pipe(which), "either")
    yield Command("pipe-source", source_pipe)
    yield Command("pipe-model_index.json", pipe("model_index.json"))
    yield Command("pipe-adapter", adapter_pipe("adapter_model.safetensors"), says="adapter_model.safetensors")
    yield Command("pipe-adapter-config", adapter_pipe("adapter_config.json"), "either")
    yield Command("pipe-merged", merged_pipe, says="lora.safetensors")
    header = safetensors(
        b'{"__metadata__":{"lora_adapter_metadata":"' + b"[" * 100_000 + b'"},"x.lora_A.weight":'
        b'{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}',
        bytes(4),
    )
    yield Command("header-metadata-deep", file(header), "either")


def commands() -> Iterator[Command]:
    for room in (names, configs):
        yield from room()

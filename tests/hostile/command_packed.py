"""Quantized models whose values lie: scales, groups, tables, settings in tensors and beside them.

Each is dequantized, and converted as its config asks for, where weights may stay in few bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tests.hostile.command_making import HUGE
from tests.hostile.command_quantized import FIXTURES
from tests.hostile.commands import Command, Make

Q = "model.layers.0.self_attn.q_proj."
DEEP = "[" * 60_000
NONSENSE: tuple[Any, ...] = (0, HUGE, 1e308, "x", None, [HUGE, HUGE])
COMFY = "blocks.0.q_proj."


def number(name: str, value: float, at: int = 0) -> Callable[[dict[str, Any]], None]:
    """One number of a tensor is another."""

    def change(tensors: dict[str, Any]) -> None:
        flat = np.array(tensors[name]).reshape(-1)
        flat[at] = value
        tensors[name] = flat.reshape(tensors[name].shape)

    return change


def array(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name] = np.array(value)

    return change


def text(name: str, value: Any, **fields: Any) -> Callable[[dict[str, Any]], None]:
    """A tensor that holds JSON says something else: all of it, or some fields."""

    def change(tensors: dict[str, Any]) -> None:
        said = value
        if fields:
            said = json.dumps({**json.loads(tensors[name].tobytes()), **fields})
        tensors[name] = np.frombuffer(
            (said if isinstance(said, str) else json.dumps(said)).encode(), np.uint8
        )

    return change


STATE = f"{Q}weight.quant_state.bitsandbytes__nf4"
SCALES = {
    "fp8-blocks": "weight_scale_inv",
    "fp8-tensor": "weight_scale",
    "fp8-powers": "weight_scale_inv",
    "ct-fp8": "weight_scale",
    "ct-nvfp4": "weight_scale",
    "modelopt-nvfp4": "weight_scale",
    "bnb-nf4-plain": "weight.absmax",
    "bnb-int8": "SCB",
}
"""Of which one is NaN, and one is negative."""


def lies() -> Iterator[tuple[str, str, Callable[[dict[str, Any]], None]]]:
    """(fixture, label, change) of files that must be refused."""
    for case, end in SCALES.items():
        yield case, "nan", number(Q + end, np.nan)
        yield case, "negative", number(Q + end, -1)
    for case in ("ct-mxfp4", "ct-mxfp8"):
        yield case, "nan", number(f"{Q}weight_scale", 255)
    yield "comfy-scaled-fp8", "nan", array(f"{COMFY}scale_weight", np.float32(np.nan))
    for label, value in {"nan": np.nan, "negative": -1, "infinity": np.inf}.items():
        yield "modelopt-nvfp4", f"second-{label}", array(f"{Q}weight_scale_2", np.float32(value))
        yield "ct-nvfp4", f"global-{label}", array(f"{Q}weight_global_scale", np.array([value], np.float32))
    yield "ct-nvfp4", "global-zero", array(f"{Q}weight_global_scale", np.zeros(1, np.float32))
    for label, group in {"negative": -5, "beyond": 1 << 30}.items():
        yield "gptq-4-order", f"group-{label}", number(f"{Q}g_idx", group)
    yield "gptq-4-order", "one-group", array(f"{Q}g_idx", np.zeros(128, np.int32))
    for shape in ([0, 128], [-64, -128], [1 << 62, 4], [64], []):
        yield "ct-int4", f"shape-{shape}", array(f"{Q}weight_shape", np.array(shape, np.int64))
    for label, said in {"deep": DEEP, "list": [1], "empty": " ", "half": '{"shape": ['}.items():
        yield "bnb-nf4", f"state-{label}", text(STATE, said)
        yield "comfy-quant", f"told-{label}", text(f"{COMFY}comfy_quant", said)
    for field in ("blocksize", "nested_blocksize", "shape", "dtype", "nested_offset"):
        for at, value in enumerate(NONSENSE):
            if field != "nested_offset" or value not in (0, HUGE):
                yield "bnb-nf4", f"{field}-{at}", text(STATE, None, **{field: value})
    yield "bnb-nf4", "map-short", array(f"{Q}weight.quant_map", np.zeros(3, np.float32))
    yield "bnb-nf4", "offset-large", text(STATE, None, nested_offset=10**400)
    yield "bnb-nf4", "map-nan", number(f"{Q}weight.quant_map", np.nan)
    yield "bnb-nf4", "nested-map-nan", array(f"{Q}weight.nested_quant_map", np.full(256, np.nan, np.float32))
    yield "bnb-nf4", "nested-nan", number(f"{Q}weight.nested_absmax", np.nan)
    yield "comfy-quant", "another", text(f"{COMFY}comfy_quant", {"format": "int4"})


SETTINGS: dict[str, dict[str, Any]] = {
    "ignored-patterns": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "ignore": ["re:(a+)+$", "re:(.*)*x" * 500, "re:((((.*)*)*)*)*$", "x" * 60_000] * 200,
        "config_groups": {"a": {"targets": ["re:(.+)+$" * 1000], "weights": {"num_bits": 4}}},
    },
    "excluded": {"quant_algo": "NVFP4", "exclude_modules": ["*" * 20_000, "*a" * 9_000] * 50},
    "absurd": {"bits": HUGE, "group_size": HUGE, "quant_method": "gptq", "sym": HUGE},
    "nested": {"quantization": {"quantization": DEEP}},
    "block": {"weight_block_size": [10**40, -1], "quant_method": "fp8"},
}
MLX: dict[str, Any] = {
    "bits-0": {"group_size": 64, "bits": 0},
    "huge": {"group_size": HUGE, "bits": HUGE, "mode": "affine"},
    "text": {"group_size": "64", "bits": "4"},
    "mode": {"group_size": 64, "bits": 4, "mode": "x" * 9_000},
    "layers": {"group_size": 64, "bits": 4, **{f"model.layers.{at}": [at] for at in range(2_000)}},
    "list": [64, 4],
}


def commands() -> Iterator[Command]:
    for case, label, change in lies():
        name = f"{case}-{label}".replace(" ", "")
        yield Command(f"packed-{name}", changed(case, change, "-d"))
        if label in ("nan", "negative", "one-group"):
            yield Command(f"packed-{name}-auto", changed(case, change))
    for label, settings in SETTINGS.items():
        for case in ("ct-int4", "gptq-4", "fp8-blocks"):
            yield Command(f"packed-{case}-{label}", changed(case, None, settings=settings), "either")
    for label, settings in MLX.items():
        yield Command(f"packed-mlx-{label}", quantized_for_mlx(settings), "either")


def changed(
    case: str, change: Callable[[dict[str, Any]], None] | None, *options: str, settings: Any = None
) -> Make:
    """A fixture with something changed, as a model whose layout is known."""

    def make(directory: Path) -> list[str]:
        import wconv

        source = directory / "model"
        source.mkdir()
        stored = wconv.open(FIXTURES / case / "model.safetensors")
        tensors = {name: tensor.numpy() for name, tensor in stored.items()}
        if change is not None:
            change(tensors)
        wconv.save(tensors, source / "model.safetensors", metadata=dict(stored.metadata))
        config = json.loads((FIXTURES / case / "config.json").read_text())
        if not case.startswith("comfy"):
            config["model_type"] = "llama"
        if settings is not None:
            config["quantization_config"] = settings
        (source / "config.json").write_text(json.dumps(config))
        return [str(source), "-o", str(directory / "out"), *options]

    return make


def quantized_for_mlx(settings: Any) -> Make:
    def make(directory: Path) -> list[str]:
        import wconv

        source = directory / "model"
        source.mkdir()
        half = np.ones((64, 1), ml_dtypes.bfloat16)
        tensors = {
            f"{Q}weight": np.ones((64, 8), np.uint32),
            f"{Q}scales": half,
            f"{Q}biases": half,
        }
        wconv.save(tensors, source / "model.safetensors")
        config = {"model_type": "llama", "quantization": settings}
        (source / "config.json").write_text(json.dumps(config))
        return [str(source), "-o", str(directory / "out"), "-d"]

    return make

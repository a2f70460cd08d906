"""Quantized models that are damaged, and configs that say of them what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.command_making import HUGE
from tests.hostile.commands import Command, Make

FIXTURES = Path(__file__).parents[2] / "fixtures" / "quantized"
CASES = (
    "fp8-blocks",
    "comfy-quant",
    "gptq-4-order",
    "gptq-3",
    "awq-gemm",
    "awq-gemv",
    "ct-int4-zeros",
    "ct-int8",
    "ct-nvfp4",
    "bnb-nf4",
    "bnb-int8",
    "modelopt-nvfp4",
    "mxfp4",
    "bitnet",
    "torchao-int4",
)
Change = Callable[[dict[str, Any]], None]
SETTINGS = {
    "a-list": [1],
    "a-text": "fp8",
    "a-number": 1e300,
    "method-a-list": {"quant_method": ["fp8"]},
    "method-long": {"quant_method": "x" * 100_000},
    "bits-huge": {"quant_method": "gptq", "bits": HUGE, "group_size": HUGE},
    "bits-negative": {"quant_method": "gptq", "bits": -4, "group_size": -(10**30)},
    "bits-text": {"quant_method": "gptq", "bits": "4", "group_size": "all"},
    "bits-zero": {"quant_method": "awq", "bits": 0, "group_size": 0},
    "blocks-huge": {"quant_method": "fp8", "weight_block_size": [HUGE, HUGE]},
    "blocks-zero": {"quant_method": "fp8", "weight_block_size": [0, 0]},
    "blocks-text": {"quant_method": "fp8", "weight_block_size": ["128", None]},
    "groups-a-list": {"quant_method": "compressed-tensors", "config_groups": [[]]},
    "groups-huge": {
        "quant_method": "compressed-tensors",
        "config_groups": {
            "a": {"weights": {"num_bits": HUGE, "group_size": -1}},
            "b": 7,
            "c": {"weights": []},
        },
    },
}


SETTLED = ("fp8-blocks", "gptq-3", "ct-int4-zeros")
"""Of which settings say something."""

ENDS: dict[bool, Any] = {True: "either", False: "refused"}
SPARE = ("g_idx", "weight_format", "comfy_quant", "input_scale", "gate_up_proj_bias", "down_proj_bias")
"""Parts without which a weight is whole."""


def commands() -> Iterator[Command]:
    for case in CASES:
        tensors = _read(case)
        first = next(name for name in tensors if "q_proj" in name or "down_proj" in name)
        for name in tensors:
            module, _, end = name.rpartition(".")
            if module != first.rpartition(".")[0]:
                continue
            loose = end in (*SPARE, "weight", "weight_zero_point")
            empty = end in ("input_scale", "gate_up_proj_bias", "down_proj_bias")
            yield Command(f"{case}-without-{end}", damaged(case, _without(name)), ENDS[loose])
            yield Command(f"{case}-empty-{end}", damaged(case, _emptied(name)), ENDS[empty])
            yield Command(f"{case}-flat-{end}", damaged(case, _flattened(name)), "either")
            yield Command(f"{case}-other-dtype-{end}", damaged(case, _as_words(name)), "either")
        for label, settings in SETTINGS.items() if case in SETTLED else ():
            yield Command(f"{case}-config-{label}", damaged(case, None, settings), "either")


def damaged(case: str, change: Change | None, settings: Any = None) -> Make:
    """A copy of a fixture with some tensors or settings changed, to be dequantized."""

    def make(directory: Path) -> list[str]:
        from safetensors.numpy import save_file

        source = directory / "model"
        source.mkdir()
        tensors = _read(case)
        if change is not None:
            change(tensors)
        save_file(tensors, source / "model.safetensors", _metadata(case))
        config = json.loads((FIXTURES / case / "config.json").read_text())
        if settings is not None:
            config["quantization_config"] = settings
        (source / "config.json").write_text(json.dumps(config))
        return [str(source), "-o", str(directory / "out"), "-d"]

    return make


def _read(case: str) -> dict[str, Any]:
    import wconv

    return wconv.load(FIXTURES / case / "model.safetensors")


def _metadata(case: str) -> dict[str, str]:
    import wconv

    return {
        name: str(text) for name, text in wconv.open(FIXTURES / case / "model.safetensors").metadata.items()
    }


def _without(name: str) -> Change:
    def change(tensors: dict[str, Any]) -> None:
        del tensors[name]

    return change


def _emptied(name: str) -> Change:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name] = np.empty((0, *tensors[name].shape[1:]), tensors[name].dtype)

    return change


def _flattened(name: str) -> Change:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name].reshape(-1)

    return change


def _as_words(name: str) -> Change:
    """The same shape, but of numbers that the scheme has none of."""

    def change(tensors: dict[str, Any]) -> None:
        tensors[name] = np.ones(tensors[name].shape, np.int16)

    return change

"""What the consumers' converters quantize, beside what `choose` says that they would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.consumers import mlx_lm_conversion, mlx_vlm_conversion, silence, stored
from tests.oracles import oracle
from wconv.consumers.quantization import LayerChoice, Quantize, choose_layers
from wconv.errors import WconvError

RECIPES = {
    "mlx-lm": (
        Quantize(),
        Quantize(bits=8, group_size=32),
        Quantize(mode="nvfp4"),
        Quantize(predicate="mixed_2_6"),
        Quantize(predicate="mixed_3_4", group_size=32),
    ),
    "mlx-vlm": (
        Quantize(),
        Quantize(bits=8, group_size=32),
        Quantize(mode="nvfp4"),
        Quantize(predicate="mixed_3_5"),
        Quantize(predicate="mixed_4_8", group_size=32),
    ),
}
MODULES = {"mlx-lm": "mlx_lm.convert", "mlx-vlm": "mlx_vlm.convert"}

NOT_MIXED = ("idefics2",)
"""Models at which the consumer's mixed recipes fail: they look for `layers` where there are none."""


def dense(consumer: str, source: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The consumer's own conversion without `-q`."""
    if consumer == "mlx-lm":
        return mlx_lm_conversion(source, to)
    return mlx_vlm_conversion(source, to, monkeypatch)


def quantized(consumer: str, source: Path, to: Path, recipe: Quantize) -> str | None:
    """The consumer's own conversion with `-q`; what it raises, if it does."""
    words: dict[str, Any] = {"q_group_size": recipe.group_size, "q_bits": recipe.bits, "q_mode": recipe.mode}
    if recipe.predicate:
        words["quant_predicate"] = recipe.predicate
    try:
        with silence():
            oracle(MODULES[consumer]).convert(str(source), str(to), quantize=True, dtype="float16", **words)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def tensors(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Names, shapes and dtypes of a model directory."""
    return {
        name: (tuple(array.shape), str(array.dtype).removeprefix("mlx.core."))
        for name, array in stored(path).items()
    }


def parameters(written: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, tuple[int, int, bool]]:
    """Bits, group size and whether there are biases of each quantized weight, from the stored shapes."""
    found = {}
    for name in (name for name in written if name.endswith(".scales")):
        path = name.removesuffix(".scales")
        rows = plain[f"{path}.weight"][0][-1]
        bits = written[f"{path}.weight"][0][-1] * 32 // rows
        found[f"{path}.weight"] = bits, rows // written[name][0][-1], f"{path}.biases" in written
    return found


def compare(consumer: str, source: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The differences for every recipe, one line each."""
    before = tensors(dense(consumer, source, scratch / "dense", monkeypatch))
    config = json.loads((source / "config.json").read_text())
    wrong = []
    for at, recipe in enumerate(RECIPES[consumer]):
        to = scratch / str(at)
        refusal = quantized(consumer, source, to, recipe)
        try:
            choice = choose_layers(consumer, config["model_type"], config, before, recipe)
        except WconvError as error:
            if refusal is None:
                wrong.append(f"{recipe}: {error}")
            continue
        if refusal is None:
            wrong += [f"{recipe}: {line}" for line in differences(choice, to, before)]
        elif not known(refusal, choice) and not (recipe.predicate and config["model_type"] in NOT_MIXED):
            wrong.append(f"{recipe}: the consumer refuses: {refusal}")
    return wrong


def known(refusal: str, choice: LayerChoice) -> bool:
    """Rows that fixed groups of 64 do not divide stop the consumer; here they stay dense and are told."""
    return "divisible" in refusal and bool(choice.undivided())


def differences(choice: LayerChoice, to: Path, before: Mapping[str, Any]) -> list[str]:
    """Where names, parameters, config.json or bytes are not the consumer's."""
    written = tensors(to)
    theirs = parameters(written, before)
    ours = {name: (how.bits, how.group_size, how.has_biases) for name, how in choice.quantized.items()}
    config = json.loads((to / "config.json").read_text())
    wrong = [
        f"{name}: {ours.get(name)} is not {theirs.get(name)}"
        for name in sorted(theirs | ours)
        if ours.get(name) != theirs.get(name)
    ]
    for key in ("quantization", "quantization_config"):
        expected = with_numbers(config[key])
        if expected != choice.config[key]:
            wrong.append(f"{key}: {choice.config[key]} is not {expected}")
    size = sum(array.nbytes for array in stored(to).values())
    if size != choice.bytes:
        wrong.append(f"{choice.bytes} bytes are not {size}")
    return wrong


def with_numbers(quantization: Mapping[str, Any]) -> dict[str, Any]:
    """A quantization with 64 for the group sizes of null that mlx-lm's mixed recipes leave."""
    return {
        key: {**value, "group_size": 64}
        if isinstance(value, dict) and value.get("group_size", 64) is None
        else value
        for key, value in quantization.items()
    }

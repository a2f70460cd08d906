"""An adapter by itself: to the names that mflux reads, from PEFT to mlx-lm, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wconv.checkpoint import Checkpoint
from wconv.errors import LayoutError
from wconv.layouts.adapter_families import FAMILIES, Family
from wconv.layouts.adapters import respell, unflatten
from wconv.layouts.choice import HUB, LaidOut
from wconv.layouts.engine import Applied, matches, nearest
from wconv.layouts.forms import Form
from wconv.layouts.patterns import compile_pattern
from wconv.lora.deltas import Scaled
from wconv.lora.read import CONFIG, Adapter, adapters, slot_of
from wconv.tensor import LazyTensor, from_array

ONE_FILE = 1 << 62
MLX_LM = ("mlx-lm", "mlx-vlm")
WHOLE = "; wconv MODEL --merge-lora adds it to the weights"


def is_adapter(tensors: Mapping[str, LazyTensor]) -> bool:
    """Whether a checkpoint is an adapter by itself: pairs of matrices are most of what it holds."""
    slots = [found[1] for name in tensors if (found := slot_of(name)) is not None]
    pairs = any(slot.startswith("down") for slot in slots)
    return pairs and 2 * len(slots) > len(tensors) and not any(".base_layer." in name for name in tensors)


def lay_out(opened: Checkpoint, tensors: Mapping[str, LazyTensor], layout: object) -> LaidOut | None:
    """An adapter as its consumer reads it; None when it is asked for as it is.

    Args:
        tensors: those of the checkpoint that are wanted.
        layout: "auto" takes mlx-lm's adapters to PEFT, those of image models to mflux, others to mlx-lm.

    Raises:
        LayoutError: the consumer cannot apply some of it; by name.
        FormatError: it is no adapter throughout.
    """
    from_mlx = any(name.endswith(".lora_a") for name in tensors)
    if layout == HUB and not from_mlx:
        return None
    found = adapters(dataclasses.replace(opened, tensors=dict(tensors)))
    if from_mlx:
        if layout not in ("auto", HUB):
            raise LayoutError(f"{opened.path} is mlx-lm's already; --layout hf makes a PEFT adapter of it")
        return _to_peft(found)
    if layout in MLX_LM or (layout == "auto" and not _of_image_model(found)):
        return _to_mlx_lm(found)
    if layout in ("auto", "mflux"):
        return _to_mflux(found)
    raise LayoutError(f"{opened.path} is an adapter: --layout mflux, mlx-lm or hf")


def _of_image_model(found: Sequence[Adapter]) -> bool:
    return any(
        one.place.components or any(_names(family, one) is not None for family in FAMILIES) for one in found
    )


def _names(family: Family, adapter: Adapter) -> dict[str, LazyTensor] | None:
    """The up matrices by the names of mflux's modules; None where the family has no such module."""
    if adapter.up is None or adapter.down is None:
        return None
    flat = unflatten_any(family, adapter.place.module) if adapter.place.flat else adapter.place.module
    if flat is None:
        return None
    name = f"{flat}.weight"
    rows, columns = adapter.up.shape[0], int(np.prod(adapter.down.shape[1:]))
    for pattern, ratio in family.ratios.items():
        if compile_pattern(pattern).match(name) and rows != ratio * columns:
            return None
    try:
        spelled = {key: entry.tensor for key, entry in respell(family.rules, {name: adapter.up}).items()}
    except LayoutError:
        return None
    return spelled if all(matches(family.modules, key) for key in spelled) else None


def unflatten_any(family: Family, name: str) -> str | None:
    """The dotted name of a module that is known by either program's names."""
    return unflatten((*(rule.source for rule in family.rules), *family.modules), name)


def _to_mflux(found: Sequence[Adapter]) -> LaidOut:
    for one in found:
        _check_plain(one, "mflux")
    spelled = {family.name: [_names(family, one) for one in found] for family in FAMILIES}
    family = max(FAMILIES, key=lambda family: sum(names is not None for names in spelled[family.name]))
    rivals = [
        other
        for other in FAMILIES
        if None not in spelled[other.name] and other is not family and None not in spelled[family.name]
    ]
    if any(_keys(spelled[other.name]) != _keys(spelled[family.name]) for other in rivals):
        raise LayoutError(
            f"{found[0].keys[0]} and the others fit {family.name} and {rivals[0].name} alike, which call"
            " them differently"
        )
    tensors: dict[str, LazyTensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    strays = [one for one, names in zip(found, spelled[family.name], strict=True) if names is None]
    if strays:
        told = "; ".join(f"{one.keys[0]} (nearest: {_nearest(family, one)})" for one in strays[:3])
        more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
        raise LayoutError(
            f"mflux applies no adapter to these modules of {family.name}: {told}{more}; leave them out with"
            " --exclude"
        )
    for one, names in zip(found, spelled[family.name], strict=True):
        assert one.down is not None
        assert names is not None
        down = one.down.reshape(one.down.shape[:2])
        for name, up in names.items():
            module = name.removesuffix(".weight")
            made: dict[str, LazyTensor] = {
                family.spelling.down.format(module): down,
                family.spelling.up.format(module): up,
            }
            if one.scale != 1:
                alpha = from_array(np.array(one.scale * one.rank, np.float32))
                made[family.spelling.alpha.format(module)] = alpha
            twice = next((key for key in made if key in tensors), None)
            if twice is not None:
                raise LayoutError(f"{one.keys[0]} and {sources[twice][0]} are both for {module}")
            tensors.update(made)
            sources.update(dict.fromkeys(made, one.keys))
    notes = (f"an adapter of {family.name}: {len(found)} layers",)
    form = Form("adapter.safetensors", ONE_FILE, {"format": "pt"})
    alphas = frozenset(name for name in tensors if name.endswith(".alpha"))
    applied = Applied(tensors, keep_dtype=alphas, sources=sources, notes=notes)
    return LaidOut(applied, "mflux", "pt", "mflux --lora-paths {model}", "to mflux's adapters", form=form)


def _keys(spelled: Sequence[dict[str, LazyTensor] | None]) -> list[str]:
    return [key for names in spelled for key in names or ()]


def _nearest(family: Family, adapter: Adapter) -> str:
    module = adapter.place.module
    near = nearest(family.modules, f"{module}.weight")
    return near[0].removesuffix(".weight") if near else "none"


def _check_plain(one: Adapter, whom: str) -> None:
    """Refuses what mflux would refuse, or leave out without a word."""
    text = [part for part in one.place.components if part.startswith("text_encoder")]
    if text:
        raise LayoutError(f"{whom} applies no adapter to {text[0]}: leave {one.keys[0]} out with --exclude")
    if one.magnitude is not None:
        raise LayoutError(f"{one.name} is a DoRA, which {whom} does not apply" + WHOLE)
    if one.up is None or one.down is None or one.diffs:
        raise LayoutError(f"{one.name} has whole differences, which {whom} is not given" + WHOLE)
    if any(length != 1 for length in one.down.shape[2:]):
        raise LayoutError(f"{one.name} changes a convolution, which {whom} does not apply" + WHOLE)


def _check_language(found: Sequence[Adapter]) -> tuple[int, float, bool]:
    """Rank, scale of the first module and whether magnitudes are there: one of each for the whole model."""
    first = found[0]
    for one in found:
        if one.up is None or one.down is None or one.diffs or one.down.ndim != 2:
            raise LayoutError(f"{one.name} is no pair of two matrices: mlx-lm's adapters have nothing else")
        if "embed" in one.name.rsplit(".", 1)[-1]:
            raise LayoutError(f"{one.name} is an embedding, whose adapter is not converted" + WHOLE)
        if one.rank != first.rank:
            raise LayoutError(
                f"{one.name} has rank {one.rank} and {first.name} has {first.rank}: mlx-lm wants one rank"
            )
        if (one.magnitude is None) != (first.magnitude is None):
            raise LayoutError(f"only one of {one.name} and {first.name} is a DoRA: mlx-lm wants all or none")
    if first.scale == 0:
        raise LayoutError(f"{first.name} has the scale 0: the adapter does nothing")
    return first.rank, first.scale, first.magnitude is not None


def _factored(one: Adapter, scale: float) -> LazyTensor:
    """The up matrix; where its module has a scale of its own, in float32 with what the common one lacks."""
    assert one.up is not None
    return one.up if one.scale == scale else Scaled(one.up, one.scale / scale)


def _to_mlx_lm(found: Sequence[Adapter]) -> LaidOut:
    rank, scale, dora = _check_language(found)
    tensors: dict[str, LazyTensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for one in found:
        assert one.down is not None
        module = one.place.full
        made = {
            f"{module}.lora_a": one.down.transpose((1, 0)),
            f"{module}.lora_b": _factored(one, scale).transpose((1, 0)),
        }
        if one.magnitude is not None:
            made[f"{module}.m"] = one.magnitude
        tensors.update(made)
        sources.update(dict.fromkeys(made, one.keys))
    layers = {part for one in found for part in one.place.full.split(".") if part.isdigit()}
    modules = [one.place.full for one in found]
    config = {
        "fine_tune_type": "dora" if dora else "lora",
        "num_layers": len(layers),
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0, "keys": modules},
    }
    form = Form("adapters.safetensors", ONE_FILE, {"format": "mlx"})
    command = "mlx_lm.generate --model MODEL --adapter-path {model}"
    applied = Applied(
        tensors, sources=sources, notes=(f"an adapter of {len(found)} layers, scale {scale:g}",)
    )
    return LaidOut(
        applied,
        "mlx-lm",
        "mlx",
        command,
        f"to mlx-lm: {config}",
        form=form,
        config=config,
        config_name=CONFIG,
    )


def _to_peft(found: Sequence[Adapter]) -> LaidOut:
    rank, scale, dora = _check_language(found)
    tensors: dict[str, LazyTensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for one in found:
        assert one.up is not None
        assert one.down is not None
        stem = f"base_model.model.{one.place.full}"
        made = {f"{stem}.lora_A.weight": one.down, f"{stem}.lora_B.weight": one.up}
        if one.magnitude is not None:
            made[f"{stem}.lora_magnitude_vector"] = one.magnitude
        tensors.update(made)
        sources.update(dict.fromkeys(made, one.keys))
    alpha = scale * rank
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_dora": dora,
        "use_rslora": False,
        "target_modules": [one.place.full for one in found],
    }
    form = Form("adapter_model.safetensors", ONE_FILE, {"format": "pt"})
    command = "peft.PeftModel.from_pretrained(MODEL, '{model}')"
    applied = Applied(
        tensors, sources=sources, notes=(f"an adapter of {len(found)} layers, scale {scale:g}",)
    )
    return LaidOut(
        applied, "peft", "pt", command, f"to PEFT: {config}", form=form, config=config, config_name=CONFIG
    )

"""Adapters of language models: from PEFT to mlx-lm and back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wconv.consumers.lay_out import PreparedModel
from wconv.consumers.mlx_lm.consumer import ADAPTER_COMMAND, ADAPTER_FILE, MLX_LM
from wconv.consumers.peft.consumer import NAMING, PEFT
from wconv.errors import LayoutError
from wconv.layouts.apply import LayoutResult
from wconv.layouts.file_form import Form
from wconv.lora import peft
from wconv.lora.deltas import ScaledNode
from wconv.lora.image import ONE_FILE, WHOLE
from wconv.lora.read import Adapter
from wconv.lora.scales import CONFIG
from wconv.tensors.lazy import LazyTensor

EXPERT = re.compile(r"\.experts\.\d+\.")
"""A module that mlx-lm has not: its models stack experts (`switch_mlp`)."""

USUAL = "model.layers."
"""How modules begin that both programs call the same in nearly all models."""


def to_mlx_lm(found: Sequence[Adapter]) -> PreparedModel:
    """`adapters.safetensors` and `adapter_config.json` as mlx-lm reads them.

    Raises:
        LayoutError: mlx-lm has no way for it; by name.
    """
    rank, scale, dora = _check_uniform(found)
    expert = next((one for one in found if EXPERT.search(f".{one.place.full}.")), None)
    if expert is not None:
        raise LayoutError(
            f"{expert.name} is one expert, and mlx-lm keeps all in one tensor: it would pass over it" + WHOLE
        )
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
    form = Form(ADAPTER_FILE, ONE_FILE, {"format": MLX_LM.format})
    notes = [f"an adapter of {len(found)} layers, scale {scale:g}"]
    other = next((module for module in modules if not module.startswith(USUAL)), None)
    if other is not None:
        notes.append(f"mlx-lm passes over modules that its model calls otherwise: see whether it has {other}")
    applied = LayoutResult(tensors, sources=sources, notes=tuple(notes))
    return PreparedModel(
        applied,
        MLX_LM.name,
        MLX_LM.format,
        ADAPTER_COMMAND,
        f"to mlx-lm: {config}",
        form=form,
        config=config,
        config_name=CONFIG,
    )


def to_peft(found: Sequence[Adapter]) -> PreparedModel:
    """`adapter_model.safetensors` and `adapter_config.json` as PEFT reads them.

    Raises:
        LayoutError: an embedding's adapter, or one that is no pair of matrices; by name.
    """
    naming = NAMING
    tensors: dict[str, LazyTensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for one in found:
        up, down = _pair(one, "PEFT's")
        stem = naming.prefixes["main"] + one.place.full
        made = {stem + naming.keys.down: down, stem + naming.keys.up: up}
        if one.magnitude is not None:
            made[stem + naming.keys.magnitude] = one.magnitude
        tensors.update(made)
        sources.update(dict.fromkeys(made, one.keys))
    config = peft.config({one.place.full: one for one in found}, "CAUSAL_LM")
    form = Form(naming.filename, ONE_FILE, {"format": PEFT.format})
    scales = sorted({one.scale for one in found})
    shown = ", ".join(f"{scale:g}" for scale in scales[:3]) + (", …" if len(scales) > 3 else "")
    applied = LayoutResult(
        tensors, sources=sources, notes=(f"an adapter of {len(found)} layers, scale {shown}",)
    )
    return PreparedModel(
        applied,
        PEFT.name,
        PEFT.format,
        naming.command,
        f"to PEFT: {config}",
        form=form,
        config=config,
        config_name=CONFIG,
    )


def _pair(one: Adapter, whose: str) -> tuple[LazyTensor, LazyTensor]:
    """The matrices up and down."""
    if one.up is None or one.down is None or one.diffs or one.down.ndim != 2:
        raise LayoutError(f"{one.name} is no pair of two matrices: {whose} adapters have nothing else")
    if "embed" in one.name.rsplit(".", 1)[-1] or any(".lora_embedding_" in key for key in one.keys):
        raise LayoutError(f"{one.name} is an embedding, whose adapter is not converted" + WHOLE)
    return one.up, one.down


def _check_uniform(found: Sequence[Adapter]) -> tuple[int, float, bool]:
    """Rank, the first scale that is not 0, whether magnitudes are there: one of each for the whole model."""
    first = found[0]
    for one in found:
        _pair(one, "mlx-lm's")
        if one.rank != first.rank:
            raise LayoutError(
                f"{one.name} has rank {one.rank} and {first.name} has {first.rank}: mlx-lm wants one rank"
            )
        if (one.magnitude is None) != (first.magnitude is None):
            raise LayoutError(f"only one of {one.name} and {first.name} is a DoRA: mlx-lm wants all or none")
    scale = next((one.scale for one in found if one.scale), None)
    if scale is None:
        raise LayoutError(f"{first.name} and all others have the scale 0: the adapter does nothing")
    return first.rank, scale, first.magnitude is not None


def _factored(one: Adapter, scale: float) -> LazyTensor:
    """The up matrix; where its module has a scale of its own, in float32 with what the common one lacks."""
    assert one.up is not None
    return one.up if one.scale == scale else ScaledNode(one.up, one.scale / scale)

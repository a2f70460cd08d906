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
    expert = next((adapter for adapter in found if EXPERT.search(f".{adapter.place.full}.")), None)
    if expert is not None:
        raise LayoutError(
            f"{expert.name} is one expert, and mlx-lm keeps all in one tensor: it would pass over it" + WHOLE
        )
    tensors: dict[str, LazyTensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for adapter in found:
        assert adapter.down is not None
        module = adapter.place.full
        made = {
            f"{module}.lora_a": adapter.down.transpose((1, 0)),
            f"{module}.lora_b": _factored(adapter, scale).transpose((1, 0)),
        }
        if adapter.magnitude is not None:
            made[f"{module}.m"] = adapter.magnitude
        tensors.update(made)
        sources.update(dict.fromkeys(made, adapter.keys))
    layers = {part for adapter in found for part in adapter.place.full.split(".") if part.isdigit()}
    modules = [adapter.place.full for adapter in found]
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
    for adapter in found:
        up, down = _pair(adapter, "PEFT's")
        stem = naming.prefixes["main"] + adapter.place.full
        made = {stem + naming.keys.down: down, stem + naming.keys.up: up}
        if adapter.magnitude is not None:
            made[stem + naming.keys.magnitude] = adapter.magnitude
        tensors.update(made)
        sources.update(dict.fromkeys(made, adapter.keys))
    config = peft.config({adapter.place.full: adapter for adapter in found}, "CAUSAL_LM")
    form = Form(naming.filename, ONE_FILE, {"format": PEFT.format})
    scales = sorted({adapter.scale for adapter in found})
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


def _pair(adapter: Adapter, whose: str) -> tuple[LazyTensor, LazyTensor]:
    """The matrices up and down."""
    if adapter.up is None or adapter.down is None or adapter.diffs or adapter.down.ndim != 2:
        raise LayoutError(f"{adapter.name} is no pair of two matrices: {whose} adapters have nothing else")
    if "embed" in adapter.name.rsplit(".", 1)[-1] or any(".lora_embedding_" in key for key in adapter.keys):
        raise LayoutError(f"{adapter.name} is an embedding, whose adapter is not converted" + WHOLE)
    return adapter.up, adapter.down


def _check_uniform(found: Sequence[Adapter]) -> tuple[int, float, bool]:
    """Rank, the first scale that is not 0, whether magnitudes are there: one of each for the whole model."""
    first = found[0]
    for adapter in found:
        _pair(adapter, "mlx-lm's")
        if adapter.rank != first.rank:
            raise LayoutError(
                f"{adapter.name} has rank {adapter.rank} and {first.name} has {first.rank}: mlx-lm wants one"
                " rank"
            )
        if (adapter.magnitude is None) != (first.magnitude is None):
            raise LayoutError(
                f"only one of {adapter.name} and {first.name} is a DoRA: mlx-lm wants all or none"
            )
    scale = next((adapter.scale for adapter in found if adapter.scale), None)
    if scale is None:
        raise LayoutError(f"{first.name} and all others have the scale 0: the adapter does nothing")
    return first.rank, scale, first.magnitude is not None


def _factored(adapter: Adapter, scale: float) -> LazyTensor:
    """The up matrix; where its module has a scale of its own, in float32 with what the common one lacks."""
    assert adapter.up is not None
    return adapter.up if adapter.scale == scale else ScaledNode(adapter.up, adapter.scale / scale)

"""Which weights of a model a program's converter quantizes, beside those that wconv would."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.derive.programs import Program, probe
from wconv.consumers.layout_choice import choose_layout
from wconv.consumers.quantization import Quantize, choose_layers
from wconv.layouts.apply import apply
from wconv.tensors.lazy import from_array

RECIPE = Quantize(bits=4, group_size=32)
"""The smallest groups of MLX's affine mode, which the sizes of tiny models are multiples of."""

HOMES = {"mlx-lm": "mlx_lm.utils", "mlx-vlm": "mlx_vlm.quant_utils"}


def differing(prog: Program, model_type: str, row: Mapping[str, Any]) -> list[str]:
    """Weights that are quantized by one of the two alone, or otherwise, of a checkpoint that is laid out."""
    tensors = {
        name: from_array(np.zeros(shape, np.int64 if name in row["integers"] else np.float16))
        for name, shape in row["shapes"].items()
    }
    layout = choose_layout(prog.name, row["config"], tensors)
    laid_out = apply(layout, tensors, row["config"]).tensors
    described = {name: (tensor.shape, tensor.dtype.name) for name, tensor in laid_out.items()}
    config = {**row["config"], "model_type": model_type}
    ours = choose_layers(prog.name, model_type, config, described, RECIPE).quantized
    theirs = _quantized(prog, model_type, row, {name: tensor.numpy() for name, tensor in laid_out.items()})
    mine = {name.removesuffix(".weight"): (how.bits, how.group_size) for name, how in ours.items()}
    if layout is not None and layout.consumers[0] != prog.name:  # mlx-vlm adds this when it loads mlx-lm's
        mine = {f"language_model.{name}": how for name, how in mine.items()}
    return [
        f"{name}: {mine.get(name)} is not {theirs.get(name)}"
        for name in sorted(mine | theirs)
        if mine.get(name) != theirs.get(name)
    ]


def _quantized(
    prog: Program, model_type: str, row: Mapping[str, Any], arrays: Mapping[str, Any]
) -> dict[str, tuple[int, int]]:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    made = probe(prog, model_type, row["config"])
    loaded = made.fresh({name: mx.array(array) for name, array in arrays.items()})
    model = made.model
    model.load_weights(list(loaded.items()), strict=True)
    own = getattr(model, "quant_predicate", None)
    predicate = own
    if prog.name == "mlx-vlm":
        skipped = importlib.import_module("mlx_vlm.utils").skip_multimodal_module

        def predicate(path: str, module: Any) -> Any:
            if skipped(path):
                return False
            return own(path, module) if own is not None else True

    convert = importlib.import_module(HOMES[prog.name]).quantize_model
    with contextlib.redirect_stdout(io.StringIO()):
        model, _ = convert(model, {}, RECIPE.group_size, RECIPE.bits, quant_predicate=predicate)
    found = {}
    modules = dict(model.named_modules())
    for name, _array in tree_flatten(model.parameters()):
        if name.endswith(".scales") and (module := modules.get(name.removesuffix(".scales"))) is not None:
            found[name.removesuffix(".scales")] = (module.bits, module.group_size)
    return found

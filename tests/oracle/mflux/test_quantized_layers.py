"""mflux's models at full size, never evaluated: `mflux-save -q` quantizes just what `choose` says."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from tests.oracle.test_quantization_tables import MFLUX
from tests.oracles import oracle
from wconv.consumers.quantization import Quantize, choose_layers

pytestmark = pytest.mark.oracle

MODELS = {
    "flux": ("flux.flux_initializer.FluxInitializer", "dev"),
    "flux2": ("flux2.flux2_initializer.Flux2Initializer", "flux2_klein_4b"),
    "qwen": ("qwen.qwen_initializer.QwenImageInitializer", "qwen_image"),
    "z_image": ("z_image.z_image_initializer.ZImageInitializer", "z_image_turbo"),
    "fibo": ("fibo.fibo_initializer.FIBOInitializer", "fibo"),
    "fibo_vlm": ("fibo_vlm.fibo_vlm_initializer.FiboVLMInitializer", "fibo"),
    "seedvr2": ("seedvr2.seedvr2_initializer.SeedVR2Initializer", "seedvr2_3b"),
    "ernie": ("ernie_image.ernie_image_initializer.ErnieImageInitializer", "ernie_image"),
}
"""Families: what builds their models, and whose sizes."""

COMPONENTS = {"t5_text_encoder": "t5_encoder", "clip_text_encoder": "clip_encoder"}
"""mflux's names of components where its attributes have others."""


def components(family: str) -> dict[str, Any]:
    """The modules of a family by the names of their components, with lazy random weights."""
    where, config = MODELS[family]
    module, _, name = where.rpartition(".")
    build = getattr(oracle(f"mflux.models.{module}"), name)._init_models
    sizes = getattr(oracle("mflux.models.common.config").ModelConfig, config)()
    holder = SimpleNamespace(model_config=sizes, small_text_encoder=False)
    known = {"model": holder, "model_config": sizes, "weights": None, "custom_transformer": None}
    if "weights" in inspect.signature(build).parameters:
        known["weights"] = SimpleNamespace(
            num_transformer_blocks=lambda: 19, num_single_transformer_blocks=lambda: 38
        )
    build(**{key: known[key] for key in inspect.signature(build).parameters if key in known})
    base = oracle("mlx.nn").Module
    return {COMPONENTS.get(key, key): value for key, value in vars(holder).items() if isinstance(value, base)}


def shapes(module: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    flat = oracle("mlx.utils").tree_flatten(module.parameters())
    return {name: (tuple(array.shape), str(array.dtype).removeprefix("mlx.core.")) for name, array in flat}


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("family", MODELS)
def test_mflux_quantizes_the_same_layers(family: str, bits: int) -> None:
    where, _, name = MFLUX[family].rpartition(".")
    definition = getattr(oracle(f"mflux.models.{where}"), name)
    applier = oracle("mflux.models.common.weights.loading.weight_applier").WeightApplier
    modules = components(family)
    found = {part.name: part for part in getattr(definition, "get_components", list)()}
    assert modules
    for component, module in modules.items():
        before = shapes(module)
        applier._quantize({component: module}, bits, found, definition)
        after = shapes(module)
        choice = choose_layers("mflux", f"{family}/{component}", {}, before, Quantize(bits=bits))
        theirs = {f"{name.removesuffix('.scales')}.weight" for name in after if name.endswith(".scales")}
        assert choice.quantized.keys() == theirs, component
        for name, how in choice.quantized.items():
            columns = before[name][0][-1]
            assert after[name][0][-1] * 32 // columns == how.bits, name
            scales = after[f"{name.removesuffix('.weight')}.scales"]
            assert columns // scales[0][-1] == how.group_size, name

"""mflux's models at full size, never evaluated: `mflux-save -q` quantizes just what `choose` says."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from tests.derive import mflux_models, mflux_parts
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
    "anima": ("anima.anima_initializer.AnimaInitializer", "anima_base"),
    "boogu": ("boogu.boogu_initializer.BooguInitializer", "boogu_image_turbo"),
    "fibo2": ("fibo2.fibo2_initializer.Fibo2Initializer", "fibo2"),
    "flux3": ("flux3.flux3_initializer.Flux3Initializer", "flux3_image_klein"),
    "iris": ("iris.iris_initializer.IrisInitializer", "iris_3b"),
    "krea2": ("krea2.krea2_initializer.Krea2Initializer", "krea2"),
    "moss_image": ("moss_image.moss_image_initializer.MOSSImageInitializer", "moss_image_sft"),
    "qwen21": ("qwen21.qwen21_initializer.Qwen21Initializer", "qwen_image_21"),
}
"""Families: what builds their models, and whose sizes."""

COMPONENTS = {"t5_text_encoder": "t5_encoder", "clip_text_encoder": "clip_encoder"}
"""mflux's names of components where its attributes have others."""


MODULES = [
    f"{model}.{component}"
    for model, told in mflux_models.MODELS.items()
    for component in told.modules
    if model not in ("qwen21_edit", "qwen21_controlnet", "ideogram4")  # tiny, or in 8 bits
]


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


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", MODULES)
def test_components_by_their_directories(name: str, bits: int) -> None:
    """Those whose modules are known beside mflux's initializers, by the places that wconv has for them."""
    oracle("mflux")
    model, _, component = name.partition(".")
    part = next(one for one in mflux_parts.parts(model) if one.name == name)
    definition = mflux_parts.attribute(mflux_models.MODELS[model].definition)
    applier = oracle("mflux.models.common.weights.loading.weight_applier").WeightApplier
    module = mflux_parts.module(part)
    before = shapes(module)
    applier._quantize({component: module}, bits, {component: part.component}, definition)
    theirs = {key.removesuffix(".scales") + ".weight" for key in shapes(module) if key.endswith(".scales")}
    choice = choose_layers("mflux", f"{model}/{part.component.hf_subdir}", {}, before, Quantize(bits=bits))
    assert choice.quantized.keys() == theirs

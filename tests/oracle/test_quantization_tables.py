"""Every kind of model in the installed consumers: their predicates answer as the tables say, path by path."""

from __future__ import annotations

import ast
import functools
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest

from tests.oracles import oracle
from wconv.consumers import registry
from wconv.consumers.quantization import Quantize, choose_layers

pytestmark = pytest.mark.oracle

Predicate = Callable[[str, Any], Any]
TABLES = {one.name: one.quantization() for one in registry.quantizing() if one.quantization}

PACKAGES = {"mlx-lm": "mlx_lm", "mlx-vlm": "mlx_vlm"}
LAYERS = 6
CONFIG = {"num_hidden_layers": LAYERS}
BELONGS_TO = {("mlx_lm", "gemma4"): "gemma4_text", ("mlx_lm", "qwen3_vl_moe"): "qwen3_moe"}
"""Modules whose predicate is that of another."""

NOT_CALLED = {"clef", "mistral_large3"}
"""Modules whose predicate cannot be had without a model, or asks a language model for one that has none."""

PARAMETERS = {"bits", "group_size", "mode"}
STEMS = ("", "model.layers.3.", "language_model.model.layers.3.", "model.layers.0.", "x.")
ENDS = (
    "",
    ".proj",
    ".layer",
    "s.0",
    ".gate_proj",
    ".weightless",
    "_x",
)
SINGLE = (
    "model.language_model.layers.3.mlp.experts.gate_proj",
    "model.language_model.layers.5.mlp.experts.up_proj",
    "language_model.model.layers.3.mlp.experts.down_proj",
    "language_model.model.layers.5.mlp.experts.down_proj",
    "language_model.model.layers.0.mlp.experts.down_proj",
    "language_model.model.layers.1.ffn.switch_mlp.up_proj",
    "model.embed_tokens",
    "lm_head",
)


@pytest.fixture(scope="module")
def probes() -> list[str]:
    """Paths of all that any predicate looks for."""
    words = set()
    for consumer, package in PACKAGES.items():
        for _, function in functions(package):
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
            words |= {
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
            }
        assert consumer in TABLES
    words = {word.strip(".") for word in words if word and "\\" not in word} - PARAMETERS
    return [*SINGLE, *sorted({f"{stem}{word}{end}" for stem in STEMS for word in words for end in ENDS})]


@functools.cache
def models(package: str) -> list[tuple[str, ModuleType]]:
    """Modules of models that can be imported here."""
    importable = []
    for found in pkgutil.iter_modules(oracle(f"{package}.models").__path__):
        try:
            module = oracle(f"{package}.models.{found.name}")
        except BaseException:  # a skip, or what a module raises that needs more packages
            continue
        if hasattr(module, "Model"):
            importable.append((found.name, module))
    return importable


def functions(package: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The function in which a kind of model says what is special."""
    for name, module in models(package):
        owner = module
        if (package, name) in BELONGS_TO:
            owner = oracle(f"{package}.models.{BELONGS_TO[package, name]}")
        found = function_of(owner.Model, owner)
        if found is not None:
            yield name, found


def function_of(model: type, module: ModuleType) -> Callable[..., Any] | None:
    held = inspect.getattr_static(model, "quant_predicate", None)
    if held is None:
        return None
    function = held.fget if isinstance(held, property) else getattr(held, "__func__", held)
    if "language_model.quant_predicate" in inspect.getsource(function).split("return")[-1]:
        for space in (vars(module), function.__globals__):
            for name in ("LanguageModel", "TextModel"):
                if isinstance(space.get(name), type):
                    inner = space[name]
                    return function_of(inner, oracle(inner.__module__))
    return function


def called(function: Callable[..., Any], paths: Sequence[str]) -> Predicate | None:
    """The predicate of a model of which only its layers and the numbers in its config are known."""
    if next(iter(inspect.signature(function).parameters)) == "path":
        return function
    stub = MagicMock()
    stub.args.num_experts = stub.config.n_routed_experts = 4
    stub.args.text.num_hidden_layers = stub.config.text_config.num_hidden_layers = LAYERS
    stub.model_type, stub.language_model.quant_predicate = "mistral4", language_part(function, paths)
    stub.leaf_modules.return_value = dict.fromkeys(
        (path.removeprefix("language_model.") for path in paths), oracle("mlx.nn").Module()
    )
    stub.layers.__getitem__.return_value.is_linear = False
    found = function(stub)
    return found if callable(found) else None


def language_part(function: Callable[..., Any], paths: Sequence[str]) -> Predicate | None:
    """The predicate of a model's language part, for a function that asks it too."""
    if "self.language_model.quant_predicate" not in inspect.getsource(function):
        return None
    inner = function.__globals__["LanguageModel"]
    found = function_of(inner, oracle(inner.__module__))
    return None if found is None else called(found, paths)


@pytest.mark.parametrize("consumer", PACKAGES)
def test_the_tables_answer_as_the_predicates_do(consumer: str, probes: list[str]) -> None:
    nn = oracle("mlx.nn")
    linear, package = nn.Linear(64, 64), PACKAGES[consumer]
    skip = getattr(oracle(f"{package}.utils"), "skip_multimodal_module", lambda _: False)
    wrong, asked = [], 0
    special = dict(functions(package))
    for name, _ in models(package):
        predicate = None
        if name in special and name not in NOT_CALLED:
            predicate = called(special[name], probes)
        if predicate is None and name in special:
            continue
        tensors = {f"{path}.weight": ((64, 64), "float16") for path in probes}
        choice = choose_layers(consumer, name, CONFIG, tensors, Quantize())
        entries = choice.config["quantization"]
        for path in probes:
            reason = choice.left.get(f"{path}.weight", "")
            if "bare matrix" in reason or "normalization" in reason:
                continue
            try:
                expected = False if skip(path) else True if predicate is None else predicate(path, linear)
            except (IndexError, ValueError):  # it looks for a layer's number where this path has none
                continue
            if isinstance(expected, dict) and "fallback_group_size" in expected:
                expected = {"group_size": 64, "bits": 4, "mode": "affine"}
            got = entries.get(path, f"{path}.weight" in choice.quantized)
            asked += 1
            if got != expected:
                wrong.append(f"{name}: {path}: {got} is not {expected}")
    assert not wrong, "\n".join(wrong)
    assert asked > 100_000


@pytest.mark.parametrize("consumer", PACKAGES)
def test_every_row_is_of_a_model_that_the_consumer_has(consumer: str) -> None:
    names = {found.name for found in pkgutil.iter_modules(oracle(f"{PACKAGES[consumer]}.models").__path__)}
    shared = {module for case in TABLES[consumer].cases for module in case.models}
    others = {module for other in PACKAGES for module in names_of(other)}
    assert shared - names <= others
    assert TABLES[consumer].plain_gates <= names


def names_of(consumer: str) -> set[str]:
    path = oracle(f"{PACKAGES[consumer]}.models").__path__
    return {found.name for found in pkgutil.iter_modules(path)}


def test_mflux_answers_as_the_table_says(probes: list[str]) -> None:
    nn, wrong = oracle("mlx.nn"), []
    linear = nn.Linear(64, 64)
    for family, where in MFLUX.items():
        definition = getattr(oracle(f"mflux.models.{where.rpartition('.')[0]}"), where.rpartition(".")[2])
        for bits in (3, 4, 8):
            words = inspect.signature(definition.quantization_predicate).parameters
            for path in [*probes, *MFLUX_PATHS]:
                more = (bits,) if len(words) > 2 else ()
                expected = definition.quantization_predicate(path, linear, *more)
                tensors = {f"{path}.weight": ((64, 64), "bfloat16")}
                choice = choose_layers("mflux", family, {}, tensors, Quantize(bits=bits))
                if any("normal" in why or "bare" in why for why in choice.left.values()):
                    continue
                level = expected.get("bits") if isinstance(expected, dict) else bits if expected else None
                got = [how.bits for how in choice.quantized.values()]
                if got != ([] if level is None else [level]):
                    wrong.append(f"{family}: {bits}: {path}: {got} is not {expected}")
    assert wrong == []


MFLUX_PATHS = (
    "lm_head",
    "llm_adapter.x",
    "t_embedder.linear",
    "blocks.0.adaln_modulation.1",
    "pixel_embedder.a",
    "final_layer.linear",
    "a.layer_pool.0",
    "pixel_blocks.0.mlp.fc1",
    "pixel_blocks.0.adaln",
    "blocks.0.mlp.fc1",
    "transformer_blocks.0.img_mod_linear",
    "transformer_blocks.0.modulation",
    "time_text_embed.linear",
    "norm_out.linear",
)
MFLUX = {
    "anima": "anima.weights.anima_weight_definition.AnimaWeightDefinition",
    "boogu": "boogu.weights.boogu_weight_definition.BooguWeightDefinition",
    "depth_pro": "depth_pro.weights.depth_pro_weight_definition.DepthProWeightDefinition",
    "ernie": "ernie_image.weights.ernie_weight_definition.ErnieWeightDefinition",
    "fibo": "fibo.weights.fibo_weight_definition.FIBOWeightDefinition",
    "fibo2": "fibo2.weights.fibo2_weight_definition.Fibo2WeightDefinition",
    "fibo_vlm": "fibo_vlm.weights.fibo_vlm_weight_definition.FIBOVLMWeightDefinition",
    "flux": "flux.weights.flux_weight_definition.FluxWeightDefinition",
    "flux2": "flux2.weights.flux2_weight_definition.Flux2KleinWeightDefinition",
    "flux3": "flux3.weights.flux3_weight_definition.Flux3KleinWeightDefinition",
    "ideogram4": "ideogram4.weights.ideogram4_weight_definition.Ideogram4WeightDefinition",
    "iris": "iris.weights.iris_weight_definition.IrisWeightDefinition",
    "krea2": "krea2.weights.krea2_weight_definition.Krea2WeightDefinition",
    "lens": "lens.weights.lens_weight_definition.LensWeightDefinition",
    "ming_image": "ming_image.weights.ming_image_weight_definition.MingImageWeightDefinition",
    "moss_image": "moss_image.weights.moss_image_weight_definition.MOSSImageWeightDefinition",
    "qwen": "qwen.weights.qwen_weight_definition.QwenWeightDefinition",
    "qwen21": "qwen21.weights.qwen21_weight_definition.Qwen21WeightDefinition",
    "qwen_image21": "qwen21.weights.qwen_image21_weight_definition.QwenImage21WeightDefinition",
    "seedvr2": "seedvr2.weights.seedvr2_weight_definition.SeedVR2WeightDefinition",
    "z_image": "z_image.weights.z_image_weight_definition.ZImageWeightDefinition",
}
"""mflux's families, and where each says what it quantizes."""

"""Which dtypes are kept for models without a table: as the consumers' own predicates say, for all of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.oracles import oracle
from wconv.consumers.mlx_lm.casts import CASTS as MLX_LM
from wconv.consumers.mlx_vlm.casts import CASTS as MLX_VLM
from wconv.layouts.apply import fitting

pytestmark = pytest.mark.oracle

KEPT = {"mlx-lm": MLX_LM.kept, "mlx-vlm": MLX_VLM.kept}
KNOWN = {"mlx-lm": MLX_LM.model_types, "mlx-vlm": MLX_VLM.model_types}
PACKAGES = {"mlx-lm": "mlx_lm", "mlx-vlm": "mlx_vlm"}
NOT_HERE = {"mlx-lm": ("olmo",), "mlx-vlm": ()}
"""Modules that need a package that is not installed."""

BROKEN = {"mlx-lm": (), "mlx-vlm": ("glm_moe_dsa",)}
"""Modules whose predicate cannot be asked for: the program's own mistake, so that its conversion fails."""

PUBLISHED = ("attn_sink",)
"""Names that are in the tables as published checkpoints have them, where sanitize renames them."""

LEAVES = (
    "mlp.gate.e_score_correction_bias",
    "mlp.e_score_correction_bias_vl",
    "mlp.gate.expert_bias",
    "mlp.router_bias",
    "mixer.A_log",
    "mixer.A_logs.weight",
    "mixer.dt_bias",
    "mixer.dt_biases",
    "self_attn.sinks",
    "self_attn.attn_sink",
    "self_attn.learnable_sink_param",
    "self_attn.indexer.index_kpool_compress_ape",
    "self_attn.compressor.kv_norm.weight",
    "attn_hc.fn",
    "ffn_hc.base",
    "hc_attn_layer.fn",
    "hc_mlp_layer.fn",
    "add_attn_alpha",
    "add_ffn_beta",
    "mlp.gate.bias_vl",
    "block_sparse_moe.gate.weight",
    "block_sparse_moe.gate_proj.weight",
    "special_flags",
    "is_continuation",
    "pad_tensor",
    "self_attn.q_proj.weight",
    "input_layernorm.weight",
)
PROBES = [
    *(f"{prefix}layers.3.{leaf}" for prefix in ("model.", "language_model.model.") for leaf in LEAVES),
    "model.hc_head.fn",
    "lm_head.weight",
]
"""Names as sanitize makes them."""


def modules(consumer: str) -> Iterator[tuple[str, Any]]:
    models = importlib.import_module(f"{PACKAGES[consumer]}.models")
    for found in pkgutil.iter_modules(models.__path__):
        if found.name not in NOT_HERE[consumer] and found.ispkg is (consumer == "mlx-vlm"):
            module = importlib.import_module(f"{models.__name__}.{found.name}")
            if hasattr(module, "Model"):
                yield found.name, module


def predicate(module: Any) -> Callable[[str], bool]:
    """The model's own, without building it: properties that ask the language model for its are given one."""
    cls = module.Model
    if not hasattr(cls, "cast_predicate"):
        return lambda name: True
    model = dict.__new__(cls)  # a module of MLX is a dict
    home = importlib.import_module(cls.__module__)
    owners = [importlib.import_module(base.__module__) for base in cls.__mro__ if "mlx_" in base.__module__]
    for owner in (module, home, *owners):
        inner = getattr(owner, "LanguageModel", None) or getattr(owner, "TextModel", None)
        if inner is not None and hasattr(inner, "cast_predicate"):
            dict.__setitem__(model, "language_model", dict.__new__(inner))
            break
    found: Callable[[str], bool] = model.cast_predicate
    return found


@pytest.mark.parametrize("consumer", PACKAGES)
def test_every_predicate_is_followed(consumer: str) -> None:
    oracle(PACKAGES[consumer])
    wrong: dict[str, list[str]] = {}
    for model_type, module in modules(consumer):
        if model_type in BROKEN[consumer]:
            continue
        casts = predicate(module)
        expected = {name for name in PROBES if not casts(name)}
        ours = fitting(KEPT[consumer].get(model_type.lower(), ()), PROBES)
        more = {name for name in ours - expected if not name.endswith(PUBLISHED)}
        if more or expected - ours:
            wrong[model_type] = sorted(more | (expected - ours))
    assert not wrong


@pytest.mark.parametrize("consumer", PACKAGES)
def test_every_model_type_is_known(consumer: str) -> None:
    utils = oracle(f"{PACKAGES[consumer]}.utils")
    theirs = {name.lower() for name, _ in modules(consumer)} | {*NOT_HERE[consumer]}
    theirs |= {name.lower() for name, to in utils.MODEL_REMAPPING.items() if to.lower() in theirs}
    assert KNOWN[consumer] == theirs

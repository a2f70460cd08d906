"""Models without a table, cast: mlx-lm holds the dtypes and bits that its own conversion gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv
from tests.oracle.consumers import assert_same_parameters, mlx_lm_conversion, mlx_lm_model, parameters
from tests.oracle.mlx_lm.language import ROPE, THETA
from tests.oracle.tiny import Tiny, as_published, save

pytestmark = pytest.mark.oracle

MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GROUPS = {"n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1}
KINDS = {"layer_types": ["sliding_attention", "full_attention"]}
LAYERS = {"is_moe_layer": [False, True], "mlp_layer_types": ["dense", "sparse"]}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_expand": 2}

MODELS = (
    Tiny("dots1", {**ROPE, **ROUTED, **GROUPS, "head_dim": 16}, THETA),
    Tiny(
        "granitemoehybrid",
        {
            **MAMBA,
            "layer_types": ["linear_attention", "full_attention"],
            "num_local_experts": 0,
            "shared_intermediate_size": 96,
        },
        {**THETA, "layer_types": ["mamba", "attention"]},
    ),
    Tiny(
        "jamba",
        {"num_experts": 1, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    ),
    Tiny(
        "lfm2_moe", {**ROPE, **MOE, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1}, THETA
    ),
    Tiny(
        "afmoe",
        {**ROPE, **MOE, "num_shared_experts": 1, "num_dense_layers": 1, "head_dim": 16, **KINDS},
        THETA,
    ),
    Tiny("exaone_moe", {**ROPE, **MOE, "num_shared_experts": 1, "head_dim": 16, **KINDS, **LAYERS}, THETA),
    Tiny(
        "nemotron_h",
        {
            "hybrid_override_pattern": "M*",
            "mamba_num_heads": 8,
            "mamba_head_dim": 16,
            "ssm_state_size": 16,
            "n_groups": 1,
            "head_dim": 16,
        },
    ),
)


@pytest.mark.parametrize("tiny", MODELS, ids=str)
def test_dtypes_and_bits_are_those_of_its_own_conversion(tiny: Tiny, tmp_path: Path) -> None:
    published = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    theirs = parameters(mlx_lm_model(mlx_lm_conversion(published, tmp_path / "theirs")))
    wconv.convert(published, tmp_path / "ours", dtype="float16")
    assert_same_parameters(parameters(mlx_lm_model(tmp_path / "ours")), theirs)

"""mlx-lm as a consumer: language models.

Facts: mlx-lm 0.32.2, `utils.py: load_model`. DeepSeek's 8-bit blocks are decoded by the models that are
published in them. Of other schemes it takes AWQ's gemm, BitNet, and blocks of fp8 that are 32 by 32; further
forms only in the modules of a few models, whose rules then name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wconv.consumers.consumer import (
    FP8_BLOCKS,
    ConfigMaker,
    Consumer,
    QuantizationConfigs,
    UndecodedNames,
)
from wconv.consumers.mlx.dtypes import SUBSTITUTES
from wconv.consumers.mlx.schemes import LANGUAGE
from wconv.consumers.needs import TOKENIZERS, Needs

if TYPE_CHECKING:
    from wconv.consumers.cast_rules import CastRules
    from wconv.consumers.known_models import KnownModels
    from wconv.consumers.mlx.loading import Loader
    from wconv.consumers.quantization.tables import QuantizationTable


def _known_models() -> KnownModels:
    from wconv.consumers.known_models import read

    return read("mlx_lm")


def _quantization() -> QuantizationTable:
    from wconv.consumers.mlx_lm.quantization import TABLE

    return TABLE


def _cast_rules() -> CastRules:
    from wconv.consumers.mlx_lm.casts import CASTS

    return CASTS


def _config_makers() -> Mapping[str, ConfigMaker]:
    from wconv.consumers.mlx_lm import params_json

    return {"llama": params_json.llama, "mixtral": params_json.mixtral}


ADAPTER_FILE = "adapters.safetensors"
"""What mlx-lm calls the weights of an adapter."""

ADAPTER_COMMAND = "mlx_lm.generate --model MODEL --adapter-path {model}"
"""Loads a model with an adapter; `{model}` stands for the adapter's path."""


def _loader() -> Loader:
    from wconv.consumers.mlx_lm import loading

    return loading.load


MLX_LM = Consumer(
    "mlx-lm",
    "mlx-lm",
    table_folder="mlx_lm",
    recognisable=("llama_consolidated", "mixtral_consolidated", "mixtral_consolidated_fused"),
    command="mlx_lm.generate --model {model} --prompt 'Hello'",
    substitutes=SUBSTITUTES,
    schemes=LANGUAGE,
    quantization_configs=QuantizationConfigs(
        (
            {"quant_method": "bitnet"},
            {"quant_method": "mxfp4"},
            {"quant_method": "mxfp8"},
            {"quant_method": "awq"},
            {"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": "[32, 32]"},
            {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
            {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        ),
        {"kimi_k2": ({"quant_method": "compressed-tensors", "format": "pack-quantized"},)},
    ),
    undecoded=(
        FP8_BLOCKS,
        UndecodedNames(
            (".weight_packed", ".weight_global_scale", ".weight_scale", ".weight_scale_2"),
            not_for={"quant_method": "bitnet"},
        ),
    ),
    quantization=_quantization,
    known_models=_known_models,
    cast_rules=_cast_rules,
    config_makers=_config_makers,
    takes_language_adapters=True,
    # utils.py: load_model takes all of this name and no index; load_config decodes floats
    needs=Needs(("model*.safetensors",), decodes_tagged_floats=True, tokenizer=TOKENIZERS),
    package=("mlx-lm", "mlx_lm"),
    loader=_loader,
)

"""mlx-vlm as a consumer: models that see, hear and speak, and language models.

Facts: mlx-vlm 0.7.10, `utils.py: load_model`. It takes neither AWQ nor BitNet, but NVFP4, MXFP8 and any
blocks of fp8, of which it makes its own 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wconv.consumers.consumer import Consumer, QuantizationConfigs, UndecodedNames
from wconv.consumers.mlx.dtypes import SUBSTITUTES
from wconv.consumers.mlx.schemes import IN_MODULES
from wconv.consumers.needs import TOKENIZERS, Needs

if TYPE_CHECKING:
    from wconv.consumers.cast_rules import CastRules
    from wconv.consumers.known_models import KnownModels
    from wconv.consumers.mlx.loading import Loader
    from wconv.consumers.quantization.tables import QuantizationTable


def _known_models() -> KnownModels:
    from wconv.consumers.known_models import read

    return read("mlx_vlm")


def _quantization() -> QuantizationTable:
    from wconv.consumers.mlx_vlm.quantization import TABLE

    return TABLE


def _cast_rules() -> CastRules:
    from wconv.consumers.mlx_vlm.casts import CASTS

    return CASTS


def _loader() -> Loader:
    from wconv.consumers.mlx_vlm import loading

    return loading.load


MLX_VLM = Consumer(
    "mlx-vlm",
    "mlx-vlm",
    table_folder="mlx_vlm",
    command="mlx_vlm.generate --model {model} --prompt 'Hello'",
    substitutes=SUBSTITUTES,
    schemes=IN_MODULES,
    quantization_configs=QuantizationConfigs(
        (
            {"quant_method": "mxfp4"},
            {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"},
            {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        ),
        {"kimi_k2": ({"quant_method": "compressed-tensors", "format": "pack-quantized"},)},
    ),
    undecoded=(
        UndecodedNames((".weight_scale",), only_for={"quant_method": "bitnet"}),
        UndecodedNames((".qweight",)),
        UndecodedNames((".weight_packed",), only_for={"format": "mxfp4-pack-quantized"}),
        UndecodedNames(("_scale_inv",), not_for={"weight_block_size": [128, 128]}),
    ),
    quantization=_quantization,
    known_models=_known_models,
    ignores_case=True,
    multimodal_fields=("vision_config", "audio_config", "vit_config", "visual"),
    cast_rules=_cast_rules,
    takes_language_adapters=True,
    # utils.py: load_model, load_config, load_processor
    needs=Needs(
        ("*.safetensors",),
        passed_over=("consolidated.safetensors",),
        follows_index=True,
        tokenizer=TOKENIZERS,
        processor=("preprocessor_config.json", "processor_config.json"),
        trusting="0.3.10 to 0.6.3",
    ),
    package=("mlx-vlm", "mlx_vlm"),
    loader=_loader,
)

"""What the summary says of the programs that load the result, and what becomes of a layout that cannot be.

Covers `consumers/known_models.py`, `consumers/taken.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.making import random, write_directory, write_file
from wconv import FormatError, Report, WconvError, convert
from wconv.consumers import known_models

LLAMA = {
    "model.embed_tokens.weight": random((8, 4)),
    "model.norm.weight": random((4,)),
    "lm_head.weight": random((8, 4), seed=1),
}
UNTIED = {"tie_word_embeddings": False}


def converted(tmp_path: Path, config: dict[str, Any], **options: Any) -> Report:
    source = write_directory(tmp_path / "model", [LLAMA], {**UNTIED, **config})
    return convert(source, tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("config", "layout", "command"),
    [
        ({"model_type": "llama"}, "auto", "mlx_lm.generate"),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "auto", "mlx_lm.generate"),
        ({"model_type": "llama"}, "mlx-vlm", "mlx_vlm.generate"),
        ({"model_type": "llama"}, "hf", "transformers.AutoModel"),
        ({"model_type": "granite"}, "auto", "mlx_lm.generate"),
        ({"model_type": "Molmo2", "vision_config": {}}, "auto", "mlx_vlm.generate"),
        ({"model_type": "gpt_bigcode", "architectures": ["GPT2LMHeadModel"]}, "auto", "mlx_lm.generate"),
        ({"model_type": "granite", "quantization": {"group_size": 64, "bits": 4}}, "auto", "mlx_lm.generate"),
        (
            {"model_type": "granite", "quantization_config": {"quant_method": "awq"}},
            "auto",
            "mlx_lm.generate",
        ),
    ],
)
def test_a_program_that_takes_the_model_is_named(
    tmp_path: Path, config: dict[str, Any], layout: str, command: str
) -> None:
    report = converted(tmp_path, config, layout=layout)
    assert report.command.startswith(command)
    assert list(report.closing_lines())[-1] == f"load it: {report.command}"


@pytest.mark.parametrize(
    ("config", "layout", "said"),
    [
        ({"model_type": "my_model"}, "auto", "names unchanged: whether mlx-lm knows my_model is not known"),
        ({"model_type": "Llama"}, "auto", "whether mlx-lm knows Llama is not known here"),
        (
            {"model_type": "bert", "architectures": ["BertModel"]},
            "auto",
            "names unchanged: whether mlx-lm knows bert",
        ),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "auto", "names unchanged: whether"),
        (
            {"model_type": "llama", "architectures": ["LlamaModel"]},
            "auto",
            "whether mlx-lm loads a LlamaModel",
        ),
        ({"_class_name": "UNet2DConditionModel"}, "auto", "which program loads UNet2DConditionModel"),
        ({"_class_name": "UNet2DConditionModel"}, "hf", "which program loads UNet2DConditionModel"),
        ({"model_type": "my_model"}, "hf", "whether transformers knows my_model is not known here"),
    ],
)
def test_no_command_is_given_that_may_not_work(
    tmp_path: Path, config: dict[str, Any], layout: str, said: str
) -> None:
    report = converted(tmp_path, config, layout=layout)
    assert report.command == ""
    last = list(report.closing_lines())[-1]
    assert last.startswith(said)
    assert "load it" not in last


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes"])
def test_weights_that_are_codes_without_scales_are_refused(method: str, tmp_path: Path) -> None:
    config = {"model_type": "granite", "quantization_config": {"quant_method": method}}
    codes = {name: tensor.astype(np.uint8) for name, tensor in LLAMA.items()}
    with pytest.raises(FormatError, match="is uint8 without what it needs, which the config says"):
        convert(write_directory(tmp_path / "model", [codes], config), tmp_path / "out")
    dense = convert(write_directory(tmp_path / "dense", [LLAMA], config), tmp_path / "dense-out")
    assert dense.command.startswith("mlx_lm.generate")


def test_a_single_file_is_loaded_as_such(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "model", [LLAMA], {"model_type": "my_model"})
    assert convert(source, tmp_path / "o.safetensors").command.startswith("mlx.core.load(")
    assert convert(source, tmp_path / "o.pt").command.startswith("torch.load(")


@pytest.mark.parametrize(
    ("model_type", "layout"),
    [
        ("llama", "mflux"),
        ("llama", "mlx-whisper"),
        ("llama", "diffusers"),
        ("my_model", "mlx-lm"),
    ],
)
def test_a_layout_that_cannot_be_done_is_an_error(tmp_path: Path, model_type: str, layout: str) -> None:
    with pytest.raises(WconvError, match=f"--layout {layout} has no rules for {model_type}") as caught:
        converted(tmp_path, {"model_type": model_type}, layout=layout)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model_type", ["mamba2", "internlm2", "phimoe"])
def test_a_derived_table_that_does_not_count_says_of_what(tmp_path: Path, model_type: str) -> None:
    said = f"--layout mlx-vlm: its table of {model_type} does not account for the "
    with pytest.raises(WconvError, match=said) as caught:
        converted(tmp_path, {"model_type": model_type, "num_experts": 2}, layout="mlx-vlm")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_bare_file_that_the_consumer_does_not_know_is_an_error(tmp_path: Path) -> None:
    source = write_file(
        tmp_path / "sd.safetensors",
        {"cond_stage_model.transformer.text_model.final_layer_norm.bias": random((4,))},
    )
    with pytest.raises(WconvError, match="--layout diffusers has no rules for this model"):
        convert(source, tmp_path / "o.safetensors", layout="diffusers")


def test_what_is_known_is_of_a_version() -> None:
    assert known_models.read("mlx_lm").version.startswith("0.")
    assert "llama" in known_models.read("mlx_lm").model_types
    assert "qwen2_5_vl" in known_models.read("mlx_vlm").model_types
    assert "bert" in known_models.read("transformers").model_types

"""What a naming has no way for, and adapters that are no pairs of matrices, are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import wconv
from tests.lora_files import H, adapter, converted, grid, target, with_encoders
from tests.making import bits, write_file
from wconv.errors import WconvError


def only_one(part: str, more: Mapping[str, Any]) -> dict[str, Any]:
    tensors, _ = adapter({f"transformer_blocks.0.attn.to_{one}": (H, H, 2) for one in part}, False)
    return {**tensors, **more}


Q = "transformer.transformer_blocks.0.attn.to_q"
DORA = {f"{Q}.lora_magnitude_vector": grid((H,), 1)}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a DoRA of one part": (
        "kohya:flux",
        only_one("q", DORA),
        "to_q has DoRA's lengths, which other parts of",
    ),
    "a DoRA among others": (
        "kohya:flux",
        only_one("qkv", DORA),
        "to_q has DoRA's lengths, which other parts of",
    ),
    "a DoRA among others for PEFT": ("peft", only_one("qk", DORA), "to_q is a DoRA and .*to_k is not"),
    "a DoRA without a name": ("bfl", only_one("q", DORA), "to_q is a DoRA, which Black Forest Labs"),
    "a difference": (
        "diffusers",
        only_one("q", {f"{Q}.diff_b": grid((H,), 1)}),
        "has whole differences, which",
    ),
    "a text encoder": (
        "peft",
        with_encoders(),
        "PEFT applies no adapter to text_encoder: leave text_encoder",
    ),
    "a text encoder of its own": (
        "kohya",
        {
            name.replace("_model.encoder.layers", "_model.encoder.layer"): array
            for name, array in with_encoders().items()
        },
        r"are not known in flux: text_encoder.text_model.encoder.layer.0.self_attn.q_proj.lora_A.weight",
    ),
    "a module that is not known": (
        "comfyui",
        only_one(
            "q",
            {"transformer.x.lora_A.weight": grid((2, H), 1), "transformer.x.lora_B.weight": grid((H, 2), 1)},
        ),
        r"ComfyUI: these modules are not known in flux: transformer.x.lora_A.weight \(nearest: ",
    ),
    "a scale of 0": ("kohya", only_one("q", {f"{Q}.alpha": np.array(0, np.float32)}), "has the scale 0"),
    "parts that do not fit": (
        "kohya:flux",
        {
            **only_one("q", {}),
            "transformer.transformer_blocks.0.attn.to_k.lora_A.weight": grid((2, 2 * H), 1),
            "transformer.transformer_blocks.0.attn.to_k.lora_B.weight": grid((H, 2), 1),
        },
        "the parts of double_blocks.0.img_attn.qkv cannot be joined",
    ),
    "a model whose makers it is not": (
        "bfl",
        {
            name.replace(".to_q", ".to_q").replace("blocks.0.", "blocks.40."): a
            for name, a in only_one("q", {}).items()
        },
        "--layout bfl: qwen has no such names; it has mflux, diffusers, peft, kohya, comfyui",
    ),
    "either of two models": (
        "kohya",
        only_one("q", {}),
        r"fit flux and qwen alike, which call them differently: --layout kohya:flux or kohya:qwen$",
    ),
    "the same module twice": (
        "diffusers",
        {
            **only_one("q", {}),
            "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": grid((2, H), 1),
            "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": grid((3 * H, 2), 1),
        },
        "would both become transformer_blocks.0.attn.to_q",
    ),
    "a language model's": (
        "kohya",
        {
            "model.layers.0.q_proj.lora_A.weight": grid((2, H), 1),
            "model.layers.0.q_proj.lora_B.weight": grid((H, 2), 1),
        },
        "no image model's adapter: --layout mlx-lm, peft or hf",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_said_is_refused_by_name(case: str, tmp_path: Path) -> None:
    naming, tensors, message = REFUSED[case]
    source = write_file(tmp_path / "lora.safetensors", tensors)
    with pytest.raises(WconvError, match=message) as caught:
        converted(source, tmp_path / "out", naming)
    assert "\n" not in str(caught.value)
    assert not target(tmp_path / "out", naming).exists()


OTHERS = {
    "lokr_w1": "is of a LoKr, a Kronecker product",
    "hada_w1_a": "is of a LoHa, a Hadamard product",
    "oft_blocks": "is of an OFT, an orthogonal turn",
    "boft_R": "is of an OFT, an orthogonal turn",
    "oft_r": "is of an OFT, an orthogonal turn",
    "a1.weight": "is of a GLoRA",
    "on_input": "is of an (IA)³",
    "vera_lambda_b": "is of a VeRA",
    "lora_B.bias": "is a bias of its own",
}


@pytest.mark.parametrize("ending", OTHERS)
def test_other_kinds_of_adapters_are_refused_by_name(ending: str, tmp_path: Path) -> None:
    name = f"{Q}.{ending}"
    source = write_file(tmp_path / "lora.safetensors", only_one("qk", {name: grid((H,), 1)}))
    with pytest.raises(WconvError) as caught:
        converted(source, tmp_path / "out", "kohya")
    assert f"{name} {OTHERS[ending]}: it cannot be applied as a LoRA" in str(caught.value)


@pytest.mark.parametrize("layout", ["auto", "mflux", "kohya"])
@pytest.mark.parametrize("ending", ["lokr_w1", "hada_w1_a", "oft_blocks"])
def test_a_file_of_nothing_else_is_refused_too(ending: str, layout: str, tmp_path: Path) -> None:
    name = f"lycoris_double_blocks_0_img_mlp_0.{ending}"
    tensors = {name: grid((H, H), 1), name.replace(ending, "alpha"): np.array(1, np.float32)}
    source = write_file(tmp_path / "lycoris.safetensors", tensors)
    with pytest.raises(WconvError, match=rf"{name} {OTHERS[ending]}"):
        wconv.convert(source, tmp_path / "out.safetensors", layout=layout)
    wconv.convert(source, tmp_path / "kept.safetensors", layout="hf")
    assert bits(load_file(tmp_path / "kept.safetensors")[name]) == bits(tensors[name])

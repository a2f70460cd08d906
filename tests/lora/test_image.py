"""An image model's adapter in every naming: to each, back again to the last bit, the same change in all.

Covers `lora/compose.py`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import wconv
import wconv.torch as torch
from tests.lora_files import (
    ENCODERS,
    MODULES,
    H,
    Modules,
    adapter,
    all_bits,
    converted,
    grid,
    tensors_of,
    with_encoders,
)
from tests.making import bits, write_file
from wconv.errors import WconvError

NAMINGS = ("mflux", "peft", "diffusers", "kohya", "comfyui", "bfl")
PAIRS = [
    (family, *pair, scales)
    for family in MODULES
    for pair in itertools.permutations(NAMINGS, 2)
    for scales in ((False, True) if "bfl" in pair else (True,))
    if "bfl" not in pair or family.startswith("flux")
]


FUSED = (
    ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    ("attention.to_q", "attention.to_k", "attention.to_v"),
)
"""Layers that lie in one matrix of the makers'."""


def base(modules: Modules) -> dict[str, Any]:
    """A model that has the modules, and all that lie in one matrix with them."""
    names = {name: (rows, columns) for name, (rows, columns, _) in modules.items()}
    for name in list(names):
        for group in FUSED:
            stem = next((name.removesuffix(one) for one in group if name.endswith(f".{one}")), None)
            for one in group if stem else ():
                names.setdefault(f"{stem}{one}", (4 * H if one == "proj_mlp" else H, H))
    return {
        f"{name}.weight": grid(shape, at + 100, np.float32) for at, (name, shape) in enumerate(names.items())
    }


def merged(lora: Path, modules: Modules, tmp_path: Path) -> dict[str, Any]:
    source = write_file(tmp_path / "base.safetensors", base(modules))
    wconv.convert(
        source, tmp_path / "merged.safetensors", merge_lora=[str(lora)], layout="hf", overwrite=True
    )
    return dict(load_file(tmp_path / "merged.safetensors"))


def expected(tensors: Mapping[str, Any], modules: Modules, scale: float) -> dict[str, Any]:
    made = base(modules)
    for module in modules:
        up, down = (
            tensors[f"transformer.{module}.lora_{end}.weight"].astype(np.float32) for end in ("B", "A")
        )
        made[f"{module}.weight"] = made[f"{module}.weight"] + scale * (up @ down)
    return made


@pytest.mark.parametrize(("family", "first", "second", "scales"), PAIRS)
def test_there_and_back_is_the_same_to_the_last_bit(
    family: str, first: str, second: str, scales: bool, tmp_path: Path
) -> None:
    tensors, metadata = adapter(MODULES[family], scales)
    source = write_file(tmp_path / "lora.safetensors", tensors, metadata)
    start = converted(source, tmp_path / "start", first)
    there = converted(start, tmp_path / "there", second)
    back = converted(there, tmp_path / "back", first)
    assert bits_of(merged(there, MODULES[family], tmp_path)) == bits_of(
        expected(tensors, MODULES[family], 2 if scales else 1)
    )
    if not (scales and second == "bfl"):  # which has no scale: it went into the matrices
        assert all_bits(back) == all_bits(start)
        assert metadata_of(back) == metadata_of(start)


def bits_of(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: bits(array) for name, array in arrays.items()}


def metadata_of(path: Path) -> Any:
    if path.is_dir():
        return json.loads((path / "adapter_config.json").read_text())
    with safe_open(path, "numpy") as file:
        return {key: json.loads(text) if "{" in text else text for key, text in file.metadata().items()}


KEYS = {
    "mflux": "transformer_blocks.1.attn.to_out.0.lora_down.weight",
    "peft": "base_model.model.transformer_blocks.1.attn.to_out.0.lora_A.weight",
    "diffusers": "transformer.transformer_blocks.1.attn.to_out.0.lora_A.weight",
    "kohya": "lora_unet_double_blocks_1_img_attn_proj.lora_down.weight",
    "comfyui": "diffusion_model.double_blocks.1.img_attn.proj.lora_down.weight",
    "bfl": "double_blocks.1.img_attn.proj.lora_A.weight",
}


@pytest.mark.parametrize("naming", KEYS)
def test_the_keys_are_those_of_the_program(naming: str, tmp_path: Path) -> None:
    tensors, _ = adapter(MODULES["flux"], False)
    got = tensors_of(converted(write_file(tmp_path / "lora.safetensors", tensors), tmp_path, naming))
    assert bits(got[KEYS[naming]]) == bits(tensors[KEYS["diffusers"]])
    assert any(name.endswith(".alpha") for name in got) == (naming == "kohya")


def test_parts_with_one_down_matrix_share_it_when_they_are_joined(tmp_path: Path) -> None:
    down, up = grid((2, H), 1), grid((3 * H, 2), 2)
    fused = {
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": down,
        "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": up,
        "lora_unet_double_blocks_0_img_attn_qkv.alpha": np.array(1, np.float32),
    }
    source = write_file(tmp_path / "lora.safetensors", fused)
    parts = converted(source, tmp_path, "diffusers")
    got = tensors_of(parts)
    assert len(got) == 6
    assert bits(got["transformer.transformer_blocks.0.attn.to_k.lora_B.weight"]) == bits(up[H : 2 * H])
    assert bits_of(tensors_of(converted(parts, tmp_path, "kohya:flux"))) == bits_of(fused)


def test_parts_with_their_own_down_matrices_stand_along_the_diagonal(tmp_path: Path) -> None:
    modules = {f"transformer_blocks.0.attn.to_{part}": (H, H, rank) for part, rank in (("q", 2), ("v", 1))}
    tensors, _ = adapter(modules, False)
    got = tensors_of(converted(write_file(tmp_path / "lora.safetensors", tensors), tmp_path, "kohya:flux"))
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    up = np.zeros((3 * H, 3), ml_dtypes.bfloat16)
    up[:H, :2] = tensors["transformer.transformer_blocks.0.attn.to_q.lora_B.weight"]
    up[2 * H :, 2:] = tensors["transformer.transformer_blocks.0.attn.to_v.lora_B.weight"]
    assert bits(got[f"{stem}.lora_up.weight"]) == bits(up)
    assert bits(got[f"{stem}.lora_down.weight"]) == bits(
        np.concatenate([tensors[f"transformer.{module}.lora_A.weight"] for module in modules])
    )
    assert got[f"{stem}.alpha"] == 3


def test_parts_of_different_scales_are_brought_to_one_in_float32(tmp_path: Path) -> None:
    modules = {f"transformer_blocks.0.attn.to_{part}": (H, H, 2) for part in "qkv"}
    tensors, _ = adapter(modules, False)
    tensors["transformer.transformer_blocks.0.attn.to_k.alpha"] = np.array(6, np.float32)
    path = converted(write_file(tmp_path / "lora.safetensors", tensors), tmp_path, "kohya:flux")
    got = tensors_of(path)
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    assert got[f"{stem}.lora_up.weight"].dtype == np.float32
    assert got[f"{stem}.lora_down.weight"].dtype == ml_dtypes.bfloat16
    want = expected(tensors, modules, 1)
    k = "transformer_blocks.0.attn.to_k"
    want[f"{k}.weight"] += 2 * (want[f"{k}.weight"] - base(modules)[f"{k}.weight"])
    assert bits_of(merged(path, modules, tmp_path)) == bits_of(want)


def test_black_forest_labs_have_no_alpha_and_the_matrix_takes_the_scale(tmp_path: Path) -> None:
    tensors, metadata = adapter(MODULES["flux"], True)
    got = tensors_of(converted(write_file(tmp_path / "lora.safetensors", tensors, metadata), tmp_path, "bfl"))
    up = tensors["transformer.transformer_blocks.1.attn.to_out.0.lora_B.weight"]
    assert bits(got["double_blocks.1.img_attn.proj.lora_B.weight"]) == bits(2 * up.astype(np.float32))


ENCODER_KEYS = {
    "diffusers": list(ENCODERS),
    "kohya": [
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
        "lora_te3_encoder_block_1_layer_0_SelfAttention_q",
    ],
    "comfyui": [
        "text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj",
        "text_encoders.t5xxl.transformer.encoder.block.1.layer.0.SelfAttention.q",
    ],
}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(ENCODER_KEYS, 2)))
def test_adapters_of_text_encoders_go_along(first: str, second: str, tmp_path: Path) -> None:
    source = write_file(tmp_path / "lora.safetensors", with_encoders())
    start = converted(source, tmp_path / "start", first)
    there = converted(start, tmp_path / "there", second)
    for path, naming in ((start, first), (there, second)):
        stems = {name.rpartition(".lora_")[0] for name in tensors_of(path)}
        assert stems.issuperset(ENCODER_KEYS[naming])
    assert all_bits(converted(there, tmp_path / "back", first)) == all_bits(start)


def test_a_unet_and_its_text_encoder_from_kohya_to_diffusers_and_back(tmp_path: Path) -> None:
    stems = {
        "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn2_to_out_0": (),
        "lora_unet_mid_block_resnets_0_conv1": (3, 3),
        "lora_unet_up_blocks_1_attentions_0_proj_in": (1, 1),
        "lora_te_text_model_encoder_layers_5_mlp_fc1": (),
    }
    tensors: dict[str, Any] = {}
    for at, (stem, window) in enumerate(stems.items()):
        tensors[f"{stem}.lora_down.weight"] = grid((2, H, *window), at)
        tensors[f"{stem}.lora_up.weight"] = grid((H, 2, *(1 for _ in window)), at + 9)
        tensors[f"{stem}.alpha"] = np.array(1, np.float32)
    source = write_file(tmp_path / "lora.safetensors", tensors)
    there = converted(source, tmp_path / "there", "diffusers")
    got = tensors_of(there)
    assert got["unet.mid_block.resnets.0.conv1.lora_A.weight"].shape == (2, H, 3, 3)
    assert "text_encoder.text_model.encoder.layers.5.mlp.fc1.lora_B.weight" in got
    settings = json.loads(metadata_of_text(there, "lora_adapter_metadata"))
    assert (settings["unet.lora_alpha"], settings["text_encoder.lora_alpha"]) == (1, 1)
    assert all_bits(converted(there, tmp_path / "back", "kohya")) == bits_of(tensors)


def metadata_of_text(path: Path, key: str) -> str:
    with safe_open(path, "numpy") as file:
        return str(file.metadata()[key])


@pytest.mark.parametrize("second", ["kohya", "comfyui"])
def test_dora_and_whole_differences_are_joined_and_split_by_rows(second: str, tmp_path: Path) -> None:
    modules = {f"transformer_blocks.0.attn.to_{part}": (H, H, 2) for part in "qkv"}
    tensors, _ = adapter(modules, False)
    for at, module in enumerate(modules):
        tensors[f"transformer.{module}.lora_magnitude_vector"] = abs(grid((H,), at + 30))
    source = write_file(tmp_path / "lora.safetensors", tensors)
    there = converted(source, tmp_path / "there", f"{second}:flux")
    stem = {"kohya": "lora_unet_double_blocks_0_img_attn_qkv"}.get(
        second, "diffusion_model.double_blocks.0.img_attn.qkv"
    )
    got = tensors_of(there)
    assert got[f"{stem}.dora_scale"].shape == (3 * H, 1)
    assert bits_of(merged(there, modules, tmp_path)) == bits_of(merged(source, modules, tmp_path))
    assert all_bits(converted(there, tmp_path / "back", "diffusers")) == bits_of(tensors)
    other = {"kohya": "comfyui", "comfyui": "kohya"}[second]
    with_diff = {**got, f"{stem}.diff_b": grid((3 * H,), 3)}
    source = write_file(tmp_path / "diff.safetensors", with_diff)
    there = converted(source, tmp_path / "other", f"{other}:flux")
    assert all_bits(converted(there, tmp_path / "back2", f"{second}:flux")) == bits_of(with_diff)


def test_the_widths_of_the_matrices_are_kept(tmp_path: Path) -> None:
    tensors, _ = adapter(MODULES["flux"], False)
    tensors = {
        name: array.astype(np.float16 if "_A" in name else np.float32) for name, array in tensors.items()
    }
    got = tensors_of(converted(write_file(tmp_path / "lora.safetensors", tensors), tmp_path, "kohya"))
    assert {str(a.dtype) for name, a in got.items() if "down" in name} == {"float16"}
    assert {str(a.dtype) for name, a in got.items() if "up" in name} == {"float32"}


def test_a_pickled_adapter_is_read_and_written(tmp_path: Path) -> None:
    tensors, metadata = adapter(MODULES["flux"], True)
    kohya = converted(
        write_file(tmp_path / "lora.safetensors", tensors, metadata), tmp_path / "first", "kohya"
    )
    pickled = tmp_path / "lora.pt"
    torch.save({name: torch.from_numpy(array) for name, array in tensors_of(kohya).items()}, pickled)
    again = converted(pickled, tmp_path / "second", "comfyui")
    assert all_bits(converted(again, tmp_path / "third", "kohya")) == all_bits(kohya)
    wconv.convert(kohya, tmp_path / "comfyui.pt", layout="comfyui")
    loaded = torch.load(tmp_path / "comfyui.pt")
    assert {name: bits(one.numpy()) for name, one in loaded.items() if one.dtype == torch.float32} == {
        name: bits(one) for name, one in tensors_of(again).items() if one.dtype == np.float32
    }
    with pytest.raises(WconvError, match="header of a safetensors file"):
        wconv.convert(kohya, tmp_path / "diffusers.pt", layout="diffusers")


def test_the_result_is_called_after_the_naming(tmp_path: Path) -> None:
    tensors, _ = adapter(MODULES["flux"], False)
    source = write_file(tmp_path / "lora.safetensors", tensors)
    wconv.convert(source, layout="kohya")
    wconv.convert(source, layout="peft")
    for naming in ("kohya", "bfl", "diffusers"):
        wconv.convert(source, layout=naming, overwrite=True)
        assert (tmp_path / f"lora-{naming}.safetensors").is_file()
    assert (tmp_path / "lora-peft" / "adapter_config.json").is_file()
    assert (tmp_path / "lora-peft" / "adapter_model.safetensors").is_file()


COMMANDS = {
    ("flux", "mflux"): "mflux-generate --lora-paths ",
    ("flux2", "mflux"): "mflux-generate-flux2 --lora-paths ",
    ("qwen", "mflux"): "mflux-generate-qwen --lora-paths ",
    ("z_image", "mflux"): "mflux-generate-z-image --lora-paths ",
    ("flux", "diffusers"): "pipeline.load_lora_weights('",
}


@pytest.mark.parametrize(("family", "naming"), COMMANDS)
def test_the_report_tells_what_loads_the_file(family: str, naming: str, tmp_path: Path) -> None:
    tensors, _ = adapter(MODULES[family], False)
    modules = {name for name in tensors if "norm_out" not in name and "time_" not in name}
    source = write_file(tmp_path / "lora.safetensors", {name: tensors[name] for name in modules})
    report = wconv.convert(source, layout=f"{naming}:{family}")
    assert report.command.startswith(COMMANDS[family, naming] + str(tmp_path))


@pytest.mark.parametrize(("described", "scale"), [("transformer", 2.0), ("unet", 2.0), ("text_encoder", 1.0)])
def test_settings_of_one_component_are_not_those_of_another(
    described: str, scale: float, tmp_path: Path
) -> None:
    modules = {"transformer_blocks.0.attn.to_out.0": (H, H, 2)}
    tensors, _ = adapter(modules, False)
    settings = {f"{described}.r": 2, f"{described}.lora_alpha": 4}
    source = write_file(
        tmp_path / "lora.safetensors", tensors, {"lora_adapter_metadata": json.dumps(settings)}
    )
    got = tensors_of(converted(source, tmp_path, "kohya:flux"))
    assert got["lora_unet_double_blocks_0_img_attn_proj.alpha"] == 2 * scale


@pytest.mark.parametrize("key", ["init_lora_weights", "use_qalora"])
def test_settings_in_the_header_can_change_the_meaning_too(key: str, tmp_path: Path) -> None:
    tensors, metadata = adapter(MODULES["flux"], True)
    assert metadata is not None
    settings = {**json.loads(metadata["lora_adapter_metadata"]), f"transformer.{key}": "pissa"}
    source = write_file(
        tmp_path / "lora.safetensors", tensors, {"lora_adapter_metadata": json.dumps(settings)}
    )
    with pytest.raises(WconvError, match=rf"transformer sets {key}"):
        converted(source, tmp_path, "kohya")


def test_an_adapter_of_clip_alone_wants_the_model_where_names_differ(tmp_path: Path) -> None:
    modules = {"text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (H, H, 2)}
    tensors, _ = adapter(modules, False)
    tensors = {name.removeprefix("transformer."): array for name, array in tensors.items()}
    source = write_file(tmp_path / "lora.safetensors", tensors)
    with pytest.raises(WconvError, match="--layout kohya:flux or kohya:stable-diffusion"):
        converted(source, tmp_path, "kohya")
    with pytest.raises(WconvError, match=r"--layout comfyui:flux$"):
        converted(source, tmp_path, "comfyui")
    for family, start in (("flux", "lora_te1_"), ("stable-diffusion", "lora_te_")):
        got = tensors_of(converted(source, tmp_path / family, f"kohya:{family}"))
        assert all(name.startswith(start) for name in got)

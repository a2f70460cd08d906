"""Adapters by themselves: to the names that mflux reads, from PEFT to mlx-lm and back, or refused by name.

Covers `lora/language.py`, `lora/peft.py`, `lora/read.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import wconv
from tests.making import bits, random, write_file
from wconv.errors import WconvError

H, RANK = 8, 2
Modules = Mapping[str, tuple[int, int]]

FLUX: Modules = {
    "transformer_blocks.3.attn.to_q": (H, H),
    "transformer_blocks.3.attn.to_out.0": (H, H),
    "transformer_blocks.3.ff.net.0.proj": (4 * H, H),
    "single_transformer_blocks.11.proj_mlp": (4 * H, H),
    "single_transformer_blocks.11.norm.linear": (3 * H, H),
}


def adapter(modules: Modules, down: str, up: str, alpha: str = "", value: float = 1) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for at, (module, (rows, columns)) in enumerate(modules.items()):
        made[down.format(module, flat=module.replace(".", "_"))] = random((RANK, columns), seed=at)
        made[up.format(module, flat=module.replace(".", "_"))] = random((rows, RANK), seed=at + 50)
        if alpha:
            name = alpha.format(module, flat=module.replace(".", "_"))
            made[name] = np.array(value, np.float32)
    return made


def converted(tmp_path: Path, tensors: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    source = write_file(tmp_path / "lora.safetensors", tensors)
    wconv.convert(source, tmp_path / "out.safetensors", **arguments)
    return dict(load_file(tmp_path / "out.safetensors"))


SPELLINGS = {
    "PEFT": (
        "base_model.model.{}.lora_A.weight",
        "base_model.model.{}.lora_B.weight",
        "base_model.model.{}.alpha",
    ),
    "diffusers": ("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight", "transformer.{}.alpha"),
    "kohya": (
        "lora_unet_{flat}.lora_down.weight",
        "lora_unet_{flat}.lora_up.weight",
        "lora_unet_{flat}.alpha",
    ),
    "ComfyUI": ("diffusion_model.{}.lora_A", "diffusion_model.{}.lora_B", "diffusion_model.{}.alpha"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_comes_to_the_names_that_mflux_reads(spelling: str, tmp_path: Path) -> None:
    down, up, alpha = SPELLINGS[spelling]
    source = adapter(FLUX, down, up, alpha, 3)
    got = converted(tmp_path, source, dtype="float16")
    assert len(got) == 3 * len(FLUX)
    for module in FLUX:
        names = (one.format(module, flat=module.replace(".", "_")) for one in (down, up))
        for name, end in zip(names, ("lora_down", "lora_up"), strict=True):
            assert bits(got[f"{module}.{end}.weight"]) == bits(source[name].astype(np.float16))
        assert bits(got[f"{module}.alpha"]) == bits(np.array(3, np.float32))


@pytest.mark.parametrize("form", ["lora_unet_{flat}", "diffusion_model.{}", "base_model.model.{}"])
def test_fused_modules_of_black_forest_labs_are_split(form: str, tmp_path: Path) -> None:
    modules = {
        "double_blocks.0.img_attn.qkv": (3 * H, H),
        "double_blocks.0.txt_mlp.0": (4 * H, H),
        "single_blocks.1.linear1": (7 * H, H),
    }
    source = adapter(modules, form + ".lora_down.weight", form + ".lora_up.weight", form + ".alpha")
    got = converted(tmp_path, source)
    up = random((3 * H, RANK), seed=50)
    for part, letter in zip(np.split(up, 3), "qkv", strict=True):
        name = f"transformer_blocks.0.attn.to_{letter}"
        assert bits(got[f"{name}.lora_up.weight"]) == bits(part)
        assert bits(got[f"{name}.lora_down.weight"]) == bits(random((RANK, H)))
        assert got[f"{name}.alpha"] == 1
    assert "transformer_blocks.0.ff_context.net.0.proj.lora_up.weight" in got
    wide = random((7 * H, RANK), seed=52)
    assert bits(got["single_transformer_blocks.1.proj_mlp.lora_up.weight"]) == bits(wide[3 * H :])
    assert len(got) == 3 * (3 + 1 + 4)


def test_the_widths_tell_flux2_from_flux(tmp_path: Path) -> None:
    modules = {"double_blocks.0.img_mlp.0": (6 * H, H), "single_blocks.1.linear1": (9 * H, H)}
    source = adapter(modules, "diffusion_model.{}.lora_A.weight", "diffusion_model.{}.lora_B.weight")
    got = converted(tmp_path, source)
    assert set(got) == {
        f"{module}.lora_{end}.weight"
        for module in (
            "transformer_blocks.0.ff.linear_in",
            "single_transformer_blocks.1.attn.to_qkv_mlp_proj",
        )
        for end in ("up", "down")
    }


def test_z_image_and_qwen_image_have_their_own_modules(tmp_path: Path) -> None:
    source = adapter(
        {"layers.4.attention.qkv": (3 * H, H)},
        "diffusion_model.{}.lora_A.weight",
        "diffusion_model.{}.lora_B.weight",
    )
    got = converted(tmp_path, source)
    assert "transformer.layers.4.attention.to_v.lora_B.weight" in got
    (tmp_path / "qwen").mkdir()
    source = adapter(
        {"transformer_blocks.0.img_mlp.net.2": (H, 4 * H)},
        "lora_unet_{flat}.lora_down.weight",
        "lora_unet_{flat}.lora_up.weight",
    )
    got = converted(tmp_path / "qwen", source)
    assert set(got) == {f"transformer_blocks.0.img_mlp.net.2.lora_{end}.weight" for end in ("up", "down")}


REFUSED = {
    "no module of the model": (
        {"transformer_blocks.0.attn.to_x": (H, H)},
        {},
        r"to_x.lora_A.weight \(nearest: transformer_blocks.0.attn.to_",
    ),
    "a text encoder": (
        {},
        {"lora_te_x.lora_down.weight": (RANK, H), "lora_te_x.lora_up.weight": (H, RANK)},
        "text_encoder",
    ),
    "a DoRA": ({}, {"transformer_blocks.3.attn.to_q.dora_scale": (H, 1)}, "DoRA"),
    "a difference": ({}, {"transformer_blocks.3.attn.norm_q.diff": (H,)}, "whole differences"),
    "a stray": ({}, {"transformer_blocks.3.attn.norm_q.weight": (H,)}, "norm_q.weight is no matrix"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_mflux_would_leave_out_is_refused_by_name(case: str, tmp_path: Path) -> None:
    modules, more, message = REFUSED[case]
    tensors = adapter({**FLUX, **modules}, "{}.lora_A.weight", "{}.lora_B.weight")
    tensors.update({name: random(shape) for name, shape in more.items()})
    with pytest.raises(WconvError, match=message):
        converted(tmp_path, tensors, layout="mflux")
    assert not (tmp_path / "out.safetensors").exists()


LANGUAGE: Modules = {
    "model.layers.0.self_attn.q_proj": (H, H),
    "model.layers.1.mlp.down_proj": (H, 3 * H),
}


def peft(path: Path, config: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    path.mkdir()
    form = "base_model.model.{}.lora_"
    tensors = {**adapter(LANGUAGE, form + "A.weight", form + "B.weight"), **more}
    write_file(path / "adapter_model.safetensors", tensors)
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
    return tensors


@pytest.mark.parametrize("dora", [False, True])
def test_peft_to_mlx_lm_and_back(dora: bool, tmp_path: Path) -> None:
    magnitudes = {f"base_model.model.{one}.lora_magnitude_vector": random((H,)) for one in LANGUAGE}
    source = peft(tmp_path / "peft", {"r": RANK, "lora_alpha": 6}, **(magnitudes if dora else {}))
    wconv.convert(tmp_path / "peft", tmp_path / "mlx")
    got = load_file(tmp_path / "mlx" / "adapters.safetensors")
    for module in LANGUAGE:
        down = source[f"base_model.model.{module}.lora_A.weight"]
        assert bits(got[f"{module}.lora_a"]) == bits(np.ascontiguousarray(down.T))
        assert (f"{module}.m" in got) == dora
    config = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert config["fine_tune_type"] == ("dora" if dora else "lora")
    assert config["lora_parameters"] == {"rank": RANK, "scale": 3.0, "dropout": 0.0, "keys": list(LANGUAGE)}
    wconv.convert(tmp_path / "mlx", tmp_path / "back")
    back = load_file(tmp_path / "back" / "adapter_model.safetensors")
    assert {name: bits(array) for name, array in back.items()} == {
        name: bits(array) for name, array in source.items()
    }
    config = json.loads((tmp_path / "back" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_dora"]) == (RANK, 6, dora)
    assert sorted(config["target_modules"]) == sorted(LANGUAGE)


def test_a_scale_of_its_own_goes_into_the_matrix(tmp_path: Path) -> None:
    source = peft(tmp_path / "peft", {"lora_alpha": 4, "alpha_pattern": {"down_proj": 12}})
    wconv.convert(tmp_path / "peft", tmp_path / "mlx")
    got = load_file(tmp_path / "mlx" / "adapters.safetensors")
    name = "model.layers.1.mlp.down_proj"
    up = source[f"base_model.model.{name}.lora_B.weight"].astype(np.float32)
    assert bits(got[f"{name}.lora_b"]) == bits(np.ascontiguousarray((3 * up).T))


def test_mlx_lm_wants_a_directory(tmp_path: Path) -> None:
    peft(tmp_path / "peft", {"lora_alpha": 4})
    with pytest.raises(WconvError, match="a directory"):
        wconv.convert(tmp_path / "peft", tmp_path / "out.safetensors")
    with pytest.raises(WconvError, match="a directory"):
        wconv.convert(tmp_path / "peft", tmp_path / "out", format="pt", layout="mlx-lm")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fan_in_fan_out": True}, "stored transposed"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"lora_alpha": "much"}, "no number"),
        ({"lora_alpha": 4, "alpha_pattern": {"(a+)+b": 1}}, "expressions are not evaluated"),
        ({"lora_alpha": 4, "alpha_pattern": ["q_proj"]}, "alpha_pattern is .*no object"),
        ({"lora_alpha": 1e300}, r"the alpha of .* is 1e\+300"),
        ({"lora_alpha": 4, "use_dora": True}, "has no magnitudes, though"),
        ({"lora_alpha": 4, "use_qalora": True}, "sets use_qalora"),
        ({"lora_alpha": 4, "alora_invocation_tokens": [1]}, "sets alora_invocation_tokens"),
        ({"lora_alpha": 4, "target_parameters": ["experts.down_proj"]}, "sets target_parameters"),
        ({"lora_alpha": 4, "init_lora_weights": "pissa_niter_4"}, "weights that PEFT changes first"),
        ({"lora_alpha": 4, "init_lora_weights": "OLoRA"}, "weights that PEFT changes first"),
    ],
)
def test_settings_that_change_the_meaning_are_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    peft(tmp_path / "peft", config)
    with pytest.raises(WconvError, match=message):
        wconv.convert(tmp_path / "peft", tmp_path / "mlx")
    assert not (tmp_path / "mlx").exists()


def test_mlx_lm_adapters_without_their_config_have_no_scale(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.q_proj.lora_a": random((H, RANK)),
        "model.layers.0.q_proj.lora_b": random((RANK, H)),
    }
    source = write_file(tmp_path / "adapters.safetensors", tensors)
    with pytest.raises(WconvError, match=r"no adapter_config.json beside it has lora_parameters"):
        wconv.convert(source, tmp_path / "out")


def test_an_adapter_is_kept_when_the_hubs_names_are_asked_for(tmp_path: Path) -> None:
    source = adapter(FLUX, "transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight")
    got = converted(tmp_path, source, layout="hf")
    assert {name: bits(array) for name, array in got.items()} == {
        name: bits(array) for name, array in source.items()
    }


@pytest.mark.parametrize("start", [True, "gaussian", "eva", "orthogonal"])
def test_beginnings_that_leave_the_model_alone_are_taken(start: object, tmp_path: Path) -> None:
    peft(tmp_path / "peft", {"lora_alpha": 4, "init_lora_weights": start})
    wconv.convert(tmp_path / "peft", tmp_path / "mlx")
    assert (tmp_path / "mlx" / "adapters.safetensors").is_file()


def test_a_language_model_may_call_its_layers_transformer(tmp_path: Path) -> None:
    module = "transformer.h.0.self_attention.query_key_value"
    form = "base_model.model.{}.lora_"
    source = adapter({module: (3 * H, H)}, form + "A.weight", form + "B.weight")
    path = write_file(tmp_path / "lora.safetensors", source)
    wconv.convert(path, tmp_path / "mlx")
    assert f"{module}.lora_a" in load_file(tmp_path / "mlx" / "adapters.safetensors")
    wconv.convert(path, tmp_path / "peft", layout="peft")
    assert bits_of_file(tmp_path / "peft" / "adapter_model.safetensors") == bits_of_file(path)
    path = write_file(
        tmp_path / "other.safetensors",
        adapter({"transformer.x": (H, H)}, "{}.lora_A.weight", "{}.lora_B.weight"),
    )
    with pytest.raises(WconvError, match="mflux applies no adapter to these modules"):
        wconv.convert(path, tmp_path / "out.safetensors")


def bits_of_file(path: Path) -> dict[str, Any]:
    return {name: bits(array) for name, array in load_file(path).items()}


@pytest.mark.parametrize("module", ["model.embed_tokens", "transformer.wte"])
def test_an_adapter_of_embeddings_alone_is_refused_and_not_copied(module: str, tmp_path: Path) -> None:
    names = (f"base_model.model.{module}.lora_embedding_{end}" for end in "AB")
    tensors = dict(zip(names, (random((RANK, 9)), random((H, RANK))), strict=True))
    source = write_file(tmp_path / "lora.safetensors", tensors)
    for layout in ("auto", "peft"):
        with pytest.raises(WconvError, match="is an embedding, whose adapter is not converted"):
            wconv.convert(source, tmp_path / "out", layout=layout)


def test_pefts_directory_keeps_the_name_by_which_peft_finds_it(tmp_path: Path) -> None:
    source = peft(tmp_path / "peft", {"lora_alpha": 4})
    wconv.convert(tmp_path / "peft", tmp_path / "kept", layout="hf", dtype="float16")
    assert {one.name for one in (tmp_path / "kept").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    got = load_file(tmp_path / "kept" / "adapter_model.safetensors")
    assert {name: bits(one) for name, one in got.items()} == {
        name: bits(one.astype(np.float16)) for name, one in source.items()
    }


def mlx_lm(path: Path, config: Mapping[str, Any], *more: str) -> Path:
    path.mkdir()
    module = "model.layers.0.q_proj"
    for at, name in enumerate(("adapters.safetensors", *more)):
        tensors = {f"{module}.lora_a": random((H, RANK), seed=at), f"{module}.lora_b": random((RANK, H))}
        write_file(path / name, tensors)
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


def test_what_mlx_lm_keeps_on_the_way_is_not_the_adapter(tmp_path: Path) -> None:
    config = {"lora_parameters": {"rank": RANK, "scale": 3.0}}
    source = mlx_lm(tmp_path / "adapters", config, "0000100_adapters.safetensors")
    for at, (given, name) in enumerate(
        ((source, "last"), (source / "0000100_adapters.safetensors", "early"))
    ):
        report = wconv.convert(given, tmp_path / name)
        got = load_file(tmp_path / name / "adapter_model.safetensors")
        down = got["base_model.model.model.layers.0.q_proj.lora_A.weight"]
        assert bits(down) == bits(np.ascontiguousarray(random((H, RANK), seed=at).T))
        assert json.loads((tmp_path / name / "adapter_config.json").read_text())["lora_alpha"] == 3 * RANK
        assert [one.name for one in (tmp_path / name).glob("*.safetensors")] == ["adapter_model.safetensors"]
        assert ("0000100_adapters.safetensors" in str(report.left_out)) == (name == "last")


def test_mlx_lms_config_must_have_its_settings(tmp_path: Path) -> None:
    source = mlx_lm(tmp_path / "adapters", {"fine_tune_type": "lora"})
    with pytest.raises(WconvError, match="has lora_parameters"):
        wconv.convert(source, tmp_path / "out")


def test_pefts_alpha_is_8_where_its_settings_do_not_say(tmp_path: Path) -> None:
    peft(tmp_path / "peft", {"r": RANK})
    wconv.convert(tmp_path / "peft", tmp_path / "mlx")
    config = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert config["lora_parameters"]["scale"] == 8 / RANK


def test_a_module_with_the_scale_0_is_kept_beside_others(tmp_path: Path) -> None:
    peft(tmp_path / "peft", {"lora_alpha": 4, "alpha_pattern": {"q_proj": 0}})
    wconv.convert(tmp_path / "peft", tmp_path / "mlx")
    got = load_file(tmp_path / "mlx" / "adapters.safetensors")
    assert not got["model.layers.0.self_attn.q_proj.lora_b"].any()
    assert got["model.layers.1.mlp.down_proj.lora_b"].any()
    config = json.loads((tmp_path / "mlx" / "adapter_config.json").read_text())
    assert config["lora_parameters"]["scale"] == 4 / RANK


def test_the_default_name_says_whose_adapter_it_is(tmp_path: Path) -> None:
    source = mlx_lm(tmp_path / "adapters", {"lora_parameters": {"rank": RANK, "scale": 3.0}})
    made = wconv.convert(source).output
    assert made == tmp_path / "adapters-peft"
    assert wconv.convert(made).output == tmp_path / "adapters-peft-MLX"
    assert wconv.convert(source / "adapters.safetensors").output == source / "adapters-peft"


def test_an_expert_of_its_own_is_refused_for_mlx_lm(tmp_path: Path) -> None:
    stem = "base_model.model.model.layers.0.block_sparse_moe.experts.3.w1"
    tensors = {f"{stem}.lora_A.weight": random((RANK, H)), f"{stem}.lora_B.weight": random((H, RANK))}
    (tmp_path / "peft").mkdir()
    write_file(tmp_path / "peft" / "adapter_model.safetensors", tensors)
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 4}))
    with pytest.raises(WconvError, match=r"experts\.3\.w1 is one expert, and mlx-lm keeps all in one tensor"):
        wconv.convert(tmp_path / "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stem", "told"), [("model.layers.0.q_proj", False), ("gpt_neox.layers.0.dense", True)]
)
def test_names_that_mlx_lm_may_not_know_are_told(stem: str, told: bool, tmp_path: Path) -> None:
    full = f"base_model.model.{stem}"
    tensors = {f"{full}.lora_A.weight": random((RANK, H)), f"{full}.lora_B.weight": random((H, RANK))}
    (tmp_path / "peft").mkdir()
    write_file(tmp_path / "peft" / "adapter_model.safetensors", tensors)
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 4}))
    report = wconv.convert(tmp_path / "peft", tmp_path / "out")
    assert any(note.endswith(f"see whether it has {stem}") for note in report.notes) == told

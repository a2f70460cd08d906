"""What an adapter is, the settings beside it tell, then its names; what is not known is refused by name.

Covers `lora/generations.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import wconv
from tests.lora_files import MODULES, adapter, grid
from tests.making import bits, random, write_directory, write_file
from wconv.errors import WconvError

H, RANK, VOCABULARY = 4, 2, 10
Q = "model.layers.0.self_attn.q_proj"
LORA = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK}


def pair(module: str, rows: int = H, columns: int = H) -> dict[str, Any]:
    return {
        f"{module}.lora_A.weight": grid((RANK, columns), 1),
        f"{module}.lora_B.weight": grid((rows, RANK), 2),
    }


def peft(path: Path, tensors: Mapping[str, Any], config: Mapping[str, Any] = LORA) -> Path:
    path.mkdir()
    write_file(
        path / "adapter_model.safetensors", {f"base_model.model.{key}": one for key, one in tensors.items()}
    )
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


NOT_LORA: dict[str, dict[str, Any]] = {
    "PROMPT_TUNING": {"prompt_embeddings": random((4, H))},
    "PREFIX_TUNING": {"prompt_embeddings": random((4, H))},
    "IA3": {f"{Q}.ia3_l": random((H, 1))},
    "LN_TUNING": {"model.layers.0.input_layernorm.weight": random((H,))},
    "ADALORA": {**pair(Q), f"{Q}.lora_E": random((RANK, 1))},
    "LOHA": {f"{Q}.hada_w1_a": random((H, RANK))},
    "SOMETHING_NEW": {f"{Q}.something": random((H, H))},
}


@pytest.mark.parametrize("layout", ["auto", "mlx-lm", "peft"])
@pytest.mark.parametrize("kind", NOT_LORA)
def test_other_kinds_are_refused_by_the_name_that_peft_has_for_them(
    kind: str, layout: str, tmp_path: Path
) -> None:
    source = peft(tmp_path / "peft", NOT_LORA[kind], {"peft_type": kind})
    with pytest.raises(WconvError, match=f"'{kind}' adapter, which is not converted: --layout hf") as caught:
        wconv.convert(source, tmp_path / "out", layout=layout)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    report = wconv.convert(source, tmp_path / "kept", layout="hf")
    kept = load_file(report.output / "adapter_model.safetensors")
    given = load_file(source / "adapter_model.safetensors")
    assert {name: bits(one) for name, one in kept.items()} == {name: bits(one) for name, one in given.items()}
    assert json.loads((report.output / "adapter_config.json").read_text()) == {"peft_type": kind}


@pytest.mark.parametrize("kind", NOT_LORA)
def test_other_kinds_are_not_merged(kind: str, tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{f"{Q}.weight": random((H, H))}])
    source = peft(tmp_path / "peft", NOT_LORA[kind], {"peft_type": kind})
    with pytest.raises(WconvError, match=f"describes a '{kind}' adapter: LoRA alone can be applied"):
        wconv.convert(model, tmp_path / "out", merge_lora=[str(source)])


def test_a_wrapped_model_with_its_adapters_is_no_plain_model(tmp_path: Path) -> None:
    weights = {
        f"{Q}.base_layer.weight": random((H, H)),
        "model.layers.0.input_layernorm.weight": random((H,)),
    }
    tensors = {f"base_model.model.{name}": one for name, one in {**pair(Q), **weights}.items()}
    source = write_file(tmp_path / "checkpoint.safetensors", tensors)
    with pytest.raises(WconvError, match="takes the place of the model's own"):
        wconv.convert(source, tmp_path / "out")
    model = write_directory(
        tmp_path / "m", [{name.replace(".base_layer", ""): one for name, one in weights.items()}]
    )
    after = wconv.load(wconv.convert(model, tmp_path / "merged", merge_lora=[str(source)]).output)
    assert bits(after[f"{Q}.weight"]) != bits(weights[f"{Q}.base_layer.weight"])


@pytest.mark.parametrize("name", ["model.layers.0.q_proj.something", "model.layers.0.q_proj.weight"])
def test_pefts_file_without_its_settings_is_no_model(name: str, tmp_path: Path) -> None:
    source = peft(tmp_path / "peft", {name: random((H, H))})
    (source / "adapter_config.json").unlink()
    with pytest.raises(WconvError, match=r"is no matrix of a LoRA|holds no adapter"):
        wconv.convert(source, tmp_path / "out")


def test_a_full_fine_tuning_of_mlx_lm_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    write_file(tmp_path / "full" / "adapters.safetensors", {f"{Q}.weight": random((H, H))})
    (tmp_path / "full" / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "full"}))
    with pytest.raises(WconvError, match="'full fine-tuning' adapter, which is not converted"):
        wconv.convert(tmp_path / "full", tmp_path / "out")


def test_one_pair_among_other_tensors_is_an_adapter(tmp_path: Path) -> None:
    tensors = {f"base_model.model.{name}": one for name, one in pair(Q).items()}
    more = {
        f"base_model.model.{name}.weight": random((VOCABULARY, H)) for name in ("lm_head", "score", "a", "b")
    }
    source = write_file(tmp_path / "lora.safetensors", {**tensors, **more})
    with pytest.raises(WconvError, match=r"(lm_head|score|a|b)\.weight takes the place of the model's own"):
        wconv.convert(source, tmp_path / "out")


def test_a_model_with_matrices_of_its_own_called_so_is_none(tmp_path: Path) -> None:
    module = "layers.0.attn.proj"
    for at, more in enumerate(
        (
            {f"{module}.weight": random((H, H))},
            {f"{module}.base_layer.weight": random((H, H))},
            {f"{module}.qweight": np.ones((H, 1), np.int32), f"{module}.wscales": random((1, H))},
            {f"layers.{at}.norm.weight": random((H,)) for at in range(8)},
        )
    ):
        source = write_directory(tmp_path / str(at), [{**pair(module), **more}])
        result = wconv.open(wconv.convert(source, layout="hf").output)
        assert result.files[0].name == "model.safetensors"
        assert len(result) == 2 + len(more)


WHOLES = {
    "modules_to_save": ("lm_head.weight", "lm_head"),
    "the wrapper's own name": ("lm_head.modules_to_save.default.weight", "lm_head"),
    "an adapted embedding": ("model.embed_tokens.base_layer.weight", "model.embed_tokens"),
}


@pytest.mark.parametrize("case", WHOLES)
def test_whole_modules_take_the_place_of_the_models_own(case: str, tmp_path: Path) -> None:
    key, module = WHOLES[case]
    before = {
        f"{Q}.weight": random((H, H), seed=1),
        "lm_head.weight": random((VOCABULARY, H), seed=2),
        "model.embed_tokens.weight": random((VOCABULARY, H), seed=3),
    }
    whole = random((VOCABULARY, H), np.float32, seed=4)
    tensors = {**pair(Q), key: whole}
    if "base_layer" in key:
        tensors[f"{module}.lora_embedding_A"] = grid((RANK, VOCABULARY), 1)
        tensors[f"{module}.lora_embedding_B"] = grid((H, RANK), 2)
    source = peft(tmp_path / "peft", tensors)
    model = write_directory(tmp_path / "m", [before])
    report = wconv.convert(model, tmp_path / "out", merge_lora=[str(source)])
    after = wconv.load(report.output)
    changed = {f"{Q}.weight", f"{module}.weight"}
    for name, array in before.items():
        assert (bits(after[name]) == bits(array)) == (name not in changed)
    expected = whole
    if "base_layer" in key:
        down, up = tensors[f"{module}.lora_embedding_A"], tensors[f"{module}.lora_embedding_B"]
        expected = whole + 2 * (up.astype(np.float32) @ down.astype(np.float32)).T
    assert bits(after[f"{module}.weight"]) == bits(expected.astype(before[f"{module}.weight"].dtype))
    for layout in ("auto", "peft"):
        with pytest.raises(WconvError, match="takes the place of the model's own") as caught:
            wconv.convert(source, tmp_path / "converted", layout=layout)
        assert f"base_model.model.{key}" in str(caught.value)
    kept = load_file(
        wconv.convert(source, tmp_path / "kept", layout="hf").output / "adapter_model.safetensors"
    )
    assert bits(kept[f"base_model.model.{key}"]) == bits(whole)


def test_whole_modules_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = write_directory(
        tmp_path / "m", [{f"{Q}.weight": random((H, H)), "lm_head.weight": random((9, H))}]
    )
    source = peft(tmp_path / "peft", {**pair(Q), "lm_head.weight": random((VOCABULARY, H))})
    with pytest.raises(WconvError, match=r"lm_head has the shape \(10, 4\), but lm_head.weight has \(9, 4\)"):
        wconv.convert(model, tmp_path / "out", merge_lora=[str(source)])
    right = peft(tmp_path / "right", {**pair(Q), "lm_head.weight": random((9, H))})
    with pytest.raises(WconvError, match=r"its scale must be 1, not 0\.5"):
        wconv.convert(model, tmp_path / "out", merge_lora=[f"{right}:0.5"])
    with pytest.raises(WconvError, match="which another adapter changes: merge one"):
        wconv.convert(model, tmp_path / "out", merge_lora=[str(right), str(right)])
    lost = peft(tmp_path / "lost", {**pair(Q), "score.weight": random((9, H))})
    with pytest.raises(WconvError, match=r"no place in .* for base_model.model.score.weight"):
        wconv.convert(model, tmp_path / "out", merge_lora=[str(lost)])


def test_an_output_layer_that_is_tied_may_be_saved_twice(tmp_path: Path) -> None:
    model = write_directory(
        tmp_path / "m", [{f"{Q}.weight": random((H, H)), "model.embed_tokens.weight": random((9, H))}]
    )
    new = random((9, H), seed=5)
    twice = {**pair(Q), "model.embed_tokens.weight": new, "lm_head.weight": new}
    source = peft(tmp_path / "peft", twice)
    after = wconv.load(wconv.convert(model, tmp_path / "out", merge_lora=[str(source)]).output)
    assert after.keys() == {f"{Q}.weight", "model.embed_tokens.weight"}
    assert bits(after["model.embed_tokens.weight"]) == bits(new)
    other = peft(tmp_path / "other", {**twice, "lm_head.weight": random((9, H), seed=6)})
    with pytest.raises(WconvError, match=r"no place in .* for base_model.model.lm_head.weight"):
        wconv.convert(model, tmp_path / "out2", merge_lora=[str(other)])


GENERATIONS = {
    "as published": ("model.layers.0.self_attn.q_proj", "visual.blocks.0.attn.qkv"),
    "as transformers calls them": (
        "model.language_model.layers.0.self_attn.q_proj",
        "model.visual.blocks.0.attn.qkv",
    ),
    "as mlx-vlm calls them": (
        "language_model.model.layers.0.self_attn.q_proj",
        "vision_tower.blocks.0.attn.qkv",
    ),
}


@pytest.mark.parametrize("theirs", GENERATIONS)
@pytest.mark.parametrize("ours", GENERATIONS)
def test_an_adapter_fits_another_generation_of_its_models_names(
    ours: str, theirs: str, tmp_path: Path
) -> None:
    weights = [random((rows, H), np.float32, seed=rows) for rows in (H, 3 * H)]
    model = {f"{name}.weight": one for name, one in zip(GENERATIONS[ours], weights, strict=True)}
    parts = [pair(module, len(one)) for module, one in zip(GENERATIONS[theirs], weights, strict=True)]
    config = {"model_type": "qwen2_5_vl", "tie_word_embeddings": True}
    source = peft(tmp_path / "peft", {**parts[0], **parts[1]})
    report = wconv.convert(
        write_directory(tmp_path / "m", [model], config), tmp_path / "out", merge_lora=[str(source)]
    )
    after = wconv.load(report.output)
    for name, weight, own in zip(GENERATIONS["as mlx-vlm calls them"], weights, parts, strict=True):
        down, up = (array.astype(np.float32) for array in own.values())
        assert bits(after[f"{name}.weight"]) == bits(weight + 2 * (up @ down))


XLABS = {
    "double_blocks.1.processor.qkv_lora1": (3 * H, H),
    "double_blocks.1.processor.proj_lora1": (H, H),
    "double_blocks.18.processor.qkv_lora2": (3 * H, H),
    "double_blocks.1.processor.proj_lora2": (H, H),
    "single_blocks.0.processor.qkv_lora": (3 * H, H),
    "single_blocks.0.processor.proj_lora": (H, 5 * H),
}


def xlabs() -> dict[str, Any]:
    made = {}
    for at, (name, (rows, columns)) in enumerate(XLABS.items()):
        made[f"{name}.down.weight"] = grid((RANK, columns), at)
        made[f"{name}.up.weight"] = grid((rows, RANK), at + 20)
    return made


def test_xlabs_names_are_read(tmp_path: Path) -> None:
    given = xlabs()
    source = write_file(tmp_path / "lora.safetensors", given)
    wconv.convert(source, tmp_path / "out.safetensors", layout="mflux")
    got = load_file(tmp_path / "out.safetensors")
    for old, new in (
        ("double_blocks.1.processor.proj_lora1", "transformer_blocks.1.attn.to_out.0"),
        ("double_blocks.1.processor.proj_lora2", "transformer_blocks.1.attn.to_add_out"),
        ("single_blocks.0.processor.proj_lora", "single_transformer_blocks.0.proj_out"),
    ):
        assert bits(got[f"{new}.lora_up.weight"]) == bits(given[f"{old}.up.weight"])
        assert bits(got[f"{new}.lora_down.weight"]) == bits(given[f"{old}.down.weight"])
    for old, block, parts in (
        ("double_blocks.1.processor.qkv_lora1", "transformer_blocks.1.attn", ("to_q", "to_k", "to_v")),
        (
            "double_blocks.18.processor.qkv_lora2",
            "transformer_blocks.18.attn",
            ("add_q_proj", "add_k_proj", "add_v_proj"),
        ),
        ("single_blocks.0.processor.qkv_lora", "single_transformer_blocks.0.attn", ("to_q", "to_k", "to_v")),
    ):
        for at, part in enumerate(parts):
            rows = given[f"{old}.up.weight"][at * H : (at + 1) * H]
            assert bits(got[f"{block}.{part}.lora_up.weight"]) == bits(rows)
            assert bits(got[f"{block}.{part}.lora_down.weight"]) == bits(given[f"{old}.down.weight"])
    assert len(got) == 2 * (3 + 9)


def test_xlabs_adapters_are_merged_into_either_names(tmp_path: Path) -> None:
    source = write_file(tmp_path / "lora.safetensors", xlabs())
    theirs = {
        "double_blocks.1.img_attn.qkv.weight": random((3 * H, H), np.float32),
        "double_blocks.1.img_attn.proj.weight": random((H, H), np.float32),
        "double_blocks.18.txt_attn.qkv.weight": random((3 * H, H), np.float32),
        "double_blocks.1.txt_attn.proj.weight": random((H, H), np.float32),
        "single_blocks.0.linear1.weight": random((7 * H, H), np.float32),
        "single_blocks.0.linear2.weight": random((H, 5 * H), np.float32),
    }
    model = write_file(tmp_path / "flux.safetensors", theirs)
    wconv.convert(model, tmp_path / "out.safetensors", layout="hf", merge_lora=[str(source)])
    after, given = load_file(tmp_path / "out.safetensors"), xlabs()
    for name, old in zip(theirs, XLABS, strict=True):
        delta = given[f"{old}.up.weight"].astype(np.float32) @ given[f"{old}.down.weight"].astype(np.float32)
        expected = theirs[name].copy()
        expected[: len(delta)] += delta
        assert bits(after[name]) == bits(expected), name
    parts = np.split(theirs["single_blocks.0.linear1.weight"], [H, 2 * H, 3 * H])
    block = "single_transformer_blocks.0"
    ours = {f"{block}.attn.to_{part}.weight": one for part, one in zip("qkv", parts[:3], strict=True)}
    only = {name: one for name, one in given.items() if "single_blocks.0.processor.qkv" in name}
    lora = write_file(tmp_path / "single.safetensors", only)
    model = write_file(tmp_path / "diffusers.safetensors", ours)
    wconv.convert(model, tmp_path / "out2.safetensors", layout="hf", merge_lora=[str(lora)])
    joined = np.concatenate([load_file(tmp_path / "out2.safetensors")[name] for name in ours])
    assert bits(joined) == bits(after["single_blocks.0.linear1.weight"][: 3 * H])


@pytest.mark.parametrize("block", ["input_blocks_4_1", "middle_block_1", "output_blocks_3_1"])
def test_single_files_names_of_stable_diffusion_are_told_as_such(block: str, tmp_path: Path) -> None:
    module = f"lora_unet_{block}_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"{module}.lora_down.weight": grid((RANK, H), 1),
        f"{module}.lora_up.weight": grid((H, RANK), 2),
        f"{module}.alpha": np.array(1, np.float32),
    }
    source = write_file(tmp_path / "lora.safetensors", tensors)
    for layout in ("auto", "diffusers", "kohya"):
        with pytest.raises(WconvError, match="is of stable-diffusion, by the names of its single files"):
            wconv.convert(source, tmp_path / "out.safetensors", layout=layout)
    name = f"model.diffusion_model.{block[:-4]}.{block[-3]}.{block[-1]}" if block[-3] != "k" else ""
    name = name or "model.diffusion_model.middle_block.1"
    model = {f"{name}.transformer_blocks.0.attn1.to_q.weight": random((H, H), np.float32)}
    single = write_file(tmp_path / "model.safetensors", model)
    report = wconv.convert(single, tmp_path / "merged.safetensors", layout="hf", merge_lora=[str(source)])
    assert bits(wconv.load(report.output)[next(iter(model))]) != bits(next(iter(model.values())))


TEXTS = {"ss_network_dim": "16", "ss_tag_frequency": '{"a": 1}', "modelspec.title": "Sketch", "format": "pt"}


@pytest.mark.parametrize("naming", ["mflux", "diffusers", "peft", "kohya:flux", "comfyui:flux"])
def test_what_the_header_says_is_carried_over(naming: str, tmp_path: Path) -> None:
    tensors, metadata = adapter(MODULES["flux"], True)
    source = write_file(tmp_path / "lora.safetensors", tensors, {**(metadata or {}), **TEXTS})
    target = tmp_path / ("out" if naming == "peft" else "out.safetensors")
    wconv.convert(source, target, layout=naming)
    file = target / "adapter_model.safetensors" if naming == "peft" else target
    with safe_open(file, "np") as opened:
        said = opened.metadata()
    assert {name: said[name] for name in TEXTS} == TEXTS
    # the scales of the source's names are not those of the result's
    assert ("lora_adapter_metadata" in said) == (naming == "diffusers")
    if naming == "diffusers":
        assert said["lora_adapter_metadata"] != (metadata or {})["lora_adapter_metadata"]


def test_what_the_header_says_goes_along_to_mlx_lm_and_back(tmp_path: Path) -> None:
    source = peft(tmp_path / "peft", pair(Q))
    texts = {"note": "trained on poems", "format": "pt"}
    write_file(source / "adapter_model.safetensors", load_file(source / "adapter_model.safetensors"), texts)
    wconv.convert(source, tmp_path / "mlx")
    wconv.convert(tmp_path / "mlx", tmp_path / "back", layout="peft")
    for path, form in (("mlx/adapters", "mlx"), ("back/adapter_model", "pt")):
        with safe_open(tmp_path / f"{path}.safetensors", "np") as opened:
            assert opened.metadata() == {**texts, "format": form}


def test_a_copy_keeps_all_that_the_header_says(tmp_path: Path) -> None:
    source = peft(tmp_path / "peft", pair(Q))
    texts = {"lora_adapter_metadata": '{"r": 2, "lora_alpha": 4}', "note": "x", "format": "np"}
    write_file(source / "adapter_model.safetensors", load_file(source / "adapter_model.safetensors"), texts)
    report = wconv.convert(source, tmp_path / "out", layout="hf")
    with safe_open(report.output / "adapter_model.safetensors", "np") as opened:
        assert opened.metadata() == texts


def test_an_adapter_of_a_quantized_model_tells_the_scheme(tmp_path: Path) -> None:
    stored = {f"{Q}.W_q": np.ones((1, 8), np.uint8), f"{Q}.scale": np.ones((1, 8), np.float16)}
    model = write_directory(tmp_path / "m", [stored])
    source = peft(tmp_path / "peft", pair(Q, 8, 8))
    with pytest.raises(WconvError, match=r"shows an HQQ checkpoint"):
        wconv.convert(model, tmp_path / "out", layout="hf", merge_lora=[str(source)])


def test_long_names_take_no_time(tmp_path: Path) -> None:
    tensors = {".ia3_l." * 280 + "\nx": random((H,)), "lora_A": random((H,))}
    result = wconv.convert(write_directory(tmp_path / "m", [tensors]), tmp_path / "out", layout="hf")
    assert result.tensors_written == 2

"""Adapters against diffusers: what its pipelines compute with ours is what merged weights compute."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import wconv
from tests.making import random, write_file
from tests.oracles import directory_of, oracle, run_script

pytestmark = pytest.mark.oracle

RANK = 2
DOUBLE, SINGLE = "transformer_blocks.1", "single_transformer_blocks.0"
MODULES: dict[str, tuple[str, ...]] = {
    "flux": (
        *(
            f"{DOUBLE}.attn.{part}"
            for part in ("to_q", "to_k", "to_v", "add_q_proj", "add_v_proj", "to_out.0")
        ),
        f"{DOUBLE}.ff.net.0.proj",
        f"{DOUBLE}.norm1_context.linear",
        f"{SINGLE}.norm.linear",
        f"{SINGLE}.proj_out",
    ),
    "flux2": (
        *(f"{DOUBLE}.attn.{part}" for part in ("to_q", "to_v", "add_k_proj", "to_out.0", "to_add_out")),
        f"{DOUBLE}.ff.linear_in",
        f"{DOUBLE}.ff_context.linear_out",
        f"{SINGLE}.attn.to_qkv_mlp_proj",
        "x_embedder",
        "proj_out",
    ),
    "qwen": (
        *(f"{DOUBLE}.attn.{part}" for part in ("to_q", "to_add_out", "add_k_proj")),
        f"{DOUBLE}.img_mlp.net.0.proj",
        f"{DOUBLE}.txt_mlp.net.2",
        "transformer_blocks.0.img_mod.1",
    ),
    "z_image": (
        *(f"layers.1.attention.{part}" for part in ("to_q", "to_k", "to_out.0")),
        "layers.0.feed_forward.w2",
        "noise_refiner.0.attention.to_v",
        "context_refiner.0.feed_forward.w1",
        "layers.1.adaLN_modulation.0",
    ),
}
ENCODER = tuple(
    f"text_model.encoder.layers.1.{part}" for part in ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1")
)
"""diffusers knows kohya's names of the attention by an adapter of `out_proj`."""
RUNS = [
    (family, naming, scaled)
    for family in MODULES
    for naming in ("diffusers", "kohya", "comfyui", "peft")
    for scaled in (False, True)
    if (family, naming, scaled) != ("flux2", "comfyui", True)  # diffusers raises at an alpha there
]


def run(place: Path, **job: Any) -> None:
    """Lets diffusers do a job in a process of its own."""
    oracle("torch")
    packages = [directory_of("diffusers"), directory_of("peft")]
    (place / "job.json").write_text(json.dumps({**job, "packages": packages, "output": str(place)}))
    run_script(Path(__file__).with_name("diffusers_adapters.py"), str(place / "job.json"))


def adapter(modules: Mapping[str, tuple[int, int]], scaled: bool, path: Path) -> Path:
    """By diffusers' names, each module with a down matrix of its own; scaled, its scale is 2."""
    tensors: dict[str, Any] = {}
    for at, (module, (rows, columns)) in enumerate(modules.items()):
        tensors[f"{module}.lora_A.weight"] = random((RANK, columns), np.float32, at)
        tensors[f"{module}.lora_B.weight"] = random((rows, RANK), np.float32, at + 100) * np.float32(0.2)
    settings = {f"{part}.lora_alpha": 2 * RANK for part in ("transformer", "text_encoder")}
    metadata = {"lora_adapter_metadata": json.dumps(settings)} if scaled else None
    return write_file(path, tensors, metadata)


def shapes(directory: Path, family: str) -> dict[str, tuple[int, int]]:
    """The modules that get an adapter, with their weights' shapes."""
    weights = load_file(next((directory / "transformer").glob("*.safetensors")))
    found = {f"transformer.{one}": weights[f"{one}.weight"].shape for one in MODULES[family]}
    if family == "flux":
        weights = load_file(next((directory / "text_encoder").glob("*.safetensors")))
        for one in ENCODER:
            found[f"text_encoder.{one}"] = weights[one.removeprefix("text_model.") + ".weight"].shape
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes, once for a family, what `prepare` says."""
    return functools.cache(lambda family: prepare(family, tmp_path_factory.mktemp(family)))


def prepare(family: str, place: Path) -> Path:
    """A directory with a tiny pipeline, adapters, merged pipelines and what all of them compute."""
    run(place, family=family, make=str(place / "base"))
    components = {"transformer": ["diffusers", "X"], "text_encoder": ["transformers", "CLIPTextModel"]}
    index = {name: what for name, what in components.items() if (place / "base" / name).is_dir()}
    (place / "base" / "model_index.json").write_text(json.dumps({"_class_name": "X", **index}))
    runs = {"base": ("", str(place / "base"))}
    for scaled in (False, True):
        lora = adapter(shapes(place / "base", family), scaled, place / f"lora-{scaled}.safetensors")
        merged = place / f"merged-{scaled}"
        wconv.convert(place / "base", merged, layout="hf", merge_lora=[str(lora)])
        runs[f"merged-{scaled}"] = ("", str(merged))
        for naming in (one for of, one, wanted in RUNS if (of, wanted) == (family, scaled)):
            file = place / f"{naming}-{scaled}{'' if naming == 'peft' else '.safetensors'}"
            alone = "^text_encoder" if naming == "peft" else None  # it is for one model
            wconv.convert(lora, file, layout=naming, exclude=alone)
            runs[file.stem] = (str(file), str(place / "base"))
    run(place, family=family, runs=runs)
    return place


@pytest.mark.parametrize(("family", "naming", "scaled"), RUNS)
def test_diffusers_computes_with_the_adapter_what_the_merged_weights_compute(
    family: str, naming: str, scaled: bool, made: Callable[[str], Path]
) -> None:
    before, got, expected = (
        np.load(made(family) / f"{name}.npz") for name in ("base", f"{naming}-{scaled}", f"merged-{scaled}")
    )
    assert set(got) == {"transformer", *(("text_encoder",) if family == "flux" else ())}
    for part in got if naming != "peft" else ("transformer",):
        assert np.abs(expected[part] - before[part]).max() > 1e-2
        np.testing.assert_allclose(got[part], expected[part], rtol=1e-3, atol=1e-3)


H = 3072
"""diffusers cuts FLUX.1's single blocks at the lengths that 3072 gives."""


@pytest.mark.parametrize("naming", ["kohya", "comfyui"])
def test_diffusers_cuts_the_fused_matrix_of_a_single_block_into_the_parts_that_were_joined(
    naming: str, tmp_path: Path
) -> None:
    rows = {"attn.to_q": H, "attn.to_k": H, "attn.to_v": H, "proj_mlp": 4 * H}
    modules = {f"transformer.{SINGLE}.{part}": (length, H) for part, length in rows.items()}
    lora = adapter(modules, True, tmp_path / "lora.safetensors")
    wconv.convert(lora, tmp_path / "joined.safetensors", layout=naming)
    assert len(load_file(tmp_path / "joined.safetensors")) == 3
    run(tmp_path, family="flux", states={"state": str(tmp_path / "joined.safetensors")})
    got, given = np.load(tmp_path / "state.npz"), load_file(lora)
    assert len(got) == len(given)
    vector = random((H,), np.float32)
    for module in modules:
        ours, theirs = (
            of[f"{module}.lora_B.weight"] @ (of[f"{module}.lora_A.weight"] @ vector) for of in (got, given)
        )
        np.testing.assert_allclose(ours, 2 * theirs, rtol=1e-4, atol=1e-4)

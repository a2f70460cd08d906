"""Adapters against their consumers: mflux's own loader, mlx-lm's `load_adapters` and `fuse`, torch's sum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import wconv
from tests.making import random, write_file
from tests.oracle.consumers import IDS, mlx_lm_model, silence
from tests.oracle.tiny import Tiny, save
from tests.oracles import oracle
from wconv.consumers.adapters.families import FAMILIES
from wconv.layouts.patterns import sample

pytestmark = pytest.mark.oracle

H, RANK = 3072, 1
"""mflux splits FLUX.1's single blocks at the lengths that 3072 gives."""

FORMS = {
    "kohya": (
        "lora_unet_{flat}.lora_down.weight",
        "lora_unet_{flat}.lora_up.weight",
        "lora_unet_{flat}.alpha",
    ),
    "ComfyUI": (
        "diffusion_model.{}.lora_A.weight",
        "diffusion_model.{}.lora_B.weight",
        "diffusion_model.{}.alpha",
    ),
}
ORIGINALS: dict[tuple[str, str], dict[str, tuple[int, int]]] = {
    ("flux", "kohya"): {
        "double_blocks.2.img_attn.qkv": (3 * H, H),
        "double_blocks.2.txt_attn.qkv": (3 * H, H),
        "double_blocks.2.img_attn.proj": (H, H),
        "double_blocks.2.txt_mlp.0": (4 * H, H),
        "double_blocks.2.img_mlp.2": (H, 4 * H),
        "double_blocks.2.img_mod.lin": (6 * H, H),
        "single_blocks.7.linear1": (7 * H, H),
        "single_blocks.7.linear2": (H, 5 * H),
        "single_blocks.7.modulation.lin": (3 * H, H),
    },
    ("flux2", "kohya"): {
        "double_blocks.2.img_attn.qkv": (3 * H, H),
        "double_blocks.2.txt_attn.proj": (H, H),
        "double_blocks.2.img_mlp.0": (6 * H, H),
        "double_blocks.2.txt_mlp.2": (H, 3 * H),
        "single_blocks.7.linear1": (9 * H, H),
        "single_blocks.7.linear2": (H, 4 * H),
    },
    ("flux2", "ComfyUI"): {
        "double_blocks.2.txt_attn.qkv": (3 * H, H),
        "double_blocks.2.img_mlp.0": (6 * H, H),
        "single_blocks.7.linear1": (9 * H, H),
    },
    ("qwen", "kohya"): {
        "transformer_blocks.5.attn.to_q": (H, H),
        "transformer_blocks.5.img_mlp.net.2": (H, 4 * H),
    },
    ("z_image", "ComfyUI"): {
        "layers.5.attention.to_q": (H, H),
        "layers.5.attention.out": (H, H),
        "noise_refiner.0.feed_forward.w1": (4 * H, H),
    },
}


def applied(family: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What mflux's loader is about to put into each module; a key that it does not match fails."""
    loader = oracle("mflux.models.common.lora.mapping.lora_loader").LoRALoader
    mapping = oracle(f"mflux.models.{family}.weights.{family}_lora_mapping")
    names = [name for name in vars(mapping) if name.endswith("LoRAMapping") and name != "LoRAMapping"]
    targets = loader._build_pattern_mappings(getattr(mapping, names[0]).get_mapping())
    weights, metadata = oracle("mlx.core").load(str(path), return_metadata=True)
    configs = oracle("mflux.models.common.lora.mapping.peft_lora_metadata").PeftLoRAMetadata.configs(metadata)
    found: dict[str, dict[str, Any]] = {}

    def record(transformer: Any, target: str, data: dict[str, Any], scale: float, *, role: Any) -> bool:
        found[target] = data
        return True

    monkeypatch.setattr(loader, "_apply_adapter_to_target", staticmethod(record))
    _, matched, failed = loader._apply_lora_with_mapping(
        None, weights, 1.0, targets, role=None, adapter_configs=configs
    )
    assert not failed
    assert matched == set(weights)
    return found


def assert_same(ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]) -> None:
    assert ours.keys() == theirs.keys()
    for target, data in theirs.items():
        assert ours[target].keys() == data.keys(), target
        for slot, array in data.items():
            assert bool(oracle("mlx.core").array_equal(ours[target][slot], array)), (target, slot)


@pytest.mark.parametrize(("family", "form"), ORIGINALS)
def test_mflux_applies_the_same_before_and_after(
    family: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors: dict[str, Any] = {}
    for at, (module, (rows, columns)) in enumerate(ORIGINALS[family, form].items()):
        down, up, alpha = (one.format(module, flat=module.replace(".", "_")) for one in FORMS[form])
        tensors[down] = random((RANK, columns), seed=at)
        tensors[up] = random((rows, RANK), seed=at + 50)
        tensors[alpha] = np.array(4, np.float32)
    source = write_file(tmp_path / "lora.safetensors", tensors)
    wconv.convert(source, tmp_path / "out.safetensors", layout="mflux")
    theirs = applied(family, source, monkeypatch)
    assert_same(applied(family, tmp_path / "out.safetensors", monkeypatch), theirs)


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.modules], ids=lambda family: family.name
)
def test_mflux_reads_the_adapter_of_every_module(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = [
        name.removesuffix(".weight").replace("#", "0")
        for pattern in family.modules
        for name in sample(pattern)
    ]
    tensors: dict[str, Any] = {}
    for at, module in enumerate(modules):
        tensors[f"transformer.{module}.lora_A.weight"] = random((2, 4), seed=at)
        tensors[f"transformer.{module}.lora_B.weight"] = random((4, 2), seed=at + 100)
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 6, "transformer.r": 2})}
    source = write_file(tmp_path / "lora.safetensors", tensors, metadata)
    wconv.convert(source, tmp_path / "out.safetensors", layout="mflux")
    found = applied(family.name, tmp_path / "out.safetensors", monkeypatch)
    assert len(found) == len(modules)
    assert all({"lora_A", "lora_B", "alpha"} == data.keys() for data in found.values())
    assert {float(data["alpha"]) for data in found.values()} == {6.0}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("rank", [1, 16])
def test_a_merged_weight_is_torchs_sum(rank: int, dtype: str, tmp_path: Path) -> None:
    torch = oracle("torch")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    weight, down = random((300, 257), kind), random((rank, 257), seed=1)
    up = random((300, rank), seed=2)
    write_file(tmp_path / "model.safetensors", {"a.weight": weight})
    lora = write_file(tmp_path / "lora.safetensors", {"a.lora_A.weight": down, "a.lora_B.weight": up})
    wconv.convert(
        tmp_path / "model.safetensors", tmp_path / "out.safetensors", merge_lora=[f"{lora}:0.3"], layout="hf"
    )
    got = load_file(tmp_path / "out.safetensors")["a.weight"]
    base, a, b = (torch.from_numpy(one.astype(np.float32)) for one in (weight, down, up))
    expected = (base + 0.3 * (b @ a)).to(getattr(torch, dtype)).float().numpy()
    if rank == 1:  # one product and no sum: nothing depends on an order
        np.testing.assert_array_equal(got.astype(np.float32), expected)
        return
    # a sum in another order: at most one step of the result's dtype, or of float32 where parts cancel
    step = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23}[dtype]
    terms = (abs(base) + 0.3 * (abs(b) @ abs(a))).numpy()
    limit = np.abs(expected) * step + terms * 2.0**-22
    assert (np.abs(got.astype(np.float32) - expected) <= limit).all()


def written(directory: Path) -> dict[str, Any]:
    """All tensors of a directory."""
    files = directory.glob("*.safetensors")
    return {name: array for file in files for name, array in load_file(file).items()}


@pytest.mark.parametrize("dora", [False, True])
def test_mlx_lm_runs_and_fuses_what_was_converted_and_merged(dora: bool, tmp_path: Path) -> None:
    mx, utils = oracle("mlx.core"), oracle("mlx_lm.tuner.utils")
    model_path = save(Tiny("llama", {"tie_word_embeddings": False}), tmp_path / "model")
    wconv.convert(model_path, tmp_path / "base", dtype="float32")
    weights = written(tmp_path / "base")
    modules = [f"model.layers.{at}.{name}" for at in (0, 1) for name in ("self_attn.q_proj", "mlp.down_proj")]
    tensors: dict[str, Any] = {}
    for at, module in enumerate(modules):
        rows, columns = weights[f"{module}.weight"].shape
        stem = f"base_model.model.{module}"
        tensors[f"{stem}.lora_A.weight"] = random((4, columns), np.float32, at)
        tensors[f"{stem}.lora_B.weight"] = random((rows, 4), np.float32, at + 50) * np.float32(0.1)
        if dora:
            tensors[f"{stem}.lora_magnitude_vector"] = abs(random((rows,), np.float32, at + 90))
    (tmp_path / "peft").mkdir()
    write_file(tmp_path / "peft" / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 2, "use_dora": dora}
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps(config))
    wconv.convert(tmp_path / "peft", tmp_path / "adapters")
    wconv.convert(tmp_path / "base", tmp_path / "merged", merge_lora=[str(tmp_path / "peft")])
    wconv.convert(tmp_path / "base", tmp_path / "merged2", merge_lora=[str(tmp_path / "adapters")])
    merged = mlx_lm_model(tmp_path / "merged")
    plain = mlx_lm_model(tmp_path / "base")
    ids = mx.array(IDS)
    before = plain(ids)
    with silence():
        adapted = utils.load_adapters(plain, str(tmp_path / "adapters"))
    adapted.eval()
    said, expected = merged(ids), adapted(ids)
    assert float(mx.abs(expected - before).max()) > 1e-2
    assert bool(mx.allclose(said, expected, rtol=1e-4, atol=1e-4))
    fused = {name: one.fuse() for name, one in adapted.named_modules() if hasattr(one, "fuse")}
    assert set(fused) >= set(modules)
    for directory in ("merged", "merged2"):
        got = written(tmp_path / directory)
        for module in modules:
            np.testing.assert_allclose(
                got[f"{module}.weight"], np.array(fused[module].weight), rtol=2e-6, atol=2e-6
            )

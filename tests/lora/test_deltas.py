"""A merged weight is read by ranges, and rounded once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import wconv
import wconv.torch as torch
from tests.lora.test_merge import DOWN, FLAT, UP, Q, base, expected, grid, merged
from tests.making import bits, random, write_file
from wconv.lora import deltas
from wconv.lora.deltas import Merged, Product, Term
from wconv.tensors.lazy import FileTensor, from_array


def test_a_layouts_own_cast_is_the_only_rounding(tmp_path: Path) -> None:
    source = tmp_path / "pipe"
    (source / "transformer").mkdir(parents=True)
    (source / "transformer" / "config.json").write_text('{"_class_name": "Flux2Transformer2DModel"}')
    index = {"_class_name": "Flux2Pipeline", "transformer": ["diffusers", "Flux2Transformer2DModel"]}
    (source / "model_index.json").write_text(json.dumps(index))
    file = source / "transformer" / "diffusion_pytorch_model.safetensors"
    write_file(file, {f"{Q}.weight": np.full((4, 4), 256, np.float16)})
    # 257.0625 is 258 in bfloat16; by way of float16 it would be 257, and then 256
    lora = write_file(
        tmp_path / "lora.safetensors",
        {
            f"transformer.{Q}.lora_A.weight": np.full((1, 4), 1.0625, np.float32),
            f"transformer.{Q}.lora_B.weight": np.ones((4, 1), np.float32),
        },
    )
    wconv.convert(source, tmp_path / "out", layout="mflux", merge_lora=[str(lora)])
    written = load_file(next((tmp_path / "out" / "transformer").glob("*.safetensors")))
    assert bits(written[f"{Q}.weight"]) == bits(np.full((4, 4), 258, ml_dtypes.bfloat16))


def test_no_weight_is_ever_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = 4096, 1000
    write_file(tmp_path / "model.safetensors", {"a.weight": np.ones((rows, columns), np.float32)})
    tensors = {"a.lora_A.weight": grid((2, columns), 1), "a.lora_B.weight": grid((rows, 2), 2)}
    lora = write_file(tmp_path / "lora.safetensors", tensors)
    largest = 0
    read_into = FileTensor.read_into

    def watched(self: FileTensor, start: int, stop: int, out: Any) -> None:
        nonlocal largest
        largest = max(largest, stop - start)
        read_into(self, start, stop, out)

    monkeypatch.setattr(FileTensor, "read_into", watched)
    wconv.convert(tmp_path / "model.safetensors", tmp_path / "out.safetensors", merge_lora=[str(lora)])
    assert 0 < largest * 4 <= deltas.STEP
    got = load_file(tmp_path / "out.safetensors")["a.weight"]
    assert bits(got) == bits(1 + tensors["a.lora_B.weight"] @ tensors["a.lora_A.weight"])


def test_any_range_of_a_merged_weight_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, up, down = random((40, 8)), grid((20, 5), 1), grid((5, 8), 2)
    delta = Product(from_array(up), from_array(down), 0.5, (20, 8))
    tensor = Merged("w", from_array(weight), (Term(delta, 10),), from_array(weight).dtype)
    sum_of = weight.astype(np.float32)
    sum_of[10:30] += 0.5 * (up @ down)
    whole = sum_of.astype(weight.dtype).reshape(-1)
    monkeypatch.setattr(deltas, "BLOCK", 64)
    monkeypatch.setattr(deltas, "STEP", 64)
    for start, stop in ((0, 320), (3, 7), (79, 81), (75, 250), (239, 320)):
        assert bits(tensor.read_range(start, stop)) == bits(whole[start:stop])


def test_a_pickle_that_holds_alpha_as_a_number(tmp_path: Path) -> None:
    tensors = {f"{Q}.lora_A.weight": DOWN, f"{Q}.lora_B.weight": UP}
    data = {**{name: torch.from_numpy(array) for name, array in tensors.items()}, f"{Q}.alpha": 8.0}
    torch.save(data, tmp_path / "lora.pt")
    before = base()
    after = merged(tmp_path, before, str(tmp_path / "lora.pt"))
    assert bits(after[f"{Q}.weight"]) == bits(expected(before[f"{Q}.weight"], 4 * (UP @ DOWN)))


def test_a_pickled_adapter_is_merged_as_the_safetensors_one_is(tmp_path: Path) -> None:
    tensors = {f"lora_unet_{FLAT}.lora_down.weight": DOWN, f"lora_unet_{FLAT}.lora_up.weight": UP}
    tensors[f"lora_unet_{FLAT}.alpha"] = np.array(4, np.float32)
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, tmp_path / "lora.pt")
    before = base()
    after = merged(tmp_path, before, str(tmp_path / "lora.pt"))
    assert bits(after[f"{Q}.weight"]) == bits(expected(before[f"{Q}.weight"], 2 * (UP @ DOWN)))

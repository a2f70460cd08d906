"""What is read beside the weights lies in the model's directory: a link out of it is refused, by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.making import random, write_directory, write_file
from wconv import WconvError, convert

LLAMA = {"model_type": "llama"}


def made(tmp_path: Path) -> Path:
    shards = [{"model.embed_tokens.weight": random((8, 4))}, {"model.norm.weight": random((4,))}]
    return write_directory(tmp_path / "model", shards, LLAMA)


def out_of(path: Path) -> None:
    """Puts a link out of its directory in the place of a file."""
    elsewhere = path.parent.parent / f"elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def adapter(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    names = ("lora_A", "lora_B")
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    shapes = ((2, 8), (8, 2))
    tensors = {f"{prefix}.{name}.weight": random(shape) for name, shape in zip(names, shapes, strict=True)}
    write_file(model / "adapter_model.safetensors", tensors)
    (model / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    return model


def pipeline(tmp_path: Path) -> Path:
    write_directory(tmp_path / "model" / "text_encoder", [{"model.norm.weight": random((4,))}], LLAMA)
    index = {"_class_name": "P", "text_encoder": ["transformers", "LlamaModel"]}
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    return tmp_path / "model"


def consolidated(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    write_file(model / "consolidated.safetensors", {"norm.weight": random((4,))})
    (model / "params.json").write_text(json.dumps({"dim": 4}))
    return model


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (made, "config.json"),
        (made, "model.safetensors.index.json"),
        (adapter, "adapter_config.json"),
        (pipeline, "model_index.json"),
        (consolidated, "params.json"),
    ],
)
def test_a_link_out_of_the_directory_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], name: str
) -> None:
    source = make(tmp_path)
    out_of(source / name)
    with pytest.raises(WconvError, match=f"{name} is a link out of the directory") as caught:
        convert(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_components_config_may_come_from_its_pipeline(tmp_path: Path) -> None:
    source = pipeline(tmp_path)
    config = source / "text_encoder" / "config.json"
    config.rename(source / "shared.json")
    config.symlink_to("../shared.json")
    assert convert(source, tmp_path / "out").tensors_written == 1
    assert convert(source / "text_encoder", tmp_path / "alone").model_type == "llama"
    out_of(source / "shared.json")
    with pytest.raises(WconvError, match=r"config.json is a link out of the directory"):
        convert(source, tmp_path / "again")


@pytest.mark.parametrize("below", ["", "text_encoder"])
def test_a_hub_cache_links_to_its_blobs(tmp_path: Path, below: str) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    model = write_directory(snapshot / below, [{"model.norm.weight": random((4,))}], LLAMA)
    (model / "merges.txt").write_text("a b")
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for number, name in enumerate(("config.json", "merges.txt", "model.safetensors")):
        (model / name).rename(blobs / str(number))
        (model / name).symlink_to(blobs / str(number))
    report = convert(model, tmp_path / "out")
    assert report.model_type == "llama"
    assert not report.left_out
    assert (tmp_path / "out" / "merges.txt").read_text() == "a b"

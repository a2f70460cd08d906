"""Image models in mflux's own form: its loader, without torch, sees what it makes of them with torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracle.consumers import silence
from tests.oracle.mflux.image_models import DTYPES, IMAGES, Image, write
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

LOADER = "mflux.models.common.weights.loading.weight_loader"


def loaded(image: Image, path: Path) -> dict[str, dict[str, Any]]:
    """Each component's tensors by their paths, as mflux's loader has them."""
    oracle("torch")
    with silence():
        weights = oracle(LOADER).WeightLoader.load(image.weight_definition, model_path=str(path))
    flatten = oracle("mlx.utils").tree_flatten
    return {name: dict(flatten(tree)) for name, tree in weights.components.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", IMAGES)
def test_mflux_loads_the_same_without_torch(
    name: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mx = oracle("mlx.core")
    image = IMAGES[name]
    source = write(image, tmp_path / "source", DTYPES[dtype])
    theirs = loaded(image, source)
    report = wconv.convert(source, tmp_path / "out", layout="mflux")
    assert report.layout == "mflux"
    assert not report.overflows
    monkeypatch.setitem(sys.modules, "torch", None)
    ours = loaded_without_torch(image, tmp_path / "out")
    assert ours.keys() == theirs.keys()
    count = 0
    for component, tensors in theirs.items():
        if name != "fibo_vlm":  # whose components mflux saves in one directory
            assert ours[component].keys() == tensors.keys(), component
        for path, array in tensors.items():
            got = ours[component][path]
            assert (got.dtype, got.shape) == (array.dtype, array.shape), (component, path)
            assert mx.array_equal(got, array), (component, path)
            count += 1
    assert count == report.tensors_written


def loaded_without_torch(image: Image, path: Path) -> dict[str, dict[str, Any]]:
    with silence():
        weights = oracle(LOADER).WeightLoader.load(image.weight_definition, model_path=str(path))
    assert weights.meta_data.mflux_version == "0.24.0" or weights.meta_data.quantization_level is None
    flatten = oracle("mlx.utils").tree_flatten
    return {name: dict(flatten(tree)) for name, tree in weights.components.items()}


@pytest.mark.parametrize("name", IMAGES)
def test_the_files_are_as_mflux_saves_them(name: str, tmp_path: Path) -> None:
    image = IMAGES[name]
    source = write(image, tmp_path / "source", DTYPES["bfloat16"])
    out = tmp_path / "out"
    wconv.convert(source, out, layout="mflux")
    definition = oracle("mflux.models.common.weights.loading.weight_definition").ComponentDefinition
    version = oracle("mflux.utils.version_util").VersionUtil.get_mflux_version()
    expected = {"quantization_level": "None", "mflux_version": version}
    for where in set(definition.save_subdirs(image.weight_definition.get_components()).values()):
        index = json.loads((out / where / "model.safetensors.index.json").read_text())
        files = set(index["weight_map"].values())
        assert files == {file.name for file in (out / where).glob("*.safetensors")}
        assert files == {f"{number}.safetensors" for number in range(len(files))}
        assert index["metadata"] == expected
        for file in files:
            assert oracle("mlx.core").load(str(out / where / file), return_metadata=True)[1] == expected
    if image.pipeline:
        for kept in ("model_index.json", "tokenizer/tokenizer.json", "scheduler/scheduler_config.json"):
            assert (out / kept).read_bytes() == (source / kept).read_bytes()

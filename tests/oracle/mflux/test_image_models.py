"""Image models in mflux's own form: its loader, without torch, sees what it makes of them with torch.

And `--layout hf` gives the source's own tensors again. Covers `conversion/own_form.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.derive import mflux_parts, mflux_proof
from tests.derive.mflux_rows import RECOGNISED
from tests.making import bits
from tests.oracle.consumers import silence
from tests.oracle.mflux.image_models import DTYPES, IMAGES, Image, arrays_of, write
from tests.oracles import oracle
from wconv.errors import WconvError

pytestmark = pytest.mark.oracle

LOADER = "mflux.models.common.weights.loading.weight_loader"

BY_PERSONS = 9
"""Models of which a person wrote the tables."""

TWICE = {"seedvr2_3b", "seedvr2_7b"}
"""Models that share a matrix between two layers, which the way back has under both names."""


CASES = [
    (name, dtype)
    for at, name in enumerate(IMAGES)
    for dtype in DTYPES
    if dtype == "bfloat16" or at < BY_PERSONS  # the derived tables' own tests have other dtypes
]


def loaded(image: Image, path: Path) -> dict[str, dict[str, Any]]:
    """Each component's tensors by their paths, as mflux's loader and what follows it have them."""
    with silence():
        weights = oracle(LOADER).WeightLoader.load(image.weight_definition, model_path=str(path))
    assert weights.meta_data.mflux_version in (None, "0.24.0")
    for part in image.parts:
        if part.name == "ming_image.text_encoder":
            mflux_parts.module_class(part).stack_experts(weights.components["text_encoder"])
    flatten = oracle("mlx.utils").tree_flatten
    return {
        name: {path: array for path, array in flatten(tree) if not isinstance(array, dict | list)}
        for name, tree in weights.components.items()
    }


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_mflux_loads_the_same_without_torch(
    name: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mx = oracle("mlx.core")
    oracle("torch")
    image = IMAGES[name]
    source = write(image, tmp_path / "source", DTYPES[dtype])
    theirs = loaded(image, source)
    report = wconv.convert(source, tmp_path / "out", layout="mflux")
    assert report.layout == "mflux"
    assert not report.overflows
    monkeypatch.setitem(sys.modules, "torch", None)
    ours = loaded(image, tmp_path / "out")
    assert ours.keys() == theirs.keys()
    count = 0
    for part in image.parts:
        component, tensors = part.component.name, theirs[part.component.name]
        read = set(mflux_parts.used(part, tensors))
        if name != "fibo_vlm":  # whose components mflux saves in one directory
            assert ours[component].keys() == read, component
        for path in read:
            got, array = ours[component][path], tensors[path]
            assert (got.dtype, got.shape) == (array.dtype, array.shape), (component, path)
            assert mx.array_equal(got, array), (component, path)
            count += 1
    assert count == report.tensors_written


@pytest.mark.parametrize("name", IMAGES)
def test_the_files_are_as_mflux_saves_them_and_lead_back(name: str, tmp_path: Path) -> None:
    image = IMAGES[name]
    source = write(image, tmp_path / "source", DTYPES["bfloat16"])
    out = tmp_path / "out"
    wconv.convert(source, out, layout="mflux")
    definition = oracle("mflux.models.common.weights.loading.weight_definition").ComponentDefinition
    version = oracle("mflux.utils.version_util").VersionUtil.get_mflux_version()
    expected = {"quantization_level": "None", "mflux_version": version}
    places = definition.save_subdirs([part.component for part in image.parts])
    for where in set(places.values()):
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
    if name not in TWICE:
        assert_leads_back(image, tmp_path)


def assert_leads_back(image: Image, work: Path) -> None:
    """The source's own tensors, but for those that mflux does not read."""
    dtype = DTYPES[
        "float16" if image.model in ("fibo", "fibo_vlm") else "bfloat16"
    ]  # which its table does not cast
    source = write(image, work / "again", dtype)
    wconv.convert(source, work / "laid", layout="mflux")
    to = wconv.convert(work / "laid", work / "back", layout="hf").output
    for where, state in arrays_of(image, dtype).items():
        again = wconv.load(to / where)
        unread = image.dropped.get(where, {})
        assert again.keys() - unread.keys() == state.keys() - unread.keys(), where
        for name in state.keys() - unread.keys():
            assert again[name].shape == state[name].shape, (where, name)
            assert bits(again[name]) == bits(state[name]), (where, name)


@pytest.mark.parametrize("name", RECOGNISED)
def test_a_single_file_is_known_by_its_names(name: str, tmp_path: Path) -> None:
    oracle("mflux")
    part = next(one for one in mflux_parts.every_part() if one.name == name)
    arrays = mflux_proof.checkpoint(part, DTYPES["bfloat16"])
    wconv.save(arrays, tmp_path / "file.safetensors")
    theirs = mflux_parts.loaded(
        part, {key: mflux_proof.to_mlx(one) for key, one in arrays.items()}, cast=True
    )
    wconv.convert(tmp_path / "file.safetensors", tmp_path / "out", layout="mflux")
    ours = oracle("mlx.core").load(str(tmp_path / "out" / "0.safetensors"))
    assert ours.keys() == theirs.keys()
    assert all(mflux_proof.bits(ours[key]) == mflux_proof.bits(array) for key, array in theirs.items())


def test_a_class_that_mflux_has_not_is_refused(tmp_path: Path) -> None:
    source = write(IMAGES["krea2"], tmp_path / "source", DTYPES["bfloat16"])
    path = source / "model_index.json"
    path.write_text(path.read_text().replace("Krea2Pipeline", "Krea9Pipeline"))
    with pytest.raises(WconvError, match="mflux has no layout of a Krea9Pipeline"):
        wconv.convert(source, tmp_path / "out", layout="mflux")

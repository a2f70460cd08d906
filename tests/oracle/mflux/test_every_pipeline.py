"""Every model of mflux as a directory: converted, loaded by mflux's own loader, and laid back.

The loader, without torch, must see in the result what it makes of the source, and `--layout hf` must give the
source's own tensors. Covers `conversion/own_form.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.derive import mflux_models, mflux_parts, mflux_proof
from tests.derive.mflux_rows import KINDS, SHARED
from tests.oracle.consumers import silence
from tests.oracles import oracle
from wconv.consumers import table_files
from wconv.errors import WconvError

pytestmark = pytest.mark.oracle

LOADER = "mflux.models.common.weights.loading.weight_loader"

PIPELINES: Mapping[str, str] = {
    "boogu": "BooguImageTurboPipeline",
    "ernie_image": "ErnieImagePipeline",
    "fibo2": "BriaFibo2Pipeline",
    "flux3": "",
    "ideogram4": "Ideogram4Pipeline",
    "krea2": "Krea2Pipeline",
    "ming_image": "",
    "moss_image": "MOSSImagePipeline",
    "qwen21": "QwenImage21Pipeline",
    "flux_redux": "FluxPriorReduxPipeline",
}
"""Model → the class in its model_index.json; "" where it has none."""


def kind_of(name: str) -> str:
    """What config.json says of a component."""
    kinds = table_files.component("mflux", SHARED.get(name, name)).model_types or KINDS.get(name, ())
    return kinds[0] if kinds else ""


def write(model: str, path: Path) -> dict[str, dict[str, Any]]:
    """The model's directory, and its tensors by sub-directory."""
    index: dict[str, Any] = {"_class_name": PIPELINES[model]}
    states = {}
    for part in mflux_parts.parts(model):
        where = part.component.hf_subdir
        kind = kind_of(part.name)
        states[where] = mflux_proof.checkpoint(part, mflux_proof.DTYPES["own"])
        (path / where).mkdir(parents=True)
        wconv.save(states[where], path / where / "model.safetensors")
        key = "model_type" if kind.islower() else "_class_name"
        (path / where / "config.json").write_text(json.dumps({key: kind} if kind else {}))
        index[where] = ["diffusers", kind or "SomeModel"]
    if PIPELINES[model]:
        (path / "model_index.json").write_text(json.dumps(index))
    return states


def loaded(model: str, path: Path) -> dict[str, dict[str, Any]]:
    """Each component's tensors by their paths, as mflux's loader has them."""
    definition = mflux_parts.attribute(mflux_models.MODELS[model].definition)
    with silence():
        weights = oracle(LOADER).WeightLoader.load(definition, model_path=str(path))
    flatten = oracle("mlx.utils").tree_flatten
    return {
        name: {key: one for key, one in flatten(tree) if not isinstance(one, dict | list)}
        for name, tree in weights.components.items()
    }


@pytest.mark.parametrize("model", PIPELINES)
def test_a_directory(model: str, tmp_path: Path) -> None:
    oracle("mflux")
    states = write(model, tmp_path / "source")
    theirs = loaded(model, tmp_path / "source")
    for part in mflux_parts.parts(model):  # what the program does after its loader
        if part.name == "ming_image.text_encoder":
            arrays = {name: mflux_proof.to_mlx(one) for name, one in states["mllm"].items()}
            theirs["text_encoder"] = mflux_parts.loaded(part, arrays, cast=True)
    report = wconv.convert(tmp_path / "source", tmp_path / "out", layout="mflux")
    assert set(report.components) == set(states)
    ours = loaded(model, tmp_path / "out")
    for component, tensors in theirs.items():
        assert ours[component].keys() == tensors.keys(), component
        for name, array in tensors.items():
            assert mflux_proof.bits(ours[component][name]) == mflux_proof.bits(array), name
    back = wconv.convert(tmp_path / "out", tmp_path / "back", layout="hf").output
    for where, state in states.items():
        again = wconv.load(back / where)
        assert again.keys() == state.keys(), where
        for name, array in state.items():
            assert again[name].shape == array.shape, (where, name)
            assert again[name].tobytes() == array.tobytes(), (where, name)


def test_a_class_that_mflux_has_not_is_refused(tmp_path: Path) -> None:
    write("krea2", tmp_path / "source")
    index = json.loads((tmp_path / "source" / "model_index.json").read_text())
    (tmp_path / "source" / "model_index.json").write_text(
        json.dumps({**index, "_class_name": "Krea9Pipeline"})
    )
    with pytest.raises(WconvError, match="mflux has no layout of a Krea9Pipeline"):
        wconv.convert(tmp_path / "source", tmp_path / "out", layout="mflux")

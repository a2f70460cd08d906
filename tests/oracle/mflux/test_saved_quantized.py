"""`--layout mflux -q` writes what `mflux-save -q` writes, file by file, and mflux loads the same from it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import wconv
from tests.derive.mflux_parts import Part
from tests.derive.trace import Shape
from tests.oracle.consumers import assert_same_parameters, silence
from tests.oracle.mflux import image_models
from tests.oracle.mflux.image_models import DTYPES, IMAGES, Image, write
from tests.oracle.mflux.test_quantized_layers import components
from tests.oracles import oracle
from wconv.consumers.quantization import Quantize

pytestmark = pytest.mark.oracle

WEIGHTS = "mflux.models.common.weights"
FAMILIES = {
    "flux": "flux",
    "flux2": "flux2",
    "qwen_image": "qwen",
    "fibo": "fibo",
    "z_image": "z_image",
}
"""Models of which mflux's modules can be built here, and what builds them."""

ROWS, COLUMNS = 32, 64

COMPUTED = ".inv_freq"
"""What mflux's modules compute when they are made, and its saving code writes nevertheless."""


def whole_groups(modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the tiny repository's matrices as wide as a group, and its vectors vectors."""
    mapper = oracle(f"{WEIGHTS}.mapping.weight_mapper").WeightMapper
    flatten, plain = oracle("mlx.utils").tree_flatten, image_models.shapes

    def shapes(part: Part) -> dict[str, Shape]:
        one = part.component
        flat = mapper._build_flat_mapping(
            one.mapping_getter(), one.num_blocks or part.counts[0], one.num_layers or part.counts[1]
        )
        axes = {path: array.ndim for path, array in flatten(modules[one.name].parameters())}
        found = {}
        for name, shape in plain(part).items():
            known = axes.get(flat[name][0][0])
            if known is None:  # mflux's mapping has more names than its modules have parameters
                continue
            small = (COLUMNS,) if known == 1 else (ROWS, COLUMNS)
            found[name] = small if len(shape) < 3 else shape
        return found

    monkeypatch.setattr(image_models, "shapes", shapes)


def cut(module: Any, loaded: Any) -> None:
    """Takes the blocks away that the tiny checkpoint does not have."""
    for name in module.children():
        child = module[name]
        mine = loaded.get(name, {}) if isinstance(loaded, dict) else {}
        if isinstance(child, list) and any(hasattr(one, "children") for one in child):
            module[name] = child = child[: len(mine)]  # a new one: the old one may be a default of mflux's
            for inner, values in zip(child, mine, strict=False):
                if hasattr(inner, "children"):
                    cut(inner, values)
        elif hasattr(child, "children"):
            cut(child, mine)


def saved(image: Image, source: Path, to: Path, modules: dict[str, Any], bits: int) -> None:
    """What `mflux-save -q` writes: its loader, its quantization and its saving code."""
    definition = image.weight_definition
    with silence():
        weights = oracle(f"{WEIGHTS}.loading.weight_loader").WeightLoader.load(definition, str(source))
        for name, module in modules.items():
            cut(module, weights.components[name])
        applier = oracle(f"{WEIGHTS}.loading.weight_applier").WeightApplier
        applier.apply_and_quantize(weights, modules, bits, definition)
        attributes = {part.name: part.model_attr or part.name for part in definition.get_components()}
        model = SimpleNamespace(**{attributes[name]: module for name, module in modules.items()})
        oracle(f"{WEIGHTS}.saving.model_saver").ModelSaver.save_model(model, bits, str(to), definition)


@pytest.mark.parametrize("bits", [3, 4, 5, 6, 8])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_files(name: str, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = IMAGES[name]
    modules = components(FAMILIES[name])
    whole_groups(modules, monkeypatch)
    source = write(image, tmp_path / "source", DTYPES["bfloat16"])
    saved(image, source, tmp_path / "theirs", modules, bits)
    wconv.convert(source, tmp_path / "ours", layout="mflux", quantize=Quantize(bits=bits))
    theirs = tmp_path / "theirs"
    places = sorted({path.parent.relative_to(theirs) for path in theirs.rglob("*.safetensors")})
    assert places
    for place in places:
        one, other = tmp_path / "ours" / place, theirs / place
        got, expected = files(one), files(other)
        assert_same_parameters(got, without_computed(expected))
        indexes = [json.loads((path / "model.safetensors.index.json").read_text()) for path in (one, other)]
        assert indexes[0]["metadata"] == indexes[1]["metadata"]
        assert indexes[0]["weight_map"].keys() == got.keys()
        assert {header(path) for path in one.glob("*.safetensors")} == {header(other / "0.safetensors")}
    with silence():
        loader = oracle(f"{WEIGHTS}.loading.weight_loader").WeightLoader
        loaded = [loader.load(image.weight_definition, str(tmp_path / one)) for one in ("ours", "theirs")]
    assert loaded[0].meta_data == loaded[1].meta_data
    flat = [dict(oracle("mlx.utils").tree_flatten(one.components)) for one in loaded]
    assert_same_parameters(flat[0], without_computed(flat[1]))


def without_computed(tensors: dict[str, Any]) -> dict[str, Any]:
    return {path: array for path, array in tensors.items() if not path.endswith(COMPUTED)}


def files(place: Path) -> dict[str, Any]:
    """All tensors of a component, in however many files: these end where those of the source do."""
    mx = oracle("mlx.core")
    return {name: array for file in place.glob("*.safetensors") for name, array in mx.load(str(file)).items()}


def header(path: Path) -> str:
    return json.dumps(oracle("mlx.core").load(str(path), return_metadata=True)[1], sort_keys=True)

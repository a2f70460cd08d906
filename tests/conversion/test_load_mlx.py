"""`load_mlx` gives the arrays that a conversion with the same arguments writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import wconv
from tests.conversion import test_single_files as test_single_files
from tests.conversion.test_components import STEM, autoencoder, component, pipeline
from tests.lora_files import MODULES, adapter
from tests.making import random, write_directory, write_file
from wconv.errors import FormatError, WconvError

mx = pytest.importorskip("mlx.core")

FIXTURES = Path(__file__).parent.parents[1] / "fixtures"
SOURCES = sorted(
    [
        *(path for path in (FIXTURES / "torch").iterdir() if path.suffix == ".bin"),
        *(path for path in (FIXTURES / "modules").iterdir() if path.suffix == ".pt"),
        FIXTURES / "qwen2_5_vl",
    ]
)


def written(source: Path, out: Path, **arguments: Any) -> dict[str, Any]:
    """What `mx.load` says of all files of a conversion."""
    report = wconv.convert(source, out, **arguments)
    arrays: dict[str, Any] = {}
    for name in report.shards:
        path = out if out.is_file() else out / name
        place = name.rpartition("/")[0]
        arrays.update(
            {f"{place}/{key}" if place else key: value for key, value in mx.load(str(path)).items()}
        )
    return arrays


def refused(do: Callable[[], dict[str, Any]]) -> dict[str, Any] | str:
    """What comes of it, or what the refusal says."""
    try:
        return do()
    except WconvError as error:
        return str(error)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape), name
        if array.size:
            raw = [np.array(one.flatten().view(mx.uint8)) for one in (ours[name], array)]
            np.testing.assert_array_equal(*raw, name)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [None, "float16"])
@pytest.mark.parametrize("layout", ["auto", "hf"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_fixture_is_loaded_as_it_is_converted(
    source: Path, layout: str, dtype: str | None, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"layout": layout, "dtype": dtype, "allow_inflation": True}
    out = tmp_path / ("out" if source.is_dir() else "out.safetensors")
    theirs = refused(lambda: written(source, out, **arguments))
    ours = refused(lambda: wconv.load_mlx(source, **arguments))
    if isinstance(theirs, str) or isinstance(ours, str):
        assert ours == theirs
    else:
        assert_same(ours, theirs)


def test_names_stay_as_they_are_unless_a_layout_is_asked_for(tmp_path: Path) -> None:
    wconv.convert(FIXTURES / "qwen2_5_vl", tmp_path / "mlx")
    names = set(wconv.open(tmp_path / "mlx"))
    assert wconv.load_mlx(tmp_path / "mlx").keys() == names
    assert wconv.load_mlx(FIXTURES / "qwen2_5_vl").keys() == set(wconv.open(FIXTURES / "qwen2_5_vl"))
    assert wconv.load_mlx(FIXTURES / "qwen2_5_vl", layout="auto").keys() == names


def test_merging_and_picking_are_those_of_a_conversion(tmp_path: Path) -> None:
    model = write_directory(
        tmp_path / "model",
        [{"a.weight": random((6, 4)), "b.weight": random((6, 4))}],
        {"model_type": "llama"},
    )
    tensors = {"a.lora_A.weight": random((2, 4), np.float32), "a.lora_B.weight": random((6, 2), np.float32)}
    lora = write_file(tmp_path / "lora.safetensors", tensors)
    arguments: dict[str, Any] = {
        "merge_lora": [str(lora)],
        "exclude": "^b",
        "dtype": "float16",
        "layout": "hf",
    }
    theirs = written(model, tmp_path / "out", **arguments)
    assert list(theirs) == ["a.weight"]
    assert_same(wconv.load_mlx(model, **arguments), theirs)
    plain = {**arguments, "layout": None}
    assert_same(wconv.load_mlx(model, **plain), theirs)


@pytest.mark.parametrize("layout", ["auto", "hf", "mflux"])
def test_adapters_are_renamed_as_in_a_conversion(layout: str, tmp_path: Path) -> None:
    tensors, metadata = adapter(MODULES["flux"], scales=False)
    path = write_file(tmp_path / "lora.safetensors", tensors, metadata)
    theirs = written(path, tmp_path / "out.safetensors", layout=layout)
    assert_same(wconv.load_mlx(path, layout=layout), theirs)
    assert wconv.load_mlx(path).keys() == tensors.keys()


def test_components_are_told_apart(tmp_path: Path) -> None:
    model = tmp_path / "pipeline"
    for name in ("one", "two"):
        write_directory(model / name, [{"w": random((2, 2))}], {"_class_name": "Nobodys"})
    index = {"_class_name": "P", "one": ["x", "Nobodys"], "two": ["x", "Nobodys"]}
    (model / "model_index.json").write_text(json.dumps(index))
    assert set(wconv.load_mlx(model)) == {"one/w", "two/w"}
    assert set(wconv.load_mlx(model, component=["two"])) == {"two/w"}


@pytest.mark.parametrize("layout", ["auto", "mflux", "hf"])
@pytest.mark.parametrize("dtype", [None, "float16"])
def test_a_pipeline_has_its_consumers_dtypes(layout: str, dtype: str | None, tmp_path: Path) -> None:
    source = pipeline(tmp_path / "flux")
    arguments: dict[str, Any] = {"layout": layout, "dtype": dtype}
    ours = wconv.load_mlx(source, **arguments)
    assert_same(ours, written(source, tmp_path / "out", **arguments))
    if layout == "mflux" and dtype is None:
        assert ours["vae/bn.running_mean"].dtype == mx.bfloat16  # the source's are float32


def test_the_names_of_a_single_file_and_back(tmp_path: Path) -> None:
    component(tmp_path / "vae", {"_class_name": "AutoencoderKLFlux2"}, autoencoder(), STEM)
    theirs = refused(lambda: written(tmp_path / "vae", tmp_path / "out.safetensors", layout="bfl"))
    assert not isinstance(theirs, str), theirs
    assert_same(wconv.load_mlx(tmp_path / "vae", layout="bfl"), theirs)
    save_file(test_single_files.autoencoder(), tmp_path / "ae.safetensors")
    assert_same(
        wconv.load_mlx(tmp_path / "ae.safetensors", layout="diffusers"),
        written(tmp_path / "ae.safetensors", tmp_path / "back", layout="diffusers"),
    )


def test_strict_is_an_error(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors", {"big": np.array([1e30, 1.0], np.float32)})
    with pytest.raises(WconvError, match="1 tensor overflows"):
        wconv.load_mlx(path, dtype="float16", strict=True)


def test_a_source_that_changes_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(tmp_path / "a.safetensors", {"a": random((2, 2))})
    before = wconv.mlx.to_mlx

    def meddle(array: Any) -> Any:
        path.touch()
        return before(array)

    monkeypatch.setattr("wconv.mlx.to_mlx", meddle)
    with pytest.raises(FormatError, match="changed while it was read: load it again"):
        wconv.load_mlx(path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", None])
def test_large_tensors_are_read_into_mlx_s_own_memory(
    dtype: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "a": random((700, 900), seed=1),
        "b": random((3,)),
        "c": np.arange(700_000),
        "d": random((0, 4)),
        "e": np.arange(600_000.0) % 1000,
        "f": np.ones(1_100_000, bool),
    }
    source = write_file(tmp_path / "x.safetensors", values)
    copied: list[int] = []
    before = wconv.mlx.to_mlx

    def noted(array: Any) -> Any:
        copied.append(array.size)
        return before(array)

    monkeypatch.setattr("wconv.mlx.to_mlx", noted)
    ours = wconv.load_mlx(source, dtype=dtype)
    assert sorted(copied) == [0, 3, 1_100_000]
    assert_same(ours, written(source, tmp_path / "o.safetensors", dtype=dtype))


def test_a_tensor_that_many_threads_read_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wconv.writing.arrays.PART", 1 << 20)
    values = {"a": random((1300, 1700), seed=1), "b": random((3,)), "c": np.float32([1e30, 1] * 1_200_000)}
    source = write_file(tmp_path / "x.safetensors", values)
    with pytest.warns(RuntimeWarning, match="1,200,000 values became infinite"):
        ours = wconv.load_mlx(source, dtype="float16")
    assert_same(ours, written(source, tmp_path / "o.safetensors", dtype="float16"))

"""The arguments of a conversion: one description, old names, and the options of layouts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests import example_world
from tests.conversion.test_components import pipeline
from tests.making import random, write_file
from wconv import old_names
from wconv.conversion.options import ConvertArguments, ConvertOptions, SourceArguments
from wconv.errors import UnsafeError, WconvError

FUNCTIONS = {"prepare": wconv.prepare, "convert": wconv.convert}


@pytest.fixture
def depth_pro(tmp_path: Path) -> Path:
    example_world.depth_pro(tmp_path / "depth_pro.pt")
    return tmp_path / "depth_pro.pt"


def test_the_arguments_that_type_checkers_see_are_those_there_are() -> None:
    described = {field.name: field.type for field in fields(ConvertOptions)}
    shown = dict(inspect.get_annotations(ConvertArguments))
    shown = {name: getattr(kind, "__forward_arg__", kind) for name, kind in shown.items()}
    assert {name: kind for name, kind in shown.items() if name not in old_names.ARGUMENTS} == described
    assert shown.keys() - described.keys() == set(old_names.ARGUMENTS)
    assert SourceArguments.__annotations__.keys() <= ConvertArguments.__annotations__.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_shows_every_argument_with_its_default(name: str) -> None:
    shown = inspect.signature(FUNCTIONS[name]).parameters
    for field in fields(ConvertOptions):
        assert shown[field.name].default == field.default
        assert shown[field.name].kind is inspect.Parameter.KEYWORD_ONLY
    assert "format" not in inspect.signature(wconv.load_mlx).parameters


@pytest.mark.parametrize("function", [wconv.prepare, wconv.convert, wconv.load_mlx])
def test_an_unknown_argument_is_an_error_of_python(function: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected .* 'dtpye'"):
        function(tmp_path / "x", dtpye="float16")
    with pytest.raises(TypeError, match=r"load_mlx\(\) got an unexpected keyword argument 'format'"):
        wconv.load_mlx(tmp_path / "x", format="pt")  # type: ignore[call-arg]


def test_the_old_name_of_an_argument_still_works(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "zeros.npz", a=np.zeros((5000, 5000), np.float32))
    functions: list[Callable[..., Any]] = [wconv.open, wconv.prepare, wconv.load]
    for function in functions:
        with pytest.raises(UnsafeError, match="allow_inflation=True"):
            function(tmp_path / "zeros.npz")
        function(tmp_path / "zeros.npz", allow_inflation=True)
        with pytest.warns(DeprecationWarning, match="expand is called allow_inflation") as seen:
            function(tmp_path / "zeros.npz", expand=True)
        assert seen[0].filename == __file__


def test_an_option_is_one_that_the_layout_has(depth_pro: Path) -> None:
    assert "fov.head.0.weight" in wconv.prepare(depth_pro).report.dropped
    kept = wconv.prepare(depth_pro, options={"include_fov": True})
    assert not kept.report.dropped
    assert "fov.head.0.weight" in kept.sources
    with pytest.raises(WconvError, match=r"for mflux has no option 'include_fog': it has include_fov$"):
        wconv.prepare(depth_pro, options={"include_fog": True})
    with pytest.raises(WconvError, match="include_fov is true or false, not 'yes'"):
        wconv.prepare(depth_pro, options={"include_fov": "yes"})


def test_where_there_are_no_rules_there_are_no_options(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors", {"a": random((2, 2))})
    for layout in ("auto", "hf"):
        with pytest.raises(WconvError, match="has no option 'include_fov': it has none"):
            wconv.prepare(path, layout=layout, options={"include_fov": True})


def test_the_way_back_has_the_options_of_the_way_there(depth_pro: Path, tmp_path: Path) -> None:
    options = {"include_fov": True}
    wconv.convert(depth_pro, tmp_path / "there.safetensors", options=options)
    wconv.convert(tmp_path / "there.safetensors", tmp_path / "back.safetensors", layout="hf", options=options)
    assert wconv.open(tmp_path / "back.safetensors").keys() == wconv.open(depth_pro).keys()


def test_a_pipeline_has_the_options_of_its_components(tmp_path: Path) -> None:
    with pytest.raises(WconvError, match="has no option 'fast': it has none"):
        wconv.prepare(pipeline(tmp_path / "flux"), layout="mflux", options={"fast": True})

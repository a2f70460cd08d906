"""What `doctor` says, held against the programs: what is healthy loads, what is called an error does not."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.cli.running import run
from tests.examine.doctor.test_doctor import BREAKS, BY_COMMAND, SOURCE, configured
from tests.oracle.consumers import silence
from tests.oracles import directory_of, oracle
from wconv.consumers import registry
from wconv.examine.doctor.doctor import doctor

pytestmark = pytest.mark.oracle

ERRORS = [what for what, (_, _, level, _) in BREAKS.items() if level == "error"]
OTHERS = [what for what in BREAKS if what not in ERRORS]
PROGRAMS = {"mlx-lm": "mlx_lm", "mlx-vlm": "mlx_vlm"}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wconv.convert(SOURCE, tmp_path_factory.mktemp("doctor") / "m").output


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "m"))


def load(program: str, model: Path) -> Any:
    """What the program makes of a directory: the model, and its tokenizer or processor."""
    module = oracle(PROGRAMS[program])
    with silence():
        return module.load(str(model))


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_healthy_loads(healthy: Path, program: str) -> None:
    assert doctor(healthy, program).problems == ()
    _, words = load(program, healthy)
    tokenizer = getattr(words, "tokenizer", words)
    assert tokenizer.encode("hello")


@pytest.mark.parametrize("what", ERRORS)
def test_what_is_an_error_does_not_load(model: Path, what: str) -> None:
    change, program, _, _ = BREAKS[what]
    change(model)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each program has its own way to fail
        load(program, model)


@pytest.mark.parametrize("what", BY_COMMAND)
def test_what_is_mended_loads(model: Path, what: str) -> None:
    change, program, _, _ = BREAKS[what]
    change(model)
    (problem,) = doctor(model, program).problems
    words = shlex.split(problem.command)
    if words[0] == "wconv":
        assert run(*words[1:]).exit_code == 0
        model = Path(words[-1])
    else:
        subprocess.run(["sh", "-c", problem.command], check=True)
    load(program, model)


def test_a_newer_config_does_not_load_and_its_mended_form_does() -> None:
    with pytest.raises(TypeError, match="hidden_size"):
        load("mlx-vlm", SOURCE)
    with pytest.raises(ValueError, match="lm_head"):
        load("mlx-lm", SOURCE)


def test_a_tagged_float_is_no_number_to_one_program(model: Path) -> None:
    BREAKS["tagged float"][0](model)
    load("mlx-lm", model)
    with pytest.raises(ValueError, match="dict"):
        load("mlx-vlm", model)
    path = model / "config.json"
    path.write_text(path.read_text().replace('{"__float__": "Infinity"}', "Infinity"))
    load("mlx-vlm", model)


def test_without_a_tokenizer_there_are_no_words(model: Path) -> None:
    BREAKS["no tokenizer"][0](model)
    try:
        _, tokenizer = load("mlx-lm", model)
    except Exception:
        return
    assert not tokenizer.encode("hello")


def test_an_index_that_is_no_json_is_passed_over(model: Path) -> None:
    BREAKS["broken index"][0](model)
    for program in PROGRAMS:
        load(program, model)
    BREAKS["odd index"][0](model)
    load("mlx-lm", model)
    with pytest.raises(AttributeError):
        load("mlx-vlm", model)


def test_a_stale_shard_is_loaded_too(model: Path) -> None:
    """Its weights take the place of others, or others of them: which, the file system says."""
    mx = oracle("mlx.core")
    BREAKS["stale shard"][0](model)
    stale = model / "model-00001-of-00009.safetensors"
    tensors = mx.load(str(stale))
    mx.save_safetensors(str(stale), {"odd.weight": next(iter(tensors.values()))})
    with pytest.raises(ValueError, match=r"odd\.weight"):
        load("mlx-lm", model)
    load("mlx-vlm", model)


def test_edits_of_quantization_mend_it(tmp_path: Path) -> None:
    quantized = wconv.convert(SOURCE, tmp_path / "q", quantize=wconv.Quantize(bits=8, group_size=32)).output
    configured(quantization=None, quantization_config=None)(quantized)
    (problem,) = doctor(quantized).problems
    assert problem.level == "error"
    for program in PROGRAMS:
        with pytest.raises(ValueError, match="parameters not in model"):
            load(program, quantized)
    fields = json.loads("{" + problem.edit.partition("add ")[2] + "}")
    configured(**fields)(quantized)
    for program in PROGRAMS:
        load(program, quantized)


def test_older_versions_take_a_header_at_its_word(model: Path) -> None:
    BREAKS["promise"][0](model)
    load("mlx-vlm", model)
    script = "import sys, pathlib, mlx_vlm.utils as u; u.load_model(pathlib.Path(sys.argv[1]))"
    place = {**os.environ, "PYTHONPATH": directory_of("mlx-vlm 0.6.0")}
    words = [sys.executable, "-c", script, str(model)]
    done = subprocess.run(words, env=place, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "parameters not in model" in done.stderr


def test_required_fields_are_required() -> None:
    """Of each model type that mlx-lm has: without one of the fields, there are no arguments of a model."""
    known = next(one for one in registry.CONSUMERS if one.name == "mlx-lm").known_models
    assert known is not None
    classes = oracle("mlx_lm.utils")._get_classes
    for model_type, fields in known().required.items():
        _, kind = classes({"model_type": model_type})
        for field in fields:
            config = {"model_type": model_type, **dict.fromkeys(fields, 1)}
            del config[field]
            with pytest.raises(TypeError, match=field):
                kind.from_dict(config)

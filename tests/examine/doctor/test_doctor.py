"""What `doctor` says of directories that are broken in one place each, and that what it advises mends them.

Covers `examine/doctor/`, `cli/doctor.py`, `consumers/known_models.py`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import wconv
from tests.cli.running import run
from tests.making import write_file
from wconv.examine.doctor.doctor import doctor
from wconv.examine.doctor.problem import fetching

SOURCE = Path(__file__).parents[3] / "fixtures" / "qwen2_5_vl"
INDEX = "model.safetensors.index.json"
SHARDS = tuple(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))

Break = Callable[[Path], Any]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wconv.convert(SOURCE, tmp_path_factory.mktemp("doctor") / "m").output


def configured(**changes: Any) -> Break:
    """Changes fields of config.json; None takes one away."""

    def change(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        config.update(changes)
        kept = {name: value for name, value in config.items() if changes.get(name, 0) is not None}
        (model / "config.json").write_text(json.dumps(kept))

    return change


def without(*names: str) -> Break:
    return lambda model: [(model / name).unlink() for name in names]


def with_text(name: str, text: str) -> Break:
    return lambda model: (model / name).write_text(text)


def single(name: str) -> Break:
    """All weights in one file."""

    def change(model: Path) -> None:
        tensors = {key: value.numpy() for key, value in wconv.open(model).items()}
        without(INDEX, *(path.name for path in model.glob("model-*")))(model)
        write_file(model / name, tensors)

    return change


def stray(model: Path) -> None:
    shutil.copy(model / SHARDS[0], model / "model-00001-of-00009.safetensors")


def float8(model: Path) -> None:
    single("model.safetensors")(model)
    tensors = {key: value.numpy() for key, value in wconv.open(model).items()}
    tensors["language_model.model.norm.weight"] = np.ones(64, ml_dtypes.float8_e5m2)
    write_file(model / "model.safetensors", tensors)


def promised(model: Path) -> None:
    """The hub's names, in files whose headers say that they are MLX's."""
    for name in SHARDS:
        tensors = {key: value.numpy() for key, value in wconv.open(SOURCE / name).items()}
        write_file(model / name, tensors, {"format": "mlx"})
    shutil.copy(SOURCE / INDEX, model)


LAYER = "language_model.model.layers.0.mlp.up_proj"
ENTRY = {"group_size": 32, "bits": 4, LAYER: {"group_size": 32, "bits": 4}}

BREAKS: dict[str, tuple[Break, str, str, str]] = {
    "no config": (without("config.json"), "mlx-lm", "error", "is not there"),
    "broken config": (with_text("config.json", "{"), "mlx-lm", "error", "JSON"),
    "no model type": (configured(model_type=None), "mlx-lm", "error", "says no model_type"),
    "unknown model type": (configured(model_type="nobody"), "mlx-lm", "error", "does not have"),
    "no weights": (without(*SHARDS, INDEX), "mlx-lm", "error", "holds no weights"),
    "other name": (single("weights.safetensors"), "mlx-lm", "error", "there is weights.safetensors"),
    "missing shard": (without(SHARDS[1]), "mlx-lm", "error", "is not there"),
    "missing shard vlm": (without(SHARDS[1]), "mlx-vlm", "error", "is not there"),
    "stale shard": (stray, "mlx-lm", "wrong", "loads it too"),
    "broken index": (with_text(INDEX, "x"), "mlx-vlm", "note", "is damaged JSON"),
    "odd index": (with_text(INDEX, "[]"), "mlx-vlm", "wrong", "holds no JSON object"),
    "damaged shard": (with_text(SHARDS[0], "x" * 100), "mlx-lm", "error", "not weights"),
    "broken tokenizer": (with_text("tokenizer.json", "{"), "mlx-lm", "error", "is not JSON"),
    "half a tokenizer": (without("tokenizer.json", "merges.txt"), "mlx-lm", "error", "merges.txt"),
    "no tokenizer": (
        without("tokenizer.json", "vocab.json", "merges.txt"),
        "mlx-lm",
        "wrong",
        "holds no tokenizer",
    ),
    "no template": (without("chat_template.jinja", "chat_template.json"), "mlx-lm", "note", "chat template"),
    "no processor": (without("preprocessor_config.json"), "mlx-vlm", "wrong", "pictures"),
    "broken processor": (with_text("preprocessor_config.json", "{"), "mlx-vlm", "error", "is not JSON"),
    "tagged float": (configured(rope_theta={"__float__": "Infinity"}), "mlx-vlm", "wrong", "rope_theta"),
    "newer fields": (configured(rope_theta=None, rope_scaling=None), "mlx-vlm", "wrong", "newer way"),
    "no group size": (configured(quantization={"bits": 4}), "mlx-lm", "error", "group_size"),
    "dense entry": (configured(quantization=ENTRY), "mlx-lm", "error", LAYER),
    "dense entry vlm": (configured(quantization=ENTRY), "mlx-vlm", "error", LAYER),
    "promise": (promised, "mlx-vlm", "note", "0.3.10 to 0.6.3 does not load that"),
    "dtype": (float8, "mlx-lm", "error", "float8_e5m2"),
    "too few layers": (configured(num_hidden_layers=3, text_config=None), "mlx-lm", "error", "layers"),
}
"""What is broken → how, for which program, the level, and what is said."""


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "m"))


@pytest.mark.parametrize("program", ["mlx-lm", "mlx-vlm"])
def test_a_converted_model_is_healthy(healthy: Path, program: str) -> None:
    done = run("doctor", healthy, "--for", program)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{healthy}: {program} {doctor(healthy, program).version} loads it, by all that is known"
    ]


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_is_told(model: Path, what: str) -> None:
    change, program, level, text = BREAKS[what]
    change(model)
    found = doctor(model, program)
    assert len(found.problems) == 1, found.problems
    assert found.problems[0].level == level
    assert text in f"{found.problems[0].file} {found.problems[0].text}"
    assert found.is_healthy is (level == "note")


BY_COMMAND = ("other name", "stale shard", "newer fields", "dtype", "broken index", "odd index", "promise")


@pytest.mark.parametrize("what", BY_COMMAND)
def test_the_commands_mend_it(model: Path, what: str) -> None:
    change, program, _, _ = BREAKS[what]
    change(model)
    (problem,) = doctor(model, program).problems
    mended = model
    if problem.command.startswith("wconv "):
        words = shlex.split(problem.command)[1:]
        assert run(*words).exit_code == 0
        mended = Path(words[-1])
    else:
        subprocess.run(["sh", "-c", problem.command], check=True)
    assert doctor(mended, program).problems == ()


def test_edits_mend_config(model: Path) -> None:
    configured(rope_theta={"__float__": "Infinity"})(model)
    (problem,) = doctor(model, "mlx-vlm").problems
    assert problem.edit == (
        'in config.json, write Infinity in place of {"__float__": "Infinity"} at rope_theta'
    )
    path = model / "config.json"
    path.write_text(path.read_text().replace('{"__float__": "Infinity"}', "Infinity"))
    assert doctor(model, "mlx-vlm").problems == ()


def test_quantization_that_config_does_not_say_is_filled_in(tmp_path: Path) -> None:
    quantized = wconv.convert(SOURCE, tmp_path / "q", quantize=wconv.Quantize(bits=8, group_size=32)).output
    assert doctor(quantized).problems == ()
    configured(quantization=None, quantization_config=None)(quantized)
    (problem,) = doctor(quantized).problems
    assert problem.edit == 'in config.json, add "quantization": {"group_size": 32, "bits": 8}'
    configured(quantization={"group_size": 32, "bits": 8})(quantized)
    assert doctor(quantized).problems == ()
    configured(quantization={"bits": 8})(quantized)
    (problem,) = doctor(quantized).problems
    assert problem.edit == 'in config.json, add "group_size": 32 to "quantization"'


def test_fields_without_which_there_is_no_model(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "llama", "hidden_size": 64}')
    found = [problem for problem in doctor(model, "mlx-lm").problems if problem.check == "config fields"]
    assert [problem.level for problem in found] == ["error"]
    assert "num_hidden_layers" in found[0].text


def test_the_hubs_cache_tells_where_files_come_from() -> None:
    cached = Path(f"/c/models--some-org--a.model/snapshots/{'0a' * 20}")
    command = f"hf download some-org/a.model x.json --revision {'0a' * 20}"
    assert fetching(cached, "x.json") == {"command": command}
    assert "edit" in fetching(Path("/c/m"), "x.json")


def test_golden_output(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stray(model)
    without("tokenizer.json", "merges.txt", "chat_template.jinja", "chat_template.json")(model)
    monkeypatch.chdir(model.parent)
    assert run("doctor", "m", "--for", "mlx-lm").stdout.splitlines() == [
        "error  merges.txt: is not there, and vocab.json is of no use without it",
        "       mend it: copy merges.txt into m from where the weights come from",
        "wrong  model-00001-of-00009.safetensors: is not in model.safetensors.index.json,"
        " but mlx-lm loads it too, and takes language_model.lm_head.weight of it or of"
        " model-00001-of-00003.safetensors",
        "       mend it: mkdir -p m/unused && mv -- m/model-00001-of-00009.safetensors m/unused/",
        "note   m: holds no chat template: prompts are taken as they are, as base models want it",
        "       mend it: copy chat_template.jinja into m from where the weights come from",
        "m: mlx-lm 0.32.2 does not load it (1 error, 1 wrong, 1 note)",
    ]
    said = json.loads(run("doctor", "m", "--for", "mlx-lm", "--json").stdout)
    assert said["healthy"] is False
    assert [one["level"] for one in said["problems"]] == ["error", "wrong", "note"]


def test_bad_words_are_one_line(model: Path) -> None:
    for words in ((model / "config.json",), (model / "absent",), (model, "--for", "nobody"), ("",)):
        done = run("doctor", *words)
        assert done.exit_code == 1
        assert done.stderr.count("\n") == 1
    assert os.listdir(model)

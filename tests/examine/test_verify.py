"""An output is proved to be what its source gives; nothing that was changed goes unseen.

Covers `cli/verify.py`, `examine/output_files.py`, `examine/opened_output.py`, `conversion/made_files.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import wconv
from tests.examine.flips import unseen
from tests.optimizers.test_mlx_state import MODEL as SHAPES
from tests.optimizers.test_mlx_state import adam, checkpoint
from wconv.cli.program import main
from wconv.conversion.prepare import prepare
from wconv.examine.verify import verify_planned

FIXTURES = Path(__file__).parents[2] / "fixtures"
MODEL = FIXTURES / "qwen2_5_vl"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "float16"},
        {"layout": "mlx-lm", "max_shard_size": "20kB"},
        {"quantize": wconv.Quantize(bits=4)},
        {"quantize": wconv.Quantize(mode="nvfp4", bits=4, group_size=16)},
        {"format": "pt"},
    ],
)
def test_what_was_converted_is_proved(tmp_path: Path, options: dict[str, Any]) -> None:
    wconv.convert(MODEL, tmp_path / "out", **options)
    found = wconv.verify(tmp_path / "out", MODEL, **options)
    assert found.proved, list(found.lines())
    assert found.tensors >= 27


def test_shards_do_not_count(tmp_path: Path) -> None:
    wconv.convert(MODEL, tmp_path / "out", max_shard_size="30kB")
    assert wconv.verify(tmp_path / "out", MODEL).proved


@pytest.mark.parametrize(("name", "count"), [("out", 500), ("out.pt", 150)])
def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, name: str, count: int) -> None:
    """In headers, tensors, checksums, the index, config.json and copies alike."""
    out = tmp_path / name
    options: dict[str, Any] = {"dtype": "float16", "include": r"layers\.0\.input_layernorm|model\.norm"}
    source = tmp_path / "source"
    shutil.copytree(
        MODEL, source, ignore=shutil.ignore_patterns("tokenizer.json", "vocab.json", "merges.txt")
    )
    planned = prepare(source, out, layout="hf", **options)
    wconv.run(planned)
    assert verify_planned(planned, jobs=1).proved
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    assert not unseen(files, count, lambda: verify_planned(planned, jobs=1).proved)
    assert verify_planned(planned, jobs=1).proved


def test_a_flipped_bit_in_a_tensor_is_told_by_its_name(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    wconv.convert(MODEL, out, dtype="float16", include="layers.0")
    planned = prepare(MODEL, out, dtype="float16", include="layers.0")
    data = out.read_bytes()
    header = len(data) - sum(entry.nbytes for entry in planned.plan.entries)
    for at in range(header, len(data), 997):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        out.write_bytes(changed)
        found = verify_planned(planned, jobs=1)
        assert list(found.different.values()) == [1], at


def test_the_tensor_that_differs_is_named_even_in_a_joined_unit(tmp_path: Path) -> None:
    out = tmp_path / "out"
    wconv.convert(MODEL, out)
    opened = wconv.open(out)
    name = "language_model.model.layers.1.input_layernorm.weight"
    place, offset = opened[name].file_position
    with open(place, "r+b") as file:
        file.seek(offset + 3)
        file.write(b"\xaa")
    assert list(wconv.verify(out, MODEL).different) == [name]


def test_what_is_missing_changed_or_left_over_is_told(tmp_path: Path) -> None:
    wconv.convert(MODEL, tmp_path / "whole.safetensors")
    tensors = wconv.load(tmp_path / "whole.safetensors")
    names = list(tensors)
    tensors[names[1]] = tensors[names[1]].astype(np.float32)
    tensors[names[2]] = np.concatenate([tensors[names[2]]] * 2)
    tensors["more"] = np.zeros(3)
    del tensors[names[0]]
    wconv.save(tensors, tmp_path / "out.safetensors", {"format": "mlx"})
    found = wconv.verify(tmp_path / "out.safetensors", MODEL)
    assert not found.proved
    assert found.missing[names[0]] == "is missing"
    assert found.missing[names[1]] == "is float32 and should be bfloat16"
    assert found.missing[names[2]].startswith("has the shape [")
    assert found.extra == ("more",)
    assert not found.different


def test_a_config_that_was_changed_is_told(tmp_path: Path) -> None:
    wconv.convert(MODEL, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps({**config, "hidden_size": 3}))
    found = wconv.verify(tmp_path / "out", MODEL)
    assert found.config == {"hidden_size": (3, config.get("hidden_size"))}
    (tmp_path / "out" / "config.json").write_text("{")
    with pytest.raises(wconv.WconvError, match=r"config\.json"):
        wconv.verify(tmp_path / "out", MODEL)


def test_the_optimizers_state_is_proved_too(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, adam(list(SHAPES.values())))
    wconv.convert(source, tmp_path / "out", optimizer=True)
    found = wconv.verify(tmp_path / "out", source, optimizer=True)
    assert found.proved, list(found.lines())
    assert found.tensors > 2 * len(SHAPES)
    state = tmp_path / "out" / "optimizer.safetensors"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(data)
    assert [
        name.partition(":")[0] for name in wconv.verify(tmp_path / "out", source, optimizer=True).different
    ] == ["optimizer.safetensors"]


def test_the_commands_exit_code_tells(tmp_path: Path) -> None:
    run = CliRunner().invoke
    out = tmp_path / "out"
    done = run(main, [str(MODEL), str(out), "--dtype", "float16", "--verify"])
    assert done.exit_code == 0
    assert "proved: 57 tensors" in done.output
    against = ["verify", str(out), "--against", str(MODEL)]
    assert run(main, [*against, "--dtype", "float16"]).exit_code == 0
    wrong = run(main, against)
    assert wrong.exit_code == 1
    assert "add them here" in wrong.output
    said = json.loads(run(main, [*against, "--dtype", "float16", "--json"]).output)
    assert said["proved"] is True
    assert run(main, [*against, "--dtipe", "float16"]).exit_code == 2


def test_the_header_alone_is_not_trusted(tmp_path: Path) -> None:
    """An output cut short is one line, not a proof."""
    out = tmp_path / "out.safetensors"
    wconv.convert(MODEL, out)
    out.write_bytes(out.read_bytes()[:-1])
    with pytest.raises(wconv.FormatError):
        wconv.verify(out, MODEL)

"""A model that is quantized while it is converted, and one that is made dense again.

Covers `conversion/quantization_summary.py`, `tensors/quantized.py`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner, Result

import wconv
from tests.conversion.test_interrupted import resumed, start, until_logged
from tests.making import random, write_directory
from wconv.cli.program import main
from wconv.consumers.quantization.recipes import Quantize, parse_rule
from wconv.errors import WconvError
from wconv.tensors.dequantize import dequantize
from wconv.tensors.quantize import Quantization, quantize

H, INNER, WORDS = 128, 256, 320


def llama(path: Path, layers: int = 2, **changed: Any) -> Path:
    tensors: dict[str, Any] = {
        "model.embed_tokens.weight": random((WORDS, H), seed=1),
        "model.norm.weight": random((H,), seed=2),
        "lm_head.weight": random((WORDS, H), seed=3),
    }
    for layer in range(layers):
        place = f"model.layers.{layer}"
        for at, name in enumerate(("q_proj", "k_proj", "v_proj", "o_proj")):
            tensors[f"{place}.self_attn.{name}.weight"] = random((H, H), seed=10 * layer + at)
        tensors[f"{place}.mlp.gate_proj.weight"] = random((INNER, H), seed=10 * layer + 5)
        tensors[f"{place}.mlp.up_proj.weight"] = random((INNER, H), seed=10 * layer + 6)
        tensors[f"{place}.mlp.down_proj.weight"] = random((H, INNER), seed=10 * layer + 7)
        tensors[f"{place}.input_layernorm.weight"] = random((H,), seed=8)
        tensors[f"{place}.post_attention_layernorm.weight"] = random((H,), seed=9)
    tensors.update(changed)
    config = {
        "model_type": "llama",
        "tie_word_embeddings": False,
        "num_hidden_layers": layers,
        "hidden_size": H,
        "vocab_size": WORDS,
        "torch_dtype": "bfloat16",
    }
    return write_directory(path, [tensors], config)


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_codes_scales_and_biases_take_the_place_of_weights(tmp_path: Path) -> None:
    source = llama(tmp_path / "m")
    report = wconv.convert(source, tmp_path / "q", quantize=Quantize())
    before, after = wconv.load(source), wconv.load(tmp_path / "q")
    name = "model.layers.1.mlp.up_proj"
    made = quantize(before[f"{name}.weight"], Quantization.of())
    assert after[f"{name}.weight"].shape == (INNER, H * 4 // 32)
    assert after[f"{name}.weight"].tobytes() == made.codes.tobytes()
    assert after[f"{name}.scales"].tobytes() == made.scales.tobytes()
    assert made.biases is not None
    assert after[f"{name}.biases"].tobytes() == made.biases.tobytes()
    assert after["model.norm.weight"].tobytes() == before["model.norm.weight"].tobytes()
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    assert config["quantization"] == config["quantization_config"]
    assert config["quantization"] == {"group_size": 64, "bits": 4, "mode": "affine"}
    assert config["quantized_as"] == "MLX 0.32.4 (CPU)"
    assert report.quantization is not None
    assert 4.5 < report.quantization.bits_per_weight < 4.6
    assert report.quantization.weights == {"4 bits in groups of 64": 16}
    assert 0.05 < max(report.quantization.errors.values()) < 0.2


def test_a_dtype_is_that_of_scales_and_what_stays_dense(tmp_path: Path) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize(), dtype="float16")
    after = wconv.load(tmp_path / "q")
    assert {array.dtype.name for array in after.values()} == {"uint32", "float16"}


def test_dense_again_is_what_the_codes_stand_for(tmp_path: Path) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize(bits=3, group_size=32))
    wconv.convert(tmp_path / "q", tmp_path / "d", dequantize=True)
    coded, dense = wconv.load(tmp_path / "q"), wconv.load(tmp_path / "d")
    name = "model.layers.0.self_attn.q_proj"
    wanted = dequantize(
        coded[f"{name}.weight"],
        coded[f"{name}.scales"],
        coded[f"{name}.biases"],
        Quantization.of(bits=3, group_size=32),
        np.dtype(ml_dtypes.bfloat16),
    )
    assert dense[f"{name}.weight"].tobytes() == wanted.tobytes()
    assert not any(one.endswith((".scales", ".biases")) for one in dense)
    config = json.loads((tmp_path / "d" / "config.json").read_text())
    assert not config.keys() & {"quantization", "quantization_config", "quantized_as"}
    assert set(dense) == set(wconv.load(tmp_path / "m"))


@pytest.mark.parametrize("mode", ["mxfp4", "mxfp8", "nvfp4"])
def test_modes_without_biases(mode: str, tmp_path: Path) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize(mode))
    after = wconv.load(tmp_path / "q")
    assert after["lm_head.scales"].dtype == np.uint8
    assert "lm_head.biases" not in after
    again = wconv.convert(tmp_path / "q", tmp_path / "d", dequantize=True)
    assert again.tensors_written == len(wconv.load(tmp_path / "m"))


def test_quantized_anew_says_that_it_loses(tmp_path: Path) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q4", quantize=Quantize())
    report = wconv.convert(tmp_path / "q4", tmp_path / "q8", quantize=Quantize(bits=8))
    assert any("loses a second time" in line for line in report.lines())
    assert wconv.load(tmp_path / "q8")["lm_head.weight"].shape == (WORDS, H * 8 // 32)


def test_what_needs_dense_weights_asks_for_them(tmp_path: Path) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize())
    refused = run(tmp_path / "q", "-o", tmp_path / "h", "--layout", "hf")
    assert refused.exit_code == 1
    assert "add -d" in refused.stderr
    assert run(tmp_path / "q", "-o", tmp_path / "h", "--layout", "hf", "-d").exit_code == 0
    plain = run(tmp_path / "m", "-o", tmp_path / "x", "-d")
    assert "holds no weights in few bits: leave -d" in plain.stderr


def test_rules_for_single_layers(tmp_path: Path) -> None:
    result = run(
        llama(tmp_path / "m"),
        tmp_path / "q",
        "-q",
        "--q-rule",
        "lm_head|embed_tokens=8",
        "--q-rule",
        r"layers\.0\..*=6:32",
        "--q-rule",
        "v_proj=none",
        "--q-rule",
        "nobody=8",
    )
    assert result.exit_code == 0, result.output
    after = wconv.load(tmp_path / "q")
    assert after["lm_head.weight"].shape[1] == H * 8 // 32
    assert after["model.layers.0.mlp.up_proj.weight"].shape[1] == H * 6 // 32
    assert after["model.layers.1.mlp.up_proj.weight"].shape[1] == H * 4 // 32
    assert after["model.layers.0.self_attn.v_proj.weight"].shape == (H, H)
    assert "no layer matches the quantization rule nobody=8" in result.stdout
    config = json.loads((tmp_path / "q" / "config.json").read_text())["quantization"]
    assert config["lm_head"]["bits"] == 8


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--q-bits", "7"), "affine does not have bits 7: it has 2, 3, 4, 5, 6, 8"),
        (("--q-group-size", "48"), "affine does not have groups of 48"),
        (("--q-mode", "int4"), "'int4' is not a quantization mode"),
        (("--q-rule", "lm_head"), "is not PATTERN=BITS"),
        (("--q-rule", "(=4"), "lm_head|("),
        (("--quant-predicate", "mixed_1_2"), "mixed_1_2"),
        (("--format", "pt"), "exclude each other"),
        (("--layout", "hf"), "-q and --layout hf exclude each other"),
        (("--q-bits", "8", "--q-mode", "mxfp4"), "mxfp4 does not have bits 8: it has 4"),
        (("--q-mode", "nvfp4", "--q-group-size", "32"), "nvfp4 does not have groups of 32: it has 16"),
        (("--q-rule", "lm_head=9"), "affine does not have bits 9"),
        (("--q-rule", "(a)\\1=4"), "refers back to a group, which is not supported"),
        (("--quant-predicate", "mixed_2_6", "--q-mode", "mxfp4"), "is for the affine mode alone"),
        (("--quant-predicate", "mixed_2_6", "--q-bits", "8"), "mixed_2_6 says the bits itself: leave out"),
        (("--q-like", "0.28.0"), "is no version of MLX whose rounding is known: 0.29.4 to 0.32.4"),
    ],
)
def test_bad_words_are_one_line_and_nothing_is_written(
    words: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    result = run(llama(tmp_path / "m"), "-o", tmp_path / "q", "-q", *words)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert text.partition("|")[0] in result.stderr or "(" in words[1]
    assert not (tmp_path / "q").exists()


def test_how_without_what_is_told(tmp_path: Path) -> None:
    assert "add -q" in run(llama(tmp_path / "m"), "--q-bits", 4).stderr


def test_nan_is_named_and_strict_refuses_it(tmp_path: Path) -> None:
    bad = random((WORDS, H), seed=3)
    bad[7, 9] = np.nan
    bad[7, 10] = np.inf
    source = llama(tmp_path / "m", **{"lm_head.weight": bad})
    told = run(source, tmp_path / "q", "-q")
    assert told.exit_code == 0
    assert "lm_head.weight holds 2 values that are NaN or infinite" in told.stdout
    bad[7, 10] = 1
    told = run(llama(tmp_path / "n", **{"lm_head.weight": bad}), tmp_path / "r", "-q")
    assert "holds 1 value that is NaN or infinite: its group is of no use" in told.stdout
    refused = run(source, tmp_path / "s", "-q", "--strict")
    assert refused.exit_code == 1
    assert "lm_head.weight" in refused.stderr
    assert not (tmp_path / "s").exists()


def test_rows_that_no_group_divides_stay_dense_and_are_told(tmp_path: Path) -> None:
    source = llama(tmp_path / "m", **{"model.layers.0.mlp.down_proj.weight": random((H, 100))})
    result = run(source, tmp_path / "q", "-q")
    assert "left dense, no group of 64" in result.stdout
    assert wconv.load(tmp_path / "q")["model.layers.0.mlp.down_proj.weight"].shape == (H, 100)


def test_a_dry_run_tells_the_size_by_several_recipes_in_no_time(tmp_path: Path) -> None:
    source = llama(tmp_path / "m")
    began = time.process_time()
    shown = run(source, tmp_path / "q", "-q", "--dry-run").stdout
    assert time.process_time() - began < 2
    line = next(line for line in shown.splitlines() if line.startswith("sizes by recipe: "))
    assert "4 bits in groups of 64: " in line
    assert "mxfp4" in line
    assert not (tmp_path / "q").exists()
    size = sum(array.nbytes for array in map(np.asarray, wconv.load(source).values()))
    assert size > 0


def test_a_report_of_every_weight(tmp_path: Path) -> None:
    result = run(llama(tmp_path / "m"), tmp_path / "q", "-q", "--q-report", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "r.json").read_text())
    assert len(told["weights"]) == 16
    row = told["weights"]["lm_head.weight"]
    assert (row["mode"], row["bits"], row["group_size"]) == ("affine", 4, 64)
    assert row["dense_bytes"] == WORDS * H * 2
    assert row["bytes"] == WORDS * (H // 2 + H // 64 * 4)
    assert 0.05 < row["relative_error"] < 0.2


def test_a_model_without_rules_is_not_guessed_at(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "m", [{"a.weight": random((64, 64))}], {"model_type": "nobody_knows"})
    with pytest.raises(WconvError, match="-q needs a model that is laid out for mlx-vlm, mlx-lm, mflux"):
        wconv.convert(source, tmp_path / "q", quantize=Quantize())
    assert not (tmp_path / "q").exists()


def test_into_mlx_arrays(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    source = llama(tmp_path / "m")
    arrays = wconv.load_mlx(source, layout="auto", q_bits=4)
    wconv.convert(source, tmp_path / "q", quantize=Quantize(bits=4))
    written = wconv.load(tmp_path / "q")
    assert arrays.keys() == written.keys()
    assert np.array_equal(np.array(arrays["lm_head.weight"]), written["lm_head.weight"])


def wide(path: Path) -> Path:
    """A model of two large matrices: enough that a run that is killed has written a part of a file."""
    words = 1 << 16
    big = {name: random((words, H), seed=at) for at, name in enumerate(("model.embed_tokens", "lm_head"))}
    llama(path, layers=1, **{f"{name}.weight": array for name, array in big.items()})
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "vocab_size": words}))
    return path


@pytest.mark.parametrize("words", [("-q",), ("-q", "--q-mode", "mxfp4", "--q-rule", "lm_head=3:32")])
def test_killed_and_resumed_gives_the_same_bytes(words: tuple[str, ...], tmp_path: Path) -> None:
    source = wide(tmp_path / "m")
    assert run(source, tmp_path / "whole", *words).exit_code == 0
    out = tmp_path / "o"
    arguments: list[object] = [source, "-o", out, *words, "-j", 2]
    process = start(arguments, pause=0.1)
    until_logged(process, out.with_name("o.partial"))
    process.kill()
    process.communicate()
    assert not out.exists()
    written, _ = resumed(arguments)
    assert written < sum(path.stat().st_size for path in out.glob("*.safetensors"))
    for name in ("model.safetensors", "config.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_rounding_does_not_go_on_with_what_an_interrupted_run_left(tmp_path: Path) -> None:
    source = wide(tmp_path / "m")
    out = tmp_path / "o"
    words: list[object] = [source, "-o", out, "-q", "--q-mode", "mxfp8", "-j", 2]
    process = start(words, pause=0.1)
    until_logged(process, out.with_name("o.partial"))
    process.kill()
    process.communicate()
    refused = run(*words, "--q-like", "0.31.2", "--resume")
    assert refused.exit_code == 1
    assert "was begun from other sources or with other parameters" in refused.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ("m/model.safetensors", "is the source, in it, or a directory"),
        ("m/report.json", "is the source, in it, or a directory"),
        ("there", "exists already: choose another file, or add --overwrite"),
        ("gone/report.json", "there is no directory"),
        (".", "is the source, in it, or a directory"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_first(report: str, text: str, tmp_path: Path) -> None:
    source = llama(tmp_path / "m")
    (tmp_path / "there").write_text("mine")
    before = (source / "model.safetensors").read_bytes()
    result = run(source, tmp_path / "q", "-q", "--q-report", tmp_path / report)
    assert result.exit_code == 1
    assert text in result.stderr
    assert not (tmp_path / "q").exists()
    assert (source / "model.safetensors").read_bytes() == before
    assert (tmp_path / "there").read_text() == "mine"


def test_a_report_may_lie_in_the_result_and_is_of_a_run(tmp_path: Path) -> None:
    source = llama(tmp_path / "m")
    bad = random((WORDS, H), seed=3)
    bad[7, 9] = np.nan
    source = llama(tmp_path / "bad", **{"lm_head.weight": bad})
    result = run(source, tmp_path / "q", "-q", "--q-report", tmp_path / "q" / "report.json")
    assert result.exit_code == 0, result.output
    told = (tmp_path / "q" / "report.json").read_text()
    assert "NaN" not in told
    assert json.loads(told)["weights"]["lm_head.weight"]["relative_error"] is None
    assert "nan" not in result.stdout
    planned = run(source, tmp_path / "p", "-q", "--q-report", tmp_path / "p.json", "--dry-run")
    assert planned.exit_code == 2
    assert "--q-report tells what a run has done" in planned.stderr


def test_rules_are_plain_data() -> None:
    assert parse_rule("lm_head=8").bits == 8
    assert parse_rule("router=none").bits is None

"""Rules on quantization in a rules file: the same as those of the command, which go before them.

Covers `layouts/layer_rule.py`, `layouts/file/layer_rules.py`.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.cli.running import run
from tests.conversion.test_quantize import H, llama
from wconv.consumers.quantization import Quantize, parse_rule
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout
from wconv.layouts.file import rules_file
from wconv.layouts.layer_rule import LayerRule

TEXT = r"""
consumers = ["mlx-lm"]
model_types = ["llama"]
rules = []

[[quantize]]
match = 'lm_head|embed_tokens'
bits = 8

[[quantize]]
match = 'layers\.(0|1)\.'
bits = 6
group_size = 32
mode = "affine"

[[quantize]]
match = "v_proj"
quantize = false
"""
HEAD = 'consumers = ["mlx-lm"]\nrules = []\n'
RULES = (
    LayerRule("lm_head|embed_tokens", 8),
    LayerRule(r"layers\.(0|1)\.", 6, 32, "affine"),
    LayerRule("v_proj", None),
)


def test_a_section_is_the_rules_of_the_command_and_prints_and_reads_back() -> None:
    layout = rules_file.parse(TEXT)
    assert layout.quantize == RULES
    assert rules_file.parse(rules_file.write(layout)) == layout
    written = (r"lm_head|embed_tokens=8", r"layers\.(0|1)\.=6:32:affine", "v_proj=none")
    assert tuple(map(parse_rule, written)) == RULES
    assert tuple(map(str, RULES)) == written
    assert rules_file.write(Layout(("mlx-lm",), (), ("**",))).count("quantize") == 0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("quantize = 3", "3: quantize must be a list of rules"),
        ("[quantize]\nmatch = 'a'", "3: quantize must be a list of rules"),
        ("quantize = [\n  7,\n]", "3: 7 is no rule"),
        ("quantize = [{ match = 'a' }]", "3: a rule on quantization needs 'bits', or quantize = false"),
        ("quantize = [{ match = 'a', quantize = true }]", "3: a rule on quantization needs 'bits'"),
        ("quantize = [{ bits = 4 }]", "3: a rule on quantization needs 'match'"),
        ("quantize = [{ match = '', bits = 4 }]", "3: match must be a text"),
        ("quantize = [{ match = ['a'], bits = 4 }]", "3: match must be a text"),
        ("[[quantize]]\nmatch = '('\nbits = 4", "4: the pattern of a quantization rule '(' is no regular"),
        ("[[quantize]]\nmatch = '(a)\\1'\nbits = 4", "4: the pattern of a quantization rule"),
        ("[[quantize]]\nmatch = 'a'\nbits = 7", "5: the quantization rule a=7: affine does not have bits 7"),
        ("[[quantize]]\nmatch = 'a'\nbits = 4.0", "5: bits must be a whole number"),
        ("[[quantize]]\nmatch = 'a'\nbits = true", "5: bits must be a whole number"),
        ("[[quantize]]\nmatch = 'a'\nbits = '4'", "5: bits must be a whole number"),
        ("[[quantize]]\nmatch = 'a'\nbits = 99999999999999999999", "5: bits must be a whole number"),
        ("[[quantize]]\nmatch = 'a'\nbits = 0", "affine does not have bits 0"),
        ("[[quantize]]\nmatch = 'a'\nbits = 4\ngroup_size = -1", "affine does not have groups of -1"),
        ("[[quantize]]\nmatch = 'a'\nbits = 4\ngroup_size = 0", "affine does not have groups of 0"),
        ("[[quantize]]\nmatch = 'a'\nbits = 8\nmode = 'mxfp4'", "mxfp4 does not have bits 8"),
        ("[[quantize]]\nmatch = 'a'\nbits = 4\nmode = 'fp3'", "'fp3' is not a quantization mode"),
        ("[[quantize]]\nmatch = 'a'\nbits = 4\nquantize = false", "5: quantize = false keeps layers dense"),
        ("[[quantize]]\nmatch = 'a'\nquantize = 'no'", "5: quantize must be true or false"),
        ("[[quantize]]\nmatch = 'a'\nbits = 4\nsize = 3", "6: 'size' is no key of a rule on quantization"),
        ("[[quantize]]\nmatch = '" + "a" * 30_000 + "'\nbits = 4", "more than 20,000 are refused"),
        ("quantize = [" + "{ match = 'a', bits = 4 }," * 1_001 + "]", "more than 1,000"),
    ],
)
def test_a_wrong_section_is_one_line_that_names_the_line(section: str, message: str) -> None:
    with pytest.raises(LayoutError) as caught:
        rules_file.parse(HEAD + section, "my.toml")
    assert str(caught.value).startswith("my.toml:")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def written(directory: Path, text: str = TEXT) -> Path:
    path = directory / "rules.toml"
    path.write_text(text)
    return path


def test_the_command_follows_them_and_its_own_rules_go_before_them(tmp_path: Path) -> None:
    source, rules = llama(tmp_path / "m", layers=3), written(tmp_path)
    more = ("--q-rule", "embed_tokens=3", "--q-rule", "nobody=4")
    result = run(source, tmp_path / "q", "-q", "--rules", rules, *more)
    assert result.exit_code == 0, result.output
    shapes = {name: array.shape for name, array in wconv.load(tmp_path / "q").items()}
    assert shapes["lm_head.weight"][1] == H * 8 // 32
    assert shapes["model.embed_tokens.weight"][1] == H * 3 // 32
    assert shapes["model.layers.0.self_attn.q_proj.weight"][1] == H * 6 // 32
    assert shapes["model.layers.0.self_attn.q_proj.scales"][1] == H // 32
    assert shapes["model.layers.2.self_attn.q_proj.weight"][1] == H * 4 // 32
    assert shapes["model.layers.0.self_attn.v_proj.weight"][1] == H
    assert "no layer matches the quantization rule nobody=4" in result.stdout
    config = json.loads((tmp_path / "q" / "config.json").read_text())["quantization"]
    assert config["lm_head"] == {"group_size": 64, "bits": 8, "mode": "affine"}
    asked = wconv.convert(
        source, tmp_path / "p", rules=rules, quantize=Quantize(rules=("embed_tokens=3", "nobody=4"))
    )
    assert (asked.output / "model.safetensors").read_bytes() == (
        tmp_path / "q" / "model.safetensors"
    ).read_bytes()


def test_without_q_they_do_nothing(tmp_path: Path) -> None:
    source = llama(tmp_path / "m")
    wconv.convert(source, tmp_path / "a", rules=written(tmp_path))
    wconv.convert(source, tmp_path / "b", rules=written(tmp_path, TEXT.partition("[[")[0]))
    one, other = (tmp_path / name / "model.safetensors" for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_bits_that_the_mode_lacks_are_affine_as_for_the_command(tmp_path: Path) -> None:
    report = wconv.convert(
        llama(tmp_path / "m", layers=3), tmp_path / "q", rules=written(tmp_path), quantize=Quantize("mxfp4")
    )
    assert report.quantization is not None
    assert set(report.quantization.weights) == {"mxfp4", "8 bits in groups of 64", "6 bits in groups of 32"}


def test_the_command_prints_what_a_consumer_does_by_itself() -> None:
    told = run("rules", "qwen3_moe")
    assert told.exit_code == 0
    assert "# What -q does by itself for mlx-lm; rules under quantize go before it:" in told.stdout
    assert '#   { match = "mlp\\\\.gate$", group_size = 64, bits = 8 }' in told.stdout
    assert rules_file.parse(told.stdout).quantize == ()
    commented = [line.removeprefix("#   ") for line in told.stdout.splitlines() if line.startswith("#   ")]
    active = rules_file.parse(HEAD + f"quantize = [{commented[0]}]").quantize
    assert active == (LayerRule(r"mlp\.gate$", 8, 64),)
    assert "What -q does" not in run("rules", "llama").stdout


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*)*x", "(a|a)*b", "(.*.*.*.*.*)*y"])
def test_no_pattern_takes_more_than_linear_time(pattern: str) -> None:
    names = [f"{'a' * 200}.{at}" for at in range(50)]
    began = time.process_time()
    with contextlib.suppress(wconv.WconvError):  # some are refused
        LayerRule(pattern, 4).matching(names)
    assert time.process_time() - began < 5


def test_rules_may_be_given_as_a_layout(tmp_path: Path) -> None:
    layout: Any = rules_file.parse(TEXT)
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", layout=layout, quantize=Quantize())
    assert wconv.load(tmp_path / "q")["lm_head.weight"].shape[1] == H * 8 // 32

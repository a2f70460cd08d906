"""A rules file says what tables say: each prints and reads back equal, and a mistake is told by its line.

Covers `layouts/file/`, `layouts/file_form.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import wconv
from tests.making import bits, random, write_directory, write_file
from wconv.cli.program import main
from wconv.consumers import layout_choice, pipelines, registry
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout
from wconv.layouts.conditions import Option, Setting, When, setting
from wconv.layouts.file import rules_file
from wconv.layouts.file.primitives import VERBS
from wconv.layouts.reverse_rules import join, unstack
from wconv.layouts.rules import drop, rename, split, transpose

EVERYTHING = Layout(
    consumers=("mlx-lm",),
    model_types=('odd "name"',),
    names=("**",),
    rules=(
        join(
            "q.#", ("k.#", "v.#"), "qkv.#", 0, sizes=(setting("a"), setting("b", 3), setting("c")), when=None
        ),
        unstack("all.w", "each.{e}.w", count=setting("num_experts|n")),
        rename(
            "a.**", "b.**", except_for=("a.x", "a.y.**"), when=When(Option("include_fov"), True, negated=True)
        ),
        drop("c.#.*", 'a "reason"\\', beyond=setting("layers", 4), when=When(Setting("x.y", "none"), "z")),
        transpose("d", "swap_last", only=(-2, setting("hidden_size"))),
        split("e", ("f", "g"), -1, interleaved=True, when=When(Setting("flag"), False)),
    ),
    alias_rules=(rename("model.**", "**"),),
    recognised_by=("a.b", "c"),
    command="run {model} --tab '\t'",
)


@pytest.mark.parametrize("consumer", registry.automatic_names())
def test_every_table_prints_and_reads_back_equal(consumer: str) -> None:
    places = [table for _, table in pipelines.places(consumer)]
    for table in [*registry.tables(consumer), *places]:
        assert rules_file.parse(rules_file.write(table)) == table


def test_every_key_of_every_primitive_prints_and_reads_back() -> None:
    assert rules_file.parse(rules_file.write(EVERYTHING)) == EVERYTHING
    used = {
        type(rule)
        for name in registry.automatic_names()
        for table in registry.tables(name)
        for rule in table.rules
    }
    assert used | {type(rule) for rule in EVERYTHING.rules} == set(VERBS)


def test_rules_may_be_written_as_tables_of_their_own() -> None:
    text = """
    model_types = ["m"]  # a comment with [brackets]

    [[rules]]
    rename = "a.**"
    to = "b.**"

    [[rules]]
    drop = '''c'''
    reason = "not needed"
    """
    assert rules_file.parse(text).rules == (rename("a.**", "b.**"), drop("c", "not needed"))


GOOD = 'model_types = ["m"]\nrules = [\n  { rename = "a.#", to = "b.#" },\n'
BAD: dict[str, tuple[str, int, str]] = {
    "no TOML": (GOOD + "  { drop = },\n]\n", 4, "nvalid value"),
    "an unfinished list": (GOOD + "\n", 4, ""),
    "an unknown primitive": (GOOD + '  { twist = "x" },\n]', 4, "no primitive in this rule: begin it with"),
    "two primitives": (GOOD + '  { drop = "x", rename = "y", reason = "" },\n]', 4, "drop and rename in one"),
    "no rule at all": (GOOD + '  "drop x",\n]', 2, "is no rule"),
    "a missing key": (GOOD + '\n\n  { rename = "x" },\n]', 6, "rename needs 'to'"),
    "an unknown key": (GOOD + '  { drop = "x", reson = "y" },\n]', 4, "'reson' is no key of drop"),
    "another kind of value": (GOOD + '  { split = "x", into = "y", axis = 0 },\n]', 4, "into must be a list"),
    "a number that is none": (
        GOOD + '  { split = "x", into = ["y", "z"], axis = "0" },\n]',
        4,
        "axis must be a whole number",
    ),
    "wildcards that do not answer": (GOOD + '  { rename = "x.#", to = "y.*" },\n]', 4, "same wildcards"),
    "an unknown order": (
        GOOD + '  { transpose = "x", as = "conv4d" },\n]',
        4,
        "'conv4d' is no order",
    ),
    "an unknown dtype": (GOOD + '  { view = "x", as = "float7" },\n]', 4, "'float7' is not a dtype"),
    "an unknown step": (GOOD + '  { compute = "**", with = "**.s", by = "f" },\n]', 4, "'f' is no step"),
    "a stack of nothing": (GOOD + '  { stack = "x", to = "y" },\n]', 4, "runs over the {e}"),
    "a limit without a number": (
        GOOD + '  { drop = "x", reason = "y", beyond = "n" },\n]',
        4,
        "beyond looks at the number",
    ),
    "a condition on nothing": (GOOD + '  { drop = "x", reason = "y", when = true },\n]', 4, "a condition"),
    "an unknown key of the file": (
        'model_types = ["m"]\n\nruls = []\n',
        3,
        "'ruls' is no key of a",
    ),
    "a list that is none": ('\nmodel_types = "m"\nrules = []', 2, "model_types must be a list"),
    "the second key of a table": (
        'model_types = ["m"]\n[[rules]]\ndrop = "x"\nreason = "y"\n\n[[rules]]\nrename = "a"\nto = 3\n',
        8,
        "to must be a text",
    ),
    "a rule among the spellings": (
        'spellings = [\n  { rename = "a", to = "b" },\n  { rename = "a" },\n]\n' + GOOD + "]",
        3,
        "rename needs 'to'",
    ),
    "files of no numbers": (
        'form = { shard = "../x.safetensors", max_shard_size = 5 }\n' + GOOD + "]",
        1,
        "is no name of numbered files",
    ),
    "braces in texts": (
        GOOD + '  { drop = "x{[", reason = "}]\\"" }, # {\n  { drop = """\n]{""" },\n]',
        5,
        "drop needs 'reason'",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.replace(" ", "-"))
def test_a_bad_file_is_refused_with_the_line_at_fault(case: str, tmp_path: Path) -> None:
    text, line, message = BAD[case]
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(LayoutError) as caught:
        rules_file.read(path)
    told = str(caught.value)
    assert told.startswith(f"{path}:{line}: ")
    assert message in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'rules = ["\xff"]', r":1: not UTF-8"),
        (b"# nothing\n", "there are no rules in it"),
        (b"x = " + b"[" * 5000, "nested too deeply|:1: "),
        (b"#" * (1 << 20) + b"#", "longer than"),
    ],
)
def test_a_file_that_is_no_rules_file_is_refused(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(raw)
    with pytest.raises(LayoutError, match=message):
        rules_file.read(path)
    with pytest.raises(LayoutError, match="cannot be read"):
        rules_file.read(tmp_path / "none.toml")


OWN = """
model_types = ["mine"]
rules = [
  { rename = "tower.**", to = "vision.**" },
  { transpose = "vision.conv.weight", as = "conv2d" },
  { rename = "never.**", to = "ever.**" },
]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors = {"tower.conv.weight": random((2, 3, 4, 5)), "head.weight": random((4, 2))}
    return write_directory(tmp_path / "m", [tensors], {"model_type": "mine"})


def test_a_users_rules_convert_and_undo_a_model(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    there = wconv.convert(model, rules=path, dtype="bfloat16")
    result = wconv.load(there.output)
    assert set(result) == {"vision.conv.weight", "head.weight"}
    assert bits(result["vision.conv.weight"]) == bits(random((2, 3, 4, 5)).transpose(0, 2, 3, 1))
    back = wconv.convert(there.output, rules=path, layout="hf")
    assert back.output == tmp_path / "m-HF"
    assert bits(wconv.load(back.output)["tower.conv.weight"]) == bits(random((2, 3, 4, 5)))


def test_a_rule_that_matched_nothing_is_told(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('spellings = [{ rename = "model.**", to = "**" }]\n' + OWN)
    notes = wconv.convert(model, rules=path).notes
    assert [note for note in notes if "no tensor matches" in note] == [
        "no tensor matches the rule: rename never.** → ever.**"
    ]


def test_a_layout_in_python_does_the_same(model: Path, tmp_path: Path) -> None:
    layout = rules_file.parse(OWN)
    assert isinstance(layout, wconv.Layout)
    report = wconv.convert(model, tmp_path / "out", layout=layout)
    assert set(wconv.open(report.output)) == {"vision.conv.weight", "head.weight"}
    arrays = wconv.load_mlx(model, layout=layout)
    assert arrays["vision.conv.weight"].shape == (2, 4, 5, 3)
    with pytest.raises(LayoutError, match="exclude each other"):
        wconv.prepare(model, layout=layout, rules=layout)


def test_only_names_that_a_file_allows_pass(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('names = ["vision.conv.weight", "heads.weight"]\n' + OWN)
    with pytest.raises(LayoutError, match=r"knows no such tensors in mine: head\.weight \(nearest: heads\.w"):
        wconv.prepare(model, rules=path)


def test_the_command_takes_a_file_and_prints_one(model: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    done = run(main, [str(model), "--rules", str(path), "--quiet"])
    assert done.exit_code == 0
    assert "vision.conv.weight" in wconv.open(tmp_path / "m-MLX")
    printed = run(main, ["rules", "qwen2_5_vl"])
    assert rules_file.parse(printed.output) == layout_choice.layout_of_model_type("qwen2_5_vl")
    bad = run(main, [str(model), "--rules", str(tmp_path / "none.toml")])
    assert bad.exit_code == 1


def test_the_command_lists_every_model_with_rules() -> None:
    listed = CliRunner().invoke(main, ["rules"]).output.splitlines()
    assert [tuple(re.split(r" {2,}", line, maxsplit=2)) for line in listed] == list(layout_choice.describe())


def test_a_model_without_rules_is_named_with_the_nearest() -> None:
    with pytest.raises(LayoutError, match="'qwen2_5_v': nearest qwen2_5_vl"):
        layout_choice.layout_of_model_type("qwen2_5_v")
    with pytest.raises(LayoutError, match="for mflux"):
        layout_choice.layout_of_model_type("llama", "mflux")


def test_the_copied_table_converts_as_the_table_does(tmp_path: Path) -> None:
    source = Path(__file__).parent.parents[1] / "fixtures" / "qwen2_5_vl"
    path = tmp_path / "copy.toml"
    path.write_text(rules_file.write(layout_choice.layout_of_model_type("qwen2_5_vl")))
    ours: Any = wconv.load(wconv.convert(source, tmp_path / "a", rules=path).output)
    theirs = wconv.load(wconv.convert(source, tmp_path / "b").output)
    assert {name: bits(one) for name, one in ours.items()} == {
        name: bits(one) for name, one in theirs.items()
    }


def test_a_file_without_a_config_is_laid_out_too(tmp_path: Path) -> None:
    source = write_file(tmp_path / "x.safetensors", {"tower.conv.weight": random((2, 3, 4, 5))})
    report = wconv.convert(source, rules=rules_file.parse(OWN))
    assert list(wconv.open(report.output)) == ["vision.conv.weight"]

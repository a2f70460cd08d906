"""A whole model against the shapes that its consumer's own model has: what is refused, in which words.

Covers `consumers/shapes.py`, `consumers/shape_check.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.derive import fixtures, shape_proof
from tests.making import Array, random, write_directory
from wconv import WconvError, convert
from wconv.consumers import fits, shapes
from wconv.consumers.layout_choice import choose_layout
from wconv.consumers.shapes import UNCHECKED, Condition, ShapeTable, Where, value_of
from wconv.layouts.apply import UnknownNamesError, apply

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 3,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 4,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "moe_intermediate_size": 6,
    "n_routed_experts": 3,
    "n_shared_experts": 1,
    "num_attention_heads": 2,
    "kv_lora_rank": 5,
    "q_lora_rank": 7,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 2,
    "v_head_dim": 3,
    "vocab_size": 10,
}
FILES = sorted(Path(shapes.__file__).parent.glob("*/shapes/*.toml"))

Change = Callable[[dict[str, Array]], object]


def model(program: str, config: Mapping[str, Any]) -> dict[str, Array]:
    """What a table says that a model holds."""
    table = shapes.find(program, config["model_type"])
    assert table is not None
    tensors = {}
    for row in shapes.active(table, config):
        parts = row.name.split("#")
        counts = [table.count(place, config) or 0 for place in places(row.name)]
        for numbers in itertools.product(*map(range, counts)):
            if not row.optional and row.in_layer(config, numbers):
                shape = tuple(value_of(told, config) or 3 for told in row.shape)
                name = parts[0] + "".join(f"{at}{part}" for at, part in zip(numbers, parts[1:], strict=True))
                tensors[name] = random(shape, seed=len(tensors))
    return tensors


def places(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:at]) for at, part in enumerate(parts) if part == "#"]


def run(tmp_path: Path, tensors: Mapping[str, Array], config: Mapping[str, Any], **options: Any) -> None:
    convert(write_directory(tmp_path / "model", [tensors], config), tmp_path / "out", **options)


def without(*words: str) -> Change:
    return lambda tensors: [
        tensors.pop(name) for name in list(tensors) if all(word in name for word in words)
    ]


def resized(name: str, *shape: int) -> Change:
    return lambda tensors: tensors.update({name: random(shape)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            resized("model.embed_tokens.weight", 70, 8),
            r"model\.embed_tokens\.weight has the shape \[70, 8\], but config\.json's vocab_size wants"
            r" \[64, 8\]: these weights and this config\.json are not of one model;"
            r" --layout hf keeps it as it is",
        ),
        (
            resized("model.layers.1.self_attn.k_proj.weight", 8, 8),
            r"model\.layers\.1\.self_attn\.k_proj\.weight has the shape \[8, 8\], but config\.json's"
            r" hidden_size and num_attention_heads and num_key_value_heads want \[4, 8\]",
        ),
        (
            resized("model.norm.weight", 8, 1),
            r"model\.norm\.weight has the shape \[8, 1\], but mlx-lm's llama wants \[8\]",
        ),
        (
            without("layers.1."),
            r"model\.layers\.1 is missing: config\.json's num_hidden_layers wants 3 layers and",
        ),
        (
            without("layers.1.", "mlp.up_proj"),
            r"model\.layers\.1\.mlp\.up_proj\.weight is missing: all other layers have such a tensor",
        ),
        (
            without("mlp.up_proj"),
            r"model\.layers\.0\.mlp\.up_proj\.weight is missing: mlx-lm's llama does not load without it",
        ),
        (without("model.norm"), r"model\.norm\.weight is missing: mlx-lm's llama does not load without it"),
        (
            without("lm_head"),
            r"the output layer is missing \(lm_head\.weight\): config\.json says tie_word_embeddings: false",
        ),
    ],
)
def test_what_does_not_load_is_named_in_a_line(tmp_path: Path, change: Change, said: str) -> None:
    tensors = model("mlx-lm", LLAMA)
    assert len(tensors) == 30
    change(tensors)
    with pytest.raises(WconvError, match=said) as caught:
        run(tmp_path, tensors, LLAMA)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    run(tmp_path / "kept", tensors, LLAMA, layout="hf")


def test_a_whole_model_passes(tmp_path: Path) -> None:
    run(tmp_path, model("mlx-lm", LLAMA), LLAMA)


def test_layers_of_several_kinds_are_told_apart(tmp_path: Path) -> None:
    tensors = model("mlx-lm", DEEPSEEK)
    layers = {name.split(".")[2] for name in tensors if "switch_mlp" in name}
    assert layers == {"2"}
    run(tmp_path, tensors, DEEPSEEK)
    del tensors["model.layers.2.mlp.gate.e_score_correction_bias"]
    with pytest.raises(WconvError, match=r"layers\.2\.mlp\.gate\.e_score_correction_bias is missing"):
        run(tmp_path / "not", tensors, DEEPSEEK)


def test_an_excerpt_of_a_model_is_not_missed(tmp_path: Path) -> None:
    tensors = {name: one for name, one in model("mlx-lm", LLAMA).items() if "self_attn" in name}
    run(tmp_path, tensors, {**LLAMA, "tie_word_embeddings": True})


def test_what_the_program_makes_of_other_tensors_is_not_missed(tmp_path: Path) -> None:
    config = {
        **fixtures.load("mlx-lm")["granitemoehybrid"]["config"],
        "model_type": "granitemoehybrid",
        "num_local_experts": 0,
    }
    tensors = model("mlx-lm", config)
    assert without("mlp.")(tensors)
    with pytest.raises(WconvError, match=r"layers\.0\.mlp\.gate_proj\.weight is missing"):
        run(tmp_path / "not", tensors, config)
    count = len(config["layer_types"])
    for at in range(count):  # its sanitize splits them, where a model has no experts
        tensors[f"model.layers.{at}.shared_mlp.input_linear.weight"] = random((4, 2))
        tensors[f"model.layers.{at}.shared_mlp.output_linear.weight"] = random((2, 2))
    run(tmp_path / "made", tensors, config)


@pytest.mark.parametrize("value", [None, "3", -1, 0, True, [3], {"a": 1}, 10**30, 1.5, "x" * 10_000])
def test_absurd_fields_end_at_once_in_a_line_or_pass(tmp_path: Path, value: Any) -> None:
    tensors = model("mlx-lm", LLAMA)
    for at, field in enumerate(
        ("hidden_size", "num_hidden_layers", "num_attention_heads", "tie_word_embeddings")
    ):
        said = ""
        try:
            run(tmp_path / str(at), tensors, {**LLAMA, field: value})
        except WconvError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 500


def test_a_model_type_is_no_path() -> None:
    for name in ("../llama", "a/b", "", ".", "llama\n", "x" * 500):
        assert shapes.find("mlx-lm", name) is None


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("heads*dim", 12),
        ("2*heads*dim + hidden", 34),
        ("hidden/heads", None),
        ("hidden/5*heads", 8),
        ("hidden - 1", 9),
        ("dim - hidden", None),
        ("part.size", 6),
        ("sizes.1", 5),
        ("len(sizes)", 2),
        ("absent", None),
        ("flag", None),
        ("huge*huge", None),
        ("hidden/zero", None),
        (UNCHECKED, None),
    ],
)
def test_expressions(expression: str, value: int | None) -> None:
    config = {
        "heads": 4,
        "dim": 3,
        "hidden": 10,
        "part": {"size": 6},
        "sizes": [4, 5],
        "flag": True,
        "huge": 1 << 40,
        "zero": 0,
    }
    assert value_of(expression, config) == value


def test_layers_by_lists_starts_and_steps() -> None:
    config = {"kinds": ["a", "b", "a"], "first": 1, "step": 2, "at": 1}
    by_list = Where((Condition("kinds", "values", ("a",)),))
    assert [by_list.holds(config, layer) for layer in range(4)] == [True, False, True, None]
    assert [Where((Condition("first", "below"),)).holds(config, layer) for layer in (0, 1)] == [True, False]
    last = Where((Condition("step", "every", (-1,)),), others=True)
    assert [last.holds(config, layer) for layer in range(3)] == [True, False, True]
    both = Where((Condition("first", "from"), Condition("step", "every", ("at",))))
    assert [both.holds(config, layer) for layer in range(4)] == [False, True, False, True]
    assert Where((Condition("none", "from"),)).holds(config, 0) is None


def test_numbers_in_names_stand_for_layers_only_where_these_are() -> None:
    table = ShapeTable({"a.layers": "n", "a.layers.#.parts": UNCHECKED}, ())
    assert table.general("a.layers.3.parts.12.mlp.0.weight") == ("a.layers.#.parts.#.mlp.0.weight", (3, 12))
    assert table.general("a.layers.99999999999.x") == ("a.layers.99999999999.x", ())


def test_every_table_reads() -> None:
    assert len(FILES) > 30
    for path in FILES:
        table = shapes.parse(path.read_text())
        assert table.rows, path
        for row in table.rows:
            assert table.general(row.name)[0] == row.name, f"{path}: no tensor is of this kind"
            for told in row.shape:
                assert told == UNCHECKED or all(step for _, steps in shapes.terms(told) for step in steps)
            for kinds in row.when.values():
                assert kinds


def test_the_page_of_shapes_is_what_was_counted() -> None:
    assert shape_proof.PAGE.read_text() == shape_proof.text(shape_proof.load())
    for program, rows in shape_proof.load().items():
        for model_type, row in rows.items():
            assert row["passed"] == row["configs"], (program, model_type)
            assert row["missing"][2] == row["resized"][2] == 0, (program, model_type)


def test_the_checkpoints_that_tables_were_derived_from_pass() -> None:
    count = 0
    for program in ("mlx-lm", "mlx-vlm"):
        for name, row in fixtures.load(program).items():
            table = shapes.find(program, name.lower())
            if table is None or "shapes" not in row:
                continue
            config = {**row["config"], "model_type": name}
            layout = choose_layout(program, config, row["shapes"])
            tensors = shape_proof.lazy({key: tuple(shape) for key, shape in row["shapes"].items()})
            try:
                laid = apply(layout, tensors, config)
            except UnknownNamesError:  # names of the program's own, turned back in a way that is nobody's
                continue
            fits.check(laid.tensors, laid.sources, config, layout, program)
            count += 1
    assert count > 40

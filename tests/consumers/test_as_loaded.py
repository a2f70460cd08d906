"""Models in names that a program takes beside its own are compared with its own model's shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.making import random, write_directory
from wconv import LayoutError, convert
from wconv.consumers.as_loaded import as_loaded
from wconv.consumers.layout_choice import choose_layout
from wconv.tensors.lazy import from_array

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 2,
    "vocab_size": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (64, 8),
    "model.norm.weight": (8,),
    "lm_head.weight": (64, 8),
    "model.layers.0.input_layernorm.weight": (8,),
    "model.layers.0.post_attention_layernorm.weight": (8,),
    **{f"model.layers.0.self_attn.{one}_norm.weight": (2,) for one in "qk"},
    **{
        f"model.layers.0.self_attn.{one}_proj.weight": (rows, 8)
        for one, rows in zip("qkvo", (8, 4, 4, 8), strict=True)
    },
    **{f"model.layers.0.mlp.{one}_proj.weight": (12, 8) for one in ("gate", "up")},
    "model.layers.0.mlp.down_proj.weight": (8, 12),
}


def run(tmp_path: Path, *, tied: bool | None, head: bool = True, **other: tuple[int, ...]) -> None:
    shapes = {**SHAPES, **other}
    if not head:
        del shapes["lm_head.weight"]
    config = {**CONFIG, "tie_word_embeddings": tied}
    if tied is None:
        del config["tie_word_embeddings"]
    tensors = {name: random(shape) for name, shape in shapes.items()}
    convert(write_directory(tmp_path / "model", [tensors], config), tmp_path / "out", layout="mlx-vlm")


@pytest.mark.parametrize(("tied", "head"), [(False, True), (True, False), (True, True)])
def test_a_head_that_is_there_or_tied_is_not_missed(tmp_path: Path, tied: bool, head: bool) -> None:
    run(tmp_path, tied=tied, head=head)


def test_a_head_that_is_absent_and_untied_is_missed(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"the output layer is missing \(language_model.lm_head.weight\)"):
        run(tmp_path, tied=False, head=False)


def test_another_shape_is_told_by_the_sources_own_name(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.k_norm.weight"
    with pytest.raises(
        LayoutError, match=r"^model\.layers\.0\.self_attn\.k_norm\.weight has the shape \[3\]"
    ):
        run(tmp_path, tied=False, **{name: (3,)})


def test_names_that_the_program_does_not_know_are_not_compared() -> None:
    table = choose_layout("mlx-vlm", CONFIG, SHAPES)
    assert table is not None
    assert table.consumers[0] != "mlx-vlm"
    tensors = {"other.weight": from_array(random((2, 2)))}
    assert as_loaded((tensors, {}), CONFIG, table, "mlx-vlm") is None
    assert as_loaded((tensors, {}), CONFIG, table, table.consumers[0]) == (tensors, {})


def test_the_roots_word_on_the_head_counts_where_the_consumer_will_read_it(tmp_path: Path) -> None:
    vision = {"model_type": "pixtral", "hidden_size": 8, "num_channels": 3}
    config = {
        "model_type": "mistral3",
        "tie_word_embeddings": True,
        "text_config": {**CONFIG, "model_type": "mistral", "tie_word_embeddings": False},
        "vision_config": vision,
    }
    tensors = {
        f"model.language_model.{name.removeprefix('model.')}": random(shape)
        for name, shape in SHAPES.items()
        if name != "lm_head.weight" and "_norm" not in name.replace("layernorm", "")
    }
    tensors["model.language_model.norm.weight"] = random((8,))
    source = write_directory(tmp_path / "model", [tensors], config)
    convert(source, tmp_path / "out", layout="mlx-vlm")
    config["tie_word_embeddings"] = False
    source = write_directory(tmp_path / "other", [tensors], config)
    with pytest.raises(LayoutError, match="the output layer is missing"):
        convert(source, tmp_path / "out2", layout="mlx-vlm")

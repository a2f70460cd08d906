"""Weights that do not fit their config.json are refused in a line; what a config leaves open is not.

Covers `consumers/fits.py`, `consumers/fields.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.making import Array, random, write_directory, write_file
from wconv import WconvError, convert
from wconv.consumers import shapes

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 3,
    "hidden_size": 4,
    "vocab_size": 10,
    "tie_word_embeddings": False,
}

Change = Callable[[dict[str, Array]], object]


def llama(layers: int = 3) -> dict[str, Array]:
    tensors = {
        "model.embed_tokens.weight": random((10, 4)),
        "model.norm.weight": random((4,)),
        "lm_head.weight": random((10, 4), seed=1),
    }
    for at in range(layers):
        tensors[f"model.layers.{at}.input_layernorm.weight"] = random((4,))
        tensors[f"model.layers.{at}.mlp.up_proj.weight"] = random((8, 4))
    return tensors


def run(tmp_path: Path, tensors: Mapping[str, Array], config: Mapping[str, Any], **options: Any) -> None:
    convert(write_directory(tmp_path / "model", [tensors], config), tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.update({"model.embed_tokens.weight": random((9, 4))}),
            r"model\.embed_tokens\.weight has the shape \[9, 4\], but config\.json's vocab_size wants",
        ),
        (
            lambda t: t.update({"lm_head.weight": random((12, 4))}),
            r"lm_head\.weight has the shape \[12, 4\], but config\.json's vocab_size wants \[10, 4\]",
        ),
        (
            lambda t: t.update({"model.norm.weight": random((5,))}),
            r"model\.norm\.weight has the shape \[5\], but config\.json's hidden_size wants \[4\]",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if ".layers.1." in name],
            r"model\.layers\.1 is missing: config\.json's num_hidden_layers wants 3 layers and the weights",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if ".layers.2." in name],
            r"model\.layers\.2 is missing",
        ),
        (lambda t: t.update(llama(4)), r"model\.layers\.3\.\S+ is of one layer too many: .* wants 3"),
        (
            lambda t: t.pop("model.layers.1.mlp.up_proj.weight"),
            r"model\.layers\.1\.mlp\.up_proj\.weight is missing: all other layers have such a tensor",
        ),
        (lambda t: t.pop("lm_head.weight"), r"the output layer is missing .* tie_word_embeddings: false"),
        (
            lambda t: t.update({"model.layers.1.mlp.up_proj.weight": np.zeros((0,), np.float32)}),
            r"model\.layers\.1\.mlp\.up_proj\.weight is empty \(its shape is \[0\]\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Change, said: str) -> None:
    tensors = llama()
    change(tensors)
    with pytest.raises(WconvError, match=said) as caught:
        run(tmp_path, tensors, CONFIG)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "out").exists()
    if "is empty" not in str(caught.value):
        run(tmp_path / "kept", tensors, CONFIG, layout="hf")


def test_what_fits_is_converted(tmp_path: Path) -> None:
    run(tmp_path, llama(), CONFIG)


def test_an_empty_matrix_among_tensors_of_no_model_is_told(tmp_path: Path) -> None:
    source = write_file(tmp_path / "x.safetensors", {"a": random((2, 3)), "b": random((0, 3))})
    report = convert(source, tmp_path / "y.safetensors")
    assert (report.tensors_written, report.notes) == (2, ("b is empty: it has no elements",))
    model = write_directory(tmp_path / "model", [{"a": random((2, 3)), "b": random((0, 3))}])
    with pytest.raises(WconvError, match=r"b is empty \(its shape is \[0, 3\]\)"):
        convert(model, tmp_path / "out")
    assert convert(model, tmp_path / "out", exclude="^b$").tensors_written == 1


def test_a_part_of_the_tensors_that_was_asked_for_is_no_lost_layer(tmp_path: Path) -> None:
    run(tmp_path, llama(), CONFIG, include=r"layers\.1\.")


def test_layers_of_several_kinds_are_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "find", lambda *_: None)  # of a model whose shapes are not known
    tensors = llama()
    del tensors["model.layers.1.mlp.up_proj.weight"]
    kinds = ["full_attention", "linear", "full_attention"]
    run(tmp_path / "told", tensors, {**CONFIG, "layer_types": kinds})
    with pytest.raises(WconvError, match=r"up_proj\.weight is missing: all other layers"):
        run(tmp_path / "alike", tensors, CONFIG)
    tensors["model.layers.1.mlp.gate_up_proj.weight"] = random((16, 4))
    run(tmp_path / "seen", tensors, CONFIG)


def test_a_layer_that_predicts_is_not_one_too_many(tmp_path: Path) -> None:
    config = {**CONFIG, "model_type": "nobody_knows", "num_nextn_predict_layers": 1}
    run(tmp_path, llama(4), config)


def test_counts_beyond_all_measure_end_at_once(tmp_path: Path) -> None:
    with pytest.raises(WconvError, match=r"model\.layers\.3 is missing: .* wants 1,000,000,000,000 layers"):
        run(tmp_path, llama(), {**CONFIG, "num_hidden_layers": 10**12})


@pytest.mark.parametrize("value", [None, "3", -1, 0, True, [3], {"a": 1}])
def test_fields_of_another_type_tell_nothing(tmp_path: Path, value: Any) -> None:
    run(tmp_path, llama(), {**CONFIG, "num_hidden_layers": value, "vocab_size": value, "hidden_size": value})


QWEN3_VL_TEXT = {"model_type": "qwen3_vl_text", "vocab_size": 10, "hidden_size": 4}


def qwen3_vl(text: Mapping[str, Any]) -> dict[str, Any]:
    return {"model_type": "qwen3_vl", "vocab_size": 7, "hidden_size": 3, "text_config": text}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # by the shapes of the program's own model
        (
            {**QWEN3_VL_TEXT, "vocab_size": 11},
            r"embed_tokens\.weight has the shape \[10, 4\], .* text_config\.vocab_size wants \[11, 4\]",
        ),
        (
            {**QWEN3_VL_TEXT, "hidden_size": 5},
            r"embed_tokens\.weight has the shape \[10, 4\], .* text_config\.hidden_size wants \[10, 5\]",
        ),
        # of a part that does not say its model type they tell nothing: what its fields say plainly is left
        ({"vocab_size": 11}, r"has the shape \[10, 4\], but config\.json's vocab_size wants \[11, 4\]"),
        ({"hidden_size": 5}, r"has the shape \[10, 4\], but config\.json's hidden_size wants \[10, 5\]"),
    ],
)
def test_the_language_models_part_counts(tmp_path: Path, text: dict[str, Any], said: str) -> None:
    tensors = {
        "model.language_model.embed_tokens.weight": random((10, 4)),
        "model.language_model.norm.weight": random((4,)),
        "lm_head.weight": random((10, 4)),
        "model.visual.blocks.0.norm1.weight": random((6,)),
    }
    run(tmp_path / "fits", tensors, qwen3_vl({**text, "vocab_size": 10, "hidden_size": 4}))
    with pytest.raises(WconvError, match=said):
        run(tmp_path / "not", tensors, qwen3_vl(text))

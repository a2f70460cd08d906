"""The kit for tables: a right one passes, and each fault that a table can have is told."""

from __future__ import annotations

import numpy as np
import pytest

from tests.making import random
from wconv import testing
from wconv.consumers import layout_choice
from wconv.layouts.apply import Layout
from wconv.layouts.rules import Rule, drop, rename, reshape, split, transpose


def layout(*rules: Rule, names: tuple[str, ...] = ("**",)) -> Layout:
    return Layout(("test",), ("any",), names, rules)


ARRAYS = {
    "model.conv.weight": random((2, 3, 5), np.float32),
    "model.qkv.weight": random((6, 4), np.float32, seed=1),
    "model.inv_freq": random((4,), np.float32, seed=2),
}
RULES = (
    rename("model.**", "lm.**"),
    transpose("lm.conv.weight", "conv1d"),
    split("lm.qkv.weight", ("lm.q.weight", "lm.k.weight", "lm.v.weight"), 0),
    drop("lm.inv_freq", "computed anew"),
)


def test_a_right_table_passes() -> None:
    names = ("lm.conv.weight", "lm.q.weight", "lm.k.weight", "lm.v.weight")
    testing.check_table(layout(*RULES, names=names), ARRAYS)


def test_a_rule_that_finds_nothing_is_told() -> None:
    with pytest.raises(AssertionError, match="no tensor matches 1 rules"):
        testing.check_every_rule(layout(*RULES, rename("lm.decoder.*", "lm.d.*")), ARRAYS)


def test_a_table_that_turns_axes_again_is_told() -> None:
    """Nothing in its names says that it has been applied."""
    turned = layout(transpose("w", "matrix"))
    with pytest.raises(AssertionError, match="laid out twice, w is"):
        testing.check_fixed_point(turned, {"w": random((2, 3), np.float32)})


def test_a_table_without_a_way_back_is_told() -> None:
    flat = layout(rename("model.w", "w"), reshape("w", (-1,)))
    with pytest.raises(AssertionError, match=r"on the way back, model\.w is"):
        testing.check_way_back(flat, {"model.w": random((2, 3), np.float32)})


@pytest.mark.parametrize("model_type", ["qwen2_5_vl"])
def test_a_table_of_a_consumer(model_type: str) -> None:
    arrays = {
        "model.layers.0.self_attn.q_proj.weight": random((4, 4)),
        "visual.patch_embed.proj.weight": random((4, 3, 2, 4, 4)),
    }
    table = layout_choice.layout_of_model_type(model_type)
    testing.check_fixed_point(table, arrays, {"tie_word_embeddings": True})
    testing.check_way_back(table, arrays, {"tie_word_embeddings": True})

"""Names of repeated blocks as one line."""

from __future__ import annotations

from wconv.examine.fold import fold, spans


def test_numbers_are_told_as_spans() -> None:
    assert spans([3, 1, 2, 7, 2]) == "1-3,7"


def test_blocks_that_are_alike_are_one_line() -> None:
    names = [f"layers.{block}.mlp.{part}.weight" for block in range(28) for part in ("up", "down")]
    assert list(fold(names)) == ["layers.{0-27}.mlp.up.weight", "layers.{0-27}.mlp.down.weight"]


def test_an_odd_block_is_shown_apart() -> None:
    names = [f"l.{block}.experts.{expert}.w" for block in (1, 2) for expert in range(4)]
    assert list(fold(["l.0.experts.9.w", *names])) == ["l.0.experts.9.w", "l.{1-2}.experts.{0-3}.w"]


def test_a_line_stands_for_names_that_are_there_and_for_each_once() -> None:
    names = ["a.0.1", "a.1.0", "b.0.0.1", "b.0.1.0", "a.x", "c.{}.1", "c.{}.2", "7", "d\0.1", "d\0.2"]
    folded = fold(names)
    assert sorted(name for members in folded.values() for name in members) == sorted(names)
    assert "c.{}.{1-2}" in folded
    assert "a.{0-1}.{0-1}" not in folded

"""Work on neighbouring streams takes turns; that of each stays in its order."""

from __future__ import annotations

import random

import pytest

from wconv.writing import turns
from wconv.writing.turns import in_turns


def order(text: str) -> str:
    """Pieces of streams that are called by letters; "." is of no stream."""
    return "".join(in_turns(text, lambda piece: None if piece == "." else piece.lower()))


@pytest.mark.parametrize(
    ("work", "wanted"),
    [
        ("", ""),
        ("....", "...."),
        ("aaa", "aaa"),
        ("aabb", "abab"),
        ("aaaabcd", "abcdaaa"),
        ("aaabbbcccdddee", "abcdabcdabcdee"),
        ("aab.b", ".abab"),
        ("aabbaa", "ababaa"),
    ],
)
def test_streams_take_turns(work: str, wanted: str) -> None:
    assert order(work) == wanted


@pytest.mark.parametrize("longest", [1, 3, 4096])
def test_each_streams_order_stays(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LONGEST", longest)
    chance = random.Random(0)
    work = [(letter, at) for at in range(300) for letter in chance.choice("abcdefg.") * chance.randrange(9)]
    found = list(in_turns(work, lambda piece: None if piece[0] == "." else piece[0]))
    assert sorted(found) == sorted(work)
    for letter in "abcdefg.":
        assert [piece for piece in found if piece[0] == letter] == [one for one in work if one[0] == letter]


def test_no_more_than_a_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LONGEST", 5)
    taken: list[int] = []

    def work() -> object:
        for at in range(1000):
            taken.append(at)
            yield "a"

    found = in_turns(work(), lambda piece: piece)  # type: ignore[arg-type]
    for at in range(100):
        next(found)
        assert len(taken) <= at + 7

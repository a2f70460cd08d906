"""Errors are one line of bounded length, whatever the names in them are."""

from __future__ import annotations

import pytest

from wconv.errors import LONGEST, FormatError, UnsafeError, WconvError, message


@pytest.mark.parametrize("kind", [WconvError, FormatError, UnsafeError])
def test_a_short_message_is_as_it_was(kind: type[WconvError]) -> None:
    assert (
        str(kind("model.bin is truncated: download it again")) == "model.bin is truncated: download it again"
    )


def test_a_long_name_loses_its_middle_and_the_advice_stays() -> None:
    told = str(
        FormatError(f"model.safetensors: {'n' * 400_000}.weight is no tensor: leave it out with --exclude")
    )
    assert len(told) <= LONGEST
    assert told.startswith("model.safetensors: nnn")
    assert told.endswith("nnn.weight is no tensor: leave it out with --exclude")
    assert "…" in told


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2J" * 100_000,
        "a b " * 100_000,
        "a\nb",
        "\n" * 5000,
        "x" * 294,
        "é" * 400_000,
        "\0 " * 9000,
        "\ud800" * 999,
    ],
)
def test_any_text_becomes_one_line(text: str) -> None:
    line = message(text)
    assert len(line) <= LONGEST
    assert line.isprintable()


def test_paths_stay_whole_while_there_is_room() -> None:
    path = "/somewhere/" + "d" * 120 + "/rules.toml:4:"
    told = message(f"{path} 'float7' is not a dtype: one of " + ", ".join(["bfloat16"] * 40))
    assert told.startswith(path[:80])
    assert len(told) <= LONGEST

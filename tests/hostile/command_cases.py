"""All commands that meet something hostile, in one list."""

from __future__ import annotations

from tests.hostile import (
    command_numbers,
    command_packed,
    command_patterns,
    command_quantized,
    command_texts,
)
from tests.hostile.commands import Command

ROOMS = (command_numbers, command_packed, command_patterns, command_quantized, command_texts)


def commands() -> list[Command]:
    return [command for room in ROOMS for command in room.commands()]

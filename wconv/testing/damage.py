"""Damaged copies of a file: cut off, with other numbers in it, with random changes."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

PLACES = 4096
"""Places of a file at which it is cut off or lied about at most: all of those of a small one."""

LIES = (0, 2**31 - 1, 2**32 - 1, 2**62, 2**64 - 1)
"""Numbers that are put in the place of others: nothing, and more than any file has."""


def truncated(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The file without its end, cut off at every place, or at `PLACES` of them."""
    for stop in range(0, len(data), -(-len(data) // PLACES) or 1):
        yield f"cut off after {stop:,} of {len(data):,} bytes", data[:stop]


def other_sizes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The file with another number wherever one may be: four or eight bytes, and numbers in digits."""
    for width in (4, 8):
        for at in range(0, len(data) - width + 1, -(-len(data) // PLACES) or 1):
            for lie in LIES:
                if lie < 1 << 8 * width:
                    number = lie.to_bytes(width, "little")
                    yield f"{lie:,} at byte {at:,}", data[:at] + number + data[at + width :]
    for match in list(re.finditer(rb"\d+", data))[:PLACES]:
        for lie in LIES:
            changed = data[: match.start()] + str(lie).encode() + data[match.end() :]
            yield f"{lie:,} for the digits at byte {match.start():,}", changed


def fuzzed(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many copies with a few random changes each; the same ones for the same seed."""
    for number in range(seed, seed + count):
        numbers = random.Random(number)
        changed = bytearray(data)
        for _ in range(numbers.choice((1, 1, 1, 2, 4, 8))):
            _change(changed, numbers)
        yield f"changed at random (seed {number})", bytes(changed)


def _change(data: bytearray, numbers: random.Random) -> None:
    """Flips a bit, sets a byte, or takes out, doubles or clears a few bytes."""
    if not data:
        return
    at = numbers.randrange(len(data))
    count = min(numbers.choice((1, 1, 2, 4, 8, 64)), len(data) - at)
    kind = numbers.randrange(5)
    if kind == 0:
        data[at] ^= 1 << numbers.randrange(8)
    elif kind == 1:
        data[at] = numbers.choice((0, 1, 0x7F, 0x80, 0xFF, numbers.randrange(256)))
    elif kind == 2:
        del data[at : at + count]
    elif kind == 3:
        data[at:at] = data[at : at + count]
    else:
        data[at : at + count] = bytes(count)

"""Sets of places in a text as the bits of one integer: bit n stands before character n.

What finds patterns in names moves all places at once, so that no text makes it try one way after another.
"""

from __future__ import annotations

from collections.abc import Iterable


def of(numbers: Iterable[int], size: int) -> int:
    """The set of these places, each below `size`."""
    marks = bytearray(b"0") * size
    for number in numbers:
        marks[number] = 49  # b"1"
    return int(marks[::-1], 2) if size else 0


def turned(places: int, size: int) -> int:
    """The `size` lowest bits in the opposite order."""
    return int(f"{places:0{size}b}"[::-1], 2) if size else 0


def after_run(places: int, mask: int) -> int:
    """Where one gets from `places` over any number of the characters in `mask`."""
    # adding to a run of ones carries the bit to its end
    return (((places & mask) + mask) ^ mask) | places


def before_run(places: int, mask: int, size: int) -> int:
    """From where one gets to `places` over any number of the characters in `mask`, of a text of `size`."""
    return turned(after_run(turned(places, size + 1), turned(mask, size)), size + 1)

"""CRC-32 of what is written in pieces and out of order."""

from __future__ import annotations

import functools
from collections.abc import Iterable

POLYNOMIAL = 0xEDB88320
"""Of zip's CRC-32, lowest power in the highest bit, as all polynomials here."""

ONE = 1 << 31


def whole(pieces: Iterable[tuple[int, int, int]]) -> int:
    """The CRC-32 of bytes that pieces cover without a gap.

    Args:
        pieces: offset, number of bytes and CRC-32 of each, in any order.
    """
    total = 0
    for _, nbytes, checksum in sorted(pieces):
        total = _times(_power(nbytes), total) ^ checksum
    return total


@functools.lru_cache(maxsize=4096)
def _power(nbytes: int) -> int:
    """x to the power of as many bits: what appending that many bytes multiplies a checksum by."""
    result, base = ONE, ONE >> 8
    while nbytes:
        if nbytes & 1:
            result = _times(base, result)
        base = _times(base, base)
        nbytes >>= 1
    return result


def _times(one: int, other: int) -> int:
    """The product of two polynomials modulo the checksum's."""
    product = 0
    while one:
        if one & ONE:
            product ^= other
        one = one << 1 & 0xFFFFFFFF
        other = other >> 1 ^ POLYNOMIAL if other & 1 else other >> 1
    return product

"""JSON from files: bounded in what it makes, not only in its length."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from wconv.errors import FormatError, UnsafeError

FREE = 8 << 20
"""Bytes of text that may hold anything: at most twenty times as many come of it."""

VALUES_LIMIT = 6_000_000
"""Values that a longer text may hold, of about 70 bytes each: a header's for 400,000 tensors."""


DEEPEST = 64
"""Lists and objects within each other at most."""

LONGEST_NUMBER = 64
"""Digits of a whole number at most; no count, size or seed has half as many."""

PLAIN_VALUES = 2_000_000
"""Values of a config or an index at most: an index's for a million tensors."""


def read(text: bytes | bytearray, where: str) -> Any:
    """The value of a JSON text that says something of a model: of no great depth, size or precision.

    Raises:
        FormatError: it is no JSON, or nested more deeply than any config.
        UnsafeError: it holds more values than any config or index.
    """
    if len(text) > FREE and sum(map(text.count, (b",", b"[", b"{", b":"))) > PLAIN_VALUES:
        raise UnsafeError(f"{where} holds more than {PLAIN_VALUES:,} values: refused")
    value = parse(text, where, whole=_whole)
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for holder in level
            if type(holder) in (dict, list)
            for item in (holder.values() if type(holder) is dict else holder)
            if type(item) in (dict, list)
        ]
        if not level:
            return value
    raise FormatError(
        f"{where} is nested too deeply: more than {DEEPEST} lists and objects within each other"
    )


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


def parse(
    text: bytes | bytearray,
    where: str,
    *,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    constant: Callable[[str], Any] | None = None,
    real: Callable[[str], Any] | None = None,
    whole: Callable[[str], Any] | None = None,
) -> Any:
    """The value that a JSON text holds.

    Args:
        where: what to call it in errors: the file, and what in it.
        pairs, constant, real, whole: `json.loads`' hooks for objects, for NaN and infinities, for numbers
            with a fraction or an exponent, and for others.

    Raises:
        FormatError: it is no JSON.
        UnsafeError: it holds so many values that they would take a gigabyte.
    """
    if len(text) > FREE and sum(map(text.count, (b",", b"[", b"{", b":"))) > VALUES_LIMIT:
        raise UnsafeError(f"{where} holds more than {VALUES_LIMIT:,} values: refused")
    try:
        return json.loads(
            text.decode(),
            object_pairs_hook=pairs,
            parse_constant=constant,
            parse_float=real,
            parse_int=whole,
        )
    except RecursionError:
        raise FormatError(f"{where} is damaged JSON: it is nested too deeply") from None
    except ValueError as error:
        raise FormatError(f"{where} is damaged JSON: {error!s:.120}") from None

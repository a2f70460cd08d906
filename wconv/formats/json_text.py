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


def parse(
    text: bytes | bytearray,
    where: str,
    *,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    constant: Callable[[str], Any] | None = None,
    real: Callable[[str], Any] | None = None,
) -> Any:
    """The value that a JSON text holds.

    Args:
        where: what to call it in errors: the file, and what in it.
        pairs, constant, real: `json.loads`' hooks for objects, for NaN and infinities, and for numbers
            with a fraction or an exponent.

    Raises:
        FormatError: it is no JSON.
        UnsafeError: it holds so many values that they would take a gigabyte.
    """
    if len(text) > FREE and sum(map(text.count, (b",", b"[", b"{", b":"))) > VALUES_LIMIT:
        raise UnsafeError(f"{where} holds more than {VALUES_LIMIT:,} values: refused")
    try:
        return json.loads(text.decode(), object_pairs_hook=pairs, parse_constant=constant, parse_float=real)
    except RecursionError:
        raise FormatError(f"{where} is damaged JSON: it is nested too deeply") from None
    except ValueError as error:
        raise FormatError(f"{where} is damaged JSON: {error!s:.120}") from None

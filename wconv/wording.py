"""How objects print: on one line that fits a terminal, whatever names and paths they hold."""

from __future__ import annotations

from wconv.errors import one_line

WIDTH = 120
"""Characters of a `repr` at most."""


def fitted(text: str) -> str:
    """`text` on one line; of one that is too long, its beginning and its end."""
    line = one_line(text if len(text) <= 4 * WIDTH else text[: 2 * WIDTH] + text[-2 * WIDTH :])
    if len(line) <= WIDTH:
        return line
    kept = (WIDTH - 3) // 2
    return f"{line[:kept]} … {line[-kept:]}"


def plural(count: int, noun: str) -> str:
    """ "1 tensor", "2,000 tensors"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def gigabytes(count: int) -> str:
    """Bytes for people: three digits and a unit of 1,000."""
    if count < 1000:
        return plural(count, "byte")
    value, unit = count / 1000, "kB"
    for unit in ("kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"

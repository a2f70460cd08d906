"""Names without their digits: those of tens of thousands of tensors are of a few kinds.

Whether any of many names has something in it is asked again and again, and mostly the answer is no. The
kinds are found once, and where none of them has it, with its digits taken out as well, no name has.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

WITHOUT_DIGITS = dict.fromkeys(map(ord, "0123456789"))


def may_end(names: Iterable[str], endings: tuple[str, ...]) -> bool:
    """False where no name ends in one of these ways; where it is True, some name may."""
    bare = tuple(ending.translate(WITHOUT_DIGITS) for ending in endings)
    return any(kind.endswith(bare) for kind in _kinds(tuple(names)))


def may_contain(names: Iterable[str], texts: Iterable[str]) -> bool:
    """False where no name has one of these texts in it; where it is True, some name may."""
    bare = [text.translate(WITHOUT_DIGITS) for text in texts]
    return any(text in kind for kind in _kinds(tuple(names)) for text in bare)


@functools.lru_cache(maxsize=2)
def _kinds(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset("\n".join(names).translate(WITHOUT_DIGITS).split("\n"))

"""What a consumer does to dtypes of models that have no table here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Patterns = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CastRules:
    """Which tensors of a consumer's models a cast leaves alone, by `model_type` in lower case.

    Attributes:
        model_types: the models that it loads, in all spellings that it takes.
        kept: model type → patterns of the names that its own conversion does not cast; of models that are
            not listed it casts all.
        computed: model type → patterns of the names with which it computes in their own dtype when it loads;
            models that have tables are left out.
    """

    model_types: frozenset[str]
    kept: Mapping[str, Patterns]
    computed: Mapping[str, Patterns]

"""Which files of a directory are its weights: an index with its shards, or files by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv.errors import FormatError
from wconv.formats.side_files import APPLE_DOUBLE

EITHER_END = re.compile(
    r"(?:.+\.)?(?:lm_head|embed_out|embed_tokens|word_embeddings|wte|shared|decoder)\.(?:weight|bias)"
)
"""Names of the embeddings and of the head, which may be one matrix under two names."""


@dataclass(frozen=True, slots=True)
class Found:
    """The weights of a directory.

    Attributes:
        shards: the files' names, in order.
        index: the index's name, and `listed` what it says: name → file; None without one.
        notes: what the user should be told.
    """

    shards: list[str]
    index: str | None = None
    listed: dict[str, str] | None = None
    notes: tuple[str, ...] = ()


def listdir(directory: str | os.PathLike[str]) -> list[str]:
    """What is in a directory, sorted; without what macOS adds."""
    return sorted(name for name in os.listdir(directory) if not name.startswith(APPLE_DOUBLE))


def indexes(names: Sequence[str], variant: str | None) -> tuple[list[str], list[str]]:
    """The indexes of safetensors and of PyTorch files, `model` before others."""
    ending = f".index.{variant}.json" if variant else ".index.json"

    def of(suffix: str) -> list[str]:
        found = [name for name in names if name.endswith(suffix + ending)]
        return sorted(found, key=lambda name: (not name.startswith("model."), name))

    return of(".safetensors"), of(".bin")


def missing(directory: Path, index: str, listed: Mapping[str, str]) -> tuple[list[str], FormatError | None]:
    """The files that an index lists, and the error where some are not there."""
    shards = sorted(set(listed.values()))
    gone = [shard for shard in shards if not os.path.exists(directory / shard)]
    if not gone:
        return shards, None
    more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
    return shards, FormatError(f"{directory / gone[0]}{more} is missing: {index} lists it; download it again")


def instead(index: str, taken: str) -> str:
    """What is told where the files of an index are not there and others are complete."""
    return f"{index} lists files that are not there: {taken} is taken"


def tied(name: str, held: Collection[str], config: Mapping[str, Any] | None) -> str | None:
    """The name that has the values of one that an index lists and no file holds; None where there is none.

    Programs leave out one of two names for the same matrix, and some list it all the same.
    """
    if config is None or not EITHER_END.fullmatch(name):
        return None
    text = config.get("text_config")
    said = [part.get("tie_word_embeddings") for part in (config, text) if isinstance(part, Mapping)]
    if False in said:
        return None
    return next((other for other in held if EITHER_END.fullmatch(other)), None)

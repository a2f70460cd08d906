"""Which files of a directory are its weights: an index with its shards, or files by their names."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wconv.checkpoints import index as shard_index
from wconv.checkpoints import model_parallel
from wconv.errors import FormatError
from wconv.formats import registry
from wconv.formats.side_files import APPLE_DOUBLE

NUMBERED = re.compile(r"(?P<stem>.+?)-(?P<number>\d{5,6})-of-(?P<count>\d{5,6})(?P<suffix>\.[A-Za-z.]+)")

NOT_WEIGHTS = re.compile(
    r"(?:optimizer|scheduler|sampler|scaler|dl_state_dict)(?:_\d+)?\.(?:bin|pt)|rng_state(?:_\d+)?\.pth"
    r"|training_args\.bin|(?:optim|extra_state)_world_size_\d+_rank_\d+\.pt|common\.pt"
)
"""What trainers leave beside a model under the names of weights."""

ADAPTERS, EARLIER = "adapters.safetensors", re.compile(r"\d+_adapters\.safetensors")
"""What mlx-lm trains, and what it keeps of it on the way (mlx-lm 0.32, `tuner/trainer.py`)."""


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


def is_weights(name: str) -> bool:
    """Whether a file's name says that it holds weights."""
    return name.endswith(registry.weights_suffixes()) and not NOT_WEIGHTS.fullmatch(name)


def find_weights(directory: Path, names: list[str], variant: str | None) -> Found:
    """The weights: by an index where there is one, of safetensors before PyTorch's, else by name.

    Raises:
        FormatError: there are none, several, or not all that an index lists and nothing complete instead.
    """
    safe, *pickled = shard_index.indexes(names, variant)
    listed: set[str] = set()
    refused: FormatError | None = None
    first = ""
    for at, index in enumerate((*safe, *itertools.chain(*pickled))):
        if at == len(safe):
            others = [
                name for name in names if name not in listed and name.endswith(registry.SAFETENSORS.suffixes)
            ]
            if not safe and others:
                break
            whole = _complete(directory, others, variant) if refused else None
            if whole is not None:
                return _instead(first, whole)
        weight_map = shard_index.read_index(directory, index)
        shards, error = shard_index.missing(directory, index, weight_map)
        if error is None:
            notes = (shard_index.instead(first, index),) if refused else ()
            return Found(shards, index, weight_map, notes)
        listed.update(shards)
        refused, first = refused or error, first or index
    if refused is None:
        return Found(_find_weights(directory, names))
    whole = _complete(directory, [name for name in names if name not in listed], variant)
    if whole is None:
        raise refused
    return _instead(first, whole)


def _instead(index: str, shards: list[str]) -> Found:
    """Files that are taken because those that an index lists are not there."""
    more = f" and {len(shards) - 1} more" if len(shards) > 1 else ""
    return Found(shards, notes=(shard_index.instead(index, shards[0] + more),))


def _complete(directory: Path, names: list[str], variant: str | None) -> list[str] | None:
    """Files that are surely a whole model, by the names that say so; None where there are none."""
    complete = [pattern for pattern in registry.directory_patterns() if "*" not in pattern]
    try:
        return _find_weights(directory, names, registry.directory_patterns() if variant else complete)
    except FormatError:
        return None


def _find_weights(directory: Path, names: list[str], patterns: Sequence[str] | None = None) -> list[str]:
    """The weights files of a directory that has no index: the first of `patterns` that is there.

    Args:
        patterns: those of the registry when absent: safetensors before pickles.
    """
    candidates = [name for name in names if is_weights(name)]
    if ADAPTERS in candidates:
        candidates = [name for name in candidates if not EARLIER.fullmatch(name)]
    families: dict[str, list[str]] = {}
    for name in candidates:
        numbered = NUMBERED.fullmatch(name)
        piece = model_parallel.PIECE.fullmatch(name)
        family = f"consolidated.*.{piece['suffix']}" if piece else name
        families.setdefault(numbered["stem"] + numbered["suffix"] if numbered else family, []).append(name)
    for wanted in registry.directory_patterns() if patterns is None else patterns:
        if wanted in families:
            found = [wanted]
        else:
            found = [name for name in families if wanted[0] == "*" and name.endswith(wanted[1:])]
        if len(found) > 1:
            raise FormatError(
                f"{directory} holds several weights files ({', '.join(found[:4])}"
                f"{', …' if len(found) > 4 else ''}): name the one to convert"
            )
        if found:
            _check_numbers(directory, families[found[0]])
            if model_parallel.PIECE.fullmatch(families[found[0]][0]):
                return model_parallel.order(families[found[0]], directory)
            return families[found[0]]
    raise FormatError(f"{directory} holds no weights (no *.safetensors, *.bin, *.pt …)")


def _check_numbers(directory: Path, shards: list[str]) -> None:
    """`…-00002-of-00004` promises four files: each must be there, once."""
    numbered = [match for name in shards if (match := NUMBERED.fullmatch(name))]
    if not numbered:
        return
    counts = {int(match["count"]) for match in numbered}
    if len(counts) > 1 or len(numbered) != len(shards):
        raise FormatError(f"{directory} mixes shards of several sets ({shards[0]}, {shards[-1]}): keep one")
    count = counts.pop()
    present = {int(match["number"]) for match in numbered}
    first = 0 if 0 in present else 1
    missing = [number for number in range(first, first + min(count, 10**6)) if number not in present]
    if missing:
        name = numbered[0]
        width = len(name["number"])
        lost = f"{name['stem']}-{missing[0]:0{width}}-of-{name['count']}{name['suffix']}"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FormatError(f"{directory / lost}{more} is missing: download it again")

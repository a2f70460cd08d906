"""An index of shards: which file each tensor is in, and whether the files agree with it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from wconv.errors import FormatError
from wconv.formats import prefixes, registry
from wconv.formats.contents import Contents
from wconv.formats.side_files import read_json

EITHER_END = re.compile(
    r"(?:.+\.)?(?:lm_head|embed_out|embed_tokens|word_embeddings|wte|shared|decoder)\.(?:weight|bias)"
)
"""Names of the embeddings and of the head, which may be one matrix under two names."""


def indexes(names: Sequence[str], variant: str | None) -> list[list[str]]:
    """The indexes among a directory's files, by what their shards end in: in the order of `shard_suffixes`.

    Of several, `model` comes before others.
    """
    ending = f".index.{variant}.json" if variant else ".index.json"
    found = [[name for name in names if name.endswith(shard + ending)] for shard in registry.shard_suffixes()]
    return [sorted(each, key=lambda name: (not name.startswith("model."), name)) for each in found]


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


def read_index(directory: Path, index: str) -> dict[str, str]:
    """What an index says: name → file.

    Raises:
        FormatError: it has no such table, or names a file outside of its directory.
    """
    weight_map = read_json(directory / index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{directory / index} has no weight_map: delete it, or download it again")
    if set(map(type, weight_map.values())) == {str} and all(map(is_plain, set(weight_map.values()))):
        return weight_map
    odd = (pair for pair in weight_map.items() if not isinstance(pair[1], str) or not is_plain(pair[1]))
    name, shard = next(odd)
    raise FormatError(
        f"{directory / index} places {name!r:.80} in {shard!r:.80}, no plain file name: refused"
    )


def is_plain(name: str) -> bool:
    """A file name that stays within its directory on every system, and fits on a line."""
    if not 0 < len(name) < 256 or name in (".", "..") or not name.isprintable():
        return False
    return not any(sign in name for sign in "/\\:")


def check_index(
    directory: Path,
    index: str,
    weight_map: Mapping[str, str],
    merged: list[Contents],
    config: Mapping[str, Any] | None,
) -> tuple[str, ...]:
    """What the user should know of the differences between an index and its shards.

    PyTorch shards may hold more (tied heads), and both may lack one of two names of one matrix.

    Args:
        weight_map: what the index says: name → file.
        merged: the shards' contents, sorted by the shards' names.
        config: config.json, which says whether embeddings and head are one matrix.

    Raises:
        FormatError: a tensor is in another file than the index says, or in none.
    """
    shards = sorted(set(weight_map.values()))
    if merged[0].format != registry.SAFETENSORS.name and prefixes.may_have(weight_map):
        # as the names in the files were read
        short, _ = prefixes.strip_prefixes(list(weight_map))
        weight_map = {short[name]: shard for name, shard in weight_map.items()}
    apart = {name: parts for contents in merged for name, parts in contents.apart.items()}
    if apart:
        weight_map = {part: shard for name, shard in weight_map.items() for part in apart.get(name, (name,))}
    if weight_map == {
        name: shard for shard, contents in zip(shards, merged, strict=True) for name in contents.tensors
    }:
        return ()
    unlisted: list[str] = []
    held: set[str] = set()
    for shard, contents in zip(shards, merged, strict=True):
        held.update(contents.tensors, contents.skipped)
        for name in contents.tensors:
            listed = weight_map.get(name)
            if listed is None and contents.format != registry.SAFETENSORS.name:
                unlisted.append(f"{name:.200} is in {shard} though {index} does not list it")
            elif listed != shard:
                where = f"places in {listed}" if listed else "does not list"
                raise FormatError(
                    f"{directory / shard} holds {name:.80}, which {index} {where}:"
                    " download both again, or delete the index"
                )
    for name, shard in weight_map.items():
        if name not in held:
            other = tied(name, held, config)
            if other is not None:
                unlisted.append(f"{name:.200} is in no file though {index} lists it: tied to {other:.200}")
                continue
            raise FormatError(
                f"{name:.80} is missing: {index} places it in {directory / shard}, which lacks it"
            )
    return tuple(unlisted)

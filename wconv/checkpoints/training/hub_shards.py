"""What torch's `HuggingFaceStorageWriter` leaves: safetensors files of each rank, without an index.

`shard-00001-model-00001-of-00001.safetensors`: the header says where each tensor begins in the whole (torch
2.13, `distributed/checkpoint/hf_storage.py`). How long the whole is follows from the pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wconv.checkpoints.training import dcp
from wconv.checkpoints.training.file_names import SHARD
from wconv.checkpoints.training.saved import RankFiles
from wconv.errors import FormatError
from wconv.formats import safetensors
from wconv.formats.torch.objects import JoinedTensor
from wconv.tensors.lazy import checked_shape
from wconv.tensors.pieces import Piece, joined

CONSOLIDATED = "sharded"
"""The sub-directory in which they stay when torch has joined them."""


def find(directory: Path, names: Sequence[str]) -> list[str]:
    """The ranks' files among those of a directory."""
    return [name for name in names if SHARD.fullmatch(name)]


def read(directory: Path, names: Sequence[str]) -> tuple[dict[Any, Any], RankFiles]:
    """The tensors, and the files they lie in.

    Raises:
        FormatError: a rank's file is missing or damaged, or a tensor has a hole.
    """
    files = RankFiles(directory, names[0])
    ranks = {int(match["rank"]) for name in names if (match := SHARD.fullmatch(name))}
    lost = next((rank for rank in range(1, len(ranks) + 1) if rank not in ranks), None)
    if lost is not None:
        gone = f"shard-{lost:05d}{names[0][len('shard-00000') :]}"
        raise FormatError(f"{directory / gone} is missing: copy the files of all ranks")
    pieces: dict[str, list[Piece]] = {}
    for name in names:
        path = files.path(name)
        contents = safetensors.open_file(path)
        offsets = dcp.saved_offsets(contents.metadata, path)
        for key, tensor in contents.tensors.items():
            begin = tuple(offsets.get(key, (0,) * tensor.ndim))
            if len(begin) != tensor.ndim:
                raise FormatError(f"{path}: {key:.100} has {tensor.ndim} axes and begins at {begin!r:.60}")
            pieces.setdefault(key, []).append(Piece(begin, tensor))
    root: dict[Any, Any] = {}
    for key, held in pieces.items():
        ends = {piece.ends for piece in held}
        if len({len(end) for end in ends}) > 1:
            raise FormatError(f"{directory}: the pieces of {key:.100} have different numbers of axes")
        shape = checked_shape(tuple(map(max, zip(*ends, strict=True))), f"{directory}: {key:.100}")
        root[key] = JoinedTensor(joined(held, held[0].tensor.dtype, shape, key, str(directory)))
    return root, files

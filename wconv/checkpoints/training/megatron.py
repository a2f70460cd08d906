"""Megatron's older checkpoints: a directory for each rank, `mp_rank_01_000/model_optim_rng.pt`.

Tensor-parallel ranks hold columns or rows of a layer, pipeline ranks a range of the layers, expert-parallel
ranks a range of the experts. Its newer form (`torch_dist`) says where each piece lies and needs none of this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv.checkpoints.training.saved import RankFiles
from wconv.checkpoints.training.zero import lazy
from wconv.errors import FormatError
from wconv.formats import load_tree
from wconv.formats.torch.objects import LEAVES, JoinedTensor, Record, plain_number
from wconv.tensors import operations
from wconv.tensors.lazy import LazyTensor
from wconv.tensors.pieces import Piece, joined

RANK = re.compile(r"mp_rank_(?P<tensor>\d{2,4})(?:_(?P<second>\d{3,4}))?(?:_(?P<third>\d{3,4}))?")
"""A rank's directory: tensor-parallel, then pipeline and expert, of which either may be missing."""

FILES = ("model_optim_rng.pt", "model_rng.pt")
"""What holds the model in it: with the optimizer, or without."""

OLD_NAMES = (
    (r"language_model\.embedding\.", "embedding."),
    (r"language_model\.(encoder|transformer)\.", "decoder."),
    (r"language_model\.output_layer\.", "output_layer."),
    (r"\.self_attention\.query_key_value\.", ".self_attention.linear_qkv."),
    (r"\.self_attention\.dense\.", ".self_attention.linear_proj."),
    (r"\.mlp\.dense_h_to_4h\.", ".mlp.linear_fc1."),
    (r"\.mlp\.dense_4h_to_h\.", ".mlp.linear_fc2."),
    (r"\.input_norm\.", ".input_layernorm."),
    (r"\.post_attention_(layer)?norm\.", ".pre_mlp_layernorm."),
    (r"\.final_norm\.", ".final_layernorm."),
)
"""Names from before Megatron-Core, and what they are called since."""

COLUMNS = re.compile(
    r".*\.(?:linear_qkv|linear_fc1)\.(?:weight|bias)|(?:.*\.)?(?:word_embeddings|output_layer)\.\w+"
)
ROWS = re.compile(r".*\.(?:linear_proj|linear_fc2)\.weight")
GATED = re.compile(r"(.*)\.linear_fc1\.(?:weight|bias)")
LAYER = re.compile(r"((?:.*\.)?layers\.)(\d{1,6})(\..*)")
EXPERT = re.compile(r"(.*\.local_experts\.)(\d{1,6})(\..*)")


@dataclass(frozen=True, slots=True)
class _Rank:
    """A rank's file: its places along the three ways in which a model is spread, and its state dicts.

    Attributes:
        chunks: one for each part of a pipeline stage: several where stages are interleaved.
    """

    tensor: int
    pipeline: int
    expert: int
    path: str
    chunks: tuple[Mapping[str, LazyTensor], ...]


def find(directory: Path, names: Sequence[str]) -> list[str]:
    """The files of the ranks; none where the directory is another."""
    found: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if RANK.fullmatch(entry.name) and entry.is_dir():
                found += [
                    f"{entry.name}/{name}" for name in FILES if (directory / entry.name / name).is_file()
                ]
    return sorted(found)


def read(directory: Path, names: Sequence[str]) -> tuple[dict[Any, Any], RankFiles]:
    """The state dict with the names of Megatron-Core, layers and experts numbered through.

    Raises:
        FormatError: a rank is missing, or the parts do not fit each other.
        UnsafeError: a file asks for something that no weights need.
    """
    files = RankFiles(directory, names[0])
    ranks = _ranks(directory, names, files)
    where = str(directory)
    found: dict[str, list[tuple[int, Piece]]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    tensor_ranks = 1 + max(rank.tensor for rank in ranks)
    expert_ranks = 1 + max(rank.expert for rank in ranks)
    stages = 1 + max(rank.pipeline for rank in ranks)
    offset = 0
    for part in range(max(len(rank.chunks) for rank in ranks)):
        for stage in range(stages):
            held = [rank for rank in ranks if rank.pipeline == stage and part < len(rank.chunks)]
            if len(held) != tensor_ranks * expert_ranks:
                raise FormatError(
                    f"{where} holds {len(held)} ranks of pipeline stage {stage}, not"
                    f" {tensor_ranks * expert_ranks}: copy the directories of all ranks"
                )
            layers = _stage(held, part, offset, tensor_ranks, found, shapes, where)
            offset += layers
    root = {
        name: JoinedTensor(
            joined([piece for _, piece in parts], parts[0][1].tensor.dtype, shapes[name], name, where)
        )
        for name, parts in found.items()
    }
    return root, files


def _stage(
    held: Sequence[_Rank],
    part: int,
    offset: int,
    tensor_ranks: int,
    found: dict[str, list[tuple[int, Piece]]],
    shapes: dict[str, tuple[int, ...]],
    where: str,
) -> int:
    """Adds the pieces of one stage; the number of its layers."""
    layers = experts = 0
    for name in held[0].chunks[part]:
        if match := LAYER.fullmatch(name):
            layers = max(layers, int(match[2]) + 1)
        if match := EXPERT.fullmatch(name):
            experts = max(experts, int(match[2]) + 1)
    for rank in held:
        chunk = rank.chunks[part]
        for name, tensor in chunk.items():
            full = name
            if match := LAYER.fullmatch(full):
                full = f"{match[1]}{int(match[2]) + offset}{match[3]}"
            if match := EXPERT.fullmatch(full):
                full = f"{match[1]}{int(match[2]) + experts * rank.expert}{match[3]}"
            for begin, piece, shape in _cut(name, tensor, chunk, rank.tensor, tensor_ranks):
                if shapes.setdefault(full, shape) != shape:
                    raise FormatError(f"{rank.path}: {name:.200} has another shape than in other ranks")
                found.setdefault(full, []).append((rank.tensor, Piece(begin, piece)))
    return layers


def _cut(
    name: str, tensor: LazyTensor, chunk: Mapping[str, LazyTensor], rank: int, ranks: int
) -> list[tuple[tuple[int, ...], LazyTensor, tuple[int, ...]]]:
    """Where a rank's part lies in the whole: its beginning, itself, and the whole's shape."""
    shape = tensor.shape
    zeros = (0,) * tensor.ndim
    axis = 0 if COLUMNS.fullmatch(name) else 1 if ROWS.fullmatch(name) else None
    if ranks == 1 or axis is None or tensor.ndim <= axis:
        return [(zeros, tensor, shape)]
    whole = (*shape[:axis], shape[axis] * ranks, *shape[axis + 1 :])
    gated = GATED.fullmatch(name)
    second = chunk.get(f"{gated[1]}.linear_fc2.weight") if gated else None
    if second is not None and second.ndim == 2 and shape[0] == 2 * second.shape[1]:
        # the gate and what it gates are one matrix, of which each is cut by itself
        half = shape[0] // 2
        parts = operations.split(tensor, 2, axis=0)
        return [((at * half * ranks + rank * half, *zeros[1:]), part, whole) for at, part in enumerate(parts)]
    begin = (*zeros[:axis], rank * shape[axis], *zeros[axis + 1 :])
    return [(begin, tensor, whole)]


def _ranks(directory: Path, names: Sequence[str], files: RankFiles) -> list[_Rank]:
    """The ranks' files, opened."""
    roots = {name: load_tree(files.path(name)) for name in names}
    first = roots[names[0]]
    args = first.get("args") if isinstance(first, dict) else None
    settings = args.attributes if isinstance(args, Record) else {}
    stages = plain_number(settings.get("pipeline_model_parallel_size"))
    version = plain_number(first.get("checkpoint_version", 3.0)) if isinstance(first, dict) else None
    if not isinstance(version, int | float) or version < 3:
        raise FormatError(
            f"{directory / names[0]} is of Megatron's version {version!r:.20}: 3 and later are read"
        )
    ranks: list[_Rank] = []
    for name in names:
        match = RANK.fullmatch(name.partition("/")[0])
        assert match is not None
        second, third = int(match["second"] or 0), int(match["third"] or 0)
        if match["third"] is None and match["second"] is not None and stages == 1:
            second, third = 0, second
        path = str(directory / name)
        ranks.append(_Rank(int(match["tensor"]), second, third, path, _chunks(roots[name], path)))
    if len({(rank.tensor, rank.pipeline, rank.expert) for rank in ranks}) < len(ranks):
        raise FormatError(f"{directory} holds a rank twice ({names[0]}): keep one")
    return ranks


def _chunks(root: Any, path: str) -> tuple[Mapping[str, LazyTensor], ...]:
    """The state dicts of a rank's file, with the names of Megatron-Core."""
    held = root if isinstance(root, dict) else {}
    found = [held["model"]] if "model" in held else []
    while not found or (found and f"model{len(found)}" in held and "model" not in held):
        state = held.get(f"model{len(found)}")
        if not isinstance(state, dict):
            break
        found.append(state)
    if not found or not all(isinstance(state, dict) for state in found):
        raise FormatError(f"{path} holds no model of Megatron's")
    return tuple(_renamed(state, path) for state in found)


def _renamed(state: Mapping[Any, Any], path: str) -> dict[str, LazyTensor]:
    flat: dict[str, LazyTensor] = {}
    pending: list[tuple[str, Mapping[Any, Any], int]] = [("", state, 0)]
    while pending:
        prefix, values, depth = pending.pop()
        for key, value in values.items():
            name = f"{prefix}{key}" if isinstance(key, str) else ""
            if isinstance(value, LEAVES) and name and not name.endswith("._extra_state"):
                short = name
                for pattern, other in OLD_NAMES:
                    short = re.sub(pattern, other, short)
                flat[short] = lazy(path, name, value)
            elif isinstance(value, dict) and name and depth < 10:
                pending.append((f"{name}.", value, depth + 1))
    return flat

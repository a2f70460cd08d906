"""Tensors that were spread over several devices: taken where one file holds all of one.

`DTensor` says how the whole is spread over a mesh of devices; `ShardedTensor`, which FSDP's first form saves
(`SHARDED_STATE_DICT`), says of each shard where it begins.
"""

from __future__ import annotations

from typing import Any

from wconv.formats.torch.objects import (
    Global,
    LostTensor,
    MetaTensor,
    Record,
    ShardedPart,
    TensorPart,
    TorchTensor,
)
from wconv.tensors.lazy import is_shape

ADVICE = "save it with full_tensor()"


def is_dtensor(cls: Any) -> bool:
    """Whether a class is torch's distributed tensor, wherever its versions keep it."""
    return type(cls) is Global and cls.name == "DTensor" and cls.module.startswith("torch.distributed")


def whole(made: Record, state: Any) -> TorchTensor | LostTensor:
    """The part that the file holds, where that is the whole.

    Args:
        made: `_rebuild_wrapper_subclass(class, dtype, size, …)`, which was not called.
        state: `_local_tensor` and `_spec` by name.
    """
    parts = Record(made.constructor)
    parts.state = state
    held = parts.attributes.get("_local_tensor")
    if type(held) is MetaTensor:
        return LostTensor("it is a DTensor on the meta device, without values")
    if type(held) is not TorchTensor:
        return LostTensor("it is a DTensor whose part is not in the file")
    shape = made.args[2] if type(made.args) is tuple and len(made.args) > 2 else None
    if not isinstance(shape, tuple):
        return LostTensor("it is a DTensor of unknown shape")
    spec: Any = parts.attributes.get("_spec")
    if tuple(shape) != held.shape:
        reason = (
            f"it is a DTensor of which the file holds only the part {list(held.shape)!r:.60}"
            f" of {list(shape)!r:.60}: {ADVICE}"
        )
        return TensorPart(reason, held, tuple(shape), spec) if is_shape(tuple(shape)) else LostTensor(reason)
    how = _placements(spec)
    if how is None or ("Partial" in how and not _alone(spec)):
        return LostTensor(f"it is a DTensor of which each device holds a summand: {ADVICE}")
    return held.copy()


def _alone(spec: Record) -> bool:
    """Whether the mesh is of one device."""
    mesh = spec.attributes.get("mesh")
    held = [mesh.attributes.get(name) for name in ("_rank_map", "mesh")] if type(mesh) is Record else []
    return any(type(ranks) is TorchTensor and set(ranks.shape) == {1} for ranks in held)


def _placements(spec: Any) -> list[str] | None:
    """How it lies on each axis of the mesh: the names of the classes ("Shard", "Replicate")."""
    found: Any = spec.attributes.get("placements") if type(spec) is Record else None
    if type(found) not in (tuple, list) or not all(type(one) is Record for one in found):
        return None
    return [one.class_name.rpartition(".")[2].removeprefix("_") for one in found]


def is_sharded(cls: Any) -> bool:
    """Whether a class is torch's `ShardedTensor`."""
    return type(cls) is Global and cls.name == "ShardedTensor" and cls.module.startswith("torch.distributed")


def shards(made: Record, state: Any) -> TorchTensor | LostTensor:
    """The shards that the file holds; the tensor where they are one that is the whole.

    Args:
        made: `_rebuild_wrapper_subclass(class, dtype, size, …)`, which was not called.
        state: the shards, and what else torch needs to make the tensor again.
    """
    shape = made.args[2] if type(made.args) is tuple and len(made.args) > 2 else None
    held = state[0] if type(state) is tuple and state else None
    if not isinstance(shape, tuple) or not is_shape(tuple(shape)) or type(held) is not list:
        return LostTensor("it is a ShardedTensor that does not say what is in the file")
    found: list[tuple[tuple[int, ...], TorchTensor]] = []
    for shard in held:
        values = shard.attributes if type(shard) is Record else {}
        tensor, metadata = values.get("tensor"), values.get("metadata")
        begin: Any = metadata.attributes.get("shard_offsets") if type(metadata) is Record else None
        if (
            type(tensor) is not TorchTensor
            or type(begin) not in (list, tuple)
            or len(begin) != len(shape)
            or any(type(at) is not int for at in begin)
        ):
            return LostTensor("it is a ShardedTensor of which a shard is not described")
        found.append((tuple(begin), tensor))
    if len(found) == 1 and found[0][1].shape == tuple(shape):
        return found[0][1].copy()
    sizes = ", ".join(str(list(tensor.shape)) for _, tensor in found[:4]) or "nothing"
    reason = f"it is a ShardedTensor of which the file holds only {sizes:.60} of {list(shape)!r:.60}"
    return ShardedPart(f"{reason}: join the files of all ranks", tuple(found), tuple(shape))

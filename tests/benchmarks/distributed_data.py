"""Distributed checkpoints of a given size that torch itself writes."""

from __future__ import annotations

import json
import os
import pickle
import socket
from pathlib import Path
from typing import Any

from tests.benchmarks.data import qwen_shapes

RANKS = 4
PIECES = 50_000
PIECE = 1_600
"""Bytes of a piece in the file of a checkpoint of many."""


def four_ranks(path: Path, scale: float, *, files: bool = False) -> Path:
    """3 GB in the shape of Qwen2.5-7B, as torch.distributed.checkpoint saves it of four ranks."""
    import torch.multiprocessing as mp

    config, _ = qwen_shapes(3e9 * scale)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_save, (port, str(path), scale, files), nprocs=RANKS)  # type: ignore[no-untyped-call]
    (path / "config.json").write_text(json.dumps(config))
    return path


def rank_files(path: Path, scale: float) -> Path:
    """The same as one file of each rank."""
    return four_ranks(path, scale, files=True)


def zero_shares(path: Path, scale: float) -> Path:
    """3 GB in the shape of Qwen2.5-7B in float32, in the form that DeepSpeed's ZeRO 2 saves of four ranks."""
    import torch

    config, shapes = qwen_shapes(1.5e9 * scale)
    sizes = {name: torch.Size(shape) for name, shape in shapes}
    count = sum(size.numel() for size in sizes.values())
    share = -(-count // (2 * RANKS)) * 2
    path.mkdir(parents=True)
    model = {"module": {}, "buffer_names": [], "param_shapes": [sizes], "shared_params": {}}
    torch.save({**model, "ds_version": "0.19.8"}, path / "mp_rank_00_model_states.pt")
    for rank in range(RANKS):
        flat = torch.randint(-(2**14), 2**14, (share,), dtype=torch.int32).float()
        held = {"zero_stage": 2, "partition_count": RANKS, "single_partition_of_fp32_groups": [flat]}
        state = {"optimizer_state_dict": held}
        torch.save(state, path / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    (path / "config.json").write_text(json.dumps(config))
    return path


def _save(rank: int, port: int, folder: str, scale: float, files: bool) -> None:
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(RANKS))
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    mesh = init_device_mesh("cpu", (RANKS,))
    state: dict[str, Any] = {}
    _, shapes = qwen_shapes(3e9 * scale)
    for name, shape in shapes:
        step = -(-shape[0] // RANKS)
        begin = min(rank * step, shape[0])
        own = (min(begin + step, shape[0]) - begin, *shape[1:])
        local = torch.randint(-(2**14), 2**14, own, dtype=torch.int16).view(torch.bfloat16)
        stride = torch.empty(shape, device="meta").stride()
        state[name] = DTensor.from_local(
            local, mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=stride
        )
    if files:
        Path(folder).mkdir(parents=True, exist_ok=True)
        torch.save(state, f"{folder}/model_world_size_{RANKS}_rank_{rank}.pt")
    else:
        dcp.save(state, checkpoint_id=folder)
    dist.barrier()
    dist.destroy_process_group()


def many_pieces(path: Path, scale: float) -> Path:
    """`.metadata` of 50,000 pieces in the files of 50 ranks, which are empty: nothing of them is read."""
    from torch import Size, bfloat16
    from torch.distributed.checkpoint import metadata as torch_metadata
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    ranks = 50
    tensors: dict[str, Any] = {}
    places: dict[Any, Any] = {}
    for at in range(int(PIECES * scale) // ranks):
        name = f"model.layers.{at // 12}.mlp.experts.{at % 12}.weight"
        chunks = []
        for rank in range(ranks):
            begin = Size([8 * rank, 0])
            chunks.append(torch_metadata.ChunkStorageMetadata(begin, Size([8, 16])))
            index = torch_metadata.MetadataIndex(name, begin, rank)
            places[index] = _StorageInfo(f"__{rank}_0.distcp", at * PIECE, PIECE)
        properties = torch_metadata.TensorProperties(bfloat16)
        tensors[name] = torch_metadata.TensorStorageMetadata(properties, Size([8 * ranks, 16]), chunks)
    path.mkdir(parents=True)
    described = torch_metadata.Metadata(tensors, {name: (name,) for name in tensors}, places)
    (path / ".metadata").write_bytes(pickle.dumps(described))
    for rank in range(ranks):
        with open(path / f"__{rank}_0.distcp", "wb") as file:
            file.truncate(len(tensors) * PIECE)
    return path

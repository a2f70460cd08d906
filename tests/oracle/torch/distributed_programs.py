"""What runs in the processes of a distributed job, for `test_distributed.py`: imported by each of them."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

FIXTURES = Path(__file__).parents[3] / "fixtures" / "training"


def maker(name: str = "make") -> ModuleType:
    """The script that made the fixtures."""
    spec = importlib.util.spec_from_file_location(f"fixtures_{name}", FIXTURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spawn(function: Callable[..., None], world: int, *arguments: Any) -> None:
    """Runs a function in so many processes: with the rank, their number, a port, and the arguments."""
    import torch.multiprocessing as mp

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_run, (function, world, port, *arguments), nprocs=world)  # type: ignore[no-untyped-call]


def _run(rank: int, function: Callable[..., None], *arguments: Any) -> None:
    function(rank, *arguments)
    # at once: threads of gloo that still run while the interpreter ends can abort it
    os._exit(0)


def join_group(rank: int, world: int, port: int) -> None:
    """Makes this process one of a job."""
    import torch
    import torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(world))
    os.environ.update(LOCAL_RANK=str(rank), ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)


def save_case(rank: int, world: int, port: int, folder: str, kind: str) -> None:
    """One of the fixtures' cases."""
    maker().save(rank, world, port, folder, kind)


def first_form(model: Any) -> Any:
    """A model under FSDP's first form, whose state dict is one of shards."""
    import torch
    from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    policy = ModuleWrapPolicy({type(model.model.layers[0])})
    wrapped = FullyShardedDataParallel(model, auto_wrap_policy=policy, device_id=torch.device("cpu"))
    FullyShardedDataParallel.set_state_dict_type(wrapped, StateDictType.SHARDED_STATE_DICT)
    return wrapped


def save_llama(rank: int, world: int, port: int, model: str, folder: str, kind: str) -> None:
    """A model directory of transformers', sharded by FSDP2 and saved in one of several ways."""
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoModelForCausalLM

    join_group(rank, world, port)
    made = AutoModelForCausalLM.from_pretrained(model)
    if kind == "fsdp1":
        state = first_form(made).state_dict()
    else:
        mesh = init_device_mesh("cpu", (world,))
        for layer in made.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(made, mesh=mesh)
        state = made.state_dict()
    if kind == "hf":
        dcp.save(state, storage_writer=dcp.HuggingFaceStorageWriter(folder, save_distributed=True))
    elif kind == "safetensors":
        from torch.distributed.checkpoint.filesystem import SerializationFormat

        writer = dcp.FileSystemWriter(folder, serialization_format=SerializationFormat.SAFETENSORS)
        dcp.save({"model": state}, storage_writer=writer)
    elif kind == "uncoordinated":
        dcp.save(state, checkpoint_id=folder, use_collectives=False)
    elif kind == "dcp":
        dcp.save({"model": state}, checkpoint_id=f"{folder}/pytorch_model_fsdp_0")
    elif kind == "prefixed":
        dcp.save({f"actor._orig_mod.{name}": value for name, value in state.items()}, checkpoint_id=folder)
    else:
        Path(folder).mkdir(parents=True, exist_ok=True)
        torch.save(state, f"{folder}/model_world_size_{world}_rank_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def save_accelerate(rank: int, world: int, port: int, folder: str) -> None:
    """`Accelerator.save_state` of a model under FSDP2, whose state is saved in pieces."""
    import torch.distributed as dist
    from accelerate import Accelerator, FullyShardedDataParallelPlugin

    join_group(rank, world, port)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, state_dict_type="SHARDED_STATE_DICT", auto_wrap_policy="NO_WRAP"
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    model = accelerator.prepare(maker().whole().float())
    accelerator.save_state(folder)
    dist.barrier()
    del model
    dist.destroy_process_group()

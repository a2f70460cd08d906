"""The loaders of mflux that read what torch saved, or go through torch's tensors."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.oracle.torch.converters.case import Case, tensors
from tests.oracle.torch.converters.mlx_audio import saved

PROGRAM = "mflux"


def module(name: str) -> Any:
    return importlib.import_module(f"mflux.models.{name}")


def make_shards(torch: Any, folder: Path) -> None:
    from safetensors.torch import save_file

    state = tensors(
        torch,
        {"a.weight": (3, 4), "b.weight": (2, 2, 3), "c": (), "d": (5,)},
        "bfloat16",
        "float32",
        "float16",
    )
    names = list(state)
    for at, part in enumerate((names[:2], names[2:])):
        save_file({name: state[name] for name in part}, folder / f"model-{at}.safetensors")
    index = {"weight_map": {name: f"model-{at // 2}.safetensors" for at, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def loader(name: str, *place: str) -> Any:
    def run(folder: Path, out: Path) -> Any:
        found = getattr(module("common.weights.loading.weight_loader").WeightLoader, name)
        return found(folder.joinpath(*place))

    return run


@contextlib.contextmanager
def downloaded(path: Path) -> Iterator[None]:
    import huggingface_hub

    kept, huggingface_hub.hf_hub_download = huggingface_hub.hf_hub_download, lambda **named: str(path)
    try:
        yield
    finally:
        huggingface_hub.hf_hub_download = kept


def detector(home: str, kind: str, network: str) -> Any:
    """What a detector hands to its network in MLX."""

    def run(folder: Path, out: Path) -> Any:
        own, given = module(home), {}
        kept = getattr(own, network)
        setattr(own, network, given.update)
        try:
            with downloaded(folder / "model.pt"):
                getattr(own, kind)()
        finally:
            setattr(own, network, kept)
        return given

    return run


def make_pid(torch: Any, folder: Path) -> None:
    mapping = module("common.pid_decoder.pid_weight_mapping").PID_WEIGHT_MAPPING
    shapes = {name: ((4, 3, 2, 2), (5,))[at % 2] for at, name in enumerate(mapping)}
    torch.save(tensors(torch, shapes, "bfloat16", "bfloat16", "float32"), folder / "model.pth")


def pid(folder: Path, out: Path) -> Any:
    return module("common.pid_decoder.pid_weight_mapping").convert_checkpoint(str(folder / "model.pth"))


def make_checkpoint(torch: Any, folder: Path) -> None:
    state = tensors(torch, {"a.weight": (3, 4), "b.bias": (5,)}, "float32", "float16")
    torch.save({**state, "step": 3, "args": {"lr": 0.1}}, folder / "model.pt")


HALF = {"model.conv1_1.weight": (4, 3, 3, 3), "model.conv1_1.bias": (4,)}

CASES = [
    Case(
        PROGRAM,
        "WeightLoader torch_checkpoint",
        make_checkpoint,
        loader("_load_torch_checkpoint", "model.pt"),
    ),
    Case(PROGRAM, "WeightLoader torch_convert", make_shards, loader("_load_torch_convert")),
    Case(PROGRAM, "WeightLoader torch_bfloat16", make_shards, loader("_load_torch_bfloat16")),
    Case(PROGRAM, "hed", saved(HALF, "float16"), detector("hed.hed", "HED", "_HEDNet")),
    Case(PROGRAM, "openpose", saved(HALF), detector("openpose.openpose", "OpenPoseBody", "_OpenPoseBodyNet")),
    Case(PROGRAM, "pid_decoder", make_pid, pid),
]

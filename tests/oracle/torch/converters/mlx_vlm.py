"""The converters of mlx-vlm that read what torch saved."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.oracle.torch.converters.case import Case, tensors
from tests.oracle.torch.converters.mlx_audio import saved

PROGRAM = "mlx-vlm"


def module(name: str) -> Any:
    return importlib.import_module(f"mlx_vlm.models.{name}")


BODY = {
    "backbone.encoder.blocks.0.attn.qkv.weight": (12, 4),
    "backbone.encoder.blocks.0.attn.qkv.bias": (12,),
    "backbone.encoder.blocks.0.attn.qkv.bias_mask": (12,),
    "backbone.encoder.blocks.0.attn.proj.weight": (4, 4),
    "backbone.encoder.patch_embed.proj.weight": (4, 3, 2, 2),
    "prompt_encoder.mask_downscaling.0.weight": (4, 1, 2, 2),
    "ray_cond_emb.conv.weight": (4, 3, 1, 1),
    "head.weight": (3, 3),
}


def make_body(torch: Any, folder: Path) -> None:
    state = tensors(torch, BODY, "float32", "bfloat16", "float16")
    state |= {"steps": torch.tensor([3, 1 << 33]), "mask": torch.tensor([True, False])}
    torch.save({"state_dict": state}, folder / "model.ckpt")

    class Inner(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(3, 4))
            self.register_buffer("index", torch.arange(5))
            self.register_buffer("none", torch.zeros(0, 2))

        def forward(self, x: Any) -> Any:
            return x @ self.weight + self.index.sum()

    class Outer(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.character_torch, self.pose_correctives_model = Inner(), Inner()

        def forward(self, x: Any) -> Any:
            return self.character_torch(x)

    torch.jit.trace(Outer().requires_grad_(False), torch.randn(2, 3)).save(str(folder / "mhr.pt"))


def body(folder: Path, out: Path) -> Any:
    import torch

    convert = module("sam3d_body.convert_weights")
    state = torch.load(str(folder / "model.ckpt"), map_location="cpu", weights_only=False)["state_dict"]
    traced = torch.jit.load(str(folder / "mhr.pt"), map_location="cpu")
    return convert.convert_main_checkpoint(state) | convert.convert_mhr_model(traced)


SAM = {
    "detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight": (12, 4),
    "detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.bias": (12,),
    "detector.backbone.vision_backbone.trunk.blocks.0.norm1.weight": (4,),
    "detector.backbone.vision_backbone.trunk.patch_embed.proj.weight": (4, 3, 2, 2),
    "detector.backbone.vision_backbone.trunk.pos_embed": (1, 577, 4),
    "detector.backbone.vision_backbone.trunk.freqs_cis": (3,),
}


def sam(folder: Path, out: Path) -> Any:
    import torch

    state = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
    found = module("sam3_1.convert_weights").convert_weights(state)
    assert len(found) > 5
    return found


def make_moge(torch: Any, folder: Path) -> None:
    shapes = {"encoder.image_mean": (1, 3, 1, 1), "neck.conv.weight": (4, 3, 2, 2), "head.0.weight": (3, 3)}
    torch.save({"model": tensors(torch, shapes), "model_config": {"width": 4}}, folder / "model.pt")


def moge(dtype: str) -> Callable[[Path, Path], None]:
    return lambda folder, out: module("moge3.convert").convert(str(folder / "model.pt"), str(out), dtype)


def make_yolo(torch: Any, folder: Path) -> None:
    """A whole pickled module, as its trainer saves it."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)
    ).half()
    model.nc, model.names = 1, {0: "icon"}
    torch.save({"model": model, "epoch": -1}, folder / "model.pt")


class VerifiedError(Exception):
    """The converter goes on to run the model in MLX, which is no part of the conversion."""


def stop(*args: Any, **kwargs: Any) -> None:
    raise VerifiedError


def yolo(folder: Path, out: Path) -> None:
    own = module("yolo11.yolo11")
    kept, own.load_weights = own.load_weights, stop
    try:
        module("yolo11.convert").convert(str(folder / "model.pt"), str(out))
    except VerifiedError:
        pass
    finally:
        own.load_weights = kept


def rfdetr(folder: Path, out: Path) -> None:
    folder = folder.resolve()
    convert = module("rfdetr.convert")
    variant = next(iter(convert.MODEL_VARIANTS))
    name = convert.MODEL_VARIANTS[variant]["filename"]
    (folder / ".cache" / "rfdetr-mlx").mkdir(parents=True, exist_ok=True)
    target = folder / ".cache" / "rfdetr-mlx" / name
    if not target.exists():
        target.symlink_to(folder / "model.pt")
    kept, os.environ["HOME"] = os.environ.get("HOME", ""), str(folder)
    own = module("rfdetr.config").ModelConfig
    kept_config, own.from_dict = own.from_dict, staticmethod(stop)
    try:
        convert.convert(variant, str(out))
    except VerifiedError:
        pass
    finally:
        os.environ["HOME"], own.from_dict = kept, kept_config


CASES = [
    Case(PROGRAM, "sam3d_body", make_body, body),
    Case(PROGRAM, "sam3_1", saved(SAM), sam),
    *(Case(PROGRAM, f"moge3 {dtype}", make_moge, moge(dtype)) for dtype in ("float32", "bfloat16")),
    Case(PROGRAM, "yolo11", make_yolo, yolo),
    Case(
        PROGRAM,
        "rfdetr",
        saved({"backbone.0.weight": (4, 3, 2, 2), "class_embed.bias": (4,)}, key="model"),
        rfdetr,
    ),
]

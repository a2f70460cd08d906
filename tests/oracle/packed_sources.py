"""Tiny models whose projections are in few bits, in the packings that schemes publish, and their values.

The scales are powers of two, so that MLX's own forms hold every value; those that are not `short` are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.oracles import oracle

Packing = Callable[[str, Any], tuple[dict[str, Any], Any]]
"""(name without `weight`, dense matrix) → the tensors that are stored for it, and the values they mean."""

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
GROUP = 32


def in_groups(tensor: Any, size: int, most: float, *, short: bool = True) -> tuple[Any, Any]:
    """The matrix by groups of its rows, and a scale for each, with which no number is above `most`."""
    torch = oracle("torch")
    parts = tensor.float().reshape(tensor.shape[0], -1, size)
    scale = parts.abs().amax(-1) / most
    return parts, torch.exp2(torch.ceil(torch.log2(scale))) if short else scale


def integers(tensor: Any, dtype: str, *, short: bool = True) -> tuple[Any, Any, Any]:
    """Codes from 0 to 15 of (outputs, inputs), scales for groups, and the values: (code - 8) * scale."""
    torch = oracle("torch")
    parts, scale = in_groups(tensor, GROUP, 7, short=short)
    scale = scale.to(getattr(torch, dtype))
    codes = torch.round(parts / scale.float()[..., None]).clamp(-8, 7) + 8
    values = ((codes - 8) * scale.float()[..., None]).to(scale.dtype)
    return codes.reshape(tensor.shape).to(torch.int64), scale, values.reshape(tensor.shape)


def words(codes: Any, order: tuple[int, ...] = tuple(range(8))) -> Any:
    """Eight codes in an int32, along the last axis; `order` tells which code each place has."""
    torch = oracle("torch")
    eights = codes.reshape(*codes.shape[:-1], -1, 8)[..., list(order)]
    whole = (eights << (torch.arange(8) * 4)).sum(-1)
    return torch.where(whole >= 1 << 31, whole - (1 << 32), whole).to(torch.int32)


def gptq(stem: str, tensor: Any, *, short: bool = True) -> tuple[dict[str, Any], Any]:
    torch = oracle("torch")
    codes, scale, values = integers(tensor, "float16", short=short)
    zeros = torch.full((scale.shape[1], codes.shape[0]), 7)
    return {
        f"{stem}qweight": words(codes).T.contiguous(),
        f"{stem}qzeros": words(zeros),
        f"{stem}scales": scale.T.contiguous(),
        f"{stem}g_idx": (torch.arange(codes.shape[1]) // GROUP).to(torch.int32),
    }, values


def awq(stem: str, tensor: Any, *, short: bool = True) -> tuple[dict[str, Any], Any]:
    torch = oracle("torch")
    codes, scale, values = integers(tensor, "float16", short=short)
    zeros = torch.full((scale.shape[1], codes.shape[0]), 8)
    return {
        f"{stem}qweight": words(codes.T.contiguous(), AWQ_ORDER),
        f"{stem}qzeros": words(zeros, AWQ_ORDER),
        f"{stem}scales": scale.T.contiguous(),
    }, values


def compressed(stem: str, tensor: Any, *, short: bool = True) -> tuple[dict[str, Any], Any]:
    torch = oracle("torch")
    codes, scale, values = integers(tensor, "bfloat16", short=short)
    return {
        f"{stem}weight_packed": words(codes),
        f"{stem}weight_scale": scale,
        f"{stem}weight_shape": torch.tensor(tensor.shape),
    }, values


HALVES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def float4(tensor: Any, size: int) -> tuple[Any, Any, Any]:
    """Two codes to a byte, scales for groups, the values."""
    torch = oracle("torch")
    parts, scale = in_groups(tensor, size, 6)
    table = torch.tensor([*HALVES, *(-one for one in HALVES)])
    codes = (parts / scale[..., None]).unsqueeze(-1).sub(table).abs().argmin(-1).reshape(tensor.shape)
    values = (table[codes].reshape(parts.shape) * scale[..., None]).reshape(tensor.shape)
    pairs = codes.reshape(*codes.shape[:-1], -1, 2)
    return (pairs[..., 0] | pairs[..., 1] << 4).to(torch.uint8), scale, values.to(torch.bfloat16)


def nvfp4(stem: str, tensor: Any) -> tuple[dict[str, Any], Any]:
    """ModelOpt's, with a second scale of 1 and one for activations."""
    torch = oracle("torch")
    codes, scale, values = float4(tensor, 16)
    return {
        f"{stem}weight": codes,
        f"{stem}weight_scale": scale.to(torch.float8_e4m3fn),
        f"{stem}weight_scale_2": torch.tensor(1.0),
        f"{stem}input_scale": torch.tensor(0.25),
    }, values


def mxfp4(stem: str, tensor: Any) -> tuple[dict[str, Any], Any]:
    """compressed-tensors'."""
    torch = oracle("torch")
    codes, scale, values = float4(tensor, 32)
    exponents = (torch.log2(scale) + 127).to(torch.uint8)
    return {f"{stem}weight_packed": codes, f"{stem}weight_scale": exponents}, values


def fp8(stem: str, tensor: Any) -> tuple[dict[str, Any], Any]:
    """Blocks of 32 rows by 32 columns with powers of two."""
    torch = oracle("torch")
    rows, columns = tensor.shape
    parts = tensor.float().reshape(rows // 32, 32, columns // 32, 32)
    scale = torch.exp2(torch.ceil(torch.log2(parts.abs().amax((1, 3)) / 448)))
    codes = (parts / scale[:, None, :, None]).to(torch.float8_e4m3fn)
    values = (codes.float() * scale[:, None, :, None]).reshape(rows, columns).to(torch.bfloat16)
    return {f"{stem}weight": codes.reshape(rows, columns), f"{stem}weight_scale_inv": scale}, values


INTEGER = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP, "symmetric": True}
PACKINGS: Mapping[str, tuple[Packing, dict[str, Any], str]] = {
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True}, "affine"),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}, "affine"),
    "compressed-tensors": (
        compressed,
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": INTEGER}},
        },
        "affine",
    ),
    "nvfp4": (nvfp4, {"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
    "mxfp4": (mxfp4, {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}, "mxfp4"),
    "fp8": (fp8, {"quant_method": "fp8", "weight_block_size": [32, 32]}, "mxfp8"),
}
"""Of each scheme: how it packs, what config.json says, and the mode of MLX that holds it."""


def is_projection(name: str) -> bool:
    """Whether such models quantize a tensor."""
    ends = ("_proj.weight", ".w1.weight", ".w2.weight", ".w3.weight", "with_mqa.weight")
    return name.endswith(ends) and "visual" not in name


def pack(source: Path, to: Path, scheme: str, **options: Any) -> dict[str, Any]:
    """Writes a model in a scheme; returns the dense tensors that it means, in the scheme's own dtype."""
    files = oracle("safetensors.torch")
    packing, settings, _ = PACKINGS[scheme]
    stored: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    for path in sorted(source.glob("*.safetensors")):
        for name, tensor in files.load_file(path).items():
            if is_projection(name):
                parts, values = packing(name.removesuffix("weight"), tensor, **options)
                stored.update(parts)
                dense[name] = values
            else:
                stored[name] = dense[name] = tensor
    write(source, stored, to, settings)
    return dense


def fuse_nvfp4(source: Path, to: Path) -> dict[str, Any]:
    """gpt-oss as ModelOpt writes it: experts (E, inputs, outputs) packed along the inputs; the values."""
    torch, files = oracle("torch"), oracle("safetensors.torch")
    stored: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    for path in sorted(source.glob("*.safetensors")):
        for name, tensor in files.load_file(path).items():
            if not name.endswith(("gate_up_proj", "down_proj")):
                stored[name] = dense[name] = tensor
                continue
            experts, inputs, outputs = tensor.shape
            codes, scale, values = float4(tensor.mT.reshape(-1, inputs), 16)
            stored[name] = codes.reshape(experts, outputs, -1).mT
            stored[f"{name}_weight_scale"] = scale.reshape(experts, outputs, -1).mT.to(torch.float8_e4m3fn)
            stored[f"{name}_weight_scale_2"] = torch.tensor(1.0)
            stored[f"{name}_input_scale"] = torch.tensor(0.25)
            dense[name] = values.reshape(experts, outputs, inputs).mT
    write(source, stored, to, PACKINGS["nvfp4"][1])
    return dense


def write(source: Path, tensors: dict[str, Any], to: Path, settings: Any = None) -> Path:
    """A model directory with other tensors, and with what config.json says of them."""
    to.mkdir()
    for path in source.glob("*.json"):
        if "index" not in path.name:
            (to / path.name).write_bytes(path.read_bytes())
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    oracle("safetensors.torch").save_file(whole, to / "model.safetensors", metadata={"format": "pt"})
    if settings is not None:
        config = json.loads((source / "config.json").read_text())
        (to / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    return to

"""Chapter: tensors without values, and numpy's names for arguments."""

from __future__ import annotations

from typing import Any

from tests.shim.table import Row, rows
from tests.shim.values import grid


def bare(t: Any, *shape: int, **how: Any) -> Any:
    return t.empty(*shape or (3, 4), device="meta", **how)


def told(*tensors: Any) -> list[Any]:
    """What can be told of tensors without values."""
    return [[str(x.device), list(x.shape), list(x.stride()), str(x.dtype)] for x in tensors]


META = {
    "made": lambda t: told(
        bare(t),
        bare(t, 2, dtype=t.bfloat16),
        t.zeros((2, 3), device="meta"),
        t.ones(size=(2,), device=t.device("meta")),
        t.tensor([1, 2], device="meta"),
        t.full((2,), 3, device="meta"),
        t.arange(4, device="meta"),
        t.rand(2, 2, device="meta"),
        t.zeros_like(grid(t).t(), device="meta"),
        t.empty(10**6, 10**5, device="meta"),
    ),
    "moved there": lambda t: told(grid(t).to("meta"), grid(t).t().to(device="meta", dtype=t.half)),
    "like": lambda t: [
        told(t.zeros_like(bare(t)), bare(t).new_zeros(2), t.empty_like(bare(t).t())),
        t.zeros_like(bare(t), device="cpu"),
    ],
    "questions": lambda t: [
        bare(t).is_meta,
        bare(t).numel(),
        bare(t).dim(),
        bare(t).nbytes,
        bare(t).data_ptr(),
        bare(t).untyped_storage().nbytes(),
        bare(t).is_contiguous(),
        bare(t).t().is_contiguous(),
        isinstance(bare(t), t.Tensor),
        repr(bare(t)),
    ],
    "views": lambda t: told(
        bare(t).t(),
        bare(t).T,
        bare(t)[1:],
        bare(t)[:, ::2],
        bare(t)[0],
        bare(t).view(12),
        bare(t).reshape(2, 6),
        bare(t).unsqueeze(0),
        bare(t).expand(2, 3, 4),
        *bare(t).chunk(2),
        *bare(t).split(3, dim=1),
        bare(t).detach(),
        bare(t).view(t.int32),
    ),
    "computed": lambda t: told(
        bare(t) + 1,
        2 * bare(t),
        bare(t) * t.tensor(2.0),
        bare(t) @ bare(t, 4, 5),
        bare(t).to(t.float16),
        bare(t).float(),
        bare(t).t().contiguous(),
        bare(t).clone(),
        bare(t).sum(0),
        bare(t) > 0,
        t.cat([bare(t), bare(t)], dim=1),
        t.stack([bare(t), bare(t)]),
        t.exp(bare(t, dtype=t.bfloat16)),
        bare(t).max(dim=0).indices,
    ),
    "in place": lambda t: (lambda x: [x.add_(1) is x, told(x.zero_(), x.copy_(t.ones(3, 4)))])(bare(t)),
    "parameter": lambda t: (lambda p: [told(p), isinstance(p, t.nn.Parameter), p.requires_grad])(
        t.nn.Parameter(bare(t))
    ),
    "item": lambda t: bare(t, 1).item(),
    "bool": lambda t: bool(bare(t, 1)),
    "tolist": lambda t: bare(t).tolist(),
    "numpy": lambda t: bare(t).numpy(),
    "to the CPU": lambda t: bare(t).to("cpu"),
    "cpu": lambda t: bare(t).cpu(),
    "nonzero": lambda t: bare(t).nonzero(),
    "unique": lambda t: t.unique(bare(t)),
    "equal": lambda t: t.equal(bare(t), bare(t)),
    "picked by a mask": lambda t: bare(t)[bare(t) > 0],
    "with a tensor that has values": lambda t: bare(t) + t.ones(3, 4),
    "copied out of": lambda t: t.ones(3, 4).copy_(bare(t)),
}

NAMES = {
    "axis": lambda t: [
        grid(t).sum(axis=1),
        t.cat([grid(t), grid(t)], axis=1),
        t.stack([grid(t), grid(t)], axis=1),
        t.flip(grid(t), dims=(0,)),
        grid(t).unsqueeze(axis=0),
        t.softmax(grid(t, "float32"), axis=0).shape,
        t.chunk(grid(t), 2, axis=0)[0],
        t.squeeze(grid(t).unsqueeze(0), axis=0),
        grid(t).max(axis=0).values,
        t.argmax(grid(t), axis=0),
    ],
    "keepdims": lambda t: [
        grid(t).sum(axis=1, keepdims=True),
        t.amax(grid(t), axis=0, keepdims=True),
        grid(t).any(1, keepdims=True),
    ],
    "x and its like": lambda t: [
        t.sum(x=grid(t)),
        t.abs(a=grid(t)),
        t.add(x1=grid(t), x2=grid(t)),
        t.maximum(x1=grid(t), x2=grid(t)),
    ],
    "both dim and axis": lambda t: grid(t).sum(dim=0, axis=1),
    "all numbers at once": lambda t: [
        t.reshape(grid(t), shape=(4, 3)),
        t.permute(grid(t), dims=(1, 0)),
        t.tile(grid(t), dims=(2, 1)),
        grid(t).expand(size=(2, 3, 4)),
        grid(t).repeat(repeats=(2, 1)),
        grid(t).view(size=(12,)),
    ],
    "a name of neither": lambda t: grid(t).sum(axes=1),
}

ROWS: list[Row] = [*rows("meta", META), *rows("names", NAMES)]
"""The device "meta", and numpy's names for arguments."""

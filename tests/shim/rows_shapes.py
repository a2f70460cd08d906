"""Shapes, strides, views that share memory."""

from __future__ import annotations

from typing import Any

from tests.shim.table import Row, each, rows
from tests.shim.values import STORED, cube, grid


def shares(first: Any, second: Any) -> bool:
    return bool(first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr())


VIEWS: dict[str, Any] = {
    "view": lambda t, x: x.view(4, 6),
    "view -1": lambda t, x: x.view(-1, 2),
    "view tuple": lambda t, x: x.view((24,)),
    "view Size": lambda t, x: x.view(t.Size([6, 4])),
    "view_as": lambda t, x: x.view_as(t.zeros(4, 3, 2)),
    "view dtype same size": lambda t, x: x.view(t.int32),
    "view dtype smaller": lambda t, x: x.view(t.int16),
    "view dtype larger": lambda t, x: x.view(t.float64),
    "view dtype keyword": lambda t, x: x.view(dtype=t.uint8),
    "reshape": lambda t, x: x.reshape(3, -1),
    "reshape list": lambda t, x: x.reshape([2, 12]),
    "reshape of a transpose": lambda t, x: x.transpose(0, 1).reshape(-1),
    "reshape that is a view": lambda t, x: x.transpose(0, 1).reshape(3, 2, 2, 2),
    "permute": lambda t, x: x.permute(2, 0, 1),
    "permute tuple": lambda t, x: x.permute((1, 0, 2)),
    "permute negative": lambda t, x: x.permute(-1, 0, 1),
    "transpose": lambda t, x: x.transpose(0, 2),
    "transpose negative": lambda t, x: x.transpose(-1, -2),
    "swapaxes": lambda t, x: x.swapaxes(0, 1),
    "swapdims": lambda t, x: x.swapdims(1, 2),
    "movedim": lambda t, x: x.movedim(0, -1),
    "moveaxis of several": lambda t, x: t.moveaxis(x, (0, 1), (2, 0)),
    "mT": lambda t, x: x.mT,
    "T": lambda t, x: x[0].T,
    "t": lambda t, x: x[1].t(),
    "squeeze": lambda t, x: x[:1].squeeze(),
    "squeeze dim": lambda t, x: x[:1].squeeze(0),
    "squeeze other dim": lambda t, x: x[:1].squeeze(1),
    "squeeze dims": lambda t, x: x[:1, :, :1].squeeze((0, 2)),
    "unsqueeze 0": lambda t, x: x.unsqueeze(0),
    "unsqueeze 2": lambda t, x: x.unsqueeze(2),
    "unsqueeze -1": lambda t, x: x.unsqueeze(-1),
    "unsqueeze of a transpose": lambda t, x: x.mT.unsqueeze(1),
    "flatten": lambda t, x: x.flatten(),
    "flatten from": lambda t, x: x.flatten(1),
    "flatten to": lambda t, x: x.flatten(0, 1),
    "flatten of a transpose": lambda t, x: x.mT.flatten(1),
    "ravel": lambda t, x: x.ravel(),
    "unflatten": lambda t, x: x.unflatten(2, (2, 2)),
    "unflatten -1": lambda t, x: x.unflatten(-1, (-1, 2)),
    "expand": lambda t, x: x[:, :1].expand(2, 5, 4),
    "expand -1": lambda t, x: x[:, :1].expand(-1, 3, -1),
    "expand new axis": lambda t, x: x.expand(3, 2, 3, 4),
    "expand new axis of 1": lambda t, x: x.expand(1, 2, 3, 4),
    "expand_as": lambda t, x: x[:1].expand_as(x),
    "broadcast_to": lambda t, x: t.broadcast_to(x[0, 0], (2, 4)),
    "clone of an expanded": lambda t, x: x[:, :1].expand(2, 5, 4).clone(),
    "repeat": lambda t, x: x[0].repeat(2, 1),
    "repeat new axis": lambda t, x: x[0].repeat(2, 1, 2),
    "tile": lambda t, x: x[0].tile(2),
    "flip": lambda t, x: x.flip(0, 2),
    "flip tuple": lambda t, x: t.flip(x, (1,)),
    "roll": lambda t, x: x.roll(1, 2),
    "roll flat": lambda t, x: t.roll(x, 5),
    "contiguous": lambda t, x: x.contiguous(),
    "contiguous of a permutation": lambda t, x: x.permute(2, 0, 1).contiguous(),
    "clone of a permutation": lambda t, x: x.permute(2, 0, 1).clone(),
    "clone contiguous": lambda t, x: x.permute(2, 0, 1).clone(memory_format=t.contiguous_format),
    "clone of a slice": lambda t, x: x[:, ::2].clone(),
    "cast of a permutation": lambda t, x: x.permute(2, 0, 1).half(),
    "detach": lambda t, x: x.detach(),
    "data": lambda t, x: x.data,
    "as_strided": lambda t, x: x.as_strided((2, 3), (1, 4), 2),
    "as_strided of a slice": lambda t, x: t.as_strided(x[1], (2, 2), (4, 1)),
    "diagonal": lambda t, x: x.diagonal(0, 1, 2),
    "diagonal offset": lambda t, x: x[0].diagonal(1),
    "diagonal negative offset": lambda t, x: x.diagonal(-1, 1, 2),
    "narrow": lambda t, x: x.narrow(2, 1, 2),
    "narrow negative start": lambda t, x: x.narrow(1, -2, 2),
    "select": lambda t, x: x.select(1, -1),
    "int index": lambda t, x: x[1],
    "negative index": lambda t, x: x[-1, -2],
    "all ints": lambda t, x: x[1, 2, 3],
    "slice": lambda t, x: x[:, 1:],
    "step": lambda t, x: x[:, ::2, 1::2],
    "ellipsis": lambda t, x: x[..., 1],
    "ellipsis in the middle": lambda t, x: x[0, ..., 2:],
    "None first": lambda t, x: x[None],
    "None between": lambda t, x: x[:, None, 1],
    "None last": lambda t, x: x[..., None],
    "empty slice": lambda t, x: x[:, 3:],
    "slice beyond": lambda t, x: x[:, 1:100],
    "negative slice": lambda t, x: x[:, -2:-1],
    "0-d index tensor": lambda t, x: x[t.tensor(1)],
}

TUPLES: dict[str, Any] = {
    "split": lambda t, x: x.split(2, 2),
    "split uneven": lambda t, x: t.split(x, 3, dim=2),
    "split sizes": lambda t, x: t.split(x, [1, 2], dim=1),
    "split larger": lambda t, x: x.split(10, 1),
    "chunk": lambda t, x: t.chunk(x, 2, dim=2),
    "chunk uneven": lambda t, x: x.chunk(3, -1),
    "chunk too many": lambda t, x: x.chunk(7, 1),
    "tensor_split": lambda t, x: x.tensor_split(3, 2),
    "tensor_split at": lambda t, x: t.tensor_split(x, (1, 3), dim=2),
    "unbind": lambda t, x: x.unbind(1),
    "iteration": lambda t, x: list(x),
    "unpacking": lambda t, x: [*x[0]],
}


def _viewed(t: Any, name: str) -> Any:
    x = cube(t)
    made = VIEWS[name](t, x)
    return [
        made,
        shares(made, x),
        made.storage_offset() if shares(made, x) and made.numel() else None,
        made.is_contiguous(),
    ]


def _taken_apart(t: Any, name: str) -> Any:
    x = cube(t)
    parts = TUPLES[name](t, x)
    return [parts, [shares(part, x) for part in parts], type(parts).__name__]


def _written_through(t: Any, name: str) -> Any:
    """Writing into the view shows in the base exactly where they share memory."""
    x = cube(t)
    made = VIEWS[name](t, x)
    made[...] = 1
    return x


WRITABLE = [
    "view",
    "reshape",
    "reshape of a transpose",
    "permute",
    "transpose",
    "mT",
    "t",
    "squeeze",
    "unsqueeze 2",
    "flatten",
    "contiguous",
    "contiguous of a permutation",
    "detach",
    "data",
    "diagonal",
    "narrow",
    "select",
    "int index",
    "all ints",
    "step",
    "None between",
    "as_strided",
    "view dtype same size",
    "ravel",
    "unflatten",
    "clone of a slice",
]

ERRORS: dict[str, Any] = {
    "view of another size": lambda t: cube(t).view(5, 5),
    "view of a transpose": lambda t: grid(t).t().view(12),
    "view two -1": lambda t: cube(t).view(-1, -1),
    "view dtype that does not fit": lambda t: t.zeros(3).view(t.float64),
    "view dtype of a transpose": lambda t: grid(t).t().view(t.int16),
    "view dtype of 0-d": lambda t: t.tensor(1.0).view(t.int16),
    "view float shape": lambda t: cube(t).view(2.0, 12),
    "reshape to another size": lambda t: cube(t).reshape(7),
    "reshape ambiguous": lambda t: t.zeros(0, 2).reshape(0, -1),
    "permute too few": lambda t: cube(t).permute(0, 1),
    "permute twice": lambda t: cube(t).permute(0, 0, 1),
    "permute beyond": lambda t: cube(t).permute(0, 1, 3),
    "transpose beyond": lambda t: cube(t).transpose(0, 3),
    "t of three": lambda t: cube(t).t(),
    "mT of one": lambda t: t.zeros(3).mT,
    "squeeze beyond": lambda t: cube(t).squeeze(3),
    "unsqueeze beyond": lambda t: cube(t).unsqueeze(5),
    "flatten backwards": lambda t: cube(t).flatten(2, 1),
    "unflatten that does not fit": lambda t: cube(t).unflatten(2, (3, 2)),
    "expand of a longer axis": lambda t: cube(t).expand(2, 5, 4),
    "expand to fewer axes": lambda t: cube(t).expand(3, 4),
    "repeat too few": lambda t: cube(t).repeat(2),
    "as_strided outside": lambda t: t.zeros(4).as_strided((5,), (1,)),
    "split sizes that do not add up": lambda t: cube(t).split([1, 1], 2),
    "split of 0-d": lambda t: t.tensor(1).split(1),
    "split by 0": lambda t: cube(t).split(0),
    "chunk by 0": lambda t: cube(t).chunk(0),
    "unbind of 0-d": lambda t: t.tensor(1).unbind(),
    "narrow beyond": lambda t: cube(t).narrow(2, 3, 2),
    "select beyond": lambda t: cube(t).select(1, 3),
    "index beyond": lambda t: cube(t)[2],
    "index negative beyond": lambda t: cube(t)[-3],
    "too many indices": lambda t: cube(t)[0, 0, 0, 0],
    "index of 0-d": lambda t: t.tensor(1)[0],
    "negative step": lambda t: cube(t)[::-1],
    "float index": lambda t: cube(t)[1.5],
    "string index": lambda t: cube(t)["a"],
    "iteration of 0-d": lambda t: list(t.tensor(1)),
    "len of 0-d": lambda t: len(t.tensor(1)),
    "size beyond": lambda t: cube(t).size(3),
}

ROWS: list[Row] = [
    *each("view", list(VIEWS), _viewed),
    *each("taken apart", list(TUPLES), _taken_apart),
    *each("written through", WRITABLE, _written_through),
    *rows("shape error", ERRORS),
    *each(
        "view as bytes",
        [n for n in STORED if "complex" not in n],
        lambda t, n: t.zeros(2, 4).to(getattr(t, n)).view(t.uint8),
    ),
    *rows(
        "shape",
        {
            "attributes": lambda t: (
                lambda x: [
                    list(x.shape),
                    x.ndim,
                    x.dim(),
                    x.numel(),
                    x.nelement(),
                    x.size(),
                    x.size(1),
                    x.size(-1),
                    x.stride(),
                    x.stride(0),
                    len(x),
                    x.element_size(),
                    x.itemsize,
                    x.nbytes,
                    str(x.device),
                    str(x.layout),
                    x.is_cuda,
                    x.requires_grad,
                    x.is_leaf,
                    x.grad,
                ]
            )(cube(t)),
            "Size": lambda t: [
                repr(t.Size([2, 3])),
                t.Size([2, 3]).numel(),
                repr(t.Size([2, 3])[1:]),
                t.Size([2]) == (2,),
                repr(t.Size([1]) + t.Size([2])),
            ],
            "Size of a tensor": lambda t: [
                repr(cube(t).shape),
                isinstance(cube(t).shape, tuple),
                cube(t).shape == t.Size([2, 3, 4]),
            ],
            "0-d": lambda t: (
                lambda x: [
                    list(x.shape),
                    x.ndim,
                    x.numel(),
                    x.stride(),
                    x.item(),
                    x.reshape(1),
                    x.view(1, 1),
                    x.squeeze(),
                    x.unsqueeze(0),
                    x.flatten(),
                    x.t(),
                    x.expand(3),
                    x.transpose(0, 0),
                    x.permute(()),
                ]
            )(t.tensor(2.5)),
            "empty": lambda t: (
                lambda x: [
                    list(x.shape),
                    x.numel(),
                    x.stride(),
                    x.view(3, 0),
                    x.reshape(-1),
                    x.t(),
                    x.sum(),
                    x.tolist(),
                    x.flatten(),
                ]
            )(t.zeros(0, 3)),
            "permuted empty": lambda t: t.zeros(2, 0, 3).permute(2, 1, 0),
            "is_contiguous": lambda t: [
                grid(t).is_contiguous(),
                grid(t).t().is_contiguous(),
                grid(t)[:, :1].is_contiguous(),
                grid(t)[:1, :].t().is_contiguous(),
                t.zeros(0, 2).t().is_contiguous(),
            ],
            "device": lambda t: [
                repr(t.device("cpu")),
                str(t.device("cpu")),
                t.device("cuda:1").index,
                t.device("cuda", 1) == t.device("cuda:1"),
                t.device("cpu").type,
                str(t.device("cuda", 0)),
                repr(t.device("mps")),
                t.device("cpu") == "cpu",
            ],
            "device nonsense": lambda t: t.device("nonsense"),
            "storages": lambda t: (
                lambda x: [
                    x.untyped_storage().nbytes(),
                    x[1].untyped_storage().nbytes(),
                    x[1].storage_offset(),
                    x[1].data_ptr() - x.data_ptr(),
                    t.zeros(0).data_ptr(),
                    x.untyped_storage().data_ptr() == x.data_ptr(),
                    len(x.untyped_storage()),
                ]
            )(cube(t)),
            "storage bytes": lambda t: t.tensor([1, 256], dtype=t.int32).untyped_storage().tolist(),
        },
    ),
]

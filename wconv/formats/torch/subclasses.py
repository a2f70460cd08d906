"""Tensors in classes of torchao's, taken apart into the plain tensors that they are made of.

A pickle holds such a tensor as `_rebuild_wrapper_subclass(class, dtype, size, …)`, which is not called, and
its attributes, some of them plain tensors. The parts get the names that torchao itself gives them in
safetensors (`flatten_tensor_state_dict`: `layer._weight_qdata` of `layer.weight`), and what else it says
becomes the same JSON: whoever reads the one reads the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any

from wconv.formats.torch.objects import LEAVES, Global, Record
from wconv.tensors.dtypes import DType

REBUILD = "torch._utils._rebuild_wrapper_subclass"

CLASSES: dict[str, tuple[str, ...]] = {
    "Int8Tensor": ("qdata", "scale"),
    "Int4Tensor": ("qdata", "scale", "zero_point"),
    "IntxUnpackedToInt8Tensor": ("qdata", "scale", "zero_point"),
    "Float8Tensor": ("qdata", "scale"),
    "MXTensor": ("qdata", "scale", "elem_dtype"),
    "NVFP4Tensor": ("qdata", "scale", "block_size"),
    "AffineQuantizedTensor": ("tensor_impl",),
    "LinearActivationQuantizedTensor": ("original_weight_tensor",),
    "WeightTensorWithLinearActivationQuantizationMetadata": ("original_weight_tensor",),
}
"""The classes that are taken apart, and attributes that each has; others of the same name have others."""

DEPTH = 6
"""Tensors within tensors, settings within settings: torchao has three."""

LARGEST = 2**63
"""Above every length and every setting."""

TEXT = 200
"""Characters of a setting."""


def is_described(value: Any) -> bool:
    """Whether an object is a tensor in a class of torchao's."""
    if not isinstance(value, Record) or value.class_name != REBUILD:
        return False
    kind = _class_of(value)
    return kind is not None and kind.name in CLASSES and value.attributes.keys() >= set(CLASSES[kind.name])


def _is_wrapped(value: Any) -> bool:
    """Whether an object is a tensor in any class of torchao's: within another one all are the same to it."""
    return isinstance(value, Record) and value.class_name == REBUILD and _class_of(value) is not None


def _class_of(value: Record) -> Global | None:
    args = value.args
    if type(args) is not tuple or len(args) < 3 or type(args[0]) is not Global:
        return None
    return args[0] if args[0].module.partition(".")[0] == "torchao" else None


def parts_of(value: Record) -> Iterator[tuple[str, Any]]:
    """The plain tensors below, each with the names of the attributes on the way joined by "_"."""
    pending: list[tuple[str, Record, tuple[int, ...]]] = [("", value, (id(value),))]
    while pending:
        path, record, above = pending.pop(0)
        for name, item in record.attributes.items():
            if not isinstance(name, str) or not name.isidentifier():
                continue
            if isinstance(item, LEAVES):
                yield path + name, item
            elif _is_wrapped(item) and len(above) < DEPTH and id(item) not in above:
                pending.append((f"{path}{name}_", item, (*above, id(item))))


def part_name(name: str, end: str) -> str:
    """What torchao calls a part of the tensor `name` in safetensors."""
    module, dot, last = name.rpartition(".")
    return f"{module}{dot}_{last}_{end}"


def description(value: Record) -> str:
    """What torchao's safetensors say of such a tensor in the header: JSON with `_type` and `_data`."""
    return json.dumps(_described(value, ()))


def _described(value: Record, above: tuple[int, ...]) -> dict[str, Any]:
    kind = _class_of(value)
    above = (*above, id(value))
    data = {
        name: _plain(item, above)
        for name, item in value.attributes.items()
        if isinstance(name, str) and not isinstance(item, LEAVES) and name != "_is_param"
    }
    data.setdefault("dtype", _plain(value.args[1], above))
    data.setdefault("shape", _plain(value.args[2], above))
    listed = [name for name, item in value.attributes.items() if isinstance(item, LEAVES)]
    return {"_type": kind.name if kind else "", "_data": data, "_tensor_data_names": listed}


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    """A setting as torchao's encoder writes it; of what is unknown its class.

    Args:
        above: the objects that it is in, which may be in it again.
    """
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < LARGEST):
        return value
    if isinstance(value, str):
        return str(value)[:TEXT]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, DType):
        return {"_type": "torch.dtype", "_data": value.name}
    if isinstance(value, Global):
        if value.module == "torch":
            return {"_type": "torch.dtype", "_data": value.name[:TEXT]}
        return {"_type": value.name[:TEXT]}
    if len(above) > DEPTH or id(value) in above:
        return None
    if _is_wrapped(value):
        return _described(value, above)
    above = (*above, id(value))
    if isinstance(value, (list, tuple)):
        return [_plain(item, above) for item in value[:16]]
    if isinstance(value, Record):
        last = value.class_name.rpartition(".")[2][:TEXT]
        if isinstance(value.args, tuple) and len(value.args) == 1 and not value.attributes:
            return {"_type": last, "_data": _plain(value.args[0], above)}
        named = {str(key)[:TEXT]: _plain(item, above) for key, item in list(value.attributes.items())[:32]}
        return {"_type": last, "_data": named}
    return None

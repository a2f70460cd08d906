"""`torch.FloatTensor` and its kin: older names for tensors of one dtype, mostly met in annotations."""

from __future__ import annotations

from typing import Any

from wconv.torch import creation, dtypes
from wconv.torch.casting import TYPED
from wconv.torch.tensor import Tensor


class TypedTensor(type):
    """The kind of these classes: tensors of the dtype count as their instances, and none has another."""

    of: dtypes.dtype

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.of

    def __call__(cls, *data: Any) -> Tensor:
        if len(data) == 1 and not isinstance(data[0], int):
            return creation.tensor(data[0], dtype=cls.of)
        return creation.zeros(*data or (0,), dtype=cls.of)


def typed(name: str) -> TypedTensor:
    """The class that torch calls `name` ("HalfTensor")."""
    return TypedTensor(name, (), {"__module__": "torch", "of": dtypes.BY_NAME[TYPED[name]]})


CLASSES = {name: typed(name) for name in TYPED}

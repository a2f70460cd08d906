"""`torch.save`: a zip that PyTorch loads with `weights_only=True`; tensors that share a storage still do."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from wconv.errors import OutputError
from wconv.formats.torch import write as torch_write
from wconv.formats.torch.pickle.write import Built, Call, Name
from wconv.tensors import lazy as lazy_tensors
from wconv.torch import dtypes
from wconv.torch.device import device, layout, memory_format
from wconv.torch.parameter import Parameter
from wconv.torch.size import Size
from wconv.torch.storage import UntypedStorage
from wconv.torch.tensor import Tensor


def save(
    obj: Any,
    f: Any,
    pickle_module: Any = None,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Writes `obj`: tensors and Parameters in any nesting of dicts, lists, tuples, sets, numbers and strings.

    numpy's scalars and arrays of numbers and strings are written as torch writes them, and need
    `weights_only=False` there.

    A file that exists is replaced only when all is written, so it may be the one that the tensors come from.

    Args:
        f: a path, or a seekable binary file.

    Raises:
        RuntimeError: the object holds something that cannot be saved, or tensors see one storage as
            different dtypes.
        TypeError: an argument is not offered.
    """
    if pickle_module is not None and getattr(pickle_module, "__name__", "") != "pickle":
        raise TypeError("save(pickle_module=…) is not offered by wconv.torch")
    if pickle_protocol != 2 or not _use_new_zipfile_serialization:
        raise TypeError("wconv.torch saves zip files with pickles of protocol 2 only")
    try:
        torch_write.save(_Saver().convert(obj), f)
    except OutputError as error:
        raise RuntimeError(str(error)) from None


class _Saver:
    """One save: objects that occur twice are written once."""

    def __init__(self) -> None:
        self._storages: dict[int, tuple[UntypedStorage, torch_write.SavedStorage, dtypes.dtype]] = {}
        self._done: dict[int, Any] = {}
        self._alive: list[Any] = []

    def convert(self, value: Any) -> Any:
        """`value` with its tensors as the writer takes them."""
        if id(value) in self._done:
            return self._done[id(value)]
        self._alive.append(value)
        kind = type(value)
        if isinstance(value, Tensor):
            return self._keep(value, self._tensor(value))
        if kind in (dict, OrderedDict):
            made = self._keep(value, kind())
            made.update((self.convert(key), self.convert(entry)) for key, entry in value.items())
            if kind is OrderedDict:
                made.__dict__.update(self.convert(vars(value)))
            return made
        if kind is list:
            made = self._keep(value, [])
            made.extend(self.convert(entry) for entry in value)
            return made
        if kind is tuple:
            return self._keep(value, tuple(self.convert(entry) for entry in value))
        if kind is Size:
            return self._keep(value, Call(Name("torch", "Size"), tuple(value)))
        if kind is device:
            return self._keep(value, Call(Name("torch", "device"), value.type, *filter(None, [value.index])))
        if kind in (set, frozenset):
            return self._keep(value, Call(Name("__builtin__", kind.__name__), self.convert(list(value))))
        if isinstance(value, (np.ndarray, np.generic)):
            return self._keep(value, _numpy(value))
        if isinstance(value, layout):
            return self._keep(value, _layout(value))
        if value is Ellipsis:
            return Name("__builtin__", "Ellipsis")
        return value.row if kind is dtypes.dtype else value

    def _keep(self, value: Any, made: Any) -> Any:
        self._done[id(value)] = made
        return made

    def _tensor(self, tensor: Tensor) -> torch_write.SavedTensor:
        storage = tensor.untyped_storage()
        known = self._storages.get(id(storage))
        if known is None:
            known = self._storages[id(storage)] = (storage, self._saved(storage, tensor.dtype), tensor.dtype)
        if known[2] is not tensor.dtype:
            raise RuntimeError(f"tensors see one storage as {known[2]} and as {tensor.dtype}: clone() one")
        return torch_write.SavedTensor(
            known[1],
            tensor.storage_offset(),
            tuple(tensor.shape),
            tuple(tensor.stride()),
            tensor.requires_grad,
            isinstance(tensor, Parameter),
        )

    def _saved(self, storage: UntypedStorage, kind: dtypes.dtype) -> torch_write.SavedStorage:
        count = storage.nbytes() // kind.itemsize
        raw = storage.bytes[: count * kind.itemsize]
        flat = np.frombuffer(raw, np.uint8).view(kind.numpy) if count else np.empty(0, kind.numpy)
        return torch_write.SavedStorage(lazy_tensors.ArrayTensor(flat, kind.row, (count,)))


def _numpy(value: np.ndarray[Any, Any] | np.generic) -> Any:
    """An array or scalar as numpy pickles it; itself, to be refused, where it holds objects or dates."""
    if value.dtype.kind not in "biufcSU":
        return value
    array = np.asarray(value, value.dtype.newbyteorder("<"))
    kind = Call(Name("numpy", "dtype"), array.dtype.str.replace("|", ""), False, True)
    if isinstance(value, np.generic):
        return Call(Name("numpy.core.multiarray", "scalar"), kind, array.tobytes())
    empty = Call(Name("numpy.core.multiarray", "_reconstruct"), Name("numpy", "ndarray"), (0,), b"b")
    return Built(empty, (1, array.shape, kind, False, array.tobytes()))


def _layout(value: layout) -> Any:
    if isinstance(value, memory_format):
        return Name("torch", value.name)
    return Call(Name("torch.serialization", "_get_layout"), f"torch.{value.name}")

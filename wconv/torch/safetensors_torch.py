"""What stands in for `safetensors.torch`: `load_file`, `save_file`, `load`, `save`, `safe_open`.

Tensors lie in the mapped file until they are used.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from wconv.errors import FormatError
from wconv.formats import safetensors as format
from wconv.stores import files
from wconv.tensors.lazy import Shape
from wconv.torch import dtypes, lazy, missing
from wconv.torch.creation import frombuffer, zeros
from wconv.torch.device import require_cpu, strided
from wconv.torch.indexing import getitem
from wconv.torch.tensor import Tensor

TensorDict = dict[str, Tensor]


def load_file(filename: str | os.PathLike[str], device: Any = "cpu", *, backend: str = "mmap") -> TensorDict:
    """The tensors of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        FormatError: the file is damaged.
        RuntimeError: another device than the CPU was asked for.
    """
    with safe_open(filename, "pt", device, backend=backend) as file:
        return file.get_tensors()


def load(data: bytes) -> TensorDict:
    """The tensors in the bytes of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise FormatError("the bytes are no safetensors file: they end within its header")
    header = format.parse_header(bytes(data[8 : 8 + size]), "<bytes>")
    header.pop("__metadata__", None)
    body = bytearray(data[8 + size :])
    made: TensorDict = {}
    for name, stored in format.tensors(header, "<bytes>", 0, len(body)).items():
        to, shape = lazy.offered(stored.dtype, name), lazy.shape_of(stored, name)
        offset, count = getattr(stored, "offset", 0), math.prod(shape)
        flat = frombuffer(body, dtype=to, count=count, offset=offset) if count else zeros(0, dtype=to)
        made[name] = flat.reshape(shape)
    return made


def save_file(
    tensors: Mapping[str, Tensor], filename: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors as a safetensors file; a file that exists is replaced only when all is written.

    Raises:
        ValueError: a value is no tensor, or one that is not contiguous.
        RuntimeError: tensors share memory: safetensors has no way to say so.
    """
    ordered = _in_order(tensors)
    with files.replacing(filename) as file:
        _write(ordered, metadata, file)


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file with these tensors. Raises as `save_file` does."""
    import io

    buffer = io.BytesIO()
    _write(_in_order(tensors), metadata, buffer)
    return buffer.getvalue()


def _in_order(tensors: Mapping[str, Tensor]) -> TensorDict:
    """The tensors in the order of the file: wide elements first, so that every tensor is aligned."""
    if not isinstance(tensors, Mapping):
        raise ValueError(f"Expected a dict of [str, torch.Tensor] but received {type(tensors)}")
    sparse = [name for name, each in tensors.items() if getattr(each, "layout", strided) is not strided]
    if sparse:
        raise ValueError(
            f"You are trying to save a sparse tensors: `{sparse}` which this library does not support."
            " You can make it a dense tensor before saving with `.to_dense()` but be aware this might make a"
            " much larger file than needed."
        )
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"Key `{name}` is invalid, expected torch.Tensor but received {type(tensor)}")
        if not tensor.is_contiguous():
            raise ValueError(
                f"{name} is not contiguous (a view of another?): save the whole tensor, or call .contiguous()"
            )
    _require_apart(tensors)
    return dict(sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])))


def _require_apart(tensors: Mapping[str, Tensor]) -> None:
    """Raises: RuntimeError: two tensors overlap in memory."""
    ranges = sorted((t.data_ptr(), t.data_ptr() + t.nbytes, name) for name, t in tensors.items() if t.numel())
    for (_, end, name), (start, _, other) in itertools.pairwise(ranges):
        if start < end:
            raise RuntimeError(
                f"{name} and {other} share memory, which a safetensors file cannot say: save one, or clone()"
            )


def _write(tensors: TensorDict, metadata: Mapping[str, str] | None, file: IO[bytes]) -> None:
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"safetensors metadata is text only: {key!r}: {value!r:.60}")
    entries = [(name, tensor.dtype.row, _stored_shape(name, tensor)) for name, tensor in tensors.items()]
    file.write(format.make_header(entries, metadata))
    for tensor in tensors.values():
        if tensor.numel():
            file.write(tensor._array.reshape(-1).view(np.uint8).data)


def _stored_shape(name: str, tensor: Tensor) -> Shape:
    """The shape in the file, which counts each of the two values in a byte.

    Raises:
        ValueError: there is no axis to count them along.
    """
    if tensor.dtype is not dtypes.float4_x2:
        return tuple(tensor.shape)
    if not tensor.shape:
        raise ValueError(f"{name} is {tensor.dtype} without axes, which no safetensors file can say")
    return (*tensor.shape[:-1], tensor.shape[-1] * 2)


class safe_open:  # noqa: N801 - safetensors' name
    """A safetensors file, opened: `keys`, `metadata`, `get_tensor`, `get_slice`."""

    def __init__(
        self,
        filename: str | os.PathLike[str],
        framework: str = "pt",
        device: Any = "cpu",
        *,
        backend: str = "mmap",
    ) -> None:
        if framework not in ("pt", "torch", "pytorch"):
            raise ValueError(
                f"framework {framework!r} is not offered by wconv.torch: use safetensors.safe_open"
            )
        if backend not in ("mmap", "pread"):
            raise ValueError(f"backend {backend!r} is not offered by wconv.torch")
        require_cpu(device)
        path = os.fspath(filename)
        if not os.path.exists(path):
            raise FileNotFoundError(2, f'No such file or directory: "{path}"')
        self._contents = format.open_file(path)
        self._maps = lazy.Maps()

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *error: Any) -> None:
        """Tensors that were taken stay valid: they hold the mapped file."""

    def keys(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._contents.tensors)

    def offset_keys(self) -> list[str]:
        """The names in the order of the file's bytes."""
        return sorted(
            self._contents.tensors, key=lambda name: getattr(self._contents.tensors[name], "offset", 0)
        )

    def metadata(self) -> dict[str, str] | None:
        """The file's `__metadata__`."""
        found = dict(self._contents.metadata)
        return found or None

    def get_tensor(self, name: str) -> Tensor:
        """One tensor. Raises: KeyError: the file has none of that name."""
        try:
            stored = self._contents.tensors[name]
        except KeyError:
            raise KeyError(f"File does not contain tensor {name}") from None
        return lazy.tensor(stored, self._maps, name)

    def get_tensors(self) -> TensorDict:
        """All of them."""
        return {name: self.get_tensor(name) for name in self._contents.tensors}

    def get_slice(self, name: str) -> Slice:
        """One tensor to be indexed: `file.get_slice(name)[:, 8:16]`."""
        return Slice(self.get_tensor(name))


class Slice:
    """A tensor of a file whose parts are taken by indexing."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def get_shape(self) -> list[int]:
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """safetensors' code, "BF16"."""
        return self._tensor.dtype.row.code

    def __getitem__(self, index: Any) -> Tensor:
        return getitem(self._tensor, index)


def storage_ptr(tensor: Tensor) -> int:
    """The address of the storage that a tensor is a view of."""
    return tensor.untyped_storage().data_ptr()


def storage_size(tensor: Tensor) -> int:
    """Bytes of the storage that a tensor is a view of."""
    return tensor.untyped_storage().nbytes()


def _getdtype(code: str) -> dtypes.dtype:
    """torch's dtype for safetensors' code."""
    return next(each for each in dtypes.BY_NAME.values() if each.row.code == code)


OF_MODELS = (
    "load_model",
    "save_model",
    "_end_ptr",
    "_find_shared_tensors",
    "_is_complete",
    "_remove_duplicate_names",
)
"""Functions whose module is imported when they are first used; scripts know those with an underscore."""


def __getattr__(name: str) -> Any:
    if name in OF_MODELS:
        return getattr(importlib.import_module("wconv.torch.safetensors_models"), name)
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        missing.sentence(f"safetensors:{name}").replace("torch.safetensors:", "safetensors.torch.")
    )

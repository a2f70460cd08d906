"""What the functions do that torch's pickles name: tensors out of storages, parameters, quantized, sparse …

Every function that the table of `torch_names` refers to takes `(machine, args)` with arguments straight from
a file, checks them, and returns one of the classes of `objects`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wconv.errors import UnsafeError
from wconv.formats.sources import as_source
from wconv.formats.torch import distributed
from wconv.formats.torch.objects import (
    LEAVES,
    Global,
    LayoutName,
    MetaTensor,
    NestedTensor,
    NumpyInteger,
    OrderedDict,
    Record,
    Size,
    SparseTensor,
    Storage,
    TorchTensor,
    plain_number,
    shown,
)
from wconv.formats.torch.pickle.state import MachineState
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Shape, is_shape

AXES_LIMIT = 64
"""Axes of a tensor: numpy's limit, and torch's."""

LARGEST = 2**63
"""Above every count, offset, length and stride: torch's integers end here."""

NESTED_FREE = 100_000
"""Bytes of checkpoints within a pickle beyond the pickle's own."""

NESTED_LEAST = 200
"""Bytes that each of them counts for at least: the smallest that torch writes has some more."""

EXTRA_SIZES = {
    "complex32": 4,
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
    "quint4x2": 1,
    "quint2x4": 1,
    "bits8": 1,
    "bits16": 2,
    "bits1x8": 1,
    "bits2x4": 1,
    "bits4x2": 1,
}
"""Bytes per element of the torch dtypes that wconv's table has not."""

STORAGES: dict[str, DType] = {
    **{f"{dtype.storage}Storage": dtype for dtype in dtypes.TABLE if dtype.storage},
    "UntypedStorage": dtypes.by_name("uint8"),
    "_UntypedStorage": dtypes.by_name("uint8"),
    "QInt8Storage": dtypes.by_name("int8"),
    "QUInt8Storage": dtypes.by_name("uint8"),
    "QInt32Storage": dtypes.by_name("int32"),
    "QUInt4x2Storage": dtypes.by_name("uint8"),
    "QUInt2x4Storage": dtypes.by_name("uint8"),
}
"""The element type of each of torch's storage classes."""


def is_count(value: Any) -> bool:
    """Whether a value from a file can count elements."""
    return type(value) is int and 0 <= value < LARGEST


def storage_dtype(machine: MachineState, storage_class: Any) -> tuple[str, DType]:
    """The name and element type of a storage class from a persistent id."""
    dtype = STORAGES.get(storage_class.name) if type(storage_class) is Global else None
    if dtype is None:
        raise machine.damaged(f"{shown(storage_class, 100)} is no storage class")
    return storage_class.name, dtype


def checked_part(machine: MachineState, whole: Storage, part: Any) -> tuple[int, int]:
    """Offset and size, in elements, of `(key, offset, size)`: a storage that is a part of another one."""
    if (
        type(part) is not tuple
        or len(part) != 3
        or type(part[1]) is not int
        or type(part[2]) is not int
        or not 0 <= part[1] <= part[1] + part[2] <= whole.numel
    ):
        raise machine.damaged(f"storage {shown(whole.key, 40)} has an impossible view {shown(part, 80)}")
    return part[1], part[2]


def checked_lengths(machine: MachineState, value: Any, what: str) -> Shape:
    """Lengths or strides from a file, when they can be some. Raises `FormatError`."""
    lengths = tuple(value) if type(value) in (tuple, list, Size) else None
    if lengths is None or len(lengths) > AXES_LIMIT:
        raise machine.damaged(f"a tensor has an impossible {what}")
    for length in lengths:
        if type(length) is NumpyInteger:
            return checked_lengths(machine, tuple(map(plain_number, lengths)), what)
        if not is_count(length):
            raise machine.damaged(f"a tensor has an impossible {what} {shown(lengths, 80)}")
    return lengths


def view(
    machine: MachineState, storage: Any, offset: Any, shape: Any, stride: Any, dtype: DType | str, grad: Any
) -> TorchTensor:
    """A tensor over a storage, when no element of it lies outside of that storage."""
    if type(storage) is not Storage:
        raise machine.damaged("a tensor has no storage")
    if not is_count(offset):
        raise machine.damaged(f"a tensor starts at {shown(offset)} of its storage")
    shape, stride = checked_lengths(machine, shape, "shape"), checked_lengths(machine, stride, "stride")
    if len(shape) != len(stride) or not is_shape(shape):
        raise machine.damaged(f"a tensor of shape {shown(shape, 80)} has strides {shown(stride, 80)}")
    numel = storage.numel
    if dtype is not storage.dtype:
        size = EXTRA_SIZES[dtype] if isinstance(dtype, str) else dtype.itemsize
        numel = storage.nbytes // size
    last = offset
    for length, step in zip(shape, stride, strict=True):
        last += (length - 1) * step
    if last >= numel and 0 not in shape:
        raise machine.damaged(
            f"a tensor of shape {shown(shape, 80)} reaches to element {last:,} of storage"
            f" {shown(storage.key, 40)}, which has {numel:,}"
        )
    return TorchTensor(storage, offset, shape, stride, dtype, grad is True)


def _metadata(machine: MachineState, tensor: TorchTensor, metadata: Any) -> TorchTensor:
    if metadata is not None:
        if type(metadata) not in (dict, OrderedDict):
            raise machine.damaged("a tensor's metadata are none")
        tensor.conj = bool(metadata.get("conj", False))
        tensor.neg = bool(metadata.get("neg", False))
    return tensor


def check_count(machine: MachineState, args: Sequence[Any], least: int, most: int, name: str) -> None:
    """Refuses a call of `name` with too few or too many arguments. Raises `FormatError`."""
    if not least <= len(args) <= most:
        raise machine.damaged(f"{name} is given {len(args)} arguments")


def tensor_v1(machine: MachineState, args: Sequence[Any]) -> TorchTensor:
    """`_rebuild_tensor(storage, offset, size, stride)`."""
    check_count(machine, args, 4, 4, "_rebuild_tensor")
    if type(args[0]) is not Storage:
        raise machine.damaged("a tensor has no storage")
    storage, offset, shape, stride = args
    return view(machine, storage, offset, shape, stride, storage.dtype, False)


def tensor_v2(machine: MachineState, args: Sequence[Any]) -> TorchTensor:
    """`_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`."""
    check_count(machine, args, 5, 7, "_rebuild_tensor_v2")
    if type(args[0]) is not Storage:
        raise machine.damaged("a tensor has no storage")
    tensor = view(machine, args[0], args[1], args[2], args[3], args[0].dtype, args[4])
    return _metadata(machine, tensor, args[6]) if len(args) == 7 else tensor


def tensor_v3(machine: MachineState, args: Sequence[Any]) -> TorchTensor:
    """`_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])`."""
    check_count(machine, args, 7, 8, "_rebuild_tensor_v3")
    tensor = view(machine, args[0], args[1], args[2], args[3], _dtype(machine, args[6]), args[4])
    return _metadata(machine, tensor, args[7]) if len(args) == 8 else tensor


def _dtype(machine: MachineState, value: Any) -> DType | str:
    if type(value) is DType:
        return value
    if type(value) is Global and value.module == "torch" and value.name in EXTRA_SIZES:
        return value.name
    raise machine.damaged(f"{shown(value, 60)} is no dtype that wconv knows")


def parameter(machine: MachineState, args: Sequence[Any]) -> Any:
    """`_rebuild_parameter(tensor, requires_grad, hooks)`, `_rebuild_parameter_with_state(…, state)`."""
    check_count(machine, args, 1, 4, "_rebuild_parameter")
    tensor = args[0]
    if type(tensor) is TorchTensor:
        tensor = tensor.copy()
    elif type(tensor) is Record:
        return tensor
    elif type(tensor) not in LEAVES:
        raise machine.damaged("a parameter has no tensor")
    if type(tensor) in (TorchTensor, SparseTensor, MetaTensor):
        machine.charge(200)
        tensor.parameter = True
        tensor.requires_grad = len(args) < 2 or args[1] is True
        if len(args) == 4 and type(tensor) is TorchTensor:
            tensor.state = args[3]
    return tensor


PLAIN_TENSORS = frozenset(
    {"torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.nn.Parameter"}
)


def from_type(machine: MachineState, args: Sequence[Any]) -> Any:
    """`_rebuild_from_type_v2(function, type, args, state)` and its older form without `_v2`."""
    check_count(machine, args, 4, 4, "_rebuild_from_type_v2")
    function, tensor_class, arguments, state = args
    made = machine.construct(function, arguments)
    if type(made) is Record and distributed.is_dtensor(tensor_class):
        return distributed.whole(made, state)
    if type(made) is Record and distributed.is_sharded(tensor_class):
        return distributed.shards(made, state)
    if type(made) is TorchTensor:
        if type(tensor_class) is Global and tensor_class.path not in PLAIN_TENSORS:
            made.subclass = tensor_class
        made.parameter = made.parameter or (type(tensor_class) is Global and tensor_class.name == "Parameter")
        made.state = state
    elif type(made) is Record:
        made.state = state
    return made


def quantized(machine: MachineState, args: Sequence[Any]) -> TorchTensor:
    """`_rebuild_qtensor(storage, offset, size, stride, quantizer, requires_grad, hooks)`."""
    check_count(machine, args, 5, 7, "_rebuild_qtensor")
    storage, quantizer = args[0], args[4]
    if type(storage) is not Storage or not storage.name.startswith("Q"):
        raise machine.damaged("a quantized tensor has no quantized storage")
    name = storage.name.removesuffix("Storage").lower()
    if type(quantizer) is not tuple or len(quantizer) not in (3, 4) or type(quantizer[0]) is not Global:
        raise machine.damaged("a quantized tensor has no quantizer")
    scheme, values = quantizer[0].name, tuple(map(plain_number, quantizer[1:]))
    shape = checked_lengths(machine, args[2], "shape")
    if scheme == "per_tensor_affine":
        fits = (
            len(values) == 2
            and type(values[0]) is float
            and type(values[1]) is int
            and abs(values[1]) < LARGEST
        )
    else:
        fits = (
            len(values) == 3
            and scheme in ("per_channel_affine", "per_channel_affine_float_qparams")
            and type(values[2]) is int
            and 0 <= values[2] < len(shape)
            and all(type(part) is TorchTensor for part in values[:2])
            and all(part.shape == (shape[values[2]],) for part in values[:2])
            and all(type(part.dtype) is DType for part in values[:2])
        )
    if not fits:
        raise machine.damaged("a quantized tensor has an impossible quantizer")
    if name in ("quint4x2", "quint2x4"):
        # the storage counts bytes of two or four values, offset and strides count values
        packed = Storage(
            storage.key,
            storage.name,
            storage.dtype,
            storage.numel * (2 if name == "quint4x2" else 4),
            storage.location,
        )
        view(machine, packed, args[1], args[2], args[3], packed.dtype, False)
        tensor = TorchTensor(storage, args[1], shape, tuple(args[3]), name)
    else:
        tensor = view(machine, storage, args[1], args[2], args[3], storage.dtype, args[5:6] == (True,))
        tensor.dtype = name
    tensor.quantizer = values
    return tensor


def size(machine: MachineState, args: Sequence[Any]) -> Size:
    """`torch.Size(lengths)`."""
    check_count(machine, args, 0, 1, "torch.Size")
    if args and type(args[0]) not in (tuple, list):
        raise machine.damaged("a shape has no lengths")
    return Size(args[0] if args else ())


def layout(machine: MachineState, args: Sequence[Any]) -> LayoutName:
    """`_get_layout('torch.sparse_coo')`: the layout's name."""
    if len(args) != 1 or type(args[0]) is not str:
        raise machine.damaged("a layout has no name")
    return LayoutName(args[0].removeprefix("torch."))


def sparse(machine: MachineState, args: Sequence[Any]) -> SparseTensor:
    """`_rebuild_sparse_tensor(layout, data)`."""
    check_count(machine, args, 2, 2, "_rebuild_sparse_tensor")
    name = args[0].name if type(args[0]) is Global else args[0]
    data = args[1]
    if type(data) is not tuple or len(data) < 3:
        raise machine.damaged("a sparse tensor lacks its parts")
    count = 1 if name == "sparse_coo" else 2
    parts = data[: count + 1]
    if (
        name not in ("sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")
        or len(data) < count + 2
        or any(type(part) is not TorchTensor for part in parts)
        or any(part.dtype not in _INDEX_DTYPES for part in parts[:-1])
    ):
        raise machine.damaged("a sparse tensor has impossible parts")
    shape = checked_lengths(machine, data[count + 1], "shape")
    return SparseTensor(str(name), tuple(parts[:-1]), parts[-1], shape)


_INDEX_DTYPES = (dtypes.by_name("int64"), dtypes.by_name("int32"))


def nested(machine: MachineState, args: Sequence[Any]) -> NestedTensor:
    """`_rebuild_nested_tensor(buffer, sizes, strides, offsets)`."""
    if len(args) != 4 or any(type(part) is not TorchTensor for part in args):
        raise machine.damaged("a nested tensor lacks its parts")
    return NestedTensor(*args)


def meta(machine: MachineState, args: Sequence[Any]) -> MetaTensor:
    """`_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)`."""
    check_count(machine, args, 4, 4, "_rebuild_meta_tensor_no_storage")
    shape, stride = checked_lengths(machine, args[1], "shape"), checked_lengths(machine, args[2], "stride")
    return MetaTensor(args[0], shape, stride, args[3] is True)


def device_tensor(machine: MachineState, args: Sequence[Any]) -> Any:
    """`_rebuild_device_tensor_from_numpy(array, dtype, device, requires_grad)` and its kin: the array."""
    check_count(machine, args, 4, 4, "_rebuild_device_tensor")
    if type(args[0]) not in LEAVES:
        raise machine.damaged("a device tensor has no values")
    return args[0]


def load_from_bytes(machine: MachineState, args: Sequence[Any]) -> Any:
    """`torch.storage._load_from_bytes(data)`: a checkpoint within the pickle."""
    source = as_source(args[0], machine.source.where) if len(args) == 1 else None
    if source is None:
        raise machine.damaged("a tensor has no bytes")
    if machine.read_nested is None:
        raise machine.damaged("there is a checkpoint within it")
    # every byte is needed once: a file that unpacks the same ones again and again means harm
    machine.nested += max(source.size, NESTED_LEAST)
    machine.charge(1000)
    if machine.nested > machine.source.size + NESTED_FREE:
        raise UnsafeError(f"{machine.source.where} unpacks the same bytes again and again: refused")
    return machine.read_nested(source)


def first_argument(machine: MachineState, args: Sequence[Any]) -> Any:
    """`restore_type_tag(value, type)`, `build_intlist(values)`: the value."""
    check_count(machine, args, 1, 2, "torch.jit._pickle")
    return args[0]

"""What the names in torch's pickles stand for: the table for the pickle machine.

Every function here takes `(machine, args)` with arguments straight from a file, checks them, and returns
plain data or one of the classes of `objects`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from wconv import dtypes
from wconv.dtypes import DType
from wconv.errors import UnsafeError
from wconv.formats.objects import (
    LEAVES,
    Global,
    MetaTensor,
    NestedTensor,
    NumpyArray,
    OrderedDict,
    Record,
    SparseTensor,
    Storage,
    TorchTensor,
    shown,
)
from wconv.formats.pickle_contract import Constructor
from wconv.formats.pickle_machine import Machine, as_source
from wconv.tensor import Shape, is_shape

AXES_LIMIT = 64
"""Axes of a tensor: numpy's limit, and torch's."""

LARGEST = 2**63
"""Above every count, offset, length and stride: torch's integers end here."""

NESTED_FREE = 100_000
"""Bytes of checkpoints within a pickle beyond the pickle's own."""

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


def storage_dtype(machine: Machine, kind: Any) -> tuple[str, DType]:
    """The name and element type of a storage class from a persistent id."""
    dtype = STORAGES.get(kind.name) if type(kind) is Global else None
    if dtype is None:
        raise machine.damaged(f"{shown(kind, 100)} is no storage class")
    return kind.name, dtype


def _lengths(machine: Machine, value: Any, what: str) -> Shape:
    lengths = tuple(value) if type(value) in (tuple, list) else None
    if lengths is None or len(lengths) > AXES_LIMIT:
        raise machine.damaged(f"a tensor has an impossible {what}")
    for length in lengths:
        if not is_count(length):
            raise machine.damaged(f"a tensor has an impossible {what} {shown(lengths, 80)}")
    return lengths


def view(
    machine: Machine, storage: Any, offset: Any, shape: Any, stride: Any, dtype: DType | str, grad: Any
) -> TorchTensor:
    """A tensor over a storage, when no element of it lies outside of that storage."""
    if type(storage) is not Storage:
        raise machine.damaged("a tensor has no storage")
    if not is_count(offset):
        raise machine.damaged(f"a tensor starts at {shown(offset)} of its storage")
    shape, stride = _lengths(machine, shape, "shape"), _lengths(machine, stride, "stride")
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


def _metadata(machine: Machine, tensor: TorchTensor, metadata: Any) -> TorchTensor:
    if metadata is not None:
        if type(metadata) not in (dict, OrderedDict):
            raise machine.damaged("a tensor's metadata are none")
        tensor.conj = bool(metadata.get("conj", False))
        tensor.neg = bool(metadata.get("neg", False))
    return tensor


def _count(machine: Machine, args: Sequence[Any], least: int, most: int, name: str) -> None:
    if not least <= len(args) <= most:
        raise machine.damaged(f"{name} is given {len(args)} arguments")


def tensor_v1(machine: Machine, args: Sequence[Any]) -> TorchTensor:
    """`_rebuild_tensor(storage, offset, size, stride)`."""
    _count(machine, args, 4, 4, "_rebuild_tensor")
    if type(args[0]) is not Storage:
        raise machine.damaged("a tensor has no storage")
    storage, offset, shape, stride = args
    return view(machine, storage, offset, shape, stride, storage.dtype, False)


def tensor_v2(machine: Machine, args: Sequence[Any]) -> TorchTensor:
    """`_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`."""
    _count(machine, args, 5, 7, "_rebuild_tensor_v2")
    if type(args[0]) is not Storage:
        raise machine.damaged("a tensor has no storage")
    tensor = view(machine, args[0], args[1], args[2], args[3], args[0].dtype, args[4])
    return _metadata(machine, tensor, args[6]) if len(args) == 7 else tensor


def tensor_v3(machine: Machine, args: Sequence[Any]) -> TorchTensor:
    """`_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])`."""
    _count(machine, args, 7, 8, "_rebuild_tensor_v3")
    tensor = view(machine, args[0], args[1], args[2], args[3], _dtype(machine, args[6]), args[4])
    return _metadata(machine, tensor, args[7]) if len(args) == 8 else tensor


def _dtype(machine: Machine, value: Any) -> DType | str:
    if type(value) is DType:
        return value
    if type(value) is Global and value.module == "torch" and value.name in EXTRA_SIZES:
        return value.name
    raise machine.damaged(f"{shown(value, 60)} is no dtype that wconv knows")


def parameter(machine: Machine, args: Sequence[Any]) -> Any:
    """`_rebuild_parameter(tensor, requires_grad, hooks)`, `_rebuild_parameter_with_state(…, state)`."""
    _count(machine, args, 1, 4, "_rebuild_parameter")
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


def from_type(machine: Machine, args: Sequence[Any]) -> Any:
    """`_rebuild_from_type_v2(function, type, args, state)` and its older form without `_v2`."""
    _count(machine, args, 4, 4, "_rebuild_from_type_v2")
    function, kind, arguments, state = args
    made = machine.construct(function, arguments)
    if type(made) is TorchTensor:
        if type(kind) is Global and kind.path not in PLAIN_TENSORS:
            made.subclass = kind
        made.parameter = made.parameter or (type(kind) is Global and kind.name == "Parameter")
        made.state = state
    elif type(made) is Record:
        made.state = state
    return made


def quantized(machine: Machine, args: Sequence[Any]) -> TorchTensor:
    """`_rebuild_qtensor(storage, offset, size, stride, quantizer, requires_grad, hooks)`."""
    _count(machine, args, 5, 7, "_rebuild_qtensor")
    storage, quantizer = args[0], args[4]
    if type(storage) is not Storage or not storage.name.startswith("Q"):
        raise machine.damaged("a quantized tensor has no quantized storage")
    name = storage.name.removesuffix("Storage").lower()
    if type(quantizer) is not tuple or len(quantizer) not in (3, 4) or type(quantizer[0]) is not Global:
        raise machine.damaged("a quantized tensor has no quantizer")
    scheme, values = quantizer[0].name, quantizer[1:]
    shape = _lengths(machine, args[2], "shape")
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


def layout(machine: Machine, args: Sequence[Any]) -> str:
    """`_get_layout('torch.sparse_coo')`: the layout's name."""
    if len(args) != 1 or type(args[0]) is not str:
        raise machine.damaged("a layout has no name")
    return args[0].removeprefix("torch.")


def sparse(machine: Machine, args: Sequence[Any]) -> SparseTensor:
    """`_rebuild_sparse_tensor(layout, data)`."""
    _count(machine, args, 2, 2, "_rebuild_sparse_tensor")
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
    shape = _lengths(machine, data[count + 1], "shape")
    return SparseTensor(str(name), parts[:-1], parts[-1], shape)


_INDEX_DTYPES = (dtypes.by_name("int64"), dtypes.by_name("int32"))


def nested(machine: Machine, args: Sequence[Any]) -> NestedTensor:
    """`_rebuild_nested_tensor(buffer, sizes, strides, offsets)`."""
    if len(args) != 4 or any(type(part) is not TorchTensor for part in args):
        raise machine.damaged("a nested tensor lacks its parts")
    return NestedTensor(*args)


def meta(machine: Machine, args: Sequence[Any]) -> MetaTensor:
    """`_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)`."""
    _count(machine, args, 4, 4, "_rebuild_meta_tensor_no_storage")
    shape, stride = _lengths(machine, args[1], "shape"), _lengths(machine, args[2], "stride")
    return MetaTensor(args[0], shape, stride, args[3] is True)


def device_tensor(machine: Machine, args: Sequence[Any]) -> Any:
    """`_rebuild_device_tensor_from_numpy(array, dtype, device, requires_grad)` and its kin: the array."""
    _count(machine, args, 4, 4, "_rebuild_device_tensor")
    if type(args[0]) not in LEAVES:
        raise machine.damaged("a device tensor has no values")
    return args[0]


def load_from_bytes(machine: Machine, args: Sequence[Any]) -> Any:
    """`torch.storage._load_from_bytes(data)`: a checkpoint within the pickle."""
    from wconv.formats import torch_file

    source = as_source(args[0], machine.source.where) if len(args) == 1 else None
    if source is None:
        raise machine.damaged("a tensor has no bytes")
    # every byte is needed once: a file that unpacks the same ones again and again means harm
    machine.nested += source.size + 1000
    if machine.nested > machine.source.size + NESTED_FREE:
        raise UnsafeError(f"{machine.source.where} unpacks the same bytes again and again: refused")
    return torch_file.load(source)


class NumpyType:
    """A `numpy.dtype` while it is read: a code ("f4") and a byte order, or one of ml_dtypes' types."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def set_state(self, machine: Machine, state: Any) -> None:
        """`(version, byte order, …)`."""
        if type(state) is not tuple or len(state) < 5 or state[2:5] != (None, None, None):
            raise machine.damaged("a numpy dtype is of records or of arrays")
        if state[1] not in ("<", ">", "|", "=", b"<", b">", b"|"):
            raise machine.damaged("a numpy dtype has no byte order")
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.order = ">" if order == ">" else "<"

    def __str__(self) -> str:
        return self.order + self.code


def numpy_dtype(machine: Machine, args: Sequence[Any]) -> NumpyType:
    """`numpy.dtype('f4', False, True)`."""
    code = args[0] if args else None
    if type(code) is DType:
        return NumpyType(code.name)
    if type(code) is bytes:
        code = code.decode("latin-1")
    if type(code) is not str or not re.fullmatch(r"[<>|=]?[?a-zA-Z]\d{0,6}(\[\w+\])?", code):
        raise machine.damaged(f"{shown(code, 60)} is no numpy dtype")
    made = NumpyType(code.lstrip("<>|="))
    made.order = ">" if code[0] == ">" else "<"
    return made


class _Array(NumpyArray):
    """A `NumpyArray` that is still to be given its state."""

    __slots__ = ()

    def set_state(self, machine: Machine, state: Any) -> None:
        """`(version, shape, dtype, fortran, data)`; very old files leave the version out."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise machine.damaged("a numpy array has no state")
        shape, dtype, fortran, data = state[-4:]
        fill_array(machine, self, shape, dtype, fortran is True or fortran == 1, data)


def fill_array(machine: Machine, array: NumpyArray, shape: Any, dtype: Any, fortran: bool, data: Any) -> None:
    """Gives an array its values, when they are as many as its shape says."""
    from wconv.formats import npy

    if type(dtype) is not NumpyType:
        raise machine.damaged("a numpy array has no dtype")
    array.shape = _lengths(machine, shape, "shape")
    array.dtype = str(dtype) if dtype.code in npy.CODES else dtype.code
    array.fortran = fortran
    array.data = data if type(data) is list else as_source(data, machine.source.where)
    if array.data is None:
        raise machine.damaged("a numpy array has no values")
    npy.check(array, machine.source.where)


def numpy_reconstruct(machine: Machine, args: Sequence[Any]) -> NumpyArray:
    """`numpy.core.multiarray._reconstruct(type, (0,), 'b')`: BUILD brings the rest."""
    machine.charge(100)
    return _Array()


def numpy_frombuffer(machine: Machine, args: Sequence[Any]) -> NumpyArray:
    """`numpy._core.numeric._frombuffer(buffer, dtype, shape, order)` of protocol 5."""
    _count(machine, args, 4, 4, "_frombuffer")
    machine.charge(100)
    array = _Array()
    if args[3] not in ("C", "F"):
        raise machine.damaged("a numpy array has no order of its axes")
    fill_array(machine, array, args[2], args[1], args[3] == "F", args[0])
    return array


def numpy_scalar(machine: Machine, args: Sequence[Any]) -> Any:
    """`numpy.core.multiarray.scalar(dtype, data)`: a Python number."""
    array = NumpyArray()
    if len(args) == 1 and type(args[0]) is NumpyType:
        args = (args[0], b"\0" * 16)
    if (
        len(args) == 2
        and type(args[0]) is NumpyType
        and args[0].code.startswith(("S", "U", "V", "O", "M", "m"))
    ):
        machine.charge(400)
        return Record(Global("numpy", "generic"), (str(args[0]), args[1]))
    _count(machine, args, 2, 2, "numpy scalar")
    fill_array(machine, array, (), args[0], False, args[1])
    return array.lazy().numpy().item()


def codecs_encode(machine: Machine, args: Sequence[Any]) -> bytes:
    """`_codecs.encode(text, 'latin1')`: how protocol 2 spells bytes."""
    if len(args) not in (1, 2) or type(args[0]) is not str:
        raise machine.damaged("_codecs.encode is given no text")
    encoding = args[1] if len(args) == 2 else "utf-8"
    machine.charge(len(args[0]) + 33)
    try:
        if encoding in ("latin1", "latin-1", "iso-8859-1"):
            return args[0].encode("latin-1")
        if encoding in ("utf-8", "utf8", "ascii"):
            return args[0].encode("utf-8")
    except UnicodeEncodeError:
        raise machine.damaged("bytes that were spelled as text are no bytes") from None
    raise machine.damaged(f"encoding {shown(encoding, 40)} is not one that pickles use")


def _items(machine: Machine, args: Sequence[Any]) -> list[Any]:
    """The members that a container is made from, when they are those of another container."""
    if not args:
        return []
    if len(args) != 1 or type(args[0]) not in (list, tuple, set, frozenset, dict, OrderedDict):
        raise machine.damaged("a container is made from something else")
    machine.charge(56 + 8 * len(args[0]))
    return list(args[0])


def ordered_dict(machine: Machine, args: Sequence[Any]) -> OrderedDict:
    """`collections.OrderedDict([pairs])`."""
    made = OrderedDict()
    made.attributes = None
    machine.budget -= 80
    if args:
        _fill_dict(machine, made, args)
    elif machine.budget < 0:
        machine.charge(0)
    return made


def plain_dict(machine: Machine, args: Sequence[Any]) -> dict[Any, Any]:
    """`dict`, `collections.Counter`: from pairs or another dict."""
    machine.charge(64)
    made: dict[Any, Any] = {}
    _fill_dict(machine, made, args)
    return made


def _fill_dict(machine: Machine, into: dict[Any, Any], args: Sequence[Any]) -> None:
    if args and type(args[0]) in (dict, OrderedDict):
        machine.set_items(into, [part for pair in args[0].items() for part in pair])
        return
    for pair in _items(machine, args):
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise machine.damaged("a dict is made from something that is no pair")
        machine.set_items(into, list(pair))


def default_dict(machine: Machine, args: Sequence[Any]) -> dict[Any, Any]:
    """`collections.defaultdict(factory[, items])`, without the factory."""
    return plain_dict(machine, args[1:])


def a_list(machine: Machine, args: Sequence[Any]) -> list[Any]:
    """`list(items)`."""
    return _items(machine, args)


def a_tuple(machine: Machine, args: Sequence[Any]) -> tuple[Any, ...]:
    """`tuple(items)`, `torch.Size(items)`."""
    return tuple(_items(machine, args))


def a_set(machine: Machine, args: Sequence[Any]) -> set[Any]:
    """`set(items)`."""
    made: set[Any] = set()
    machine.charge(216)
    machine.extend(made, _items(machine, args))
    return made


def a_frozenset(machine: Machine, args: Sequence[Any]) -> frozenset[Any]:
    """`frozenset(items)`."""
    return machine.frozen(_items(machine, args))


def a_bytearray(machine: Machine, args: Sequence[Any]) -> bytearray:
    """`bytearray(data)` or `bytearray(text, 'latin-1')`."""
    if not args:
        return bytearray()
    data = codecs_encode(machine, args) if type(args[0]) is str else args[0]
    if type(data) is not bytes:
        raise machine.damaged("a bytearray is made from something else")
    machine.charge(len(data) + 57)
    return bytearray(data)


def a_bytes(machine: Machine, args: Sequence[Any]) -> bytes:
    """`bytes()`, which is how protocol 2 spells empty ones."""
    if args and type(args[0]) is bytes:
        return args[0]
    if args and not (type(args[0]) in (list, tuple) and not args[0]):
        raise machine.damaged("bytes are made from something else")
    return b""


def a_complex(machine: Machine, args: Sequence[Any]) -> complex:
    """`complex(real, imaginary)`."""
    if len(args) != 2 or any(type(part) not in (int, float) for part in args):
        raise machine.damaged("a complex number is made from something else")
    try:
        return complex(*args)
    except OverflowError:
        raise machine.damaged("a complex number is too large") from None


def _integers(kind: Callable[..., Any]) -> Callable[[Machine, Sequence[Any]], Any]:
    def call(machine: Machine, args: Sequence[Any]) -> Any:
        if not 1 <= len(args) <= 3 or any(part is not None and type(part) is not int for part in args):
            raise machine.damaged(f"a {kind.__name__} is made from something else")
        try:
            return kind(*args)
        except (TypeError, ValueError):
            raise machine.damaged(f"a {kind.__name__} is made from something else") from None

    return call


def reconstructor(machine: Machine, args: Sequence[Any]) -> Record:
    """`copyreg._reconstructor(class, base, state)`: how protocols 0 and 1 make instances."""
    _count(machine, args, 1, 3, "_reconstructor")
    machine.charge(400)
    return Record(args[0], ())


def new_object(machine: Machine, args: Sequence[Any]) -> Any:
    """`copyreg.__newobj__(class, *args)`."""
    _count(machine, args, 1, 1000, "__newobj__")
    return machine.construct(args[0], tuple(args[1:]))


def first(machine: Machine, args: Sequence[Any]) -> Any:
    """`restore_type_tag(value, type)`, `build_intlist(values)`: the value."""
    _count(machine, args, 1, 2, "torch.jit._pickle")
    return args[0]


_FUNCTIONS: dict[str, Callable[[Machine, Sequence[Any]], Any]] = {
    "torch._utils._rebuild_tensor": tensor_v1,
    "torch._utils._rebuild_tensor_v2": tensor_v2,
    "torch._utils._rebuild_tensor_v3": tensor_v3,
    "torch._utils._rebuild_parameter": parameter,
    "torch._utils._rebuild_parameter_with_state": parameter,
    "torch.nn.parameter.Parameter": parameter,
    "torch._tensor._rebuild_from_type": from_type,
    "torch._tensor._rebuild_from_type_v2": from_type,
    "torch.tensor._rebuild_from_type": from_type,
    "torch.tensor._rebuild_from_type_v2": from_type,
    "torch._utils._rebuild_qtensor": quantized,
    "torch._utils._rebuild_sparse_tensor": sparse,
    "torch._utils._rebuild_sparse_csr_tensor": sparse,
    "torch._utils._rebuild_nested_tensor": nested,
    "torch._utils._rebuild_meta_tensor_no_storage": meta,
    "torch._utils._rebuild_device_tensor_from_numpy": device_tensor,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": device_tensor,
    "torch._utils._rebuild_xla_tensor": device_tensor,
    "torch.storage._load_from_bytes": load_from_bytes,
    "torch.serialization._get_layout": layout,
    "torch.Size": a_tuple,
    "torch.jit._pickle.restore_type_tag": first,
    "torch.jit._pickle.build_intlist": first,
    "torch.jit._pickle.build_tensorlist": first,
    "torch.jit._pickle.build_doublelist": first,
    "torch.jit._pickle.build_boollist": first,
    "numpy.dtype": numpy_dtype,
    "numpy.core.multiarray._reconstruct": numpy_reconstruct,
    "numpy._core.multiarray._reconstruct": numpy_reconstruct,
    "numpy.core.multiarray.scalar": numpy_scalar,
    "numpy._core.multiarray.scalar": numpy_scalar,
    "numpy.core.numeric._frombuffer": numpy_frombuffer,
    "numpy._core.numeric._frombuffer": numpy_frombuffer,
    "_codecs.encode": codecs_encode,
    "collections.OrderedDict": ordered_dict,
    "collections.defaultdict": default_dict,
    "collections.Counter": plain_dict,
    "copy_reg._reconstructor": reconstructor,
    "copyreg._reconstructor": reconstructor,
    "copy_reg.__newobj__": new_object,
    "copyreg.__newobj__": new_object,
}

_BUILTINS: dict[str, Callable[[Machine, Sequence[Any]], Any]] = {
    "set": a_set,
    "frozenset": a_frozenset,
    "list": a_list,
    "tuple": a_tuple,
    "dict": plain_dict,
    "bytearray": a_bytearray,
    "bytes": a_bytes,
    "complex": a_complex,
    "slice": _integers(slice),
    "range": _integers(range),
    "xrange": _integers(range),
}

NAMES: dict[tuple[str, str], Any] = {
    **{("torch", dtype.name): dtype for dtype in dtypes.TABLE},
    **{("ml_dtypes", dtype.name): dtype for dtype in dtypes.TABLE if dtype.module == "ml_dtypes"},
    **{
        (path.rpartition(".")[0], path.rpartition(".")[2]): Constructor(path, function)
        for path, function in _FUNCTIONS.items()
    },
    **{
        (module, name): Constructor(f"builtins.{name}", function)
        for module in ("builtins", "__builtin__")
        for name, function in _BUILTINS.items()
    },
}
"""What `(module, name)` stands for. Storage classes are not in it: they are told by their name alone."""

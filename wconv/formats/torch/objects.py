"""What a checkpoint's object tree is made of beside Python's own dicts, lists, strings and numbers.

`Contents.root` holds the tree as the file describes it. Its leaves are the classes below; none of them
runs anything, and `materialise` turns each tensor leaf into a `LazyTensor`:

- `TorchTensor`: a dense tensor, a view of a `Storage` (two tensors with one storage share memory);
- `Storage`: a bare storage, where a file holds one outside of a tensor;
- `SparseTensor`, `NestedTensor`, `MetaTensor`: what their names say;
  `sparse.nested_parts` makes the members of a nested one;
- `LostTensor`: a tensor whose values are not, or not all, in the file; `TensorPart`: one rank's part of it;
- `JoinedTensor`: one that was put together of several files;
- `NumpyArray`: an array that was pickled as one; `NumpyFloat` and its like: a numpy scalar, still a number;
- `Record`: an instance of any other class, or the result of any other function, uncalled;
- `Global`: such a class or function itself;
- `DType` (wconv.tensors.dtypes): a torch dtype that wconv's table has.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from wconv.errors import WconvError
from wconv.formats.sources import Source
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor, Shape


class UnavailableError(WconvError):
    """A tensor has no values that could be written; the text says why and ends up in `Contents.skipped`."""


class NotNumbersError(UnavailableError):
    """An array's elements are strings, dates, records or objects: nothing that weights could be."""


@dataclass(slots=True, unsafe_hash=True, repr=False)
class Global:
    """A class or function that the file names and that wconv does not know. Never imported."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """The dotted path, "argparse.Namespace"."""
        return f"{self.module}.{self.name}"

    def __repr__(self) -> str:
        return f"<{self.path}>"


@dataclass(slots=True, eq=False, repr=False)
class Record:
    """An instance of a class that wconv does not know, as plain data.

    Attributes:
        constructor: the class, or the function that would have made the object; usually a `Global`.
        args: what it would have been called with.
        state: what the object was told to set as its state: mostly a dict of its attributes.
        items: what was put into it by key, if it is a kind of dict.
        elements: what was put into it in order, if it is a kind of list or set.
    """

    constructor: Any
    args: Any = ()
    state: Any = field(default=None, init=False)
    items: dict[Any, Any] = field(default_factory=dict, init=False)
    elements: list[Any] = field(default_factory=list, init=False)

    @property
    def class_name(self) -> str:
        """The dotted path of the class or function; of the innermost one for a call of a call."""
        constructor, depth = self.constructor, 0
        while isinstance(constructor, Record) and depth < 100:
            constructor, depth = constructor.constructor, depth + 1
        return constructor.path if isinstance(constructor, Global) else type(constructor).__name__

    @property
    def attributes(self) -> dict[Any, Any]:
        """The state as a dict of attributes: `__dict__`, and slots where the pickle has those apart."""
        state = self.state
        if isinstance(state, dict):
            return state
        if isinstance(state, tuple) and len(state) == 2:
            parts = [part for part in state if isinstance(part, dict)]
            if len(parts) + list(state).count(None) == 2:
                return {key: value for part in parts for key, value in part.items()}
        return {}

    def __repr__(self) -> str:
        return f"<{self.class_name} record>"


class Size(tuple[Any, ...]):
    """A `torch.Size`."""

    __slots__ = ()


class LayoutName(str):
    """A `torch.layout` by its name, "sparse_coo"."""

    __slots__ = ()


class OrderedDict(dict[Any, Any]):
    """A `collections.OrderedDict`; `attributes` is what was set on it (a state dict's `_metadata`)."""

    __slots__ = ("attributes",)

    attributes: Any


@dataclass(slots=True, eq=False, repr=False)
class Storage:
    """A run of elements that tensors are views of.

    Attributes:
        key: the name within the file, unique per storage.
        name: torch's class, "FloatStorage"; "UntypedStorage" counts in bytes.
        dtype: its element type; uint8 for untyped storages, the carrying integer for quantized ones.
        numel: elements, in `dtype`.
        location: the device it was saved from ("cpu", "cuda:0").
        source: the bytes' home, None until a legacy stream has been read to its end.
        start: the first byte within `source`.
        swap: the bytes are in the other byte order than this machine's.
    """

    key: str
    name: str
    dtype: DType
    numel: int
    location: str
    source: Source | None = None
    start: int = 0
    swap: bool = False

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def as_tensor(self, dtype: DType | None = None) -> LazyTensor:
        """The whole storage as a 1-D tensor, of its own dtype or of another that its bytes are read as.

        Raises:
            UnavailableError: the file ended before it came to this storage.
        """
        if self.source is None:
            raise UnavailableError(f"storage {self.key} is not in the file")
        dtype = dtype or self.dtype
        return self.source.tensor(self.start, dtype, self.nbytes // dtype.itemsize, self.swap)

    def __repr__(self) -> str:
        return f"<{self.name} {self.key} of {self.numel:,}>"


@dataclass(slots=True, eq=False, repr=False)
class TorchTensor:
    """A dense tensor: a view of a storage.

    Attributes:
        storage: shared with every other view of it.
        offset, shape, stride: in elements of `dtype`, checked against the storage.
        dtype: a row of wconv's table, or the name of a torch dtype that it has not ("qint8", "complex32").
        requires_grad: as saved.
        conj, neg: the values are the conjugate or the negative of what is stored.
        parameter: it is an `nn.Parameter`.
        subclass: the tensor class it was (a `Global`), None for `torch.Tensor` itself.
        state: attributes that were set on it.
        quantizer: `(scale, zero_point)` or `(scales, zero_points, axis)` of a quantized tensor; the scales
            and zero points of the second are `TorchTensor`s.
    """

    storage: Storage
    offset: int
    shape: Shape
    stride: Shape
    dtype: DType | str
    requires_grad: bool = False
    conj: bool = field(default=False, init=False)
    neg: bool = field(default=False, init=False)
    parameter: bool = field(default=False, init=False)
    subclass: Global | None = field(default=None, init=False)
    state: Any = field(default=None, init=False)
    quantizer: tuple[Any, ...] | None = field(default=None, init=False)

    @property
    def storage_where(self) -> str:
        """The file, for errors."""
        source = self.storage.source
        return source.where if source else "the file"

    def copy(self) -> TorchTensor:
        """Another tensor object over the same storage."""
        return copy.copy(self)

    def __repr__(self) -> str:
        return f"<tensor {self.dtype} {self.shape} of storage {self.storage.key}>"


@dataclass(slots=True, eq=False, repr=False)
class SparseTensor:
    """A sparse tensor in one of torch's layouts.

    Attributes:
        layout: "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr" or "sparse_bsc".
        indices: one tensor for COO, compressed and plain indices for the others.
        values, shape: as torch has them.
    """

    layout: str
    indices: tuple[TorchTensor, ...]
    values: TorchTensor
    shape: Shape
    requires_grad: bool = field(default=False, init=False)
    parameter: bool = field(default=False, init=False)


@dataclass(slots=True, eq=False, repr=False)
class NestedTensor:
    """A nested tensor: its members are views of one buffer."""

    buffer: TorchTensor
    sizes: TorchTensor
    strides: TorchTensor
    offsets: TorchTensor


@dataclass(slots=True, eq=False, repr=False)
class MetaTensor:
    """A tensor that was saved without its values (device "meta")."""

    dtype: Any
    shape: Shape
    stride: Shape
    requires_grad: bool
    parameter: bool = field(default=False, init=False)


class LostTensor:
    """A tensor of a known class whose values cannot be had from this file alone; `reason` says why."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class TensorPart(LostTensor):
    """What one rank's file holds of a tensor that is spread over several.

    Attributes:
        local: the part.
        shape: of the whole.
        spec: how it is spread: torch's `DTensorSpec`.
    """

    __slots__ = ("local", "shape", "spec")

    def __init__(self, reason: str, local: TorchTensor, shape: Shape, spec: Any) -> None:
        super().__init__(reason)
        self.local = local
        self.shape = shape
        self.spec = spec


class ShardedPart(LostTensor):
    """What one rank's file holds of a `ShardedTensor` of that shape: `shards`, and where each begins."""

    __slots__ = ("shape", "shards")

    def __init__(self, reason: str, shards: tuple[tuple[Shape, TorchTensor], ...], shape: Shape) -> None:
        super().__init__(reason)
        self.shards = shards
        self.shape = shape


class JoinedTensor:
    """A tensor that was put together already, out of several files or places: `tensor` has its values."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: LazyTensor) -> None:
        self.tensor = tensor


class Fields:
    """An instance of a class of which a reader knows that it has fields and nothing else.

    Attributes:
        kind: the class's name.
        values: its fields: a dict, or a tuple of them.
    """

    __slots__ = ("kind", "values")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.values: Any = None

    def set_state(self, machine: Any, state: Any) -> None:
        """BUILD. Raises `FormatError` where it is given something else."""
        if type(state) is not dict and type(state) is not tuple:
            raise machine.damaged(f"a {self.kind} has no fields")
        self.values = state

    def field(self, name: str) -> Any:
        """One of its fields; None where it has none of that name."""
        return self.values.get(name) if type(self.values) is dict else None


class NumpyArray:
    """A numpy array of numbers or booleans. `arrays.lazy` has its values; other element types have none.

    Attributes:
        dtype: numpy's code with its byte order, "<f4".
        shape, fortran: as pickled.
        data: the raw bytes as a `Source`, or for object arrays the list of elements.
    """

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __init__(self) -> None:
        self.dtype = ""
        self.shape: Shape = ()
        self.fortran = False
        self.data: Any = None


class _NumpyNumber:
    """A numpy scalar: the Python number that it equals, which remembers its dtype."""

    dtype: DType


class NumpyInteger(_NumpyNumber, int):
    """A `numpy.int64`, or of another width."""


class NumpyFloat(_NumpyNumber, float):
    """A `numpy.float32`, or of another width."""


class NumpyComplex(_NumpyNumber, complex):
    """A `numpy.complex64` or `numpy.complex128`."""


NUMPY_NUMBERS: dict[type, type[NumpyInteger | NumpyFloat | NumpyComplex]] = {
    int: NumpyInteger,
    float: NumpyFloat,
    complex: NumpyComplex,
}
"""By the Python number that a numpy scalar equals; booleans have none, for nothing can be one beside them."""


def numpy_number(value: Any, dtype: DType) -> Any:
    """`value`, of which a numpy scalar of `dtype` was made."""
    kind = NUMPY_NUMBERS.get(type(value))
    if kind is None:
        return value
    number = kind(value)
    number.dtype = dtype
    return number


def plain_number(value: Any) -> Any:
    """A numpy scalar as Python's own number, anything else as it is."""
    if type(value) is NumpyInteger:
        return int(value)
    if type(value) is NumpyFloat:
        return float(value)
    return complex(value) if type(value) is NumpyComplex else value


LEAVES = (TorchTensor, SparseTensor, MetaTensor, LostTensor, JoinedTensor, NumpyArray, Storage)


def shown(value: Any, limit: int = 60) -> str:
    """A value from a file for the line of an error: as much of its `repr` as can be had at once.

    A `repr` of its own would print shared parts again and again, numbers of thousands of digits, and what is
    nested deeper than Python can follow.
    """
    if type(value) in (tuple, list):
        inner = [_shown_part(item, limit) for item in value[:8]]
        return f"({', '.join(inner)}{', …' if len(value) > 8 else ''})"[:limit]
    return _shown_part(value, limit)


def _shown_part(value: Any, limit: int) -> str:
    if isinstance(value, str | bytes):
        return repr(value[:limit])[:limit]
    if type(value) in (int, NumpyInteger):
        return str(value) if abs(value) < 2**64 else f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | float | complex | Global | DType):
        return repr(value)[:limit]
    return f"a {type(value).__name__}"

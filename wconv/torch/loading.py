"""`torch.load`: every checkpoint that wconv reads, as tensors over mapped bytes; nothing is run."""

from __future__ import annotations

import codecs
import functools
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from wconv import formats
from wconv.formats.sources import FileSource, Source
from wconv.formats.torch import objects
from wconv.formats.torch.materialise import materialise
from wconv.formats.torch.pickle.numpy_names import NumpyType
from wconv.formats.torch.pickle.reading import OldText, Value
from wconv.formats.torch.pickle.state import Constructor
from wconv.tensors import dtypes as rows
from wconv.tensors.lazy import LazyTensor
from wconv.torch import dtypes, lazy, unpickling
from wconv.torch.device import LAYOUTS, device, require_cpu
from wconv.torch.parameter import Parameter
from wconv.torch.size import Size
from wconv.torch.storage import UntypedStorage
from wconv.torch.tensor import Tensor


def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """The object that a checkpoint holds, its tensors lying in the mapped file until they are used.

    Objects of classes that are no data come back as `Unpickled`: their attributes can be read, and nothing is
    imported or run, whatever `weights_only` says; `mmap` makes no difference either.

    Args:
        f: a path, or an open binary file.
        map_location: None, the CPU in any form, or a function as torch takes it.
        pickle_load_args: `encoding` and `errors` decode the strings of Python 2; "bytes" leaves them as they
            are. Without them, strings are UTF-8 where they can be, else bytes.

    Raises:
        FileNotFoundError: there is no such file.
        WconvError: the file is damaged, or no checkpoint.
        RuntimeError: another device was asked for.
        TypeError: an argument is not offered.
        UnicodeDecodeError: a string of Python 2 is not in the encoding that was given.
        LookupError: there is no such encoding.
    """
    if pickle_module is not None and getattr(pickle_module, "__name__", "") != "pickle":
        raise TypeError("load(pickle_module=…) is not offered by wconv.torch: it never runs a pickle")
    encoding = pickle_load_args.get("encoding")
    if encoding not in (None, "bytes"):
        codecs.lookup(encoding)
    unknown = sorted(pickle_load_args.keys() - {"encoding", "errors", "fix_imports"})
    if unknown:
        raise TypeError(f"load() got an unexpected argument {unknown[0]!r}")
    loader = _Loader(encoding, pickle_load_args.get("errors", "strict"))
    _require_map_to_cpu(map_location)
    if isinstance(f, (str, os.PathLike)):
        path = os.fspath(f)
        if not os.path.exists(path):
            raise FileNotFoundError(2, "No such file or directory", path)
        return loader.load(path)
    if not hasattr(f, "read"):
        raise AttributeError(f"load() needs a path or a file that can be read, not {type(f).__name__}")
    return _load_stream(f, loader)


def _load_stream(file: Any, loader: _Loader) -> Any:
    """From an open file: what is left of it is copied aside, mapped, and unlinked.

    The file is left behind the object, so that the next call reads the one that follows.
    """
    start = file.tell() if hasattr(file, "tell") and _can_seek(file) else None
    with tempfile.TemporaryDirectory(prefix="wconv-") as folder:
        path = os.path.join(folder, "archive.pt")
        with open(path, "wb") as copy:
            shutil.copyfileobj(file, copy)
        found, end = loader.load_first(path)
        if start is not None and end is not None:
            file.seek(start + end)
        for storage in loader.storages.values():
            _ = storage.bytes
        return found


def _can_seek(file: Any) -> bool:
    """Whether a place in a file can be gone back to, as far as the file says so."""
    return bool(file.seekable()) if hasattr(file, "seekable") else hasattr(file, "seek")


def _require_map_to_cpu(map_location: Any) -> None:
    if isinstance(map_location, dict):
        for target in map_location.values():
            require_cpu(target)
    elif callable(map_location):
        answer = map_location(UntypedStorage(0), "cpu")
        if answer is not None and not isinstance(answer, UntypedStorage):
            raise RuntimeError(
                "map_location must return the storage or None: wconv.torch keeps tensors on the CPU"
            )
    elif isinstance(map_location, (str, device)) or map_location is None:
        require_cpu(map_location)
    else:
        raise TypeError(f"map_location={map_location!r:.60} is not offered by wconv.torch: use 'cpu'")


class Unpickled:
    """An instance of a class that is no data, as its checkpoint describes it: attributes, nothing that acts.

    `argparse.Namespace`, a training program's configuration, a whole pickled module: their attributes can be
    read as those of the real object, `items` and `elements` are what was put into it.
    """

    def __init__(
        self, name: str, attributes: dict[Any, Any], items: dict[Any, Any], elements: list[Any]
    ) -> None:
        self.class_name = name
        self.items, self.elements = items, elements
        self.__dict__.update({key: value for key, value in attributes.items() if isinstance(key, str)})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"this {self.__dict__.get('class_name')} from a checkpoint has no attribute {name!r} here:"
            " wconv.torch keeps such objects as inert data"
        )

    def __repr__(self) -> str:
        return f"<{self.class_name} from a checkpoint, inert>"


def unpickled_module(name: str) -> Unpickled:
    """A pickled module: inert, but its weights go by their paths as a module's do."""
    from wconv.torch.modules import Module

    kind = type("UnpickledModule", (Unpickled, Module), {"__getattr__": Module.__getattr__})
    made: Unpickled = kind(name, {}, {}, [])
    return made


class _Loader:
    """One load: shared objects stay shared, tensors over one storage share memory.

    Args:
        encoding, errors: how strings of Python 2 are decoded; None for what suits each.
    """

    def __init__(self, encoding: str | None = None, errors: str = "strict") -> None:
        self.encoding, self.errors = encoding, errors
        self.maps = lazy.Maps()
        self.long: dict[int, Any] = {}
        self.storages: dict[int, UntypedStorage] = {}
        self._done: dict[int, Any] = {}
        self._alive: list[Any] = []

    def load(self, path: str) -> Any:
        """The object in a file."""
        return self.load_first(path)[0]

    def load_first(self, path: str) -> tuple[Any, int | None]:
        """The first object in a file, and where it ends; None where it is all of the file."""
        how = unpickling.reading(self.encoding)
        self.long = how.long
        tree, end = formats.load_first(path, how)
        return self.convert(tree), end

    def convert(self, node: Any) -> Any:
        """What a node of the readers' tree is to a caller of torch.load."""
        kind: Any = type(node)
        make = _maker(kind)
        if make is None:
            return node
        if id(node) not in self._done:
            self._alive.append(node)
            self._done[id(node)] = make(self, node)
        return self._done[id(node)]

    def _dict(self, node: dict[Any, Any]) -> Any:
        made: Any = OrderedDict() if isinstance(node, objects.OrderedDict) else {}
        self._done[id(node)] = made
        made.update((self.convert(key), self.convert(value)) for key, value in node.items())
        attributes = getattr(node, "attributes", None)
        if isinstance(attributes, dict):
            made.__dict__.update(self.convert(attributes))
        return made

    def _list(self, node: list[Any]) -> list[Any]:
        made: list[Any] = []
        self._done[id(node)] = made
        made.extend(self.convert(entry) for entry in node)
        return made

    def _tuple(self, node: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(self.convert(entry) for entry in node)

    def _set(self, node: Any) -> Any:
        return type(node)(self.convert(entry) for entry in node)

    def _record(self, node: objects.Record) -> Any:
        known = unpickling.record(node)
        if known is not None:
            return known
        module = isinstance(node.attributes, dict) and {"_parameters", "_modules"} <= node.attributes.keys()
        made = unpickled_module(node.class_name) if module else Unpickled(node.class_name, {}, {}, [])
        self._done[id(node)] = made
        attributes, items = self.convert(node.attributes), self.convert(node.items)
        made.__init__(node.class_name, attributes, items, self.convert(node.elements))  # type: ignore[misc]
        return made

    def _lazy(self, node: LazyTensor) -> Tensor:
        return lazy.tensor(node, self.maps, "a tensor of the file")

    def _array(self, node: objects.NumpyArray) -> Any:
        made = unpickling.array(node)
        if made is not None:
            return made
        made = unpickling.objects(node)
        if made is None:
            return NotOffered(f"a numpy array of type {node.dtype}")
        self._done[id(node)] = made
        places = made.reshape(-1, order="A")
        for at, entry in enumerate(node.data):
            places[at] = self.convert(entry)
        return made

    def _named(self, node: objects.Global | Constructor) -> Any:
        known = unpickling.named(node.path if isinstance(node, objects.Global) else node.name)
        return node if known is None else known

    def _numpy_type(self, node: NumpyType) -> Any:
        known = unpickling.numpy_dtype(str(node))
        return NotOffered(f"the numpy dtype {node}") if known is None else known

    def _layout(self, node: objects.LayoutName) -> Any:
        return next((each for each in LAYOUTS if each.name == node), node)

    def _old_text(self, node: bytes) -> Any:
        if self.encoding == "bytes":
            return bytes(node)
        if self.encoding is not None:
            return node.decode(self.encoding, self.errors)
        try:
            return node.decode("utf-8")
        except UnicodeDecodeError:
            return bytes(node)

    def _bytes(self, node: Source) -> Any:
        data = bytes(node.read(0, node.size))
        return self._old_text(data) if id(node) in self.long else data

    def _storage(self, node: objects.Storage) -> UntypedStorage:
        return self._storage_of(node, node.dtype)

    def _storage_of(self, node: objects.Storage, row: rows.DType) -> UntypedStorage:
        """The bytes of a storage; those of the other byte order are swapped by elements of `row`."""
        if id(node) not in self.storages:
            self._alive.append(node)
            source = node.source
            if type(source) is FileSource and not node.swap:
                made = self.maps.range(source.path, source.start + node.start, node.nbytes)
            else:
                typed = row if node.name.endswith("UntypedStorage") else node.dtype
                made = UntypedStorage.pending(node.nbytes, lazy.reading(node.as_tensor(typed)))
            self.storages[id(node)] = made
        return self.storages[id(node)]

    def _tensor(self, node: objects.TorchTensor) -> Any:
        if isinstance(node.dtype, str) or node.quantizer is not None:
            return NotOffered(f"a tensor of dtype {node.dtype}")
        if node.dtype.bits < 8:
            return NotOffered(f"a tensor of dtype {node.dtype.name}")
        to = dtypes.by_name(node.dtype.name)
        if node.conj or node.neg:
            made = lazy.tensor(materialise(node), self.maps, "a tensor of the file")
        else:
            storage = self._storage_of(node.storage, node.dtype)
            made = Tensor._at(storage, to, node.offset, node.shape, node.stride)
        if node.parameter:
            return Parameter(made, node.requires_grad)
        made._requires_grad = node.requires_grad
        return made

    def _sparse(self, node: objects.SparseTensor) -> Any:
        """A tensor in coordinates, or compressed by rows or columns; its positions are looked at now."""
        from wconv.torch import sparse_tensors

        indices = [self.convert(each) for each in node.indices]
        made = sparse_tensors.loaded(node.layout, indices, self.convert(node.values), node.shape)
        return NotOffered(f"a tensor of layout {node.layout}") if made is None else made

    def _not_offered(self, node: Any) -> NotOffered:
        kinds = {
            objects.NestedTensor: "a nested tensor",
            objects.MetaTensor: "a tensor on the meta device, saved without its values,",
        }
        return NotOffered(kinds[type(node)])

    def _lost(self, node: objects.LostTensor) -> NotOffered:
        return NotOffered(f"a tensor that is not all in the file ({node.reason}),")

    def _number(self, node: Any) -> Any:
        return node.dtype.numpy.type(node)

    def _dtype(self, node: rows.DType) -> Any:
        return dtypes.BY_NAME.get(node.name, node)


class NotOffered:
    """Stands where a checkpoint holds something that wconv.torch has no tensor for, and says so when used."""

    def __init__(self, what: str) -> None:
        self.__dict__["_what"] = what

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(
            f"the checkpoint holds {self._what} which is not offered by wconv.torch (asked for .{name}):"
            f" convert the file with the wconv command, or load it with PyTorch"
        )

    def __repr__(self) -> str:
        return f"<{self._what}: not offered by wconv.torch>"


NODES: dict[type, Callable[[_Loader, Any], Any]] = {
    dict: _Loader._dict,
    objects.OrderedDict: _Loader._dict,
    list: _Loader._list,
    tuple: _Loader._tuple,
    set: _Loader._set,
    frozenset: _Loader._set,
    objects.Size: lambda loader, node: Size(node),
    objects.LayoutName: _Loader._layout,
    objects.Global: _Loader._named,
    Constructor: _Loader._named,
    Value: lambda loader, node: node.value,
    OldText: _Loader._old_text,
    Source: _Loader._bytes,
    NumpyType: _Loader._numpy_type,
    LazyTensor: _Loader._lazy,
    objects.Record: lambda loader, node: loader._record(node),
    objects.TorchTensor: _Loader._tensor,
    objects.Storage: _Loader._storage,
    objects.NumpyArray: _Loader._array,
    objects.SparseTensor: _Loader._sparse,
    objects.NestedTensor: _Loader._not_offered,
    objects.MetaTensor: _Loader._not_offered,
    objects.LostTensor: _Loader._lost,
    **dict.fromkeys(objects.NUMPY_NUMBERS.values(), _Loader._number),
    rows.DType: _Loader._dtype,
}


@functools.cache
def _maker(kind: type[Any]) -> Callable[[_Loader, Any], Any] | None:
    """How a node of this class is converted; None for what stays as it is."""
    return next((NODES[base] for base in kind.__mro__ if base in NODES), None)

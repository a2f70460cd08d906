"""What names in pickles stand for beside tensors: numpy's arrays, scalars and types, torch's small objects.

A closed table: nothing is imported, and no attribute of anything is fetched, by a name from a file.
"""

from __future__ import annotations

import builtins
import collections
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wconv.formats.numpy import arrays as npy
from wconv.formats.sources import Source
from wconv.formats.torch.objects import Global, NumpyArray, Record
from wconv.formats.torch.pickle import numpy_names
from wconv.formats.torch.pickle.reading import Reading, Value
from wconv.formats.torch.pickle.state import Constructor, MachineState
from wconv.torch import dtypes
from wconv.torch.device import MEMORY_FORMATS, device, layout, memory_format
from wconv.torch.parameter import Parameter
from wconv.torch.size import Size
from wconv.torch.storage import UntypedStorage
from wconv.torch.tensor import Tensor

_SCALARS = """
    bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128
    str_ bytes_ ndarray dtype generic number integer floating
""".split()  # noqa: SIM905
_BUILTINS = """
    int float complex bool str bytes bytearray list tuple dict set frozenset slice range object type
    Ellipsis NotImplemented
""".split()  # noqa: SIM905
_PYTHON2 = {"unicode": str, "long": int, "xrange": range}

_FORMATS = frozenset(format.name.removeprefix("torch.") for format in MEMORY_FORMATS)

NAMED: dict[str, Any] = {
    **{f"numpy.{name}": getattr(np, name) for name in _SCALARS},
    "numpy.bool": np.bool_,
    **{f"builtins.{name}": getattr(builtins, name) for name in _BUILTINS},
    **{f"__builtin__.{name}": getattr(builtins, name) for name in _BUILTINS},
    **{f"__builtin__.{name}": value for name, value in _PYTHON2.items()},
    "collections.OrderedDict": collections.OrderedDict,
    "torch.Tensor": Tensor,
    "torch._tensor.Tensor": Tensor,
    "torch.nn.parameter.Parameter": Parameter,
    "torch.Size": Size,
    "torch.device": device,
    "torch.dtype": dtypes.dtype,
    "torch.layout": layout,
    "torch.memory_format": memory_format,
    "torch.storage.UntypedStorage": UntypedStorage,
    **{f"torch.{format.name}": format for format in MEMORY_FORMATS},
}
"""Classes and constants by the names under which pickles refer to them."""


def named(path: str) -> Any:
    """What a dotted path stands for; None for what is not known.

    A memory format is pickled with whichever module was found to hold it: "torch._utils.torch.channels_last",
    or another package's that imports it.
    """
    _, _, name = path.rpartition(".torch.")
    return NAMED.get(f"torch.{name}" if name in _FORMATS and name != path else path)


def _scalar(machine: MachineState, args: Sequence[Any]) -> Any:
    """`numpy.core.multiarray.scalar(dtype, data)`, which plain data has as a Python number."""
    found = numpy_names.scalar_array(machine, args)
    if isinstance(found, Record):
        return found
    machine.charge(100)
    value = npy.lazy(found).numpy()[()]
    return Value(value, value.item())


def reading(encoding: str | None) -> Reading:
    """How pickles are read for torch.load's callers."""
    names = {
        (module, "scalar"): Constructor(f"{module}.scalar", _scalar)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    }
    return Reading(names, encoding == "bytes")


def array(node: NumpyArray) -> np.ndarray[Any, Any] | None:
    """An array of numbers or strings, in this machine's byte order and the order of axes it was pickled in.

    None for dates, records and objects.
    """
    if npy.element_type(node.dtype) is not None:
        made = npy.lazy(node).numpy()
        return np.asfortranarray(made) if node.fortran else made
    kind = numpy_dtype(node.dtype)
    count = math.prod(node.shape)
    if kind is None or kind.kind not in "SU" or not isinstance(node.data, Source):
        return None
    if not kind.itemsize or node.data.size != count * kind.itemsize:
        return None
    flat = np.frombuffer(node.data.read(0, node.data.size), kind).astype(kind.newbyteorder("="))
    return flat.reshape(node.shape, order="F" if node.fortran else "C")


def objects(node: NumpyArray) -> np.ndarray[Any, Any] | None:
    """An array of as many empty places as an array of objects has; None for other arrays."""
    if not isinstance(node.data, list) or len(node.data) != math.prod(node.shape):
        return None
    return np.empty(node.shape, object, order="F" if node.fortran else "C")


def numpy_dtype(code: str) -> np.dtype[Any] | None:
    """numpy's dtype for a code with its byte order ("<f4"); None for dates and records."""
    row = npy.element_type(code)
    if row is not None:
        return row.numpy.newbyteorder(">") if code.startswith(">") and row.module == "numpy" else row.numpy
    plain = code.lstrip("<>|=")
    if plain.startswith("O"):
        return np.dtype(object)
    return np.dtype(code) if plain[:1] in ("S", "U") and plain[1:].isdigit() else None


def record(node: Record) -> Any:
    """What a call that was only remembered makes, where it is one of the few that are known; else None."""
    make = RECORDS.get(node.class_name)
    return make(node) if make and isinstance(node.constructor, Global) and type(node.args) is tuple else None


def _device(node: Record) -> Any:
    kinds = [type(part) for part in node.args]
    if kinds not in ([str], [str, int]) or not 0 <= (*node.args, 0)[1] < DEVICES:
        return None
    try:
        return device(*node.args)
    except RuntimeError:
        return None  # a device that no torch has: inert


def _type_of(node: Record) -> Any:
    """`type(None)` and its like, by an instance."""
    singletons = (None, named("builtins.Ellipsis"), NotImplemented)
    given = node.args[0] if len(node.args) == 1 else 0
    given = named(given.path) if isinstance(given, Global) else given
    return type(given) if any(given is one for one in singletons) else None


def _text(node: Record) -> Any:
    """A scalar of strings: `(dtype, data)`."""
    if len(node.args) != 2 or type(node.args[0]) is not str or not isinstance(node.args[1], bytes):
        return None
    kind = numpy_dtype(node.args[0])
    if kind is None or kind.kind not in "SU" or kind.itemsize != len(node.args[1]) or not kind.itemsize:
        return None
    return np.frombuffer(node.args[1], kind).astype(kind.newbyteorder("="))[0]


DEVICES = 128
"""torch counts devices of a kind in one byte."""

RECORDS = {
    "torch.device": _device,
    "builtins.type": _type_of,
    "__builtin__.type": _type_of,
    "numpy.generic": _text,
}

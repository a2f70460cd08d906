"""numpy's dtypes, arrays and scalars in pickles: functions for the table of `torch_names`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from wconv.formats.numpy import arrays as npy
from wconv.formats.sources import as_source
from wconv.formats.torch.objects import Global, NumpyArray, Record, numpy_number, shown
from wconv.formats.torch.pickle.state import MachineState
from wconv.formats.torch.tensors import check_count, checked_lengths
from wconv.tensors.dtypes import DType


class NumpyType:
    """A `numpy.dtype` while it is read: a code ("f4") and a byte order, or one of ml_dtypes' types."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def set_state(self, machine: MachineState, state: Any) -> None:
        """`(version, byte order, …)`."""
        if type(state) is not tuple or len(state) < 5:
            raise machine.damaged("a numpy dtype has no state")
        if state[2:5] != (None, None, None) and not self.code.startswith("V"):
            raise machine.damaged("a numpy dtype of numbers has fields")
        if state[1] not in ("<", ">", "|", "=", b"<", b">", b"|"):
            raise machine.damaged("a numpy dtype has no byte order")
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.order = ">" if order == ">" else "<"

    def __str__(self) -> str:
        return self.order + self.code


def numpy_dtype(machine: MachineState, args: Sequence[Any]) -> NumpyType:
    """`numpy.dtype('f4', False, True)`."""
    code = args[0] if args else None
    if type(code) is DType:
        return NumpyType(code.name)
    if isinstance(code, bytes):
        code = code.decode("latin-1")
    if type(code) is Global and code.path in ("numpy.record", "numpy.rec.record", "numpy.void"):
        code = "V"
    if type(code) is not str or not re.fullmatch(r"[<>|=]?[?a-zA-Z]\d{0,6}(\[\w+\])?", code):
        raise machine.damaged(f"{shown(code, 60)} is no numpy dtype")
    made = NumpyType(code.lstrip("<>|="))
    made.order = ">" if code[0] == ">" else "<"
    return made


class _Array(NumpyArray):
    """A `NumpyArray` that is still to be given its state."""

    __slots__ = ()

    def set_state(self, machine: MachineState, state: Any) -> None:
        """`(version, shape, dtype, fortran, data)`; very old files leave the version out."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise machine.damaged("a numpy array has no state")
        shape, dtype, fortran, data = state[-4:]
        fill_array(machine, self, shape, dtype, fortran is True or fortran == 1, data)


def fill_array(
    machine: MachineState, array: NumpyArray, shape: Any, dtype: Any, fortran: bool, data: Any
) -> None:
    """Gives an array its values, when they are as many as its shape says."""
    if type(dtype) is Record:
        # what numpy makes by a class of its own: texts of any length
        array.dtype = dtype.class_name.rpartition(".")[2]
    elif type(dtype) is NumpyType:
        array.dtype = str(dtype) if dtype.code in npy.CODES else dtype.code
    else:
        raise machine.damaged("a numpy array has no dtype")
    array.shape = checked_lengths(machine, shape, "shape")
    array.fortran = fortran
    array.data = data if type(data) is list else as_source(data, machine.source.where)
    if array.data is None:
        raise machine.damaged("a numpy array has no values")
    npy.check(array, machine.source.where)


def numpy_reconstruct(machine: MachineState, args: Sequence[Any]) -> NumpyArray:
    """`numpy.core.multiarray._reconstruct(type, (0,), 'b')`: BUILD brings the rest."""
    machine.charge(100)
    return _Array()


def numpy_frombuffer(machine: MachineState, args: Sequence[Any]) -> NumpyArray:
    """`numpy._core.numeric._frombuffer(buffer, dtype, shape, order)` of protocol 5."""
    check_count(machine, args, 4, 4, "_frombuffer")
    machine.charge(100)
    array = _Array()
    if args[3] not in ("C", "F"):
        raise machine.damaged("a numpy array has no order of its axes")
    fill_array(machine, array, args[2], args[1], args[3] == "F", args[0])
    return array


def numpy_scalar(machine: MachineState, args: Sequence[Any]) -> Any:
    """`numpy.core.multiarray.scalar(dtype, data)`: a number that remembers its dtype."""
    found = scalar_array(machine, args)
    if isinstance(found, Record):
        return found
    tensor = npy.lazy(found)
    machine.charge(150)
    return numpy_number(tensor.numpy().item(), tensor.dtype)


def scalar_array(machine: MachineState, args: Sequence[Any]) -> NumpyArray | Record:
    """A numpy scalar as an array without axes; a record where it is no number."""
    array = NumpyArray()
    if len(args) == 1 and type(args[0]) is NumpyType:
        args = (args[0], b"\0" * 16)
    if len(args) == 2 and type(args[0]) is NumpyType and npy.element_type(args[0].code) is None:
        machine.charge(400)
        return Record(Global("numpy", "generic"), (str(args[0]), args[1]))
    check_count(machine, args, 2, 2, "numpy scalar")
    fill_array(machine, array, (), args[0], False, args[1])
    return array

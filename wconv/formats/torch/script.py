"""TorchScript archives (`torch.jit.save`): the module's pickle, its constants, and the older `model.json`.

The code of the module is never run; one number is looked up in it (`torchscript_code`).
"""

from __future__ import annotations

from typing import Any

from wconv.errors import FormatError
from wconv.formats import json_text
from wconv.formats.torch import archive, script_code
from wconv.formats.torch.objects import LostTensor, Record, Storage, TorchTensor
from wconv.formats.torch.pickle.machine import Machine
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.torch.state_dict import holds_tensors
from wconv.formats.torch.tensors import view
from wconv.formats.zip.directory import ZipDirectory
from wconv.tensors import dtypes

CONSTANTS = "CONSTANTS"
"""What the module's code calls the tensors of `constants.pkl`: `CONSTANTS.c0`."""

JSON_LIMIT = 64 << 20
"""Bytes of `model.json`."""

JSON_DTYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BYTE": "uint8",
    "BOOL": "bool",
}
"""The element types of `model.json`."""


def load(directory: ZipDirectory, folder: str, read_nested: archive.ReadNested) -> Any:
    """The module as a record; the tensors of `constants.pkl` are among its items.

    Raises:
        FormatError: the archive is damaged.
    """
    swap = archive.swapped(directory, folder)
    root = archive.run(directory, folder + "data.pkl", folder + "data/", swap, read_nested)
    constants = archive.run(directory, folder + "constants.pkl", folder + "constants/", swap, read_nested)
    if isinstance(root, Record):
        script_code.add_groups(root, directory, folder)
    if isinstance(root, Record) and type(constants) is tuple:
        found = {f"c{at}": value for at, value in enumerate(constants) if holds_tensors(value)}
        if found:
            root.items[CONSTANTS] = found
    return root


def load_json(directory: ZipDirectory, folder: str) -> dict[str, Any]:
    """The parameters and buffers of an archive from before 1.4, as nested dicts.

    Raises:
        FormatError: `model.json` is damaged or speaks of tensors that are not there.
    """
    where = directory.source.where
    machine = Machine(directory.source, NAMES)
    try:
        model = json_text.read(directory.read(folder + "model.json", JSON_LIMIT), f"{where}'s model.json")
        tensors = [_tensor(machine, directory, folder, entry) for entry in model.get("tensors", [])]
        return _module(model["mainModule"], tensors, 0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise FormatError(f"{where} is damaged: its model.json is not what TorchScript writes") from None


def _tensor(machine: Machine, directory: ZipDirectory, folder: str, entry: dict[str, Any]) -> TorchTensor:
    name = folder + entry["data"]["key"]
    dtype = dtypes.by_name(JSON_DTYPES[entry["dataType"]])
    source, start, size = directory.open(name)
    numel = size // dtype.itemsize
    storage = Storage(name, "UntypedStorage", dtype, numel, str(entry.get("device", "cpu")), source, start)
    shape = tuple(map(_count, entry.get("dims", [])))
    stride = tuple(map(_count, entry.get("strides", [])))
    offset = _count(entry.get("offset", 0))
    return view(machine, storage, offset, shape, stride, dtype, entry.get("requiresGrad"))


def _count(value: Any) -> int:
    """A whole number from 0 on; those of 64 bits are texts in such files."""
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdecimal():
        return int(value)
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _module(module: dict[str, Any], tensors: list[TorchTensor], depth: int) -> dict[str, Any]:
    if depth > 200:
        raise ValueError
    found: dict[str, Any] = {}
    for parameter in module.get("parameters", []):
        found[str(parameter["name"])] = tensors[_count(parameter["tensorId"])]
    for attribute in module.get("attributes", []):
        if "Tensor" in str(attribute.get("type")):
            found[str(attribute["name"])] = LostTensor("it is an attribute that a model.json keeps elsewhere")
    for child in module.get("submodules", []):
        found[str(child["name"])] = _module(child, tensors, depth + 1)
    return found

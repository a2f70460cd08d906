"""`torch.export.save`'s archives (`.pt2`): raw weights and a JSON table, or an older form with a pickle."""

from __future__ import annotations

from typing import Any

from wconv.errors import FormatError
from wconv.formats import json_text
from wconv.formats.torch import archive
from wconv.formats.torch.objects import LostTensor, Storage, TorchTensor
from wconv.formats.torch.pickle.machine import Machine
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.torch.tensors import view
from wconv.formats.zip.directory import ZipDirectory
from wconv.tensors import dtypes

JSON_LIMIT = 256 << 20
"""Bytes of one JSON member."""

# torch._export.serde.schema.ScalarType
SCALAR_TYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
}
"""The dtype codes of the JSON tables."""

TABLES = (("data/weights/", "weights"), ("data/constants/", "constants"))
OLD_STATES = ("serialized_state_dict.pt", "serialized_state_dict.json", "serialized_constants.pt")


def load(directory: ZipDirectory, folder: str, read_nested: archive.ReadNested) -> dict[str, Any]:
    """Weights and constants by name, as `TorchTensor`s.

    Raises:
        FormatError: the archive is damaged, or its weights are of a kind that wconv does not know.
    """
    swap = archive.swapped(directory, folder)
    found: dict[str, Any] = {}
    for data, kind in TABLES:
        suffix = f"_{kind}_config.json"
        tables = [
            name for name in directory.entries if name.startswith(folder + data) and name.endswith(suffix)
        ]
        for name in tables:
            model = name[len(folder + data) : -len(suffix)]
            for key, leaf in _table(directory, folder + data, name, swap, read_nested).items():
                # several models in one archive: their names are told apart by the model's
                found[f"{model}.{key}" if len(tables) > 1 else key] = leaf
    if not found:
        for name in (
            entry for entry in directory.entries if entry.endswith(".pt") and "/data/" in "/" + entry
        ):
            if name.startswith((folder + "data/weights/", folder + "data/constants/")):
                value = read_nested(directory.part(name))
                found.update(value if isinstance(value, dict) else {name: value})
    return found


def load_old(directory: ZipDirectory, read_nested: archive.ReadNested) -> Any:
    """The state dict of an archive from before 2.8: a checkpoint within the archive."""
    found: dict[str, Any] = {}
    for name in directory.entries:
        if name.rpartition("/")[2] in OLD_STATES and directory.entries[name].size:
            value = read_nested(directory.part(name))
            held = value if isinstance(value, dict) else {name: value}
            found.update({key: leaf for key, leaf in held.items() if key not in found})
    return found


def _table(
    directory: ZipDirectory, folder: str, name: str, swap: bool, read_nested: archive.ReadNested
) -> dict[str, Any]:
    where = directory.source.where
    machine = Machine(directory.source, NAMES)
    try:
        table = json_text.read(directory.read(name, JSON_LIMIT), f"{where}'s table of weights")["config"]
        found = {}
        for key, entry in table.items():
            member = folder + entry["path_name"]
            if entry.get("use_pickle"):
                found[str(key)] = read_nested(directory.part(member))
            elif entry.get("tensor_meta") is not None:
                found[str(key)] = _tensor(machine, directory, member, entry, swap)
            else:
                found[str(key)] = LostTensor("the archive's table does not describe it")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError(
            f"{where} is damaged: its table of weights is not what torch.export writes"
        ) from None


def _tensor(
    machine: Machine, directory: ZipDirectory, member: str, entry: dict[str, Any], swap: bool
) -> TorchTensor:
    described = entry["tensor_meta"]
    code = described["dtype"]
    if code not in SCALAR_TYPES:
        raise FormatError(
            f"{directory.source.where} has a weight of dtype code {code!r:.20}, which wconv does not know"
        )
    name = SCALAR_TYPES[code]
    dtype = dtypes.BY_NAME.get(name)
    carrier = dtype or dtypes.by_name("uint8")
    source, start, size = directory.open(member)
    numel = size // carrier.itemsize
    storage = Storage(member, "UntypedStorage", carrier, numel, "cpu", source, start, swap)
    shape = tuple(_number(length) for length in described["sizes"])
    stride = tuple(_number(length) for length in described["strides"])
    offset = _number(described["storage_offset"])
    return view(machine, storage, offset, shape, stride, dtype or name, described.get("requires_grad"))


def _number(value: Any) -> int:
    """`{"as_int": 3}`; weights have no symbolic sizes."""
    number = value["as_int"] if isinstance(value, dict) else value
    if type(number) is not int:
        raise TypeError
    return number

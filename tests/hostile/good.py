"""Good files of every kind: read before the guard is armed, and what the fuzz mutates."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.hostile.assemble import (
    Code,
    build,
    by_global,
    call,
    newobj,
    persistent,
    pickled,
    push,
    storage,
    tensor,
)
from tests.hostile.case import Case, inert
from tests.hostile.containers import (
    VALUES,
    WEIGHTS,
    Entry,
    legacy,
    npy,
    npy_header,
    pt2,
    safetensors,
    state_dict,
    torch_entries,
    torch_tar,
    torch_zip,
    torchscript_entries,
    zipped,
)

TENSOR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
STORAGES: Mapping[str, bytes] = {
    "0": WEIGHTS,
    "1": struct.pack("<4q", 0, 1, 2, 3),
    "2": struct.pack("<4d", 0.5, 2.0, 1.0, 1.0),
}
"""The storages that `calls` refers to."""

INDEX = {"metadata": {"total_size": 16}, "weight_map": {"w": "model-00001-of-00001.safetensors"}}


def array(data: bytes = WEIGHTS, shape: tuple[int, ...] = (4,), kind: str = "f4") -> Code:
    """A numpy array as protocol 2 pickles it."""
    dtype = build(call("numpy", "dtype", kind, False, True), (3, "<", None, None, None, -1, -1, 0))
    empty = call("numpy.core.multiarray", "_reconstruct", by_global("numpy", "ndarray"), (0,), b"b")
    return build(empty, (1, shape, dtype, False, data))


def calls() -> dict[str, tuple[Any, ...]]:
    """The rebuild functions, each with arguments that are right."""
    hooks = call("collections", "OrderedDict")
    float32, cpu = by_global("torch", "float32"), "cpu"
    untyped = storage(cls="UntypedStorage", module="torch.storage", numel=16)
    whole = tensor(size=(4,), stride=(1,))
    pairs = tensor(storage("1", "LongStorage", 4), 0, (2, 2), (2, 1))
    indices = tensor(storage("1", "LongStorage", 4), 0, (1, 4), (4, 1))
    view = (0, (4,), (1,))
    quantized = storage(cls="QInt8Storage", numel=16)
    scales = tensor(storage("2", "DoubleStorage", 4), 0, (2,), (1,))
    zeros = tensor(storage("1", "LongStorage", 4), 0, (2,), (1,))
    channels = (by_global("torch", "per_channel_affine"), scales, zeros, 0)
    coo = call("torch.serialization", "_get_layout", "torch.sparse_coo")
    csr = call("torch.serialization", "_get_layout", "torch.sparse_csr")
    return {
        "_rebuild_tensor": (storage(), *view),
        "_rebuild_tensor_v2": (storage(), *view, False, hooks, {}),
        "_rebuild_tensor_v3": (untyped, *view, False, hooks, float32, {}),
        "_rebuild_parameter": (whole, False, hooks),
        "_rebuild_parameter_with_state": (whole, False, hooks, {}),
        "_rebuild_qtensor": (
            quantized,
            *view,
            (by_global("torch", "per_tensor_affine"), 0.5, 3),
            False,
            hooks,
        ),
        "_rebuild_qtensor ": (quantized, 0, (2, 2), (2, 1), channels, False, hooks),
        "_rebuild_sparse_tensor": (coo, (indices, whole, call("torch", "Size", (4,)))),
        "_rebuild_sparse_tensor ": (csr, (zeros, zeros, tensor(size=(2,)), call("torch", "Size", (1, 4)))),
        "_rebuild_nested_tensor": (whole, pairs, pairs, zeros),
        "_rebuild_meta_tensor_no_storage": (float32, (4,), (1,), False),
        "_rebuild_device_tensor_from_numpy": (array(), float32, cpu, False),
        "_rebuild_device_tensor_from_cpu_tensor": (whole, float32, cpu, False),
        "_rebuild_wrapper_subclass": (by_global("mine", "Kind"), float32, (4,), (1,), 0, coo, cpu, False),
    }


def module(**parameters: Code) -> Code:
    """A whole pickled nn.Module."""
    ordered = call("collections", "OrderedDict", list(parameters.items()))
    nothing = call("collections", "OrderedDict")
    fields = {"training": True, "_parameters": ordered, "_buffers": nothing, "_modules": nothing}
    return build(newobj(by_global("mine.models", "Net")), fields)


def files() -> dict[str, bytes]:
    """One file per kind; each holds `VALUES` as `w`, except the bare array of .npy."""
    plain, hooks = state_dict(), call("collections", "OrderedDict")
    big = zipped(torch_entries(pickled(plain), {"0": struct.pack(">4f", *VALUES)}, byteorder=b"big"))
    untyped = storage(cls="UntypedStorage", module="torch.storage", numel=16)
    v3 = (False, hooks, by_global("torch", "float32"))
    sparse = call(
        "torch._utils",
        "_rebuild_sparse_tensor",
        call("torch.serialization", "_get_layout", "torch.sparse_coo"),
        (
            tensor(storage("1", "LongStorage", 4), 0, (1, 4), (4, 1)),
            tensor(),
            call("torch", "Size", (4,)),
        ),
    )
    quantizer = (by_global("torch", "per_tensor_affine"), 1.0, 0)
    quantized = call(
        "torch._utils",
        "_rebuild_qtensor",
        storage("0", "QInt8Storage", 4),
        0,
        (4,),
        (1,),
        quantizer,
        False,
        hooks,
    )
    return {
        "zip": torch_zip(plain),
        "zip-deflated": torch_zip(plain, method=8),
        "zip-without-crc": zipped(
            Entry(e.name, e.data, crc=0, flags=0x808) for e in torch_entries(pickled(plain))
        ),
        "zip-big-endian": big,
        "zip-v3": torch_zip({"w": tensor(untyped, more=v3, function="_rebuild_tensor_v3")}),
        "zip-parameter": torch_zip({"w": call("torch._utils", "_rebuild_parameter", tensor(), True, hooks)}),
        "zip-wrapped": torch_zip({"state_dict": plain, "epoch": 3, "args": {"lr": 0.1}}),
        "zip-module": torch_zip(module(w=tensor())),
        "zip-sparse": torch_zip({"w": sparse}, {"0": WEIGHTS, "1": struct.pack("<4q", 0, 1, 2, 3)}),
        "zip-quantized": torch_zip({"w": quantized}, {"0": bytes([1, 2, 3, 4])}),
        "zip-array": torch_zip({"w": array()}),
        "zip-nested": torch_zip({"w": call("torch.storage", "_load_from_bytes", torch_zip(tensor()))}),
        "legacy": legacy(),
        "legacy-module": legacy(
            push(
                {
                    "w": tensor(storage(extra=(None,))),
                    "x": persistent(("module", by_global("a", "B"), "", "")),
                }
            )
        ),
        "tar": torch_tar(),
        "torchscript": zipped(torchscript_entries()),
        "pt2": pt2(),
        "plain-pickle": pickled({"w": array()}),
        "npz": zipped([Entry("w.npy", npy(npy_header(), WEIGHTS))]),
        "npz-deflated": zipped([Entry("w.npy", npy(npy_header(), WEIGHTS), 8)]),
        "safetensors": safetensors({"w": TENSOR, "__metadata__": {"format": "pt"}}, WEIGHTS),
    }


NAMED = {
    "gguf": b"GGUF\3\0\0\0" + bytes(64),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "html": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "error-json": b'{"error": "Repository not found"}',
    "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "empty": b"",
    "text": b"hello\n",
    "zeros": bytes(4096),
    "gzip": b"\x1f\x8b\x08" + bytes(64),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
}
"""What is no weights file at all, and must be refused by name."""


def shards(directory: Path, index: str = json.dumps(INDEX)) -> Path:
    """A directory of one shard with an index."""
    (directory / "model-00001-of-00001.safetensors").write_bytes(safetensors({"w": TENSOR}, WEIGHTS))
    (directory / "model.safetensors.index.json").write_text(index)
    return directory


def bin_shards(directory: Path) -> Path:
    """The same in PyTorch's zip."""
    (directory / "pytorch_model-00001-of-00001.bin").write_bytes(torch_zip(state_dict()))
    index = {"metadata": {}, "weight_map": {"w": "pytorch_model-00001-of-00001.bin"}}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return directory


def cases() -> Iterator[Case]:
    """The same files as cases, since a reader that refuses everything would pass all the others."""
    for name, data in files().items():
        constants = {"CONSTANTS.c0": VALUES} if name == "torchscript" else {}
        yield inert(f"good-{name}", data, tensors={"w": VALUES, **constants})
    yield inert("good-npy", npy(npy_header(), WEIGHTS), tensors={"tensor": VALUES}, file="model.npy")
    yield Case("good-shards", "inert", shards, {"w": VALUES}, directory=True)
    yield Case("good-bin-shards", "inert", bin_shards, {"w": VALUES}, directory=True)

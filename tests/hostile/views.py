"""Tensors that lie: offsets, sizes, strides, counts and dtypes that do not fit their storage."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from tests.hostile.assemble import Code, by_global, call, persistent, push, storage, tensor
from tests.hostile.case import Case, inert, refused
from tests.hostile.code import SYSTEM
from tests.hostile.containers import VALUES, WEIGHTS, pt2, pt2_entry, torch_zip
from tests.hostile.good import array

HUGE = (2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, 1 << 4000)


def _geometry() -> dict[str, Code]:
    """Views of the storage of four floats that it does not have room for, or that are nonsense."""
    return {
        "offset-past-end": tensor(offset=1),
        "offset-at-end": tensor(offset=4, size=(1,)),
        "offset-negative": tensor(offset=-1),
        "offset-float": tensor(offset=0.0),
        "offset-none": tensor(offset=None),
        "offset-bool": tensor(offset=True, size=(4,)),
        "offset-text": tensor(offset="0"),
        "size-past-end": tensor(size=(5,)),
        "size-negative": tensor(size=(-1,)),
        "size-negative-pair": tensor(size=(-2, -2), stride=(2, 1)),
        "size-float": tensor(size=(4.0,)),
        "size-nan": tensor(size=(float("nan"),)),
        "size-text": tensor(size="4444", stride="1111"),
        "size-number": tensor(size=4, stride=1),
        "size-none": tensor(size=None, stride=None),
        "size-dict": tensor(size={4: 4}, stride={1: 1}),
        "stride-past-end": tensor(stride=(2,)),
        "stride-negative": tensor(offset=3, stride=(-1,)),
        "stride-float": tensor(stride=(1.0,)),
        "stride-too-few": tensor(size=(2, 2), stride=(1,)),
        "stride-too-many": tensor(stride=(1, 1)),
        "two-axes-past-end": tensor(size=(2, 2), stride=(3, 1)),
        "sum-of-axes-past-end": tensor(size=(3, 3), stride=(1, 1)),
        "product-wraps": tensor(size=(2**32, 2**32), stride=(0, 0)),
        "product-wraps-to-four": tensor(size=(2**62, 2**62, 4), stride=(1, 1, 1)),
        "many-axes": tensor(size=(1,) * 100_000, stride=(1,) * 100_000),
        "65-axes": tensor(size=(1,) * 65, stride=(1,) * 65),
        "many-axes-of-two": tensor(size=(2,) * 70, stride=(0,) * 70),
        "expanded-1-gib": tensor(size=(2**28,), stride=(0,)),
        "expanded-1-tib": tensor(size=(2**19, 2**19), stride=(0, 0)),
        "expanded-some-axes": tensor(size=(2**30, 4), stride=(0, 1)),
        "numel-too-large": tensor(storage(numel=5)),
        "numel-beyond-file": tensor(storage(numel=10**9)),
        "numel-negative": tensor(storage(numel=-4)),
        "numel-text": tensor(storage(numel="4")),
        "numel-float": tensor(storage(numel=4.0)),
        "numel-too-small": tensor(storage(numel=3)),
        "entry-missing": tensor(storage(key="9")),
        "entry-key-number": tensor(storage(key=-1)),
        "entry-is-the-pickle": tensor(storage(key="../data.pkl")),
        "entry-too-short-for-class": tensor(storage(cls="DoubleStorage")),
        "class-wider-than-numel": tensor(storage(cls="ComplexDoubleStorage")),
        "class-unknown": tensor(storage(cls="QuantumStorage")),
        "dtype-as-storage": tensor(storage(cls="float32")),
        "size-as-storage": tensor(storage(cls="Size")),
        "storage-is-none": tensor(push(None)),
        "storage-is-tensor": tensor(tensor()),
        "storage-is-dict": tensor(push({})),
        "too-few-arguments": call("torch._utils", "_rebuild_tensor_v2", storage()),
        "no-arguments": call("torch._utils", "_rebuild_tensor_v2"),
        "arguments-not-a-tuple": Code(by_global("torch._utils", "_rebuild_tensor_v2") + push([1]) + b"R"),
        "too-many-arguments": tensor(more=(False, push({}), None, None, None, None, None)),
    }


def _rebuilds() -> dict[str, Code]:
    """The other rebuild functions with arguments of the wrong kind or reach."""
    hooks = call("collections", "OrderedDict")
    untyped = storage(cls="UntypedStorage", module="torch.storage", numel=16)
    v3 = ("torch._utils", "_rebuild_tensor_v3")
    quantized = ("torch._utils", "_rebuild_qtensor")
    affine, channel = by_global("torch", "per_tensor_affine"), by_global("torch", "per_channel_affine")
    sparse = ("torch._utils", "_rebuild_sparse_tensor")
    coo = call("torch.serialization", "_get_layout", "torch.sparse_coo")
    csr = call("torch.serialization", "_get_layout", "torch.sparse_csr")
    bytes_storage = storage(cls="QInt8Storage", numel=4)
    indices = tensor(storage("1", "LongStorage", 4), 0, (1, 4), (4, 1))

    def coo_of(where: Any, values: Any, size: Any) -> Code:
        return call(*sparse, coo, (where, values, size))

    return {
        "v3-past-end": call(*v3, untyped, 0, (5,), (1,), False, hooks, by_global("torch", "float32")),
        "v3-wide-dtype": call(*v3, untyped, 0, (4,), (1,), False, hooks, by_global("torch", "float64")),
        "v3-no-dtype": call(*v3, untyped, 0, (4,), (1,), False, hooks),
        "v3-dtype-text": call(*v3, untyped, 0, (4,), (1,), False, hooks, "float32"),
        "v3-dtype-unknown": call(*v3, untyped, 0, (4,), (1,), False, hooks, by_global("torch", "float7")),
        "v3-offset-overflows": call(
            *v3, untyped, 2**62, (4,), (1,), False, hooks, by_global("torch", "float32")
        ),
        "v3-metadata-text": call(
            *v3, untyped, 0, (4,), (1,), False, hooks, by_global("torch", "float32"), "conj"
        ),
        "v2-past-end": tensor(size=(5,), function="_rebuild_tensor", more=()),
        "quantized-past-end": call(*quantized, bytes_storage, 0, (5,), (1,), (affine, 1.0, 0), False, hooks),
        "quantizer-text": call(*quantized, bytes_storage, 0, (4,), (1,), "affine", False, hooks),
        "quantizer-empty": call(*quantized, bytes_storage, 0, (4,), (1,), (), False, hooks),
        "quantizer-unknown": call(
            *quantized, bytes_storage, 0, (4,), (1,), (push("x"), 1.0, 0), False, hooks
        ),
        "scale-text": call(*quantized, bytes_storage, 0, (4,), (1,), (affine, "1", 0), False, hooks),
        "scale-huge": call(*quantized, bytes_storage, 0, (4,), (1,), (affine, 10**400, 0), False, hooks),
        "zero-point-huge": call(
            *quantized, bytes_storage, 0, (4,), (1,), (affine, 1.0, 10**400), False, hooks
        ),
        "scales-too-few": call(
            *quantized,
            bytes_storage,
            0,
            (2, 2),
            (2, 1),
            (channel, tensor(size=(1,)), tensor(size=(1,)), 0),
            False,
            hooks,
        ),
        "channel-axis-outside": call(
            *quantized,
            bytes_storage,
            0,
            (2, 2),
            (2, 1),
            (channel, tensor(size=(2,)), tensor(size=(2,)), 9),
            False,
            hooks,
        ),
        "channel-axis-negative": call(
            *quantized,
            bytes_storage,
            0,
            (2, 2),
            (2, 1),
            (channel, tensor(size=(2,)), tensor(size=(2,)), -9),
            False,
            hooks,
        ),
        "scales-not-tensors": call(
            *quantized, bytes_storage, 0, (2, 2), (2, 1), (channel, [1.0, 1.0], [0, 0], 0), False, hooks
        ),
        "sparse-layout-unknown": call(*sparse, call("torch.serialization", "_get_layout", "torch.eval"), ()),
        "sparse-layout-text": call(*sparse, "torch.sparse_coo", ()),
        "sparse-empty": call(*sparse, coo, ()),
        "sparse-not-tensors": coo_of([0], [1.0], (4,)),
        "sparse-huge": coo_of(indices, tensor(), (2**40,)),
        "sparse-huge-2d": coo_of(indices, tensor(), (2**20, 2**20)),
        "sparse-index-outside": coo_of(indices, tensor(), (3,)),
        "sparse-index-negative": coo_of(
            tensor(storage("2", "LongStorage", 4), 0, (1, 4), (4, 1)), tensor(), (4,)
        ),
        "sparse-size-negative": coo_of(indices, tensor(), (-4,)),
        "sparse-index-axes": coo_of(
            tensor(storage("1", "LongStorage", 4), 0, (4, 1), (1, 1)), tensor(), (4,)
        ),
        "sparse-counts-differ": coo_of(indices, tensor(size=(2,)), (4,)),
        "sparse-float-indices": coo_of(tensor(size=(1, 4), stride=(4, 1)), tensor(), (4,)),
        "csr-pointers-outside": call(
            *sparse, csr, (tensor(storage("3", "LongStorage", 2), 0, (2,), (1,)), indices, tensor(), (1, 4))
        ),
        "csr-too-few": call(*sparse, csr, (indices,)),
        "nested-of-nothing": call("torch._utils", "_rebuild_nested_tensor", None, None, None, None),
        "nested-past-end": call(
            "torch._utils",
            "_rebuild_nested_tensor",
            tensor(),
            tensor(storage("1", "LongStorage", 4), 0, (2, 2), (2, 1)),
            tensor(storage("1", "LongStorage", 4), 0, (2, 2), (2, 1)),
            tensor(storage("4", "LongStorage", 2), 0, (2,), (1,)),
        ),
        "parameter-of-text": call("torch._utils", "_rebuild_parameter", "x", False, hooks),
        "from-numpy-text": call(
            "torch._utils",
            "_rebuild_device_tensor_from_numpy",
            "x",
            by_global("torch", "float32"),
            "cpu",
            False,
        ),
        "from-numpy-short": call(
            "torch._utils",
            "_rebuild_device_tensor_from_numpy",
            array(WEIGHTS[:4]),
            by_global("torch", "float32"),
            "cpu",
            False,
        ),
    }


STORAGES: Mapping[str, bytes] = {
    "0": WEIGHTS,
    "1": struct.pack("<4q", 0, 1, 2, 3),
    "2": struct.pack("<4q", 0, -1, 2, 3),
    "3": struct.pack("<2q", 0, 2**40),
    "4": struct.pack("<2q", 0, 2**60),
}


def _arrays() -> dict[str, Code]:
    """numpy arrays and scalars whose state contradicts itself."""
    dtype = ("numpy", "dtype")
    empty = call("numpy.core.multiarray", "_reconstruct", by_global("numpy", "ndarray"), (0,), b"b")

    def state(*fields: Any) -> Code:
        return Code(empty + push(fields) + b"b")

    f4 = call(*dtype, "f4", False, True)
    return {
        "too-short": array(WEIGHTS[:-1]),
        "too-long": array(WEIGHTS + b"0"),
        "shape-negative": array(shape=(-4,)),
        "shape-huge": array(b"", (2**40,)),
        "shape-wraps": array(b"", (2**32, 2**32)),
        "shape-float": array(shape=(4.0,)),  # type: ignore[arg-type]
        "shape-text": array(shape="4"),  # type: ignore[arg-type]
        "objects": array(kind="O"),
        "objects-in-record": array(kind="i4,O"),
        "dates": array(b"0" * 32, kind="M8[D]"),
        "text": array(b"0" * 64, kind="U4"),
        "kind-nonsense": array(kind="hello"),
        "kind-long": array(kind="f4," * 20_000),
        "kind-wide": array(kind="V2000000000"),
        "kind-is-call": array(kind=SYSTEM),  # type: ignore[arg-type]
        "kind-is-number": array(kind=7),  # type: ignore[arg-type]
        "kind-fields": array(kind=[("a", "f4")]),  # type: ignore[arg-type]
        "kind-escapes": array(kind="f4\x1b[2J\n"),
        "state-empty": state(),
        "state-number": Code(empty + push(3) + b"b"),
        "data-number": state(1, (4,), f4, False, 7),
        "data-none": state(1, (4,), f4, False, None),
        "data-list": state(1, (4,), f4, False, [1.0, 2.0, 3.0, 4.0]),
        "dtype-state-fields": state(
            1, (4,), Code(f4 + push((3, "<", None, ("a",), {"a": (f4, 0)}, 4, 1, 0)) + b"b"), False, WEIGHTS
        ),
        "dtype-state-subarray": state(
            1, (4,), Code(f4 + push((3, "<", (f4, (2**40,)), None, None, -1, -1, 0)) + b"b"), False, WEIGHTS
        ),
        "dtype-byteorder": state(
            1, (4,), Code(f4 + push((3, "@!", None, None, None, -1, -1, 0)) + b"b"), False, WEIGHTS
        ),
        "scalar-short": call("numpy.core.multiarray", "scalar", f4, b"12"),
        "scalar-object": call("numpy.core.multiarray", "scalar", call(*dtype, "O", False, True), b"12"),
        "from-buffer-short": call("numpy._core.numeric", "_frombuffer", b"0", f4, (4,), "C"),
        "from-buffer-order": call("numpy._core.numeric", "_frombuffer", WEIGHTS, f4, (4,), "X"),
        "from-buffer-shape": call("numpy._core.numeric", "_frombuffer", WEIGHTS, f4, (2**62,), "C"),
    }


SKIPPED = ("objects", "text", "dates", "scalar-object", "sparse-huge")
"""What is no tensor of numbers, or none that could be written: left out, and said so."""

PT2_LIES: dict[str, dict[str, Any]] = {
    "past-end": {"sizes": [{"as_int": 5}]},
    "offset": {"storage_offset": {"as_int": 1}},
    "offset-negative": {"storage_offset": {"as_int": -1}},
    "stride": {"strides": [{"as_int": 2}]},
    "expanded": {"sizes": [{"as_int": 2**40}], "strides": [{"as_int": 0}]},
    "negative": {"sizes": [{"as_int": -4}]},
    "symbolic": {"sizes": [{"as_expr": {"expr_str": "__import__('os')"}}]},
    "dtype-unknown": {"dtype": 99},
    "dtype-text": {"dtype": "float"},
    "dtype-list": {"dtype": []},
    "path-missing": {"path_name": "weight_1"},
    "path-traverses": {"path_name": "../../version"},
    "path-absolute": {"path_name": "/etc/passwd"},
    "path-number": {"path_name": 7},
    "pickled-raw": {"use_pickle": True},
}


def cases() -> Iterator[Case]:
    for kind, table in (("view", _geometry()), ("rebuild", _rebuilds()), ("array", _arrays())):
        for name, code in table.items():
            make = inert if name in SKIPPED else refused
            yield make(f"{kind}-{name}", torch_zip({"w": tensor(), "x": code}, STORAGES))
    for at, number in enumerate(HUGE):
        size = f"huge-{at}"
        yield refused(f"view-offset-{size}", torch_zip({"x": tensor(offset=number)}))
        yield refused(f"view-size-{size}", torch_zip({"x": tensor(size=(number,))}))
        yield refused(f"view-size-expanded-{size}", torch_zip({"x": tensor(size=(number,), stride=(0,))}))
        yield refused(f"view-stride-{size}", torch_zip({"x": tensor(stride=(number,))}))
        yield refused(f"view-numel-{size}", torch_zip({"x": tensor(storage(numel=number))}))
    yield inert(
        "view-empty-of-huge-axis", torch_zip({"w": tensor(size=(0, 2**40), stride=(1, 1))}), tensors={"w": []}
    )
    yield inert(
        "view-expanded-a-little",
        torch_zip({"w": tensor(size=(3, 2), stride=(0, 1))}),
        tensors={"w": [1, 2] * 3},
    )
    yield inert(
        "view-overlapping-rows",
        torch_zip({"w": tensor(size=(3, 2), stride=(1, 1))}),
        tensors={"w": [1, 2, 2, 3, 3, 4]},
    )
    yield refused(
        "view-thousands-of-expanded",
        torch_zip({f"w{n}": tensor(size=(2**24,), stride=(0,)) for n in range(1000)}),
    )
    yield refused(
        "storage-in-two-dtypes-and-lengths",
        torch_zip({"a": tensor(), "b": tensor(storage(cls="DoubleStorage", numel=4))}),
    )
    yield inert(
        "storage-in-two-classes",
        torch_zip({"w": tensor(), "v": tensor(storage(cls="IntStorage"), size=(1,))}),
        tensors={"w": VALUES, "v": [0x3F800000]},
    )
    yield refused("storage-of-nothing", torch_zip({"x": persistent(("storage",))}))
    for name, lies in PT2_LIES.items():
        yield refused(f"pt2-{name}", pt2({"config": {"w": pt2_entry(**lies)}}))
    for name, text in {
        "no-json": b"{",
        "list": b"[]",
        "config-list": b'{"config": []}',
        "entry-text": b'{"config": {"w": "x"}}',
        "deep": b'{"config": ' + b"[" * 100_000,
        "nan": b'{"config": NaN}',
        "utf16": '{"config": {}}'.encode("utf-16"),
        "long-number": b'{"config": {"w": ' + b"9" * 5000 + b"}}",
    }.items():
        yield refused(f"pt2-table-{name}", pt2(text))

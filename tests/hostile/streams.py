"""Legacy streams, tars and numpy files that lie."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from tests.hostile.assemble import Code, by_global, persistent, pickled, push, storage, tensor
from tests.hostile.case import Case, inert, refused
from tests.hostile.containers import (
    MAGIC,
    SYS_INFO,
    VALUES,
    WEIGHTS,
    Entry,
    legacy,
    legacy_parts,
    npy,
    npy_header,
    tar_header,
    tar_parts,
    tarred,
    torch_tar,
    zipped,
)

FLOATS = by_global("torch", "FloatStorage")
LIMITS = (-1, -(2**63), 2**31, 2**62, 2**63 - 1)


def _stored(numel: int, data: bytes = WEIGHTS) -> bytes:
    return struct.pack("<q", numel) + data


def _viewed(view: Any) -> bytes:
    """A legacy state dict of a tensor over a storage that views another."""
    return pickled({"w": tensor(storage(extra=(view,)))})


def _legacy() -> dict[str, bytes]:
    good = legacy()
    two = pickled({"w": tensor(storage(extra=(None,))), "v": tensor(storage(key="1", extra=(None,)))})
    other_class = tensor(storage(cls="DoubleStorage", extra=(None,)))
    return {
        **{f"numel-{n}": legacy(part_5=_stored(n)) for n in LIMITS},
        "numel-too-small": legacy(part_5=_stored(3)),
        "numel-too-large": legacy(part_5=_stored(5)),
        "numel-in-pickle-differs": legacy(pickled({"w": tensor(storage(numel=5, extra=(None,)))})),
        "data-cut": good[:-1],
        "data-missing": good[:-24],
        "numel-cut": good[:-20],
        "object-cut": good[: good.index(b"_rebuild_tensor_v2")],
        "only-magic": legacy_parts()[0],
        "only-three-pickles": b"".join(legacy_parts()[:3]),
        "version-unknown": legacy(part_1=pickled(9999)),
        "version-text": legacy(part_1=pickled("1001")),
        "sys-info-list": legacy(part_2=pickled([])),
        "sys-info-endian-text": legacy(part_2=pickled({**SYS_INFO, "little_endian": "no"})),
        "keys-text": legacy(part_4=pickled("0")),
        "keys-number": legacy(part_4=pickled(1)),
        "keys-of-lists": legacy(part_4=pickled([["0"]])),
        "keys-empty": legacy(part_4=pickled([])),
        "keys-unknown": legacy(part_4=pickled(["1"])),
        "keys-twice": legacy(part_4=pickled(["0", "0"])) + _stored(4),
        "keys-a-million": legacy(part_4=pickled(["0"] * 200_000)),
        "second-storage-missing": legacy(two),
        "one-key-two-classes": legacy(pickled({"w": tensor(storage(extra=(None,))), "v": other_class})),
        "view-beyond": legacy(_viewed(("1", 2, 4))),
        "view-negative": legacy(_viewed(("1", -1, 4))),
        "view-negative-size": legacy(_viewed(("1", 0, -4))),
        "view-huge": legacy(_viewed(("1", 2**62, 2**62))),
        "view-text": legacy(_viewed("1")),
        "view-short": legacy(_viewed(("1",))),
        "view-floats": legacy(_viewed(("1", 0.0, 4.0))),
        "persistent-id-short": legacy(pickled({"w": tensor(persistent(("storage", FLOATS, "0")))})),
        "persistent-id-text": legacy(pickled({"w": tensor(persistent("0"))})),
        "magic-wrong": legacy(part_0=pickled(MAGIC + 1)),
        "sys-info-number": legacy(part_2=pickled(7)),
        "storages-overlap-the-pickle": legacy(part_4=pickled(["0"]) * 2),
    }


def _record(
    shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, ndim: int | None = None
) -> bytes:
    """The `tensors` member of a tar with one tensor."""
    head = pickled(1) + pickled((11, 10, by_global("torch", "FloatTensor")))
    numbers = struct.pack(f"<{len(shape) + len(stride) + 1}q", *shape, *stride, offset)
    return head + struct.pack("<i4x", len(shape) if ndim is None else ndim) + numbers


def _storages(
    numel: int = 4, data: bytes = WEIGHTS, views: Any = (), count: Any = 1, record: Any = None
) -> bytes:
    """The `storages` member of a tar with one storage."""
    head = pickled((10, "cpu", FLOATS) if record is None else record)
    return pickled(count) + head + _stored(numel, data) + pickled(list(views))


def _tar() -> dict[str, bytes]:
    parts = tar_parts()
    good = [(name.encode(), parts[name]) for name in ("sys_info", "pickle", "storages", "tensors")]
    return {
        **{f"numel-{n}": torch_tar(storages=_storages(n)) for n in LIMITS},
        "numel-too-large": torch_tar(storages=_storages(5)),
        "storages-cut": torch_tar(storages=parts["storages"][:-20]),
        "storages-count-huge": torch_tar(storages=_storages(count=2**62)),
        "storages-count-negative": torch_tar(storages=_storages(count=-1)),
        "storages-count-text": torch_tar(storages=_storages(count="1")),
        "storages-record-text": torch_tar(storages=_storages(record="x")),
        "storages-record-short": torch_tar(storages=_storages(record=(10,))),
        "storages-class-function": torch_tar(
            storages=_storages(record=(10, "cpu", by_global("torch", "Size")))
        ),
        "storages-class-text": torch_tar(storages=_storages(record=(10, "cpu", "FloatStorage"))),
        "storages-key-list": torch_tar(storages=_storages(record=([], "cpu", FLOATS))),
        "view-of-nothing": torch_tar(storages=_storages(views=[(12, 99, 0, 1)]), tensors=_record((4,), (1,))),
        "view-beyond": torch_tar(
            storages=_storages(views=[(12, 10, 2, 4)]),
            tensors=pickled(1)
            + pickled((11, 12, by_global("torch", "FloatTensor")))
            + _record((4,), (1,))[-32:],
        ),
        "view-negative": torch_tar(storages=_storages(views=[(12, 10, -2, 4)])),
        "view-short": torch_tar(storages=_storages(views=[(12,)])),
        "tensors-cut": torch_tar(tensors=parts["tensors"][:-4]),
        "tensors-count-huge": torch_tar(tensors=pickled(2**62) + parts["tensors"][len(pickled(1)) :]),
        "tensor-past-end": torch_tar(tensors=_record((5,), (1,))),
        "tensor-offset": torch_tar(tensors=_record((4,), (1,), 1)),
        "tensor-offset-negative": torch_tar(tensors=_record((4,), (1,), -1)),
        "tensor-stride-negative": torch_tar(tensors=_record((4,), (-1,), 3)),
        "tensor-expanded": torch_tar(tensors=_record((2**40,), (0,))),
        "tensor-axes-negative": torch_tar(tensors=_record((4,), (1,), ndim=-1)),
        "tensor-axes-huge": torch_tar(tensors=_record((4,), (1,), ndim=2**31 - 1)),
        "tensor-storage-missing": torch_tar(
            tensors=pickled(1)
            + pickled((11, 99, by_global("torch", "FloatTensor")))
            + _record((4,), (1,))[-32:]
        ),
        "tensor-unknown": torch_tar(push({"w": persistent("99")})),
        "tensor-id-nonsense": torch_tar(push({"w": persistent("x" * 5000)})),
        "tensor-id-digits": torch_tar(push({"w": persistent("9" * 5000)})),
        "without-pickle": tarred([good[0], *good[2:]]),
        "without-storages": tarred([*good[:2], good[3]]),
        "pickle-twice": tarred([*good, (b"pickle", pickled({}))]),
        "pickle-is-a-link": tarred(
            [good[0], *good[2:], (b"pickle", b"", {"kind": b"2", "link": b"/etc/passwd"})]
        ),
        "storages-is-a-link": tarred(
            [*good[:2], (b"storages", b"", {"kind": b"1", "link": b"../../x"}), good[3]]
        ),
        "pickle-is-a-directory": tarred([good[0], *good[2:], (b"pickle", b"", {"kind": b"5"})]),
        "pickle-is-a-device": tarred([good[0], *good[2:], (b"pickle", b"", {"kind": b"3"})]),
        "size-huge": tarred([(good[0][0], good[0][1], {"size": b"77777777777\0"}), *good[1:]]),
        "size-binary-huge": tarred([(good[0][0], good[0][1], {"size": b"\x80" + b"\xff" * 11}), *good[1:]]),
        "size-negative": tarred([(good[0][0], good[0][1], {"size": b"\xff" * 12}), *good[1:]]),
        "size-nonsense": tarred([(good[0][0], good[0][1], {"size": b"hello!!!!!!\0"}), *good[1:]]),
        "checksum-wrong": tarred([(good[0][0], good[0][1], {"checksum": 1}), *good[1:]]),
        "cut": torch_tar()[:1500],
        "only-a-header": tar_header(b"pickle", 100),
        "long-names": tarred([(b"././@LongLink", b"x" * 5000, {"kind": b"L"}), *good[:1]]),
        "pax-nonsense": tarred([(b"pax", b"99999999999 path=/etc/passwd\n", {"kind": b"x"}), good[0]]),
        "nemo": tarred([(b"./model_weights.ckpt", b"PK\3\4"), (b"./model_config.yaml", b"a: 1\n")]),
        "other-files": tarred([(b"a.txt", b"hello")]),
    }


def _npy() -> dict[str, bytes]:
    return {
        "cut": npy(npy_header(), WEIGHTS[:-1]),
        "empty-header": npy("", WEIGHTS),
        "header-beyond": npy(npy_header(), WEIGHTS, length=60_000),
        "header-beyond-4-gib": npy(npy_header(), WEIGHTS, version=2, length=0xFFFFFFFF),
        "version-9": npy(npy_header(), WEIGHTS, version=9),
        "only-magic": b"\x93NUMPY",
        "objects": npy(npy_header("|O"), WEIGHTS),
        "text": npy(npy_header("<U4", "(1,)"), WEIGHTS),
        "dates": npy(npy_header("<M8[s]", "(2,)"), WEIGHTS),
        "void": npy(npy_header("|V16", "(1,)"), WEIGHTS),
        "fields": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }", WEIGHTS),
        "code": npy(
            "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (4,)}", WEIGHTS
        ),
        "shape-code": npy(npy_header(shape="(().__class__,)"), WEIGHTS),
        "shape-negative": npy(npy_header(shape="(-4,)"), WEIGHTS),
        "shape-huge": npy(npy_header(shape="(4611686018427387904, 4)"), WEIGHTS),
        "shape-wraps": npy(npy_header(shape="(4294967296, 4294967296)"), WEIGHTS),
        "shape-long-number": npy(npy_header(shape=f"({'9' * 5000},)"), WEIGHTS),
        "shape-float": npy(npy_header(shape="(4.0,)"), WEIGHTS),
        "shape-commas": npy(npy_header(shape="(4,,)"), WEIGHTS),
        "shape-number": npy(npy_header(shape="4"), WEIGHTS),
        "shape-many-axes": npy(npy_header(shape="(" + "1," * 20_000 + ")"), WEIGHTS[:4]),
        "order-number": npy(npy_header(order="7"), WEIGHTS),
        "deep": npy("(" * 50_000, WEIGHTS),
        "deep-unary": npy("-" * 50_000 + "1", WEIGHTS),
        "spaces": npy(" " * 60_000 + "x", WEIGHTS),
        "digits": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1 " * 30_000 + "x", WEIGHTS),
        "not-utf8": npy(b"{'descr': '\xff'}", WEIGHTS),
        "zeros": npy(bytes(100), WEIGHTS),
        "keys-missing": npy("{'shape': (4,)}", WEIGHTS),
        "keys-twice": npy("{'descr': '<f4', 'descr': '|O', 'fortran_order': False, 'shape': (4,)}", WEIGHTS),
    }


def cases() -> Iterator[Case]:
    for name, data in _legacy().items():
        yield refused(f"legacy-{name}", data)
    for name, data in _tar().items():
        yield refused(f"tar-{name}", data)
    for name, data in _npy().items():
        yield refused(f"npy-{name}", data, file="model.npy")
        yield refused(f"npz-{name}", zipped([Entry("w.npy", data)]), file="model.npz")
    yield inert("legacy-trailing-bytes", legacy() + b"cposix\nsystem\n(U\x04truetR.")
    whole = Entry("w.npy", npy(npy_header(), WEIGHTS))
    yield refused("npz-two-of-a-name", zipped([whole, whole]))
    yield inert("npz-names-traverse", zipped([Entry("../../w.npy", whole.data)]), tensors={"../../w": VALUES})
    yield refused("npz-of-nothing", zipped([Entry("w.txt", b"x")]))
    yield refused(
        "npz-pickle-among-arrays", zipped([whole, Entry("x.npy", npy(npy_header("|O", "(1,)"), _pickle()))])
    )


def _pickle() -> bytes:
    return pickled([Code(by_global("posix", "system") + push(("true",)) + b"R")])

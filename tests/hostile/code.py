"""Attempts at running code: every opcode that can call, in every place of every container, by many names."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.assemble import (
    Code,
    build,
    by_global,
    by_stack_global,
    call,
    get,
    inst,
    newobj,
    newobj_ex,
    obj,
    persistent,
    pickled,
    pickled_text,
    push,
    push_text,
    put,
    reduce,
    storage,
    tensor,
)
from tests.hostile.case import Case, Expects, inert, refused
from tests.hostile.containers import (
    VALUES,
    Entry,
    legacy,
    legacy_state_dict,
    npy,
    npy_header,
    pt2,
    pt2_entry,
    state_dict,
    tar_parts,
    torch_entries,
    torch_tar,
    torch_zip,
    torchscript_entries,
    zipped,
)
from tests.hostile.names import FOREIGN, LOOKALIKES, NAMES

CANARY = "wconv_canary"
"""A module that the reading process holds, which tells when anything of it is looked up or changed."""

TOUCH = by_global(CANARY, "touch")
TRAP = by_global(CANARY, "Trap")
SYSTEM = call("posix", "system", "true")


def by_opcode() -> Iterator[tuple[str, Code, Expects]]:
    """Each way in which a pickle calls something, aimed at the canary and at a shell."""
    for name, code in {
        "global-reduce": reduce(TOUCH, ("x",)),
        "stack-global-reduce": reduce(by_stack_global(CANARY, "touch"), ("x",)),
        "memoized-stack-global": Code(
            put(push(CANARY), 7)
            + b"0"
            + put(push("touch"), 8)
            + b"0"
            + get(7)
            + get(8)
            + b"\x93"
            + push(())
            + b"R"
        ),
        "dotted-stack-global": reduce(by_stack_global(CANARY, "inner.touch"), ("x",)),
        "inst": inst(CANARY, "touch", "x"),
        "obj": obj(TRAP, "x"),
        "newobj": newobj(TRAP, ("x",)),
        "newobj-ex": newobj_ex(TRAP, (), {"x": 1}),
        "build-setstate": build(newobj(TRAP), {"x": 1}),
        "build-tuple": build(newobj(TRAP), (None, {"x": 1})),
        "build-on-global": build(TOUCH, {"x": 1}),
        "build-on-module-attribute": build(by_global(CANARY, "inner"), (None, {"touch": 1})),
        "setitem": Code(newobj(TRAP) + push("k") + push("v") + b"s"),
        "setitems": Code(newobj(TRAP) + b"(" + push("k") + push("v") + b"u"),
        "append": Code(newobj(TRAP) + push("v") + b"a"),
        "appends": Code(newobj(TRAP) + b"(" + push("v") + b"e"),
        "additems": Code(newobj(TRAP) + b"(" + push("v") + b"\x90"),
        "mere-name": TOUCH,
    }.items():
        yield f"canary-{name}", code, "refused" if name.startswith("build-on") else "inert"
    for name, code in {
        "reduce": SYSTEM,
        "stack-global": reduce(by_stack_global("posix", "system"), ("true",)),
        "inst": inst("posix", "system", "true"),
        "obj": obj(by_global("posix", "system"), "true"),
        "newobj": newobj(by_global("posix", "system"), ("true",)),
        "newobj-ex": newobj_ex(by_global("posix", "system"), ("true",)),
        "getattr-chain": reduce(
            call("builtins", "getattr", call("builtins", "getattr", by_global("os", "path"), "os"), "system"),
            ("true",),
        ),
        "dotted": reduce(by_stack_global("os", "path.os.system"), ("true",)),
        "partial": reduce(call("functools", "partial", by_global("posix", "system"), "true")),
        "map": call("builtins", "list", call("builtins", "map", by_global("posix", "system"), ["true"])),
        "set-of-map": call(
            "builtins", "set", call("builtins", "map", by_global("posix", "system"), ["true"])
        ),
        "frozenset-of-map": call(
            "builtins", "frozenset", call("builtins", "map", by_global("posix", "system"), ["true"])
        ),
        "bytearray-of-map": call(
            "builtins", "bytearray", call("builtins", "map", by_global("posix", "system"), ["true"])
        ),
        "ordered-dict-of-map": call(
            "collections", "OrderedDict", call("builtins", "map", by_global("posix", "system"), ["true"])
        ),
        "attrgetter": reduce(
            reduce(call("operator", "attrgetter", "os.system"), (by_global("os", "path"),)), ("true",)
        ),
        "methodcaller": reduce(
            call("operator", "methodcaller", "system", "true"), (by_global("posixpath", "os"),)
        ),
        "default-factory": call("collections", "defaultdict", by_global("posix", "system")),
    }.items():
        yield f"system-{name}", code, "refused"


def places(value: Code) -> dict[str, bytes]:
    """Files of every kind with `value` wherever a pickle of theirs has room for it."""
    nested = call("torch.storage", "_load_from_bytes", torch_zip(value))
    objects = npy(npy_header("|O", "(1,)"), pickled([value], 3))
    stored = tar_parts()
    return {
        "zip-root": torch_zip(value),
        "zip-value": torch_zip(state_dict(x=value)),
        "zip-deflated": torch_zip(state_dict(x=value), method=8),
        "zip-key": torch_zip(push({"w": tensor(), value: 1})),
        "zip-before-the-dict": torch_zip(Code(value + b"0" + state_dict())),
        "zip-storage-class": torch_zip(state_dict(x=tensor(storage(cls=value)))),
        "zip-storage-key": torch_zip(state_dict(x=tensor(storage(key=value)))),
        "zip-storage-numel": torch_zip(state_dict(x=tensor(storage(numel=value)))),
        "zip-persistent-id": torch_zip(state_dict(x=persistent(value))),
        "zip-tensor-offset": torch_zip(state_dict(x=tensor(offset=value))),
        "zip-tensor-size": torch_zip(state_dict(x=tensor(size=value))),
        "zip-tensor-length": torch_zip(state_dict(x=tensor(size=(value,)))),
        "zip-tensor-stride": torch_zip(state_dict(x=tensor(stride=(value,)))),
        "zip-tensor-storage": torch_zip(state_dict(x=tensor(value))),
        "nested-load-from-bytes": torch_zip(state_dict(x=nested)),
        **{f"legacy-pickle-{n}": legacy(**{f"part_{n}": pickled(value)}) for n in (0, 1, 2, 4)},
        "legacy-object": legacy(legacy_state_dict(x=value)),
        "legacy-module-id": legacy(legacy_state_dict(x=persistent(("module", value, "a.py", "import os")))),
        "tar-sys-info": torch_tar(sys_info=pickled(value)),
        "tar-pickle": torch_tar(push({"w": persistent("11"), "x": value})),
        "tar-storages": torch_tar(storages=pickled(value) + stored["storages"]),
        "tar-storages-views": torch_tar(storages=stored["storages"][: -len(pickled([]))] + pickled([value])),
        "tar-tensors": torch_tar(tensors=pickled(1) + pickled(value)),
        "torchscript-data": zipped(torchscript_entries(data=pickled(value))),
        "torchscript-constants": zipped(torchscript_entries(constants=pickled((value,)))),
        "torchscript-attributes": zipped(
            [
                *torchscript_entries()[:1],
                Entry("m/model.json", b"{}"),
                Entry("m/attributes.pkl", pickled([value])),
            ]
        ),
        "pt2-pickled-weight": pt2(
            {"config": {"w": pt2_entry(use_pickle=True)}}, {"weight_0": torch_zip(value)}
        ),
        "plain-pickle": pickled({"x": value}),
        "npy-objects": objects,
        "npz-objects": zipped([Entry("w.npy", objects)]),
    }


HARMLESS_PLACES = {
    "zip-value": ["w"],
    "zip-deflated": ["w"],
    "zip-key": ["w"],
    "zip-before-the-dict": ["w"],
    "nested-load-from-bytes": ["w"],
    "legacy-object": ["w"],
    "legacy-module-id": ["w"],
    "tar-pickle": ["w"],
    "tar-sys-info": ["w"],
    "torchscript-data": ["CONSTANTS.c0"],
    "torchscript-constants": ["w"],
}
"""Where a record of an unknown class is data like any other, and the tensors beside it."""


def protocols() -> Iterator[Case]:
    """The plainest call in every protocol, by the opcodes of its time."""
    for protocol in range(6):
        by_name = by_global if protocol < 4 else by_stack_global
        if protocol:
            attack = reduce(by_name("posix", "system"), ("true",))
            whole = pickled(state_dict(x=attack), protocol)
        else:
            whole = pickled_text({"x": Code(by_global("posix", "system") + push_text(("true",)) + b"R")})
        yield refused(f"protocol-{protocol}-system-zip", torch_zip(whole))
        yield refused(f"protocol-{protocol}-system-plain", whole, live=True)


def rebuilds() -> Iterator[Case]:
    """Allowed functions that torch lets call something of the file's choosing."""
    system, hooks = by_global("posix", "system"), call("collections", "OrderedDict")
    trap = newobj(TRAP)
    for name, code in {
        "type-v2-function": call("torch._tensor", "_rebuild_from_type_v2", system, TRAP, ("true",), {}),
        "type-v2-lambda": call(
            "torch._tensor", "_rebuild_from_type_v2", call("builtins", "eval", "1"), TRAP, (), {}
        ),
        "type-function": call("torch._utils", "_rebuild_from_type", system, TRAP, ("true",), {}),
        "wrapper-subclass": call(
            "torch._utils", "_rebuild_wrapper_subclass", system, 1, (4,), (1,), 0, 1, "cpu", False
        ),
        "parameter-state": call("torch._utils", "_rebuild_parameter_with_state", system, False, hooks, {}),
        "reconstruct-class": call("numpy.core.multiarray", "_reconstruct", system, (0,), b"b"),
        "scalar-dtype": call("numpy.core.multiarray", "scalar", system, b"true"),
        "dtype-of-call": call("numpy", "dtype", SYSTEM),
        "nested-twice": call(
            "torch.storage",
            "_load_from_bytes",
            torch_zip(call("torch.storage", "_load_from_bytes", torch_zip(SYSTEM))),
        ),
        "layout": call("torch.serialization", "_get_layout", SYSTEM),
    }.items():
        yield refused(f"rebuild-{name}", torch_zip(state_dict(x=code)))
    for name, code in {
        "parameter-of-a-record": call("torch._utils", "_rebuild_parameter", trap, False, hooks),
        "object-array": build(
            call("numpy.core.multiarray", "_reconstruct", by_global("numpy", "ndarray"), (0,), b"b"),
            (1, (1,), call("numpy", "dtype", "O", False, True), False, [trap]),
        ),
    }.items():
        yield inert(f"rebuild-{name}", torch_zip(state_dict(x=code)))
    reconstructed = call("numpy.core.multiarray", "_reconstruct", TRAP, (0,), b"b")
    yield refused(
        "rebuild-reconstruct-trap",
        torch_zip(state_dict(x=build(reconstructed, (1, (1,), "f4", False, b"0000")))),
    )
    yield inert(
        "rebuild-backward-hooks",
        torch_zip(state_dict(x=tensor(more=(False, trap)))),
        tensors={"w": VALUES, "x": VALUES},
    )


def persistent_ids() -> Iterator[Case]:
    """Persistent ids that are no storage's."""
    for name, pid in {
        "text": "hostile",
        "number": 7,
        "none": None,
        "list": ["storage"],
        "dict": {"storage": 1},
        "empty-tuple": (),
        "nested": (("storage",),),
        "unknown-kind": ("exec", "x"),
        "short": ("storage", by_global("torch", "FloatStorage")),
        "key-is-tuple": ("storage", by_global("torch", "FloatStorage"), ("0",), "cpu", 4),
        "key-is-dict": ("storage", by_global("torch", "FloatStorage"), {}, "cpu", 4),
        "key-traverses": ("storage", by_global("torch", "FloatStorage"), "../../data/0", "cpu", 4),
        "key-is-path": ("storage", by_global("torch", "FloatStorage"), "/etc/passwd", "cpu", 4),
        "class-is-text": ("storage", "FloatStorage", "0", "cpu", 4),
        "class-is-function": ("storage", by_global("torch._utils", "_rebuild_tensor_v2"), "0", "cpu", 4),
        "class-is-unknown": ("storage", TRAP, "0", "cpu", 4),
        "module-in-zip": ("module", TRAP, "a.py", "import os"),
    }.items():
        code = tensor(persistent(pid)) if name not in ("text", "number", "none") else persistent(pid)
        yield refused(f"persistent-id-{name}", torch_zip(state_dict(x=code)))
    yield refused("persistent-id-by-line", torch_zip(state_dict(x=Code(b"Phostile\n"))))
    yield refused("persistent-id-unhashable-in-tar", torch_tar(push({"x": persistent(([],))})))


DORMANT = {"system-newobj", "system-newobj-ex", "system-default-factory"}
"""What the standard unpickler refuses, or what runs only when the result is used."""


def cases() -> Iterator[Case]:
    for name, code, expects in by_opcode():
        make = refused if expects == "refused" else inert
        yield make(f"opcode-{name}", torch_zip(state_dict(x=code)))
        yield refused(f"plain-{name}", pickled({"x": code}, 4), live=name not in DORMANT)
    for at, (module, name, args) in enumerate(NAMES):
        yield refused(f"name-{at:02}-{module}.{name}", torch_zip(state_dict(x=call(module, name, *args))))
    for at, (module, name, args) in enumerate(FOREIGN):
        yield inert(f"foreign-{at:02}-{module}.{name}", torch_zip(state_dict(x=call(module, name, *args))))
    for at, (module, name) in enumerate(LOOKALIKES):
        attack = reduce(by_stack_global(module, name), (storage(), 0, (4,), (1,)))
        yield inert(f"lookalike-{at:02}", torch_zip(state_dict(x=attack), protocol=4))
    for name, data in places(SYSTEM).items():
        make = inert if name == "tar-sys-info" else refused  # nobody reads that member
        yield make(f"place-{name}-system", data)
    for name, data in places(reduce(TOUCH, ("x",))).items():
        if name in HARMLESS_PLACES:
            yield inert(f"place-{name}-canary", data, tensors=dict.fromkeys(HARMLESS_PLACES[name], VALUES))
        else:
            yield refused(f"place-{name}-canary", data)
    for opcode, width in ((b"\x82", 1), (b"\x83", 2), (b"\x84", 4)):
        code = Code(opcode + (240).to_bytes(width, "little") + push(()) + b"R")
        yield refused(f"extension-{width}", torch_zip(state_dict(x=code)))
        yield refused(f"extension-{width}-plain", pickled(code), live=True)
    yield refused("extension-0", torch_zip(state_dict(x=Code(b"\x82\0"))))
    yield refused("extension-negative", torch_zip(state_dict(x=Code(b"\x84\xff\xff\xff\xff"))))
    yield from protocols()
    yield from rebuilds()
    yield from persistent_ids()
    yield refused(
        "two-data-pkl", zipped([*torch_entries(pickled(SYSTEM)), *torch_entries(pickled(state_dict()))])
    )

"""The billion laughs (sixty tuples of two, each the one before it) wherever a pickle has a value to check.

An error that shows such a value, or a check that compares it, would never end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.hostile import good
from tests.hostile.assemble import build, by_global, call, persistent, pickled, storage, tensor
from tests.hostile.bombs import doublings
from tests.hostile.case import Case, inert, refused
from tests.hostile.containers import VALUES, WEIGHTS, legacy, tar_parts, torch_tar, torch_zip

UNUSED: dict[str, tuple[int, ...]] = {
    "_rebuild_tensor_v2": (4, 5),
    "_rebuild_tensor_v3": (4, 5),
    "_rebuild_parameter": (1, 2),
    "_rebuild_parameter_with_state": (1, 2, 3),
    "_rebuild_qtensor": (5, 6),
    "_rebuild_qtensor ": (5, 6),
    "_rebuild_meta_tensor_no_storage": (0, 3),
    "_rebuild_device_tensor_from_cpu_tensor": (1, 2, 3),
    "array": (0, 3),
}
"""Arguments that change no value: gradients, hooks, devices, versions. A reader need not look at them."""

WITHOUT: dict[str, list[float] | None] = {
    "_rebuild_qtensor": [-1.5, -1.5, -65.5, 30.0],
    "_rebuild_qtensor ": [0.0, 0.0, -258.0, 124.0],
    "_rebuild_meta_tensor_no_storage": None,
}
"""What a tensor is without them, where that is not `VALUES`."""


def _case(name: str, function: str, at: int, data: bytes) -> Case:
    if at not in UNUSED.get(function, ()):
        return refused(name, data, seconds=1.0)
    values = WITHOUT.get(function, VALUES)
    return inert(
        name, data, tensors={"w": VALUES} if values is None else {"w": VALUES, "x": values}, seconds=1.0
    )


def cases() -> Iterator[Case]:
    laughs = doublings()["tuples"]
    for function, arguments in good.calls().items():
        for at in range(len(arguments)):
            odd = [*arguments[:at], laughs, *arguments[at + 1 :]]
            name = f"bomb-argument-{function.replace(' ', '-again')}-{at}"
            whole = {"w": tensor(), "x": call("torch._utils", function.strip(), *odd)}
            yield _case(name, function, at, torch_zip(whole, good.STORAGES))
    identity = ("storage", by_global("torch", "FloatStorage"), "0", "cpu", 4)
    for at in range(len(identity)):
        odd = persistent((*identity[:at], laughs, *identity[at + 1 :]))
        yield refused(f"bomb-identity-{at}", torch_zip({"w": tensor(), "x": tensor(odd)}), seconds=1.0)
        legacy_odd = persistent((*identity[:at], laughs, *identity[at + 1 :], None))
        yield refused(f"bomb-identity-legacy-{at}", legacy(pickled({"x": tensor(legacy_odd)})), seconds=1.0)
    yield refused("bomb-identity", torch_zip({"w": tensor(), "x": tensor(persistent(laughs))}), seconds=1.0)
    yield refused("bomb-identity-legacy", legacy(pickled({"x": tensor(persistent(laughs))})), seconds=1.0)
    yield refused("bomb-view-legacy", legacy(pickled({"x": tensor(storage(extra=(laughs,)))})), seconds=1.0)
    yield refused("bomb-identity-tar", torch_tar({"x": persistent(laughs)}), seconds=1.0)
    for at in range(4):
        lists = [pickled(value) for value in (10, 10, "cpu", by_global("torch", "FloatStorage"))]
        lists[at] = pickled(laughs)
        yield refused(f"bomb-tar-storages-{at}", torch_tar(storages=b"".join(lists)), seconds=1.0)
    record = pickled((laughs, laughs, laughs))
    yield refused("bomb-tar-record", torch_tar(storages=pickled(1) + record), seconds=1.0)
    yield refused("bomb-tar-tensor", torch_tar(tensors=pickled(1) + record), seconds=1.0)
    views = pickled([(laughs, laughs, 0, 1)])
    stored = tar_parts()["storages"].removesuffix(pickled([])) + views
    yield refused("bomb-tar-view", torch_tar(storages=stored), seconds=1.0)
    for n in (1, 2, 4):
        yield refused(f"bomb-legacy-part-{n}", legacy(**{f"part_{n}": pickled(laughs)}), seconds=1.0)
    for at in range(5):
        state: list[Any] = [1, (4,), call("numpy", "dtype", "f4", False, True), False, WEIGHTS]
        state[at] = laughs
        empty = call("numpy.core.multiarray", "_reconstruct", by_global("numpy", "ndarray"), (0,), b"b")
        whole = {"w": tensor(), "x": build(empty, tuple(state))}
        yield _case(f"bomb-array-{at}", "array", at, torch_zip(whole))
    yield refused("bomb-dtype", torch_zip({"w": tensor(), "x": call("numpy", "dtype", laughs)}), seconds=1.0)
    for name in (
        "collections.OrderedDict",
        "builtins.set",
        "torch.Size",
        "builtins.complex",
        "_codecs.encode",
    ):
        code = call(*name.rsplit(".", 1), laughs)
        yield refused(f"bomb-call-{name}-of-laughs", torch_zip({"w": tensor(), "x": code}), seconds=1.0)

"""What torch's own test_serialization saves on a CPU, saved by torch, is read equal by `wconv.torch.load`.

The cases follow the list of tests there: kinds of storages and views, dtypes, formats old and new, subclasses
of dict, sparse layouts, parameters, devices, byte orders, several objects in a file.
"""

from __future__ import annotations

import io
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv.torch as shim
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

DTYPES = """
    float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128 uint16 uint32
    uint64 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu
""".split()  # noqa: SIM905


def shared(t: Any) -> Any:
    """`_test_serialization_data`: views of one storage, offsets, storages themselves."""
    a = [t.randn(5, 5).float() for _ in range(2)]
    b = [a[i % 2] for i in range(4)]
    b += [a[0].storage(), a[0].reshape(-1)[1:4].storage(), t.arange(1, 11).int()]
    first, second = t.FloatTensor(t.arange(0, 5).float()), t.arange(10).float()
    return [*b, first, second, second[2:6], second[::2], second.view(2, 5).t()]


def sequential(t: Any) -> Any:
    return t.nn.Sequential(t.nn.Linear(3, 4), t.nn.Linear(4, 2)).state_dict()


def subclassed(t: Any) -> Any:
    state = OrderedDict(a=t.randn(2))
    state.extra = 3  # type: ignore[attr-defined]
    return state


CASES: dict[str, Callable[[Any], Any]] = {
    "serialization": shared,
    "state dict": sequential,
    **{
        f"dtype {name}": lambda t, name=name: t.arange(6).to(getattr(t, name)).reshape(2, 3)
        for name in DTYPES
    },
    "sparse": lambda t: {"a": t.sparse_coo_tensor([[1, 0, 2]], t.randn(3, 4), (4, 4))},
    "sparse, coalesced": lambda t: t.eye(3).to_sparse(),
    "sparse csr": lambda t: t.eye(3).to_sparse_csr(),
    "sparse csc": lambda t: t.eye(3).to_sparse_csc(),
    "parameters": lambda t: [t.nn.Parameter(t.randn(3)), t.nn.Parameter(t.randn(2), requires_grad=False)],
    "requires grad": lambda t: t.randn(3, requires_grad=True),
    "size": lambda t: t.Size([2, 3]),
    "dtypes": lambda t: [t.float32, t.bfloat16],
    "device": lambda t: t.device("cpu"),
    "no tensors": lambda t: {"a": 1, "b": [2.5, "x", None, True, (1, 2)], 3: {"n": b"bytes"}},
    "empty": lambda t: [t.zeros(0), t.zeros(2, 0, 3), {}, []],
    "scalar": lambda t: t.tensor(3.5),
    "expanded": lambda t: t.randn(1, 3).expand(4, 3),
    "transposed": lambda t: t.randn(3, 4).t(),
    "channels last": lambda t: t.randn(2, 3, 4, 5).to(memory_format=t.channels_last),
    "conjugate": lambda t: t.randn(3, dtype=t.complex64).conj(),
    "negative": lambda t: t.randn(3, dtype=t.complex64).conj().imag,
    "dict with attributes": subclassed,
    "sets": lambda t: [{1, 2}, frozenset([3])],
    "large integers": lambda t: [1 << 70, -(1 << 40)],
    "long tuple of tensors": lambda t: tuple(t.full((2,), i) for i in range(40)),
    "cycle": lambda t: cycle(),
    "optimizer": lambda t: t.optim.Adam([t.nn.Parameter(t.randn(3))], lr=0.1).state_dict(),
    "rng state": lambda t: t.get_rng_state(),
    "typed storage": lambda t: t.arange(4).storage(),
    "untyped storage": lambda t: t.arange(4).untyped_storage(),
}


NOT_IN_OLD_FILES = {
    "untyped storage",
    *(f"dtype {name}" for name in DTYPES if name.startswith(("uint", "float8"))),
}
NOT_IN_OLD_FILES -= {"dtype uint8"}
"""What torch itself saves in its older format and cannot read there."""


def cycle() -> list[Any]:
    made: list[Any] = [1]
    made.append(made)
    return made


def plain(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """A value without torch, that of either torch: bytes, shapes, names, nested as they were."""
    if id(value) in seen:
        return "cycle"
    seen = (*seen, id(value))
    if hasattr(value, "untyped_storage") and not hasattr(value, "layout"):
        return "storage", plain(value.untyped_storage(), seen)
    if type(value).__name__ == "UntypedStorage":
        return "storage", bytes(value.tolist())
    if type(value).__name__ == "TypedStorage":
        return "storage", bytes(value._untyped_storage.tolist())
    if hasattr(value, "layout"):
        if str(value.layout) != "torch.strided":
            return str(value.layout), plain(value.to_dense(), seen)
        flat = (
            value.detach().resolve_conj().resolve_neg() if hasattr(value, "resolve_conj") else value.detach()
        )
        array = np.asarray(flat.clone().contiguous().reshape(-1).view(byte(value)).numpy())
        return str(value.dtype), tuple(value.shape), value.requires_grad, array.tobytes()
    if isinstance(value, dict):
        return {key: plain(each, seen) for key, each in value.items()}, vars(value) if hasattr(
            value, "extra"
        ) else None
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [plain(each, seen) for each in value]
    return value if isinstance(value, (int, float, str, bytes, set, frozenset, type(None))) else repr(value)


def byte(tensor: Any) -> Any:
    """The dtype uint8 of the tensor's own torch."""
    return shim.uint8 if isinstance(tensor, shim.Tensor) else oracle("torch").uint8


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("name", CASES)
def test_a_case_is_read_equal(name: str, zipped: bool, tmp_path: Path) -> None:
    torch = oracle("torch")
    torch.manual_seed(3)
    path = tmp_path / "case.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = CASES[name](torch)
        torch.save(made, path, _use_new_zipfile_serialization=zipped)
        if not zipped and name in NOT_IN_OLD_FILES:
            with pytest.raises(AttributeError):
                torch.load(path, weights_only=False)
            wanted = made
        else:
            wanted = torch.load(path, weights_only=False)
        assert plain(shim.load(path)) == plain(wanted)


def test_several_objects_in_one_file() -> None:
    torch = oracle("torch")
    buffer = io.BytesIO()
    for value in (torch.ones(3), {"a": torch.arange(2)}):
        torch.save(value, buffer, _use_new_zipfile_serialization=False)
    buffer.seek(0)
    assert plain(shim.load(buffer)) == plain(torch.ones(3))
    assert plain(shim.load(buffer)) == plain({"a": torch.arange(2)})

"""Damaged files end in a WconvError or in a tensor, and in nothing else. `WCONV_FUZZ=100000` looks longer."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile import good, mutation
from tests.hostile.assemble import storage, tensor
from tests.hostile.case import Case
from tests.hostile.containers import Entry, torch_zip, zipped
from tests.hostile.guard import Guard
from tests.hostile.judge import judge
from tests.hostile.mutation import places
from tests.hostile.run import limit_memory, read_file
from wconv import formats
from wconv.errors import WconvError
from wconv.formats.sources import MemorySource, Source
from wconv.formats.torch import archive as torch_zip_format
from wconv.formats.torch.pickle import names as torch_names
from wconv.formats.torch.pickle import shortcut
from wconv.formats.torch.pickle.machine import Machine
from wconv.formats.zip.directory import ZipDirectory
from wconv.tensors.dtypes import DType

EXAMPLES = int(os.environ.get("WCONV_FUZZ", "250"))
FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "torch"
SEED_SIZE = 64 << 10

SEEDS = [
    *good.files().values(),
    *(
        path.read_bytes()
        for path in sorted(FIXTURES.rglob("*"))
        if path.is_file() and path.suffix not in (".py", ".json", ".md") and path.stat().st_size <= SEED_SIZE
    ),
]

Survives = Callable[[bytes], None]

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="WCONV_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@pytest.fixture(scope="module")
def survives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survives]:
    """Fails when reading these bytes does anything but end in a WconvError or in tensors."""
    guard = Guard()
    directory = tmp_path_factory.mktemp("fuzz")
    path = directory / "model.bin"
    case = Case("fuzz", "either", lambda directory: path)
    for data in SEEDS:  # imports whatever is imported late
        path.write_bytes(data)
        _open_quietly(path)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        assert judge(case, path, read_file, guard) is None

    before = resource.getrlimit(resource.RLIMIT_AS)
    limit_memory()
    yield check
    resource.setrlimit(resource.RLIMIT_AS, before)


def _open_quietly(path: Path) -> None:
    try:
        for tensor in formats.open_file(str(path)).tensors.values():
            tensor.numpy()
    except WconvError:
        pass


@fuzz
@given(data=mutation.damaged(SEEDS))
def test_damaged_bytes(survives: Survives, data: bytes) -> None:
    survives(data)


@fuzz
@given(program=mutation.programs(mutation.pickles()), container=st.sampled_from(mutation.CONTAINERS))
def test_damaged_opcodes(survives: Survives, program: bytes, container: str) -> None:
    survives(mutation.wrapped(program, container))


@fuzz
@given(data=mutation.odd_tensors())
def test_odd_arguments(survives: Survives, data: bytes) -> None:
    survives(data)


@fuzz
@given(data=st.one_of(mutation.odd_headers(), mutation.odd_archives(), mutation.odd_arrays()))
def test_odd_headers(survives: Survives, data: bytes) -> None:
    survives(data)


@fuzz
@given(
    offset=st.integers(-2, 20),
    axes=st.lists(st.tuples(st.integers(-1, 6), st.integers(-3, 12)), max_size=4),
    numel=st.integers(20, 26),
    part=st.tuples(places, places),
)
def test_a_view_is_right_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    offset: int,
    axes: list[tuple[int, int]],
    numel: int,
    part: tuple[float, float],
) -> None:
    """Against numpy's own strides over the same storage of 24 elements."""
    elements = np.arange(24, dtype=np.float32)
    size, stride = [length for length, _ in axes], [step for _, step in axes]
    last = offset + sum((length - 1) * step for length, step in axes)
    fits = min([0, offset, *size, *stride]) >= 0 and numel <= 24 and (0 in size or last < numel)
    path = tmp_path_factory.getbasetemp() / "view.bin"
    stored = tensor(storage(numel=numel), offset, tuple(size), tuple(stride))
    path.write_bytes(torch_zip({"w": stored}, {"0": elements[:numel].tobytes()}))
    try:
        lazy = formats.open_file(str(path)).tensors["w"]
        found = lazy.numpy()
    except WconvError:
        assert not fits or 0 in size
        return
    assert fits
    strides = [4 * step for step in stride]
    np.testing.assert_array_equal(found, np.lib.stride_tricks.as_strided(elements[offset:], size, strides))
    start, stop = sorted(int(place * (lazy.size + 1)) for place in part)
    np.testing.assert_array_equal(lazy.read_range(start, stop), found.reshape(-1)[start:stop])


class AnyStorages:
    """Answers every persistent id that a zip's storages would, with storages of a thousand bytes."""

    def __init__(self) -> None:
        entries = {f"data/{key}": b"\0" * 1000 for key in range(200)}
        source = MemorySource(zipped(Entry(name, data) for name, data in entries.items()), "model.bin")
        self.storages = torch_zip_format.ZipStorages(ZipDirectory(source), "data/", swap=False)

    def run(self, program: bytes, *, by_shortcut: bool) -> Any:
        """What the machine makes of a pickle, or that it refuses it."""
        skip = {shortcut.TRIGGER: shortcut.shortcut(self.storages)}
        source = MemorySource(program, "model.bin")
        machine = Machine(source, torch_names.NAMES, self.storages, shortcuts=skip if by_shortcut else None)
        self.storages.machine = machine
        self.storages.storages.clear()
        try:
            return outline(machine.run(), {})
        except WconvError:
            return "refused"


def outline(value: Any, seen: dict[int, int]) -> Any:
    """A tree as nested tuples that compare; what occurs again is a number, so that sharing counts."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if id(value) in seen:
        return seen[id(value)]
    if not isinstance(value, tuple):
        seen[id(value)] = len(seen)
    if isinstance(value, dict):
        pairs = [(outline(key, seen), outline(item, seen)) for key, item in value.items()]
        return type(value).__name__, pairs, outline(getattr(value, "attributes", None), seen)
    if isinstance(value, list | tuple):
        return type(value).__name__, [outline(item, seen) for item in value]
    if isinstance(value, set | frozenset):
        return type(value).__name__, len(value)
    slots = getattr(type(value), "__slots__", ())
    if isinstance(value, Source | DType):
        return repr(getattr(value, "name", type(value).__name__))
    return type(value).__name__, [(name, outline(getattr(value, name, None), seen)) for name in slots]


@fuzz
@given(
    program=st.one_of(
        mutation.programs(mutation.pickles_of_torch(FIXTURES)),
        mutation.damaged(mutation.pickles_of_torch(FIXTURES)),
    )
)
def test_the_machine_comes_to_the_same_without_its_shortcut(program: bytes) -> None:
    storages = AnyStorages()
    assert storages.run(program, by_shortcut=True) == storages.run(program, by_shortcut=False)

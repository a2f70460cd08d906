"""Work that threads share while tensors are read: each takes the next part when it is free."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from wconv.tensors.base import LazyTensor

Part = TypeVar("Part")


class Summed(Protocol):
    """What is measured of a part, and can be added to that of another."""

    def plus(self: Total, other: Total) -> Total: ...


Total = TypeVar("Total", bound=Summed)

RANGE = 4 << 20
"""Bytes of a tensor that are looked at together, unless it is read in larger blocks."""

TICK = 0.1
"""Seconds between two looks at the threads, so that they can be interrupted."""


@dataclass(frozen=True, slots=True)
class Range:
    """Elements `start` to `stop` of the tensors that have this name."""

    name: str
    start: int
    stop: int


def ranges(name: str, tensors: Iterable[LazyTensor]) -> Iterator[Range]:
    """Tensors of one size, cut where each is cheapest read; nothing where they have no elements."""
    block, width, size = 1, 1, 0
    for tensor in tensors:
        block, width = max(block, tensor.block_size), max(width, tensor.dtype.itemsize)
        size = tensor.size
    step = max(RANGE // width // block, 1) * block
    for start in range(0, size, step):
        yield Range(name, start, min(start + step, size))


def share(parts: Iterable[Part], make_worker: Callable[[], Callable[[Part], None]], jobs: int | None) -> None:
    """Has every part done by one of several threads.

    Args:
        parts: taken one at a time, when a thread is free for it.
        make_worker: called once in each thread, for what does the parts; it may keep buffers.
        jobs: threads; as many as there are cores when absent.

    Raises:
        Exception: the first that a worker raised.
        KeyboardInterrupt: once the threads have stopped.
    """
    waiting, lock = iter(parts), threading.Lock()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            worker = make_worker()
            while not failures:
                with lock:
                    part = next(waiting, None)
                if part is None:
                    return
                worker(part)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(jobs or os.cpu_count() or 1)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(TICK)
    except BaseException as error:
        failures.append(error)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    if failures:
        raise failures[0]


def add_up(
    parts: Iterable[Range],
    make_measure: Callable[[], Callable[[Range], Total]],
    totals: dict[str, Total],
    jobs: int | None,
) -> None:
    """Measures every part and adds what is found to the total of its name.

    Args:
        make_measure: called once in each thread, for what measures a part; it may keep buffers.
        totals: what there is to begin with, by names of tensors.
        jobs: threads; as many as there are cores when absent.

    Raises: as `share`.
    """
    lock = threading.Lock()

    def make_worker() -> Callable[[Range], None]:
        measure = make_measure()

        def work(part: Range) -> None:
            found = measure(part)
            with lock:
                totals[part.name] = totals[part.name].plus(found)

        return work

    share(parts, make_worker, jobs)

"""Processes of this machine; what a process that died was doing is done again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

TRIES = 4
"""Times that a task is begun at most, where the processes die."""


@contextlib.contextmanager
def opened(count: str) -> Iterator[Executor]:
    """So many processes, one for each core by default, for the time of a block."""
    with Processes(int(count) if count else os.cpu_count() or 1) as pool:
        yield pool


class Processes(Executor):
    """A pool of processes that makes itself anew when one of them dies.

    The pool of the standard library gives up then, and ends the other processes too.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.RLock()
        self._pool = self._made()
        self._closed = False

    def _made(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["wconv.writing.tasks"])
        return ProcessPoolExecutor(self._count, mp_context=context, initializer=_begin)

    def submit(self, function: Callable[..., Any], /, *words: Any, **named: Any) -> Future[Any]:
        """A task; it is begun again, up to `TRIES` times in all, when a process of the pool dies."""
        outer: Future[Any] = Future()
        self._begin(outer, partial(function, *words, **named), 1)
        return outer

    def _begin(self, outer: Future[Any], call: Callable[[], Any], number: int) -> None:
        with self._lock:
            pool = self._pool
            try:
                inner = pool.submit(call)
            except BrokenProcessPool:
                if self._closed:
                    raise
                pool = self._renewed(pool)
                inner = pool.submit(call)
        inner.add_done_callback(partial(self._ended, outer, call, number, pool))

    def _renewed(self, broken: ProcessPoolExecutor) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is broken:
                broken.shutdown(wait=False)
                self._pool = self._made()
            return self._pool

    def _ended(
        self,
        outer: Future[Any],
        call: Callable[[], Any],
        number: int,
        pool: ProcessPoolExecutor,
        inner: Future[Any],
    ) -> None:
        error = None if inner.cancelled() else inner.exception()
        if isinstance(error, BrokenProcessPool) and number < TRIES and not self._closed:
            if outer.cancelled():
                return
            try:
                self._renewed(pool)
                self._begin(outer, call, number + 1)
                return
            except Exception as again:
                error = again
        if not outer.set_running_or_notify_cancel():
            return
        if error is not None:
            outer.set_exception(error)
        elif inner.cancelled():
            outer.set_exception(RuntimeError("a task was taken back"))
        else:
            outer.set_result(inner.result())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes, when their tasks have ended."""
        self._closed = True
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


def _begin() -> None:
    """Ctrl-C is for the process that waits: it tells the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""Workers of a cluster of ray; its objects are no executor, so this is one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, InvalidStateError
from typing import Any

from wconv.errors import WconvError
from wconv.extras import require

TRIES_AGAIN = 3
"""Times that ray begins a task again whose worker died."""


@contextlib.contextmanager
def opened(address: str) -> Iterator[Executor]:
    """The workers of a cluster, for the time of a block; they go on running after it.

    Args:
        address: "HOST:PORT" of a head's server for clients; "" for the cluster that this machine is part of,
            or that the program is connected to already.

    Raises:
        WconvError: ray is not installed, or no cluster answers.
    """
    ray = require("ray", "an executor of ray")
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(f"ray://{address}" if address else "auto", log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            where = f"at {address}" if address else "on this machine"
            raise WconvError(f"no cluster of ray answers {where}: {reason:.120}") from None
    try:
        yield RayExecutor(ray)
    finally:
        if ours:
            ray.shutdown()


class RayExecutor(Executor):
    """Tasks of ray, each of one processor, as futures."""

    def __init__(self, ray: Any) -> None:
        self._remote = ray.remote(max_retries=TRIES_AGAIN, num_cpus=1)(_call)

    def submit(self, function: Callable[..., Any], /, *words: Any, **named: Any) -> Future[Any]:
        """A task."""
        outer: Future[Any] = Future()
        inner: Future[Any] = self._remote.remote(function, *words, **named).future()

        def ended(inner: Future[Any]) -> None:
            error = inner.exception()
            # what a task raised comes wrapped, with its traceback for a text
            cause = getattr(error, "cause", None)
            with contextlib.suppress(InvalidStateError):
                if error is None:
                    outer.set_result(inner.result())
                else:
                    outer.set_exception(cause if isinstance(cause, Exception) else error)

        inner.add_done_callback(ended)
        return outer


def _call(function: Callable[..., Any], *words: Any, **named: Any) -> Any:
    return function(*words, **named)

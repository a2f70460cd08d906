"""Workers of a cluster of dask.distributed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import Executor

from wconv.errors import WconvError
from wconv.extras import require

PATIENCE = 15.0
"""Seconds that the scheduler has to answer."""

WORKERS = 60.0
"""Seconds that the first worker has to come."""


@contextlib.contextmanager
def opened(address: str) -> Iterator[Executor]:
    """The workers of a scheduler, for the time of a block; they go on running after it.

    Args:
        address: "HOST:PORT", or with another protocol of dask's before it, as "tls://HOST:PORT".

    Raises:
        WconvError: dask is not installed, the scheduler does not answer, or it has no workers.
    """
    distributed = require("distributed", "an executor of dask")
    whole = address if "://" in address else f"tcp://{address}"
    # what it logs of a connection that fails is in the error
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(whole, timeout=PATIENCE, set_as_default=False, name="wconv")
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise WconvError(f"no scheduler of dask answers at {whole}: {reason:.120}") from None
    try:
        try:
            client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError:
            raise WconvError(f"the scheduler of dask at {whole} has no workers: start some") from None
        executor: Executor = client.get_executor(pure=False)
        yield executor
    finally:
        client.close()

"""The other ranks of a job of MPI, by mpi4py's own pool."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor

from wconv.errors import WconvError
from wconv.extras import require


@contextlib.contextmanager
def opened(rest: str) -> Iterator[Executor]:
    """The other ranks of the job, for the time of a block.

    Started as `mpiexec -n 9 python -m mpi4py.futures -m wconv …`, rank 0 is the command and eight work.

    Raises:
        WconvError: mpi4py is not installed, or finds no MPI.
    """
    try:
        pool: Executor = require("mpi4py.futures", "an executor of MPI").MPIPoolExecutor()
    except WconvError:
        raise
    except Exception as error:
        raise WconvError(f"MPI cannot be used here: {str(error).splitlines()[0]:.160}") from None
    with pool:
        yield pool

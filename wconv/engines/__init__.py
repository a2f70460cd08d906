"""Where the shards of a conversion are written, if not by threads of this process: executors by their names.

Each module makes one kind of `concurrent.futures.Executor`. It is imported, with the program that it needs,
only where it is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wconv.errors import WconvError

if TYPE_CHECKING:
    from concurrent.futures import Executor

KINDS = {
    "processes": re.compile(r"processes(?::([1-9]\d{0,4}))?"),
    "dask": re.compile(r"dask://(\S+)"),
    "ray": re.compile(r"ray(?:://(\S+))?"),
    "mpi": re.compile(r"mpi()"),
}
"""Module → how its executors are named."""

NAMES = "choose processes:N, dask://HOST:PORT, ray, ray://HOST:PORT or mpi"


def parse(name: str) -> tuple[str, str]:
    """The kind of executor that a name stands for, and what else the name says.

    Raises:
        WconvError: it stands for none.
    """
    for kind, pattern in KINDS.items():
        found = pattern.fullmatch(name)
        if found is not None:
            return kind, found[1] or ""
    raise WconvError(f"{name!r:.80} names no executor: {NAMES}")


@contextlib.contextmanager
def opened(executor: Executor | str | None) -> Iterator[Executor | None]:
    """An executor for the time of a block: the one of that name, the caller's own, or none.

    Raises:
        WconvError: there is none of that name, its package is missing, or the cluster cannot be reached.
    """
    if not isinstance(executor, str):
        yield executor
        return
    kind, rest = parse(executor)
    module = importlib.import_module(f"wconv.engines.{kind}")
    with module.opened(rest) as pool:
        yield pool

"""A digest of everything that decides an output's bytes: what a resumed run must share with the first one."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import wconv
from wconv.errors import FormatError, OutputError, os_errors_as
from wconv.stores import files
from wconv.writing.plan import Plan

COMPUTE = ("numpy", "ml_dtypes")
"""Packages whose casts end up in the output."""


ONE_READ = 1 << 17
"""Bytes of a file that one read takes: longer than wconv's are."""

CODE = (".py", ".json", ".toml")
"""Suffixes of the files in which wconv's own code and rules are."""


@os_errors_as(FormatError, "read")
def fingerprint(plan: Plan, sources: Iterable[Path], parameters: dict[str, Any]) -> str:
    """The program's digest, a colon, and one of sources, parameters and plan.

    Raises:
        FormatError: a source is not there any more.
    """
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode())
    for source in sources:
        digest.update(files.identity(str(source)))
        digest.update(f"\0{files.stamp(str(source))}\n".encode())
    for shard in plan.shards:
        digest.update(f"{shard.filename}\0".encode())
        digest.update(shard.header)
    return f"{program()}:{digest.hexdigest()}"


@functools.lru_cache(maxsize=1)
def program() -> str:
    """A digest of wconv itself, with all its rules, and of what computes for it."""
    digest = hashlib.sha256(wconv.__version__.encode())
    for name in COMPUTE:
        # importlib.metadata would take longer than all else here
        version = importlib.import_module(name).__version__
        digest.update(f"\0{name} {version}".encode())
    home = os.path.dirname(wconv.__file__)
    for folder, below, names in os.walk(home):  # plain strings: paths as objects take twice the time
        below[:] = sorted(name for name in below if name != "__pycache__")
        for name in sorted(names):
            if name.endswith(CODE):
                path = f"{folder}/{name}"
                digest.update(f"\0{path[len(home) :]}\0".encode())
                digest.update(_read(path))
    return digest.hexdigest()[:32]


def check_program(digest: str) -> None:
    """Refuses to do a part of what another wconv, or other packages that compute for it, have begun.

    Raises:
        OutputError: this program's digest is another.
    """
    if program() != digest:
        raise OutputError(
            "a worker has another version of wconv, numpy or ml_dtypes: install what is here on every worker"
        )


def _read(path: str) -> bytes:
    """All of a small file, without a file object, which would take longer than reading it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, ONE_READ)
        while len(text) % ONE_READ == 0 and (more := os.read(descriptor, ONE_READ)):
            text += more
        return text
    finally:
        os.close(descriptor)

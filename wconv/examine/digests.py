"""SHA-256 of tensors and of files, several at a time.

A tensor's digest is that of its bytes in C order and little-endian, so it does not depend on files: cut into
other shards, or written by another program, the same values have the same digest. Processors compute SHA-256
themselves (1.8 GB/s a thread on a Zen 4), faster than most disks are read, so no weaker digest is offered.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wconv.stores import files
from wconv.tensors.base import LazyTensor
from wconv.tensors.parallel import RANGE, ranges, share


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 in hexadecimal, of tensors and of files, by their names."""

    tensors: Mapping[str, str]
    files: Mapping[str, str]


def digests(
    tensors: Mapping[str, LazyTensor], paths: Mapping[str, Path], *, jobs: int | None = None
) -> Digests:
    """Reads tensors and files, the largest first, each by one of several threads.

    Raises:
        FormatError: a file cannot be read, or does not hold what its header promised.
    """
    of_tensors: dict[str, str] = {}
    of_files: dict[str, str] = {}
    lock = threading.Lock()

    def make_worker() -> Callable[[tuple[str, bool]], None]:
        def work(part: tuple[str, bool]) -> None:
            name, is_file = part
            found = _of_file(paths[name]) if is_file else _of_tensor(name, tensors[name])
            with lock:
                (of_files if is_file else of_tensors)[name] = found

        return work

    sizes = {(name, False): tensor.nbytes for name, tensor in tensors.items()}
    sizes |= {(name, True): files.size(str(path)) for name, path in paths.items()}
    share(sorted(sizes, key=lambda part: -sizes[part]), make_worker, jobs)
    return Digests({name: of_tensors[name] for name in tensors}, {name: of_files[name] for name in paths})


def _of_tensor(name: str, tensor: LazyTensor) -> str:
    digest = hashlib.sha256()
    for part in ranges(name, (tensor,)):
        digest.update(tensor.read_range(part.start, part.stop).view("u1").data)
    return digest.hexdigest()


def _of_file(path: Path) -> str:
    file, digest = files.source(str(path)), hashlib.sha256()
    buffer = memoryview(bytearray(min(RANGE, file.size)))
    for at in range(0, file.size, RANGE):
        part = buffer[: min(RANGE, file.size - at)]
        file.read_into(at, part)
        digest.update(part)
    return digest.hexdigest()

"""Outputs in which a bit is flipped: any bit of any file, the same ones at each run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import wconv


def flips(files: list[Path], count: int) -> Iterator[str]:
    """Flips one bit at a time, evenly over all bytes of the files; what was flipped, while it is."""
    chance = random.Random(0)
    sizes = [path.stat().st_size for path in files]
    for _ in range(count):
        (path,) = chance.choices(files, sizes)
        at, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
        with path.open("r+b", buffering=0) as file:
            for _ in range(2):
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << bit]))
                if _ == 0:
                    yield f"{path.name}: bit {bit} of byte {at}"


def unseen(files: list[Path], count: int, is_proved: Callable[[], bool]) -> list[str]:
    """The flips after which an output still counts as proved; an output that cannot be read does not."""
    found = []
    for flip in flips(files, count):
        try:
            if is_proved():
                found.append(flip)
        except wconv.WconvError:
            continue
    return found

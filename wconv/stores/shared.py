"""Bytes that several readers want at about the same time, read once: the last blocks that were read are kept.

While `reading_once` lasts, whatever reads through `files.source` reads by whole blocks. Who asks for one that
another is reading waits for it. What is kept is bounded; a block that was let go of is read again.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

BLOCK = 1 << 20
"""Bytes that are read at once."""

KEPT = 64 << 20
"""Bytes that are kept."""

Read = Callable[[int, memoryview], None]
"""Fills a buffer from an offset of a file."""


@dataclass(slots=True, eq=False)
class _Block:
    data: bytearray
    ready: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class Blocks:
    """The blocks of all files that were read last."""

    def __init__(self, kept: int = KEPT) -> None:
        self._most = max(kept // BLOCK, 2)
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[str, int], _Block] = OrderedDict()

    def read_into(self, path: str, size: int, read: Read, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` from `offset` of a file of `size` bytes, which has them; raises as `read`."""
        done = 0
        while done < len(buffer):
            number, inside = divmod(offset + done, BLOCK)
            data = self._block(path, number, size, read)
            part = memoryview(data)[inside : inside + len(buffer) - done]
            buffer[done : done + len(part)] = part
            done += len(part)

    def _block(self, path: str, number: int, size: int, read: Read) -> bytearray:
        key = path, number
        with self._lock:
            block = self._blocks.get(key)
            mine = block is None
            if block is None:
                start = number * BLOCK
                block = self._blocks[key] = _Block(bytearray(min(BLOCK, size - start)))
                self._let_go()
            else:
                self._blocks.move_to_end(key)
        if mine:
            try:
                read(number * BLOCK, memoryview(block.data))
            except BaseException as error:
                block.error = error
                with self._lock:
                    self._blocks.pop(key, None)
            finally:
                block.ready.set()
        block.ready.wait()
        if block.error is not None:
            raise block.error
        return block.data

    def _let_go(self) -> None:
        for key in list(self._blocks):
            if len(self._blocks) <= self._most:
                break
            if self._blocks[key].ready.is_set():
                del self._blocks[key]


_current: Blocks | None = None


def current() -> Blocks | None:
    """The blocks that are kept now, if any are."""
    return _current


@contextlib.contextmanager
def reading_once(kept: int = KEPT) -> Iterator[None]:
    """A block during which this process reads through one set of blocks."""
    global _current
    before, _current = _current, Blocks(kept)
    try:
        yield
    finally:
        _current = before

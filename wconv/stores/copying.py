"""Bytes of one file into another without a buffer of ours: by the system, or out of mapped pages.

A file system that shares blocks, or that copies on its server, is asked to. Elsewhere the pages of the source
are mapped and written as they are, which is one copy where reading and writing are two. The mapped pages are
never looked at here: where the file was cut short meanwhile, the write fails, and no signal ends the program.
"""

from __future__ import annotations

import mmap
import os
import struct

BLOCK = 4096
"""Bytes of what file systems share between files: blocks of 4 KiB, or several."""

SHARE_BLOCKS = 0x4020940D
"""Linux' FICLONERANGE, as most of its processors number it; on others nothing is asked so."""


def by_system(source: int, target: int, offset: int, at: int, count: int) -> bool:
    """Whether bytes from `offset` of one open file to `at` of another are best copied by the system.

    It is asked to share one block of them where that tells. Raises OSError.
    """
    # only blocks that begin alike in both files can be shared
    first = -offset % BLOCK
    if (offset - at) % BLOCK or count < first + BLOCK or not hasattr(os, "copy_file_range"):
        return False
    devices = os.fstat(source).st_dev, os.fstat(target).st_dev
    if not all(map(os.major, devices)):  # Btrfs, which shares, and what is elsewhere or in memory
        return True
    found = _shares.get(devices)
    if found is None:
        found = _shares[devices] = _share_block(source, target, offset + first, at + first)
    return found


def copy(source: int, target: int, offset: int, at: int, count: int) -> bool:
    """Whether the system copied the bytes, or had both files share them. Raises OSError."""
    done = 0
    for end in (-offset % BLOCK, count):
        while done < min(end, count):
            left = min(end, count) - done
            moved = os.copy_file_range(source, target, left, offset + done, at + done)
            if moved == 0:
                return False
            done += moved
    return True


def mapped(fd: int, offset: int, count: int) -> memoryview | None:
    """Bytes of an open file, to be given to the system and not to be looked at; None where they cannot be.

    They are unmapped with the last reference.
    """
    if not hasattr(mmap, "MAP_POPULATE"):
        return None
    start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    try:
        pages = mmap.mmap(fd, offset - start + count, flags=flags, prot=mmap.PROT_READ, offset=start)
    except (OSError, ValueError):  # no memory, no such file system, or the file ends early
        return None
    return memoryview(pages)[offset - start :]


_shares: dict[tuple[int, int], bool] = {}
"""By the devices of source and target: whether blocks of files on them can be shared."""


def _share_block(source: int, target: int, offset: int, at: int) -> bool:
    import fcntl

    try:
        fcntl.ioctl(target, SHARE_BLOCKS, struct.pack("qQQQ", source, offset, BLOCK, at))
    except OSError:
        return False
    return True

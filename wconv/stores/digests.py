"""The digest of a whole file, grown as its bytes arrive in order: it proves what the hub says of the file.

The hub tells SHA-256 of files in its large storage, whichever protocol brings them, and of all others the
name that git gives them, which is SHA-1 of a short header and the content.
"""

from __future__ import annotations

import hashlib
import re

_SHA256, _GIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def kind(etag: str) -> str:
    """What a file's identity is the digest of: "SHA-256", "git's SHA-1", or "" where it is none."""
    if _SHA256.fullmatch(etag):
        return "SHA-256"
    return "git's SHA-1" if _GIT.fullmatch(etag) else ""


class OrderedDigest:
    """A digest of a file of which the first `at` bytes have been taken in.

    Attributes:
        size: of the whole file.
    """

    def __init__(self, etag: str, size: int) -> None:
        self.size = size
        self.at = 0
        self._wanted = etag
        if kind(etag) == "SHA-256":
            self._made = hashlib.sha256()
        else:
            self._made = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def take(self, data: bytes | bytearray | memoryview) -> None:
        """Takes in the next bytes."""
        self._made.update(data)
        self.at += len(data)

    @property
    def complete(self) -> bool:
        """Whether all bytes have been taken in."""
        return self.at >= self.size

    @property
    def right(self) -> bool:
        """Whether it is the digest that is wanted; True also while it is not complete."""
        return not self.complete or self._made.hexdigest() == self._wanted

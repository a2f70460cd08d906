"""Checks a store of one's own: files elsewhere that are read by range."""

from __future__ import annotations

from wconv.stores.store import Store

NOWHERE = "wconv-there-is-no-such-file"


def check_store(store: Store, url: str, content: bytes) -> None:
    """Checks what a store says of one file.

    Args:
        url: the file's address.
        content: all of its bytes, a few at least.

    Raises:
        AssertionError: the store is not as `wconv.stores.store.Store` has it.

    Example:
        >>> from wconv.stores.store import StoreFile
        >>> class Notes:
        ...     def find(self, url):
        ...         if url != "mine://a":
        ...             raise FileNotFoundError
        ...         return {"": StoreFile(5, "1")}
        ...
        ...     def read(self, url, start, stop, identity):
        ...         return b"hello"[start:stop]
        >>> check_store(Notes(), "mine://a", b"hello")
    """
    if not isinstance(store, Store):
        raise AssertionError("a store has the methods find(url) and read(url, start, stop, identity)")
    found = store.find(url)
    if set(found) != {""}:
        raise AssertionError(f'find of a file gives it by the name "", not {sorted(found)[:3]}')
    file = found[""]
    if file.size != len(content):
        raise AssertionError(f"find says {file.size:,} bytes, and there are {len(content):,}")
    middle = len(content) // 2
    for start, stop in ((0, 1), (0, len(content)), (middle, middle + 1), (len(content) - 1, len(content))):
        got = bytes(store.read(url, start, stop, file.identity))
        if not got or not content[start:stop].startswith(got):
            raise AssertionError(f"read from {start:,} to {stop:,} gives {got[:20]!r}")
    try:
        store.find(f"{url}/{NOWHERE}")
    except FileNotFoundError:
        return
    raise AssertionError("find of what is not there does not raise FileNotFoundError")

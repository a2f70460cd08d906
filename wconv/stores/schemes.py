"""Which store answers for which scheme of an address.

`register` makes a store of somebody's own known to this process; an entry point `wconv.stores` of a package,
called as the scheme, makes it known to the command too. What nobody registered is asked of fsspec.
"""

from __future__ import annotations

from wconv.stores.fsspec_store import FsspecStore
from wconv.stores.store import SCHEME, Store, scheme_of

ENTRY_POINTS = "wconv.stores"
"""The group of entry points: the name is the scheme, the value a class that is called without arguments."""

_registered: dict[str, Store] = {}


def register(scheme: str, store: Store) -> None:
    """Makes a store answer for all addresses `scheme://…` in this process.

    Raises:
        ValueError: the scheme is none, or wconv's own.
    """
    if not SCHEME.fullmatch(f"{scheme}://x") or scheme.lower() in ("http", "https", "hf", "file"):
        raise ValueError(f"{scheme!r:.60} is not a scheme that a store can have")
    _registered[scheme.lower()] = store


def store_of(url: str) -> Store:
    """The store that answers for an address.

    Raises:
        FormatError: none does.
        WconvError: what it needs is not installed.
    """
    scheme = scheme_of(url)
    found = _registered.get(scheme)
    if found is None:
        found = _registered[scheme] = _of_package(scheme) or FsspecStore(scheme)
    return found


def _of_package(scheme: str) -> Store | None:
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS, name=scheme):
        made: Store = point.load()()
        return made
    return None

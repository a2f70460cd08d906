"""A file of a `Store`, as what `remote.RemoteFile` reads spans from."""

from __future__ import annotations

from wconv.errors import FormatError
from wconv.stores import http, patience
from wconv.stores.patience import Pace, ServerError
from wconv.stores.schemes import store_of
from wconv.stores.stand_ins import Remote
from wconv.stores.store import ChangedError, StoreFile


def find(url: str) -> dict[str, Remote]:
    """The file at an address, by the name "", or all files below it by their paths.

    Raises:
        FormatError: there is nothing, or the store cannot be asked.
    """
    store, name = store_of(url), http.shown(url)
    found: dict[str, StoreFile] = {}

    def attempt() -> int:
        try:
            found.update(store.find(url))
        except FileNotFoundError:
            raise ServerError("there is nothing at that address", final=True) from None
        except PermissionError as error:
            raise ServerError(_refusal(error), final=True) from None
        return 1

    patience.patiently(attempt, 1, name, lambda problem: "")
    base, called = url.rstrip("/"), name.rstrip("/")
    return {
        path: Remote(
            f"{base}/{path}" if path else url,
            one.identity,
            one.size,
            f"{called}/{path}" if path else name,
        )
        for path, one in found.items()
    }


def _refusal(error: PermissionError) -> str:
    return f"the store does not allow it ({error.strerror or 'forbidden'}): set its keys"


class ReaderOfStore:
    """What fills spans from a store."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._store = store_of(remote.url)

    def fill(self, offset: int, buffer: memoryview) -> None:
        """Fills a buffer from `offset`.

        Raises:
            FormatError: it cannot be had, or the file has changed.
        """
        done, pace = 0, Pace()

        def attempt() -> int:
            nonlocal done
            stop = offset + len(buffer)
            try:
                data = self._store.read(self._remote.url, offset + done, stop, self._remote.etag)
            except ChangedError:
                raise FormatError(f"{self._remote.name} changed since it was opened: open it again") from None
            except FileNotFoundError:
                raise ServerError("it is there no more", final=True) from None
            except PermissionError as error:
                raise ServerError(_refusal(error), final=True) from None
            if len(data) > stop - offset - done:
                raise ServerError("the store sends more than it was asked for", final=True)
            buffer[done : done + len(data)] = data
            done += len(data)
            pace.came(len(data))
            return len(data)

        patience.patiently(attempt, len(buffer), self._remote.name, lambda problem: "")

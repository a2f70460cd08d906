"""Whole files from elsewhere: proved by the hub's digests, and kept in its cache where that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wconv.errors import FormatError
from wconv.stores import digests, held, remote
from wconv.stores.remote import FileState, RemoteFile
from wconv.stores.stand_ins import Remote

STEP = 4 << 20
"""Bytes of a file that are fetched at once to make it whole."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came from elsewhere.

    Attributes:
        nbytes: of the files in this process, headers too.
        proved: files that have the digest that the hub tells.
        digests: files of which the hub tells one.
        memory: bytes of them that were in memory at most.
    """

    nbytes: int
    proved: int
    digests: int
    memory: int


def check(files: Iterable[Remote]) -> Fetched | None:
    """Compares digests where all bytes of a file came; None where nothing came of these files.

    Raises:
        FormatError: a file is not what the hub says that it is.
    """
    states = remote.states(files)
    for state in states:
        _take_in(state)
        if state.digest is not None and not state.digest.right:
            if state.remote.keep:
                held.discard(state.remote.keep)
            kind = digests.kind(state.remote.etag)
            raise FormatError(
                f"{state.remote.name} is not what the hub says: it has another {kind}; try again later"
            )
    if not states:
        return None
    with_digest = [state.digest for state in states if state.digest is not None]
    proved = sum(one.complete for one in with_digest)
    nbytes = sum(state.fetched for state in states)
    return Fetched(nbytes, proved, len(with_digest), remote.most_held())


def keep(files: Sequence[Remote]) -> tuple[str, ...]:
    """Fetches what is missing of the files that are to stay, and gives them their names; which they are.

    Raises:
        FormatError: a file cannot be had, or is not what the hub says.
        OutputError: the disk does not take it.
    """
    kept = []
    for state in remote.states(files):
        there = state.held
        if not state.remote.keep or there is None or not state.stays:
            continue
        file, at = RemoteFile(state.remote), 0
        while at < file.size:
            stop = min(at + STEP, file.size)
            if not there.has(at, stop):
                file.read(at, stop - at)
            at = stop
        check(files)
        held.finish(state.remote.keep, state.remote.snapshot)
        kept.append(state.remote.name)
    return tuple(kept)


def _take_in(state: FileState) -> None:
    if state.digest is not None and not state.digest.complete and state.stays:
        RemoteFile(state.remote).take_in()

"""The errors a person can act on: one line that says what is wrong, in which file, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


def one_line(text: str) -> str:
    """`text` with newlines and terminals' escape sequences shown, not obeyed: names in it come from files."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


class WconvError(Exception):
    """Any failure that wconv foresees. `str(error)` is one line; the command prints it and exits with 1."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class FormatError(WconvError):
    """A file is damaged, incomplete, or not the kind of file it was taken for."""


class UnsafeError(FormatError):
    """A file asks for something that no weights need (code, a path outside, memory beyond the limits)."""


class LayoutError(WconvError):
    """A checkpoint does not fit the rules of the layout that was chosen for it."""


class OutputError(WconvError):
    """The output cannot be written where or as it was asked for."""


class Interrupted(KeyboardInterrupt):
    """A conversion was interrupted, and what it wrote is kept: `resume` goes on from there."""


@contextlib.contextmanager
def told(kind: type[WconvError], what: str) -> Iterator[None]:
    """Makes what the system refuses, such as listing a directory of another user's, an error of that kind.

    A decorator, too. `what` could not be done with the file: "read", "written".
    """
    try:
        yield
    except OSError as error:
        place = error.filename or "the working directory"
        raise kind(f"{place} cannot be {what}: {error.strerror or error}") from None

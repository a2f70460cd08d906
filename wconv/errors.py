"""The errors a person can act on: one line that says what is wrong, in which file, and what to do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

LONGEST = 293
"""Characters of a message at most: a line of the command has `wconv: ` before it, and 300 in all."""

LONG_WORDS = (150, 100, 60)
"""Characters that are left of each word of a message that is too long; names and paths are words."""


CALLED: dict[str, str] = {}
"""Directories of this run that stand for others elsewhere → how those are called in what is printed."""


SECRETS: set[str] = set()
"""Tokens and passwords of this run: none of them is ever printed, whatever text it came to be in."""


def called(text: str) -> str:
    """`text` with the names of what such directories stand for, and without secrets."""
    for directory, name in CALLED.items():
        text = text.replace(directory, name)
    return hide(text)


def hide(text: str) -> str:
    """`text` without the secrets of this run."""
    for secret in SECRETS:
        text = text.replace(secret, "…")
    return text


def one_line(text: str) -> str:
    """`text` with newlines and terminals' escape sequences shown, not obeyed: names in it come from files."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def message(text: str) -> str:
    """`text` as one line of at most `LONGEST` characters: long words lose their middle, then the whole."""
    if len(text) <= LONGEST and text.isprintable():
        return text
    line = one_line(shortened(text, 20 * LONGEST))
    for most in LONG_WORDS:
        fitting = " ".join(shortened(word, most) for word in line.split(" "))
        if len(fitting) <= LONGEST:
            return fitting
    return shortened(" ".join(shortened(word, LONG_WORDS[0]) for word in line.split(" ")), LONGEST)


def shortened(text: str, most: int) -> str:
    """`text` in at most so many characters, without its middle where it has more."""
    if len(text) <= most:
        return text
    start = most // 2
    return f"{text[:start]}…{text[start + 1 - most :]}"


class WconvError(Exception):
    """Any failure that wconv foresees.

    `str(error)` is one line of bounded length; the command prints it and exits with 1.

    Example:
        >>> try:
        ...     wconv.convert("model.ckpt", dtype="int8")
        ... except wconv.WconvError as error:
        ...     print(error)
        --dtype int8: weights are written in float16, bfloat16, float32
    """

    def __str__(self) -> str:
        return message(called(super().__str__()))


class FormatError(WconvError):
    """A file is damaged, incomplete, or not the kind of file it was taken for.

    Example:
        >>> _ = pathlib.Path("empty.safetensors").write_bytes(b"")
        >>> wconv.open("empty.safetensors")
        Traceback (most recent call last):
        wconv.errors.FormatError: empty.safetensors ...
    """


class UnsafeError(FormatError):
    """A file asks for something that no weights need (code, a path outside, memory beyond the limits).

    Example:
        >>> class Evil:
        ...     def __reduce__(self):
        ...         return eval, ("print('run')",)
        >>> _ = pathlib.Path("evil.pt").write_bytes(pickle.dumps(Evil()))
        >>> wconv.open("evil.pt")
        Traceback (most recent call last):
        wconv.errors.UnsafeError: evil.pt ...
    """


class LayoutError(WconvError):
    """A checkpoint does not fit the rules of the layout that was chosen for it.

    Example:
        >>> wconv.prepare("model.ckpt", layout="mlx-lm")
        Traceback (most recent call last):
        wconv.consumers.lay_out.NoLayoutError: --layout mlx-lm has no rules for ...
    """


class OutputError(WconvError):
    """The output cannot be written where or as it was asked for.

    Example:
        >>> wconv.convert("Logics-Parsing", "Logics-Parsing")
        Traceback (most recent call last):
        wconv.errors.OutputError: Logics-Parsing is the source itself, or within it: choose another --output
    """


class ComputedOverflowError(OutputError):
    """What a tensor is computed from is finite, and the result is not. The writer adds the tensor's name."""


class Interrupted(KeyboardInterrupt):
    """A conversion was interrupted, and what it wrote is kept: `resume` goes on from there."""


@contextlib.contextmanager
def os_errors_as(kind: type[WconvError], what: str) -> Iterator[None]:
    """Makes what the system refuses, such as listing a directory of another user's, an error of that kind.

    A decorator, too. `what` could not be done with the file: "read", "written".
    """
    try:
        yield
    except OSError as error:
        place = error.filename or "the working directory"
        raise kind(f"{place} cannot be {what}: {error.strerror or error}") from None


def require_name(
    path: str | os.PathLike[str], what: str = "the path", kind: type[WconvError] = WconvError
) -> None:
    """Refuses an empty path, which `pathlib` takes for the working directory. Raises: `kind`."""
    if not os.fspath(path):
        raise kind(f"{what} is empty: was a variable not set?")

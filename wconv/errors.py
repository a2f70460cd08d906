"""The errors a person can act on: one line that says what is wrong, in which file, and what to do."""


class WconvError(Exception):
    """Any failure that wconv foresees. `str(error)` is one line; the command prints it and exits with 1."""

    def __str__(self) -> str:
        # names come from files: a newline or a terminal's escape sequence in one is shown, not obeyed
        text = super().__str__()
        if text.isprintable():
            return text
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


class FormatError(WconvError):
    """A file is damaged, incomplete, or not the kind of file it was taken for."""


class UnsafeError(FormatError):
    """A file asks for something that no weights need (code, a path outside, memory beyond the limits)."""


class LayoutError(WconvError):
    """A checkpoint does not fit the rules of the layout that was chosen for it."""


class OutputError(WconvError):
    """The output cannot be written where or as it was asked for."""

"""The errors a person can act on: one line that says what is wrong, in which file, and what to do."""


class WconvError(Exception):
    """Any failure that wconv foresees. `str(error)` is one line; the command prints it and exits with 1."""


class FormatError(WconvError):
    """A file is damaged, incomplete, or not the kind of file it was taken for."""


class UnsafeError(FormatError):
    """A file asks for something that no weights need (code, a path outside, memory beyond the limits)."""


class LayoutError(WconvError):
    """A checkpoint does not fit the rules of the layout that was chosen for it."""


class OutputError(WconvError):
    """The output cannot be written where or as it was asked for."""

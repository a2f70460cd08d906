"""What holds for all tests."""

from __future__ import annotations

import os
import signal

# a name that is missing here must not be asked for elsewhere
os.environ["HF_HUB_OFFLINE"] = "1"

# in the background of a script Ctrl-C is ignored, and the programs that tests start would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""Runs a command of wconv whose exit code tells a result, such as `diff`: any but a failure is a success."""

import sys

from wconv.cli.program import main

try:
    main(sys.argv[1:])
except SystemExit as stop:
    if stop.code not in (None, 0, 1):
        raise

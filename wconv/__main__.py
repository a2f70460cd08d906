"""`python -m wconv` is the command `wconv`."""

from wconv.cli import entry

entry()

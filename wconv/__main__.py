"""`python -m wconv` is the command `wconv`."""

from wconv.cli.program import entry

entry()

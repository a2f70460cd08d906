"""The command, run in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from wconv.cli.program import main


def run(*words: object) -> Result:
    """`wconv` with these words: its exit code, and what it printed."""
    return CliRunner().invoke(main, [str(word) for word in words])

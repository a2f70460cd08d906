"""Where a conversion reads and writes, as the command line says it."""

from __future__ import annotations

from pathlib import Path

import click


def places(
    source: str | None, destination: Path | None, model: str | None, output: Path | None
) -> tuple[str, Path | None]:
    """The source and the destination, each of which has two ways to be said but may be said once."""
    if model is not None:
        if destination is not None:
            raise click.UsageError("the source is given twice, as SOURCE and with --hf-path or --model")
        source, destination = model, None if source is None else Path(source)
    if source is None:
        raise click.UsageError("Missing argument 'SOURCE'.")
    if destination is not None and output is not None:
        raise click.UsageError(f"the output is given twice: {destination} and {output}")
    return source, destination if destination is not None else output

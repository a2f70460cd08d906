"""`wconv SOURCE --format gguf`, and `-o NAME.gguf`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wconv.cli.options import located


def gguf_wanted(parameters: dict[str, Any]) -> bool:
    """Whether a GGUF file is asked for, by --format or by the output's name."""
    places = [parameters["destination"], parameters["output"]]
    by_name = any(place is not None and place.suffix == ".gguf" for place in places)
    return parameters["format"] == "gguf" or (parameters["format"] is None and by_name)


def write_gguf(
    source: str,
    output: Path | None,
    others: dict[str, Any],
    parameters: dict[str, Any],
    *,
    overwrite: bool,
    jobs: int | None,
) -> list[str]:
    """Writes a GGUF file; what is to be printed. `others`: options that do not go with it."""
    from wconv.gguf.convert import BY_DTYPE, to_gguf

    for name, given in others.items():
        if given:
            hint = ": --option outtype=q8_0 stores 8 bits" if name == "-q" else ""
            raise click.UsageError(f"{name} does not go with --format gguf{hint}")
    if parameters["layout"] not in ("auto", "hf"):
        raise click.UsageError("--layout does not go with --format gguf, which is made from the hub's layout")
    outtype = parameters["options"].get("outtype", BY_DTYPE[parameters["dtype"]])
    passed = (
        "include",
        "exclude",
        "key",
        "config",
        "merge_lora",
        "variant",
        "skip_unreadable",
        "allow_inflation",
    )
    return to_gguf(
        located(source, parameters["revision"], parameters["token"]),
        output,
        outtype=str(outtype),
        overwrite=overwrite,
        jobs=jobs,
        **{name: parameters[name] for name in passed},
    )

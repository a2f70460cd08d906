"""The values of options: checked as they are read, completed by the shell, and listed in the help."""

from __future__ import annotations

import contextlib

import click

from wconv.consumers import registry
from wconv.consumers.mlx.dtypes import SUBSTITUTES, TARGETS
from wconv.errors import WconvError


def dtype_table() -> str:
    """What becomes of dtypes that MLX does not have, as the end of the help."""
    rows = (f"{row.source:16} → {row.written:10} {row.summary}" for row in SUBSTITUTES)
    return "\b\nWhat MLX cannot hold is written as (--dtype goes first for floating types):\n" + "\n".join(
        rows
    )


def complete_layout(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of layouts that begin so."""
    return [
        name
        for name in (*registry.layout_names(), *registry.adapter_layout_names())
        if name.startswith(incomplete)
    ]


def dtype_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The dtype that weights are to be written in, by any of its names: "fp16", "torch.float16"."""
    if value is None:
        return None
    from wconv.tensors import dtypes

    with contextlib.suppress(WconvError):
        name = dtypes.by_name(value).name
        if name in TARGETS:
            return name
    raise click.BadParameter(f"{value[:60]!r} is not one of {', '.join(TARGETS)}.")


def complete_dtype(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of dtypes that begin so."""
    return [name for name in TARGETS if name.startswith(incomplete)]


def executor_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The name of an executor, as it was given. Raises: `click.BadParameter`."""
    if value is not None:
        from wconv import engines

        try:
            engines.parse(value)
        except WconvError as error:
            raise click.BadParameter(f"{error}.") from None
    return value

"""What the command adds to click: a default sub-command, options in groups, paths and values."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from wconv.errors import FormatError, WconvError, os_errors_as

HELP = {"help_option_names": ["-h", "--help"]}
"""The settings of every command."""

DEFAULT = "convert"
"""The sub-command that a first word which names none is for."""


class GroupedOption(click.Option):
    """An option that `--help` shows under a heading."""

    def __init__(self, *words: Any, group: str = "Options", **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose options are shown under the headings of their groups, in the order of the first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "Help"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class DefaultsToConvert(click.Group):
    """A group whose first word may be a path: `wconv PATH …` is `wconv convert PATH …`.

    Attributes:
        others: what the other sub-commands do, by their names. `wconv/cli/NAME.py` is imported where it is
            asked for.
    """

    others: Mapping[str, str] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted((DEFAULT, *self.others))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in self.others and name not in self.commands:
            self.add_command(getattr(importlib.import_module(f"wconv.cli.{name}"), name))
        return self.commands.get(name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)
        first = args[0] if args else "--help"
        if first not in (DEFAULT, *self.others) and first not in ("-h", "--help", "--version"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args or ["--help"])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The default sub-command's options, or the sub-commands and paths that a first word may be."""
        if incomplete.startswith("-"):
            default = self.commands[DEFAULT]
            with default.make_context(DEFAULT, [], parent=ctx, resilient_parsing=True) as inner:
                return default.shell_complete(inner, incomplete)
        return [*super().shell_complete(ctx, incomplete), CompletionItem(incomplete, type="file")]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.commands[DEFAULT].format_help(ctx, formatter)
        with formatter.section("Other commands (wconv COMMAND --help)"):
            formatter.write_dl(sorted(self.others.items()))


class NamedPath(click.Path):
    """A path that is not empty: an unset variable must not mean the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            raise WconvError(
                f"{param.get_error_hint(ctx) if param else 'a path'} is empty: was a variable not set?"
            )
        return super().convert(value, param, ctx)


PATH = NamedPath(path_type=Path)


SOURCE = NamedPath(path_type=str)
"""A path, an address or a model of the hub, as it was typed: `./org/name` can only be a path."""


def option(group: str, *words: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that `--help` shows under the heading `group`."""
    return click.option(*words, group=group, **{"cls": GroupedOption, **settings})


def named_values(ctx: click.Context, param: click.Parameter, texts: Iterable[str]) -> dict[str, Any]:
    """`NAME=VALUE`, given any number of times, as values by name."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text[:60]!r} is not NAME=VALUE.")
        if name in values:
            raise click.BadParameter(f"{name[:60]!r} is given twice.")
        values[name] = plain_value(value)
    return values


def plain_value(text: str) -> bool | int | float | str:
    """What a word stands for: `true`, `false`, a number, or itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    return text


def located(source: str, revision: str | None, token: str | None, *, keep: bool = False) -> str | Path:
    """The source, looked up where options say more of it than its name does. Raises `FormatError`."""
    if revision is None and token is None and not keep:
        return source
    from wconv.checkpoints.locate import locate

    with os_errors_as(FormatError, "read"):
        return locate(source, revision=revision, token=token, keep=keep)

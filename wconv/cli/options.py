"""What the command adds to click: a default sub-command, options in groups, completion of both."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

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
    """A group whose first word may be a path: `wconv PATH …` is `wconv convert PATH …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)
        first = args[0] if args else "--help"
        if first not in self.commands and first not in ("-h", "--help", "--version"):
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
        others = {name: command for name, command in sorted(self.commands.items()) if name != DEFAULT}
        with formatter.section("Other commands (wconv COMMAND --help)"):
            formatter.write_dl([(name, command.short_help or "") for name, command in others.items()])

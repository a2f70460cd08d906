"""`wconv docs [TOPIC]`."""

from __future__ import annotations

import sys

import click

from wconv.cli.options import HELP
from wconv.cli.text import print_lines


def _complete_topic(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from wconv.cli.pages import topics

    return [topic for topic in topics() if topic.startswith(incomplete)]


@click.command(context_settings=HELP)
@click.argument("topic", required=False, shell_complete=_complete_topic)
@click.option("--markdown", is_flag=True, help="Print the page as it is written.")
def docs(topic: str | None, markdown: bool) -> None:
    """List the pages of the documentation, or show that of TOPIC."""
    from wconv.cli.pages import page, rendered, topics

    if topic is None:
        known = topics()
        width = max(map(len, known))
        print_lines(f"{name:{width}}  {title}" for name, title in known.items())
    elif markdown:
        click.echo(page(topic), nl=False)
    elif sys.stdout.isatty():
        click.echo_via_pager("\n".join(rendered(page(topic))) + "\n", color=True)
    else:
        click.echo("\n".join(rendered(page(topic))))

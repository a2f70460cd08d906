"""`wconv rules [MODEL_TYPE]`."""

from __future__ import annotations

import click

from wconv.cli.options import HELP
from wconv.cli.text import print_lines


@click.command(context_settings=HELP)
@click.argument("model_type", required=False)
@click.option(
    "--layout", default="auto", show_default=True, help="The consumer, for models with several tables."
)
def rules(model_type: str | None, layout: str) -> None:
    """List the models that have rules; print those of MODEL_TYPE as a file that --rules takes."""
    from wconv.consumers import layout_choice, registry
    from wconv.layouts.file.rules_file import write

    if model_type is None:
        rows = list(layout_choice.describe())
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        print_lines(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows)
        return
    table = layout_choice.layout_of_model_type(model_type, layout)
    click.echo(write(table), nl=False)
    readers = {one.name for one in registry.quantizing()}
    for consumer in (name for name in table.consumers if name in readers):
        from wconv.consumers.quantization.choice import own_rules

        lines = [f"#   {line}" for line in own_rules(consumer, model_type)]
        if lines:
            click.echo(f"\n# What -q does by itself for {consumer}; rules under quantize go before it:")
            print_lines(lines)

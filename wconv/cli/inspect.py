"""`wconv inspect SOURCE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wconv.cli.options import HELP, PATH, SOURCE, located
from wconv.cli.text import print_json, print_lines
from wconv.errors import FormatError, OutputError
from wconv.wording import gigabytes

if TYPE_CHECKING:
    from wconv.checkpoints.checkpoint import Checkpoint


@click.command(context_settings=HELP)
@click.argument("source", type=SOURCE)
@click.option("--key", metavar="PATH", help="Where the state dict lies in a wrapped PyTorch checkpoint.")
@click.option("--allow-inflation", is_flag=True, help="Allow tensors far larger than their file.")
@click.option("--expand", is_flag=True, hidden=True)
@click.option("--flat", is_flag=True, help="A line for each tensor: blocks that repeat are not joined.")
@click.option("--grep", metavar="REGEX", help="Show only tensors whose name matches.")
@click.option("--summary", is_flag=True, help="Show no tensors.")
@click.option("--stats", "with_stats", is_flag=True, help="Read the data: extremes, mean, NaN, overflows.")
@click.option("--html", "html", type=PATH, metavar="FILE", help="Write a page for the browser instead.")
@click.option("--revision", metavar="NAME", help="Of a model of the hub: a branch, tag or commit.")
@click.option("--token", metavar="TOKEN", help="For the hub, in place of HF_TOKEN.")
@click.option("--for", "program", type=click.Choice(["mlx"]), help="Of whole modules: what MLX has of them.")
@click.option("--stub", type=PATH, metavar="FILE.py", help="Write a skeleton of whole modules for mlx.nn.")
@click.option("-j", "--jobs", type=click.IntRange(1, 1_000_000), help="Threads; by default the cores.")
@click.option("--json", "as_json", is_flag=True, help="Print plain data for programs.")
def inspect(
    source: str,
    revision: str | None,
    token: str | None,
    key: str | None,
    allow_inflation: bool,
    expand: bool,
    flat: bool,
    grep: str | None,
    summary: bool,
    with_stats: bool,
    html: Path | None,
    program: str | None,
    stub: Path | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Show what is in SOURCE: its tensors' names, dtypes and shapes, and what else the files say.

    Tensors of one dtype and shape whose names differ in numbers only are one line. Nothing is read of the
    tensors unless --stats asks for it.
    """
    from wconv import opening
    from wconv.examine.inspect import lines, to_dict
    from wconv.examine.stats import stats

    place = located(source, revision, token)
    opened = opening.open(place, key=key, allow_inflation=allow_inflation or expand, skip_unreadable=True)
    if program is not None or stub is not None:
        _show_portability(opened, stub, as_json=as_json)
        return
    wanted = None
    if grep is not None:
        from wconv.layouts.name_filter import NameFilter

        wanted = NameFilter(grep, "--grep").matching(tuple(opened))
    found = None
    if with_stats:
        shown = {name: tensor for name, tensor in opened.items() if wanted is None or name in wanted}
        found = stats(shown, jobs=jobs, histograms=html is not None)
    if html is not None:
        from wconv.examine.inspect import plain
        from wconv.examine.page import page

        made = page.make_page(
            opened,
            place,
            key=key,
            allow_inflation=allow_inflation or expand,
            found=found,
            metadata=plain(opened.metadata),
        )
        page.write(html, made, opened)
        if as_json:
            print_json({"page": str(html), "bytes": len(made)})
        else:
            print_lines([f"{html}: {gigabytes(len(made))}; open it in a browser"])
        return
    if as_json:
        print_json(to_dict(opened, wanted=wanted, found=found))
    else:
        print_lines(lines(opened, flat=flat, summary=summary, wanted=wanted, found=found))


def _show_portability(opened: Checkpoint, stub: Path | None, *, as_json: bool) -> None:
    """Prints how much of a model mlx.nn has, and writes a skeleton of it where that was asked for."""
    from wconv.consumers.mlx_nn.portability import portability

    if not opened.modules:
        raise FormatError(f"{opened.path} names no modules: only a whole nn.Module and TorchScript do")
    found = portability(opened.tensors, opened.modules)
    if stub is not None:
        from wconv.consumers.mlx_nn.stub import stub as written

        text = written(opened.tensors, opened.modules)
        try:
            with stub.open("x", encoding="ascii") as file:
                file.write(text)
        except FileExistsError:
            raise OutputError(f"{stub} exists already: choose another file") from None
        except OSError as error:
            raise OutputError(f"{stub} cannot be written: {error.strerror}") from None
    if as_json:
        print_json({**found.to_dict(), **({"stub": str(stub)} if stub is not None else {})})
    else:
        print_lines([f"{opened.path}: {opened.format}", *found.lines()])
        if stub is not None:
            print_lines([f"{stub}: make_model() makes it; what raises NotImplementedError is to be written"])

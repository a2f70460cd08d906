"""The page as one file: its parts put together, with a policy that lets nothing else in or out."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import zlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from wconv import __version__
from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers.layout_choice import choose_layout
from wconv.conversion.options import ConvertOptions
from wconv.conversion.planned import Conversion
from wconv.conversion.prepare import plan
from wconv.conversion.quantize import sizes_of
from wconv.errors import OutputError, WconvError, called, one_line
from wconv.examine import statements
from wconv.examine.page.data import Target, collect
from wconv.examine.page.pickles import pickled
from wconv.examine.stats import Stats
from wconv.layouts.apply import Layout
from wconv.layouts.rule import Rule
from wconv.layouts.trace import rules_of
from wconv.quantized.names import recognise
from wconv.stores.files import replacing

SCRIPTS = ("base", "model", "fold", "tree", "treemap", "draw", "detail", "overview", "main")
"""The page's scripts, in the order in which they need each other; they are one in the file."""


def write(path: Path, page: bytes, opened: Checkpoint) -> None:
    """Puts a page in its place.

    Raises:
        OutputError: that is a file of the checkpoint, or cannot be written.
    """
    where = path.resolve()
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"--html {path}: name a file that ends in .html")
    if any(os.path.realpath(file) == str(where) for file in opened.files):
        raise OutputError(f"--html {path} is a file of the source: choose another name")
    with replacing(path) as file:
        file.write(page)


def make_page(
    opened: Checkpoint,
    source: str | os.PathLike[str],
    *,
    key: str | None = None,
    allow_inflation: bool = False,
    found: Mapping[str, Stats] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """The page of a checkpoint.

    Args:
        source: what was opened, as it was named: it is planned as a conversion, too.
        key, allow_inflation: with which it was opened.
        found: statistics of its tensors, where they were asked for.
        metadata: what else its files say, as plain data.
    """
    recognised = recognise(opened.tensors, opened.description)
    facts = [one.to_dict() for one in statements.statements(opened, recognised)]
    loaders = [one.to_dict() for one in statements.loading(opened, recognised)]
    options = ConvertOptions(key=key, allow_inflation=allow_inflation, skip_unreadable=True)
    target = _target(source, options)
    data = collect(opened, facts, loaders, target, pickled(opened.files), found, metadata)
    return render(data)


def _target(source: str | os.PathLike[str], options: ConvertOptions) -> Target:
    """What a conversion without further options would write of the source."""
    try:
        conversion = plan(source, None, options)
    except WconvError as error:
        return Target(refusal=str(error))
    return Target(conversion, "", _rules(conversion), _sizes(conversion))


def _table(conversion: Conversion) -> Layout | None:
    checkpoint = conversion.checkpoint
    if conversion.report.layout is None:
        return None
    return choose_layout("auto", checkpoint.description, checkpoint.tensors)


def _rules(conversion: Conversion) -> dict[str, tuple[Rule, ...]]:
    table, checkpoint = _table(conversion), conversion.checkpoint
    if table is None:
        return {}
    try:
        return rules_of(table, checkpoint.tensors, checkpoint.description)
    except WconvError:  # of weights that are decoded first, the names that the rules see are others
        return {}


def _sizes(conversion: Conversion) -> dict[str, int]:
    """What the model would take by each of a few recipes, where its program reads quantized models."""
    from wconv.consumers import pipelines, registry
    from wconv.consumers.quantization.recipes import Quantize

    consumer = conversion.report.layout
    if consumer is None or consumer not in {one.name for one in registry.quantizing()}:
        return {}
    config = conversion.config or conversion.checkpoint.config or {}
    model_type = pipelines.place_of(consumer, _table(conversion)) or str(config.get("model_type", ""))
    tensors = {entry.name: (entry.shape, entry.dtype.name) for entry in conversion.plan.entries}
    try:
        return sizes_of(tensors, consumer, model_type, config, Quantize())
    except WconvError:
        return {}


def render(data: Mapping[str, Any]) -> bytes:
    """The file: template, style and scripts of the package around the data.

    The data is deflated JSON in base64, whose letters are no markup. The policy names the one style
    and the one script by their digests: whatever a model's names hold, nothing else runs, and nothing is
    fetched.
    """
    style = _part("page.css")
    script = '(() => {\n"use strict";\n' + "\n".join(_part(f"{name}.js") for name in SCRIPTS) + "})();\n"
    text = called(json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
    packed = base64.b64encode(zlib.compress(text.encode("utf-8", "surrogatepass"), 9)).decode()
    parts = {
        "script-hash": _digest(script),
        "style-hash": _digest(style),
        "version": __version__,
        "title": html.escape(one_line(f"{data['title']} · wconv inspect")),
        "style": style,
        "data": packed,
        "script": script,
    }
    # split first: no part is looked through for the marks of others
    pieces = _part("page.html").split("{{")
    made = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        made += [parts[name], rest]
    return "".join(made).encode()


def _part(name: str) -> str:
    return resources.files("wconv.examine.page").joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

"""mflux's image models: tables read off its own loader, `python -m tests.derive mflux [MODEL …]`.

Each component's loader is run on tensors of different integers under every name that it reads. What the
loader makes of them is followed element by element, and written as a rules file:
`wconv/consumers/mflux/tables/MODEL.COMPONENT.toml`. A table that a person wrote stays; both are compared
with the loader, and a component that the table of another already serves has none of its own.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.derive import fixtures, induce, mflux_models, mflux_parts, mflux_proof, names, plain_rules
from tests.derive.induction import Traced
from tests.derive.mflux_parts import Part, Shape
from tests.derive.mflux_rows import (
    BACK,
    CHANNELS,
    KINDS,
    RECOGNISED,
    REMARKS,
    SHARED,
    TEXT_UNREAD,
    UNREAD,
    WITHOUT,
)
from tests.derive.names import UnlikeError, keep_numbers
from tests.derive.trace import Origin, UntraceableError, traced
from wconv.consumers import table_files
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout
from wconv.layouts.file.rules_file import parse, write
from wconv.layouts.patterns import written_out
from wconv.layouts.rules import (
    DropRule,
    KeepDtypeRule,
    RenameRule,
    ReshapeRule,
    Rule,
    TransposeRule,
)

MOVED = re.compile(r"no order of renamings takes (\S+) to ")
MOST_NUMBERS = 60
"""Places in names whose numbers are kept, one after the other, where they tell things apart."""

MOST_LAYERS = 64
"""Layers that a text encoder may have beyond those that mflux reads."""

NOT_READ = "mflux does not read it"
COMMAND = "mflux, as a component of a model: {model}"


@dataclass(frozen=True)
class Found:
    """What came of a component: its table, or why there is none."""

    name: str
    layout: Layout | None = None
    why: str = ""


def derive(part: Part) -> Found:
    """The table of one component."""
    names.LITERAL.clear()
    try:
        for _ in range(MOST_NUMBERS):
            try:
                return Found(part.name, _derived(part))
            except UnlikeError as error:
                kept = [keep_numbers(one) for one in written_out(error.pattern)]
                if True not in kept:
                    raise UntraceableError(str(error)) from None
            except UntraceableError as error:
                moved = MOVED.search(str(error))
                if moved is None or not keep_numbers(names.general(moved[1])):
                    raise
    except (UntraceableError, LayoutError, ValueError, KeyError) as error:
        return Found(part.name, why=f"{type(error).__name__}: {error}"[:200])
    return Found(part.name, why="too many numbers in names mean too many things")


def _derived(part: Part) -> Layout:
    shapes = mflux_parts.source(part)
    origins = traced(shapes, lambda weights: mflux_parts.loaded(part, weights))
    bad = next((f"{name}: {one}" for name, one in origins.items() if isinstance(one, str)), None)
    if bad is not None:
        raise UntraceableError(bad)
    good = {name: one for name, one in origins.items() if isinstance(one, Origin)}
    final = final_shapes(part, shapes)
    rules = induce.rules([Traced(shapes, good, final, {}, {})])
    rules = [_told(part, rule) for rule in rules]
    if part.name in CHANNELS:
        rules = list(_with_channels(rules, *CHANNELS[part.name]))
    drops: list[Rule] = [DropRule(one, NOT_READ) for one in left_out(part, shapes)]
    casts = _casts(part)
    kept: list[Rule] = [KeepDtypeRule("**.weight_scale")] if any("_scale" in one for one in shapes) else []
    table = table_files.component("mflux", "flux.vae")
    return Layout(
        ("mflux",),
        KINDS.get(part.name, ()),
        plain_rules.known_names(list(final), {}),
        (*drops, *rules, *kept),
        spellings(part, shapes),
        RECOGNISED.get(part.name, ()),
        command=COMMAND,
        form=table.form,
        casts=casts,
        derived_from={"mflux": importlib.metadata.version("mflux")},
    )


def _told(part: Part, rule: Rule) -> Rule:
    """A rule with what no trace shows: the shape that there was."""
    if isinstance(rule, ReshapeRule) and rule.source in BACK and part.component.name == "transformer":
        return replace(rule, back=BACK[rule.source])
    return rule


def _with_channels(rules: Sequence[Rule], name: str, channels: int) -> Iterator[Rule]:
    """The rules, with one for a single convolution that tells the order of axes by its channels."""
    for rule in rules:
        if not isinstance(rule, TransposeRule) or not rule.pattern.fits(name):
            yield rule
            continue
        for pattern in written_out(rule.source):
            yield replace(rule, source=pattern, last=channels if pattern == name else None)


def spellings(part: Part, shapes: Mapping[str, Shape]) -> tuple[Rule, ...]:
    """Rules from other beginnings of names, which a loader takes as well, to those of the checkpoint."""
    words = mflux_parts.prefixes(part)
    pairs = {name: mflux_parts.passes(part.component, name) for name in shapes}
    start = next((one for one in words if all(name.startswith(one) for name in shapes)), "")
    found: list[Rule] = []
    for other in words:
        renamed = {other + name.removeprefix(start): wanted for name, wanted in pairs.items()}
        taken = all(mflux_parts.passes(part.component, name) == wanted for name, wanted in renamed.items())
        if other != start and taken and not start.startswith(other):
            found.append(RenameRule(f"{other}**", f"{start}**"))
    return tuple(found)


def _casts(part: Part) -> dict[str, str]:
    """dtype → dtype that the loader makes of it."""
    import mlx.core as mx

    shapes = mflux_parts.source(part)
    found = {}
    for dtype in ("float32", "float16", "bfloat16"):
        arrays = {one: mx.zeros(shape, getattr(mx, dtype)) for one, shape in shapes.items()}
        loaded = mflux_parts.loaded(part, arrays, cast=True)
        made = {
            str(array.dtype).removeprefix("mlx.core.") for key, array in loaded.items() if "_scale" not in key
        }
        assert len(made) == 1, (part.name, made)
        if made != {dtype}:
            found[dtype] = made.pop()
    if "float32" in found:
        found["float64"] = found["float32"]
    return found


def final_shapes(part: Part, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shape of everything that the loader makes."""
    import mlx.core as mx

    made = mflux_parts.loaded(part, {name: mx.zeros(one) for name, one in shapes.items()})
    return {name: tuple(array.shape) for name, array in made.items()}


def left_out(part: Part, shapes: Mapping[str, Shape]) -> Iterator[str]:
    """Patterns of tensors that repositories have beside those that mflux reads of a component."""
    import mlx.core as mx

    arrays = {name: mx.zeros(shape) for name, shape in shapes.items()}
    expected = mflux_parts.loaded(part, arrays).keys()
    for pattern in UNREAD.get(part.name, TEXT_UNREAD if part.component.name == "text_encoder" else ()):
        name = pattern.replace("**", "x.weight").replace("#", "0")
        if any(one.startswith(pattern.removesuffix("**")) for one in shapes):
            continue
        with_it = mflux_parts.loaded(part, {**arrays, name: mx.zeros((2, 2))}).keys()
        assert with_it == expected, (part.name, name)
        yield pattern
    yield from _layers_beyond(part, shapes)


def _layers_beyond(part: Part, shapes: Mapping[str, Shape]) -> Iterator[str]:
    """A pattern of the layers that a loader leaves out by their number."""
    if part.component.key_transform is None:
        return
    starts = {one.split(".layers.")[0] + ".layers" for one in shapes if ".layers." in one}
    for start in sorted(starts):
        last = f"{start}.0.input_layernorm.weight"
        if last not in shapes:
            continue
        gone = [
            number
            for number in range(MOST_LAYERS)
            if part.component.key_transform(last.replace(".0.", f".{number}.")) is None
        ]
        if gone:
            yield f"{start}.({'|'.join(map(str, gone))}).**"


def folder() -> Path:
    return Path(table_files.__file__).parent / "mflux" / "tables"


def written(name: str) -> Layout | None:
    """The table of a component that a person wrote, or that is another component's."""
    other = SHARED.get(name, name)
    found = name_of_file(other)
    if found is None:
        return None
    layout = table_files.component("mflux", other)
    return layout if other != name or not layout.derived_from else None


def name_of_file(name: str) -> Path | None:
    path = folder() / f"{name}.toml"
    return path if path.exists() else None


def row(part: Part) -> dict[str, Any]:
    """What is kept of a component: its kind, its table, and how that compares; writes a derived table."""
    if (layout := written(part.name)) is not None:
        kind = "derived" if layout.derived_from else "written"
        return {"kind": kind, "table": SHARED.get(part.name, part.name), **mflux_proof.compare(part, layout)}
    found = derive(part)
    path = folder() / f"{part.name}.toml"
    if found.layout is None:
        path.unlink(missing_ok=True)
        return {"kind": "not possible", "why": found.why}
    compared = mflux_proof.compare(part, found.layout)
    if any(compared.get(one) != "same" for one in mflux_proof.DTYPES):
        path.unlink(missing_ok=True)
        return {"kind": "not possible", "why": str(compared)[:200]}
    body = write(found.layout)
    assert parse(body) == found.layout
    path.write_text(body)
    table_files.component.cache_clear()
    moves = any(rule.targets or rule.verb not in ("drop", "keep_dtype") for rule in found.layout.rules)
    return {"kind": "derived" if moves else "passes unchanged", "table": part.name, **compared}


def main(arguments: list[str]) -> int:
    """Derives and compares the models named, or all; keeps what was found."""
    kept = fixtures.load("mflux") if arguments else {}
    for model in arguments or list(mflux_models.MODELS):
        for part in mflux_parts.parts(model):
            kept[part.name] = {**row(part), **({"why": REMARKS[part.name]} if part.name in REMARKS else {})}
            print(part.name, kept[part.name], flush=True)
    kept.update({name: {"kind": "not possible", "why": why} for name, why in WITHOUT.items()})
    fixtures.keep("mflux", ("mflux", "mlx"), kept)
    return 0

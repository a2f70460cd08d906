"""Derived tables as files of the package."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

from tests.derive.deriving import Derived
from tests.derive.programs import Program
from tests.derive.sources import Source
from wconv.consumers import registry, table_files
from wconv.layouts.apply import Layout
from wconv.layouts.file.rules_file import parse, write

PACKAGE = Path(__file__).parents[2] / "wconv" / "consumers"


def folder(prog: Program) -> Path:
    return PACKAGE / prog.name.replace("-", "_") / "tables"


def written(program: str, model_type: str) -> Layout | None:
    """The table that a person wrote for a model type of a program, or of another that serves it too."""
    consumers = sorted(registry.with_role("automatic"), key=lambda one: one.name != program)
    for one in consumers:
        layout = table_files.find(one.table_folder, model_type.lower()) if one.table_folder else None
        if layout is not None and not layout.derived_from and program in layout.consumers:
            return layout
    return None


def is_own(prog: Program, model_type: str) -> bool:
    """Whether a person wrote the program's own table of a model type."""
    layout = table_files.find(folder(prog).parent.name, model_type.lower())
    return layout is not None and not layout.derived_from


def derived_from(prog: Program, source: Source) -> dict[str, str]:
    """The programs that a table comes from, with their versions."""
    names = (prog.name, *(("transformers",) if source.kind.startswith("transformers") else ()))
    return {name: importlib.metadata.version(name) for name in names}


def text(prog: Program, derived: Derived) -> str:
    """A table as a rules file, with what it was derived from.

    Raises:
        LayoutError: a rule has no form in a rules file.
    """
    assert derived.layout is not None
    assert derived.source is not None
    layout = replace(derived.layout, derived_from=derived_from(prog, derived.source))
    if derived.source.kind.startswith("transformers"):
        how = derived.source.kind.removeprefix("transformers")
        said = f"# Names of checkpoints: as transformers saves them{how}."
    else:
        said = f"# Names of checkpoints: {prog.name}'s own, turned back as far as its sanitize undoes that."
    body = write(layout)
    assert parse(body) == layout
    return "\n".join([said, "", body])


def write_all(prog: Program, found: list[Derived]) -> list[Path]:
    """Writes a file for each table, and one for each other model type that the same module serves.

    What a person wrote stays. Where such a table of another program serves this one too, the derived one
    tells checkpoints that are laid out for this program alone.
    """
    to = folder(prog)
    to.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    bodies: dict[str, str] = {}
    for derived in found:
        name = derived.model_type.lower()
        if is_own(prog, name):
            continue
        if derived.layout is None:
            (to / f"{name}.toml").unlink(missing_ok=True)
            continue
        body = text(prog, replace(derived, layout=replace(derived.layout, model_types=(name,))))
        path = to / f"{name}.toml"
        plain = body.replace(f'model_types = ["{name}"]\n', "")
        if plain in bodies:
            path.write_text(f'same_as = "{bodies[plain]}"\n')
        else:
            bodies[plain] = name
            path.write_text(body)
        paths.append(path)
    for other, module in prog.remapped().items():
        path = to / f"{other.lower()}.toml"
        if other == module or is_own(prog, other) or is_own(prog, module):
            continue
        if (to / f"{module.lower()}.toml").exists() and path not in paths:
            first = (to / f"{module.lower()}.toml").read_text()
            path.write_text(first if first.startswith("same_as") else f'same_as = "{module.lower()}"\n')
            paths.append(path)
    return paths

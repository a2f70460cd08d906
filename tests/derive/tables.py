"""Derived tables as files of the package."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

from tests.derive.deriving import Derived
from tests.derive.programs import Program
from wconv.layouts.rules_file import parse, write

PACKAGE = Path(__file__).parents[2] / "wconv" / "consumers"


def folder(prog: Program) -> Path:
    return PACKAGE / prog.name.replace("-", "_") / "tables"


def text(prog: Program, derived: Derived) -> str:
    """A table as a rules file, with what it was derived from.

    Raises:
        LayoutError: a rule has no form in a rules file.
    """
    assert derived.layout is not None
    assert derived.source is not None
    lines = [
        f"# Derived from {prog.name} {prog.version}: what its sanitize does, followed element by element."
    ]
    if derived.source.kind.startswith("transformers"):
        how = derived.source.kind.removeprefix("transformers")
        version = importlib.metadata.version("transformers")
        lines.append(f"# Names of checkpoints: as transformers {version} saves them{how}.")
    else:
        lines.append(
            f"# Names of checkpoints: {prog.name}'s own, turned back as far as its sanitize undoes that."
        )
    body = write(derived.layout)
    assert parse(body) == derived.layout
    return "\n".join([*lines, "", body])


def write_all(prog: Program, found: list[Derived]) -> list[Path]:
    """Writes a file for each table, and one for each other model type that the same module serves."""
    to = folder(prog)
    to.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    bodies: dict[str, str] = {}
    for derived in found:
        name = derived.model_type.lower()
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
        written.append(path)
    for other, module in prog.remapped().items():
        path = to / f"{other.lower()}.toml"
        if (to / f"{module.lower()}.toml").exists() and path not in written:
            first = (to / f"{module.lower()}.toml").read_text()
            path.write_text(first if first.startswith("same_as") else f'same_as = "{module.lower()}"\n')
            written.append(path)
    return written

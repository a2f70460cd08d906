"""The tiny checkpoints that tables were derived from, kept: names, shapes and the config, by model type."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from tests.derive.programs import Program

FOLDER = Path(__file__).parents[2] / "fixtures" / "derived"


def path(program: str) -> Path:
    return FOLDER / f"{program.replace('-', '_')}.json.gz"


def load(program: str) -> dict[str, Any]:
    """By model type: `kind`, `why`; for a table its checkpoint, and what was compared."""
    rows: dict[str, Any] = _content(program).get("rows", {})
    return rows


def versions(program: str) -> dict[str, str]:
    """The versions that a program's tables were derived from."""
    found: dict[str, str] = _content(program).get("versions", {})
    return found


def _content(program: str) -> dict[str, Any]:
    if not path(program).exists():
        return {}
    content: dict[str, Any] = json.loads(gzip.decompress(path(program).read_bytes()))
    return content


def save(prog: Program, rows: dict[str, Any]) -> None:
    """Writes them, the same bytes for the same content."""
    keep(prog.name, (prog.name, "transformers", "mlx"), rows)


def keep(program: str, names: tuple[str, ...], rows: dict[str, Any]) -> None:
    """Writes a program's rows, with the versions of what they were found with."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    content = {"versions": {name: importlib.metadata.version(name) for name in names}, "rows": rows}
    text = json.dumps(content, sort_keys=True, default=str, separators=(",", ":"))
    path(program).write_bytes(gzip.compress(text.encode(), 9, mtime=0))

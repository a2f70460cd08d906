"""Tables of what was compared with torch: each is written by its test, as `tests/shim/tables/NAME.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("tables")


def read(name: str) -> Any:
    """A table: `versions` by program, and its `rows`."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def write(name: str, versions: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """Writes a table, a row to a line."""
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    text = f'{{"versions": {json.dumps(versions)},\n"rows": [\n{lines}\n]}}\n'
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")

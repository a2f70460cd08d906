"""Writes expected.json, what torch 2.13 does with every row: `python -m tests.shim.record`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.shim.conformance import TABLE
from tests.shim.observe import observe

EXPECTED = Path(__file__).with_name("expected.json")


def main() -> None:
    import torch

    lines = [
        f"{json.dumps(row.name)}: {json.dumps(observe(torch, row), separators=(',', ':'))}" for row in TABLE
    ]
    EXPECTED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

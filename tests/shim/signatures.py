"""Writes signatures.json, what torch's functions take by its stubs: `python -m tests.shim.signatures`."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

EXPECTED = Path(__file__).with_name("signatures.json")


def offered() -> list[str]:
    """The functions that `wconv.torch` offers under torch's names."""
    from wconv.torch.methods import gathered

    return sorted(name for name, each in gathered().items() if callable(each) and not isinstance(each, type))


def parameters(function: ast.FunctionDef) -> dict[str, Any]:
    """Names and, where they are plain, defaults; "…" for what has none or another."""
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    missing: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults))
    pairs = list(zip(plain, [*missing, *arguments.defaults], strict=True))
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    return {argument.arg: _plain(default) for argument, default in pairs}


def _plain(default: ast.expr | None) -> Any:
    try:
        return "…" if default is None else ast.literal_eval(default)
    except ValueError:
        return "…"


def main() -> None:
    import torch

    stub = Path(torch.__file__).with_name("_C") / "_VariableFunctions.pyi"
    found: dict[str, list[dict[str, Any]]] = {}
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(parameters(node))
    lines = [f"{json.dumps(name)}: {json.dumps(found[name])}" for name in offered() if name in found]
    EXPECTED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

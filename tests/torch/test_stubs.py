"""Type checkers see what `wconv.torch` offers: the stub says what the functions say, and all of it is there.

Covers `torch/`.
"""

from __future__ import annotations

import ast

import wconv.torch as shim
from tests.shim import stubs


def test_the_stub_is_up_to_date() -> None:
    written = ast.parse(stubs.STUB.read_text(encoding="utf-8"))
    assert ast.dump(written) == ast.dump(ast.parse(stubs.text())), "run python -m tests.shim.stubs"


def test_every_name_of_the_stub_is_there() -> None:
    for node in ast.parse(stubs.STUB.read_text(encoding="utf-8")).body:
        name = getattr(node, "name", None) or (node.target.id if isinstance(node, ast.AnnAssign) else None)
        if name is not None and name != "__getattr__":
            assert hasattr(shim, name), name

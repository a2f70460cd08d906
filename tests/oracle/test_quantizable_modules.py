"""What the consumers' models are built of: their sources name the modules that have no quantized form."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle.test_quantization_tables import PACKAGES, TABLES, models
from tests.oracles import oracle
from wconv.consumers.quantization.choice import NORM
from wconv.consumers.quantization.modules import STACKS

pytestmark = pytest.mark.oracle

ELSEWHERE = {"mistral3", "mistral4"}
"""Models whose sources import a router that they do not use."""

FLAT = re.compile(r"mx\.(ones|zeros)\(\(?[^,()]+(\([^()]*\))?[^,()]*,?\)?\)")
"""A weight of one dimension, as sources make it."""

OTHER = {"bitnet", "moge3", "sapiens2"}
"""Models with 2-bit weights already, or whose own modules are convolutions."""


@pytest.mark.parametrize("consumer", PACKAGES)
def test_modules_without_a_quantized_form_have_a_row(consumer: str) -> None:
    wrong, seen = [], 0
    for name, module in models(PACKAGES[consumer]):
        for attribute, made in parts(module.Model, PACKAGES[consumer]):
            seen += 1
            is_stack = made.__name__ in ("SwitchLinear", "MultiLinear")
            if is_stack and attribute not in STACKS:
                wrong.append(f"{name}: {attribute} is a stack")
            if attribute in STACKS and "Conv" in made.__name__:
                wrong.append(f"{name}: {attribute} is a convolution")
            if own_weight(made) and not known(consumer, name, attribute):
                wrong.append(f"{name}: {attribute} is {made.__name__}: {own_weight(made)}")
    assert not wrong, "\n".join(wrong)
    assert seen > 2000


def known(consumer: str, name: str, attribute: str) -> bool:
    table = TABLES[consumer]
    return bool(
        (attribute == "gate" and name in table.plain_gates)
        or name in ELSEWHERE | OTHER
        or name in table.plain_modules
        or NORM.search(attribute)
        or any(part in attribute for part in TABLES["mlx-vlm"].skipped)
        or attribute in ("pos_emb", "patch_embedding", "conv_1d")
    )


def parts(model: type, package: str) -> Iterator[tuple[str, type]]:
    """Attributes that a model's classes give themselves, and the classes of modules in them."""
    todo, done = [model], set()
    while todo:
        one = todo.pop()
        if one in done:
            continue
        done.add(one)
        for attribute, made in assigned(one, package):
            yield attribute, made
            if made.__module__.startswith(package):
                todo.append(made)


@functools.cache
def assigned(one: type, package: str) -> list[tuple[str, type]]:
    found = []
    base = oracle("mlx.nn").Module
    for kind in one.__mro__:
        if not kind.__module__.startswith(package):
            continue
        names = vars(sys.modules[kind.__module__])
        for node in ast.walk(source(kind)):
            if not isinstance(node, ast.Assign):
                continue
            used = [names.get(part.id) for part in ast.walk(node.value) if isinstance(part, ast.Name)]
            used += [
                getattr(names.get(part.value.id), part.attr, None)
                for part in ast.walk(node.value)
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name)
            ]
            found += [
                (target.attr, made)
                for target in node.targets
                if isinstance(target, ast.Attribute)
                for made in used
                if inspect.isclass(made) and issubclass(made, base)
            ]
    return found


def source(kind: type) -> ast.AST:
    """The tree of a class; a file is read once, while `inspect.getsource` reads it for every class."""
    return classes(inspect.getfile(kind))[kind.__qualname__]


@functools.cache
def classes(file: str) -> dict[str, ast.ClassDef]:
    """The classes of a file by their qualified names, the last one of a name as when the file is run."""
    found: dict[str, ast.ClassDef] = {}

    def visit(node: ast.AST, above: str) -> None:
        for child in ast.iter_child_nodes(node):
            within = above
            if isinstance(child, ast.ClassDef):
                found[f"{above}{child.name}"] = child
                within = f"{above}{child.name}."
            elif isinstance(child, ast.FunctionDef):
                within = f"{above}{child.name}.<locals>."
            visit(child, within)

    visit(ast.parse(Path(file).read_text()), "")
    return found


@functools.cache
def own_weight(made: type) -> str | None:
    """How a module without a quantized form makes its own weight of more than one dimension."""
    if hasattr(made, "to_quantized") or made.__module__.startswith("mlx.nn"):
        return None
    for node in ast.walk(source(made)):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.weight":
            text = ast.unparse(node.value)
            return None if FLAT.fullmatch(text) else text
    return None

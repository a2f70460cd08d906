"""How a tiny config may differ in one field: what shapes are learned from."""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.derive.programs import Program, own_config
from wconv.consumers.shapes import ABSENT, kind_of, lookup

Config = dict[str, Any]

IDLE = re.compile(
    r".*(token_id|token_ids|token_index|_eps|epsilon|dropout|theta|dtype|initializer.*|use_cache|name_or_path"
    r"|architectures|transformers_version|max_position_embeddings|id2label|label2id|rope_scaling|rope_parameters"
    r"|quantization|quantization_config)"
)
"""Fields that say nothing of shapes, or are not varied."""

MEMBERS = 8
"""Lists of numbers up to this length are fields each."""

LITERALS = 20
"""Strings of the program's code that a field is tried with."""


@dataclass(frozen=True)
class Change:
    """Another value for a field; ABSENT takes it away."""

    path: str
    value: Any

    @property
    def kind(self) -> Any:
        return kind_of(self.value)

    def applied(self, config: Config) -> Config:
        """The config with it; lists with a member for each layer follow the number of layers."""
        result = copy.deepcopy(config)
        *parts, last = self.path.split(".")
        inner: Any = result
        for part in parts:
            inner = inner[int(part)] if isinstance(inner, list) else inner.setdefault(part, {})
        if isinstance(inner, list):
            inner[int(last)] = self.value
            return result
        old = inner.get(last)
        if self.value is ABSENT:
            inner.pop(last, None)
        else:
            inner[last] = copy.deepcopy(self.value)
        if type(old) is int and type(self.value) is int and self.value > 0 and re.search("layer|depth", last):
            for key, value in inner.items():
                if isinstance(value, list) and len(value) == old and value:
                    inner[key] = [value[at % old] for at in range(self.value)]
        return result


def leaves(config: Any, prefix: str = "", lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Every field that is no part of its own, by its path; short lists of numbers by their members."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        if "." in str(key) or not isinstance(key, str):
            continue
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.", lists)
        else:
            yield path, value
            if isinstance(value, list) and 0 < len(value) <= MEMBERS and not lists:
                for at, member in enumerate(value):
                    if isinstance(member, Mapping):
                        yield from leaves(member, f"{path}.{at}.", lists)
                    elif type(member) is int:
                        yield f"{path}.{at}", member


def changes(prog: Program, model_type: str, config: Config) -> Iterator[Change]:
    """The changes that are tried, each alone."""
    words, literals, asked = source(prog, model_type)
    present = dict(leaves(config))
    for path, value in present.items():
        key = next(part for part in reversed(path.split(".")) if not part.isdecimal())
        if key not in words or IDLE.fullmatch(key):
            continue
        for other in alternatives(key, value, literals) if path != "model_type" else ():
            yield Change(path, other)
        if not path.rpartition(".")[2].isdecimal() and path != "model_type":
            yield Change(path, ABSENT)
            if value is not None:
                yield Change(path, None)
    for path, value in absent(prog, model_type, config, asked).items():
        key = path.rpartition(".")[2]
        if path in present or key not in words or IDLE.fullmatch(key):
            continue
        for other in (value,) if value is not None else ():
            yield Change(path, other)
        for other in alternatives(key, value, literals):
            yield Change(path, other)


def alternatives(key: str, value: Any, literals: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        numbers = (2 * value, 4 * value, 3 * value, value + 1, 0, 1) if value else (1, 2, 4, 16)
        yield from dict.fromkeys(one for one in numbers if one >= 0 and one != value)
    elif isinstance(value, float):
        yield from (value * 2, value / 2) if value else (0.5, 1.0)
    elif isinstance(value, str):
        yield from (one for one in literals if one != value)
    elif value is None:
        yield from (True, 16)
    elif (
        isinstance(value, list)
        and value
        and all(isinstance(one, str | bool) or type(one) is int for one in value)
    ):
        kinds = list(dict.fromkeys(value))
        for at in range(min(len(value), 4)):
            for kind in kinds:
                if value[at] != kind:
                    yield [*value[:at], kind, *value[at + 1 :]]
        yield list(reversed(value))
        yield [value[0]] * len(value)
        yield [value[-1]] * len(value)
        if all(type(one) is int for one in value):
            yield [*value, value[-1]]
    elif isinstance(value, list) and not value:
        yield from ([0], [1], [0, 1])


def absent(prog: Program, model_type: str, config: Config, asked: set[str]) -> dict[str, Any]:
    """Fields that the program knows and a config does not have, with values that they could have."""
    try:
        own = dict(leaves(own_config(prog, model_type)))
    except (Exception, SystemExit):
        own = {}
    result: dict[str, Any] = {}
    parts = [key for key, value in config.items() if isinstance(value, dict) and key.endswith("config")]
    for path, value in own.items():
        if "." not in path or path.partition(".")[0] in config:
            result[path] = value
    for part in parts:
        if part in ("text_config", "llm_config"):
            for key, value in config[part].items():
                if type(value) is int and key not in config:
                    result.setdefault(key, value * 2)
    for key in sorted(asked):
        for place in ("", *(f"{part}." for part in parts if part in ("text_config", "llm_config"))):
            result.setdefault(f"{place}{key}", None)
    return {path: value for path, value in result.items() if lookup(config, path, ABSENT) is ABSENT}


@functools.cache
def source(prog: Program, model_type: str) -> tuple[frozenset[str], tuple[str, ...], set[str]]:
    """The words in the code of a model and of what it imports, its string literals, and keys it asks for."""
    words: set[str] = set()
    literals: dict[str, None] = {}
    asked: set[str] = set()
    for path in _files(prog, model_type):
        content = path.read_text()
        words.update(re.findall(r"\w+", content))
        tree = ast.parse(content)
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                for one in ast.walk(node):
                    value = one.value if isinstance(one, ast.Constant) else None
                    if isinstance(value, str) and re.fullmatch(r"[\w-]{2,30}", value):
                        literals[value] = None
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "get"
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
                and node.args[0].value.isidentifier()
            ):
                asked.add(node.args[0].value)
    return frozenset(words), tuple(literals)[:LITERALS], set(sorted(asked)[:30])


def _files(prog: Program, model_type: str) -> list[Path]:
    """The files of a model's module, and those of the same program that they import."""
    module = importlib.import_module(f"{prog.package}.models.{model_type}")
    root = Path(str(importlib.import_module(prog.package).__file__)).parent
    start = Path(str(module.__file__))
    queue = sorted(start.parent.glob("*.py")) if start.name == "__init__.py" else [start]
    seen: dict[Path, None] = {}
    while queue and len(seen) < 60:
        path = queue.pop(0)
        if path in seen or not path.exists():
            continue
        seen[path] = None
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = path.parent
                for _ in range(node.level - 1):
                    base = base.parent
                place = base.joinpath(*(node.module or "").split(".")) if node.module else base
                for one in (place.with_suffix(".py"), place / "__init__.py"):
                    queue.append(one)
                for name in node.names:
                    queue.append(place / f"{name.name}.py")
        queue = [one for one in queue if root in one.parents]
    return list(seen)

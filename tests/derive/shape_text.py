"""A learned table of shapes as its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.derive.programs import Program
from wconv.consumers.shapes import Condition, ShapeTable, TensorKind


def text(prog: Program, table: ShapeTable) -> str:
    """A table as its file."""
    lines = [f"# Learned from {prog.name} {prog.version}: its own model, built at many configs.", ""]
    if table.needed_parts:
        lines += [f"needed_parts = {_toml(table.needed_parts)}", ""]
    if table.lists:
        lines += ["[lists]", *(f"{_toml(place)} = {_toml(told)}" for place, told in table.lists.items()), ""]
    if table.lists_when:
        lines += [
            "[lists_when]",
            *(f"{_toml(place)} = {_toml(when)}" for place, when in table.lists_when.items()),
            "",
        ]
    groups: dict[str, list[TensorKind]] = {}
    for row in table.rows:
        groups.setdefault(repr((row.when, row.where, row.optional)), []).append(row)
    for group in groups.values():
        lines.append("[[rows]]")
        row = group[0]
        if row.when:
            lines.append(f"when = {_toml(row.when)}")
        if row.where:
            parts = [
                {key: value for key, value in vars_of(one).items() if value} for one in row.where.conditions
            ]
            lines.append(f"where = {_toml({'all': parts, **({'others': True} if row.where.others else {})})}")
        if row.optional:
            lines.append("optional = true")
        lines.append("[rows.shapes]")
        lines += [f"{_toml(one.name)} = {_toml(one.shape)}" for one in group]
        lines.append("")
    return "\n".join(lines)


def vars_of(condition: Condition) -> dict[str, Any]:
    return {"field": condition.field, "kind": condition.kind, "values": condition.values}


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False)

"""What the learned shapes say of a program's own model, against what the program's strict load says.

At configs that were not used for learning: the model's own parameters must pass unchallenged; and without one
of them, or with one of another shape, wconv must refuse where the program refuses, and nowhere else.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.derive import fixtures, shape_fields
from tests.derive.programs import Program, probe
from tests.derive.shape_fields import Change
from wconv.consumers import shape_check, shapes
from wconv.consumers.shapes import ShapeTable, kind_of, lookup
from wconv.errors import LayoutError
from wconv.tensors.lazy import LazyTensor, from_array

Shape = tuple[int, ...]
Config = dict[str, Any]

PAGE = Path(__file__).parents[2] / "wconv" / "docs" / "shapes.md"
KEPT = Path(__file__).parents[2] / "fixtures" / "derived" / "shapes.json"
LEFT = KEPT.with_name("shapes_left.json")
"""By program and model type, why its shapes are not kept."""

SEED = 20
OTHERS = 2
"""Configs beside the tiny one."""


def configs(prog: Program, model_type: str, config: Config) -> Iterator[tuple[Config, dict[str, Shape]]]:
    """The tiny config, and others of other sizes, with the parameters that the program's model has there."""
    yield config, probe(prog, model_type, config).parameters
    chance = random.Random(SEED)
    sizes = [
        one
        for one in shape_fields.changes(prog, model_type, config)
        if one.kind == "number" and kind_of(lookup(config, one.path)) == "number"
    ]
    paths = sorted({one.path for one in sizes})
    found = 0
    for _ in range(40):
        other = config
        for path in paths:
            if chance.random() < 0.35:
                other = Change(path, lookup(config, path) * chance.choice((2, 3, 4))).applied(other)
        try:
            parameters = probe(prog, model_type, other).parameters
        except (Exception, SystemExit):
            continue
        if any(0 in shape for shape in parameters.values()):
            continue
        yield other, parameters
        found += 1
        if found == OTHERS:
            return


def refused(table: ShapeTable, parameters: dict[str, LazyTensor], config: Config, program: str) -> str:
    """What wconv says of parameters; "" where it says nothing."""
    try:
        shape_check.check(table, parameters, {}, config, program)
    except LayoutError as error:
        return str(error)
    return ""


def lazy(parameters: dict[str, Shape]) -> dict[str, LazyTensor]:
    """Tensors without memory: one number, seen in a shape."""
    import numpy as np

    one = np.zeros((), np.float16)
    return {name: from_array(np.broadcast_to(one, shape)) for name, shape in parameters.items()}


def count(prog: Program, model_type: str, config: Config, table: ShapeTable) -> dict[str, Any]:
    """How often wconv and the program refuse: without one parameter of each kind, and with one resized.

    Returns:
        "passed": configs at which the whole model passed, "configs": of how many; "missing" and "resized":
        each [both refuse, only the program, only wconv].
    """
    import mlx.core as mx

    passed = 0
    tried: list[tuple[Config, dict[str, Shape]]] = list(configs(prog, model_type, config))
    told = []
    for one, parameters in tried:
        said = refused(table, lazy(parameters), one, prog.name)
        passed += not said
        told += [said] if said else []
    numbers: dict[str, list[int]] = {"missing": [0, 0, 0], "resized": [0, 0, 0]}
    one, parameters = tried[-1]
    made = probe(prog, model_type, one)
    tensors = lazy(parameters)
    kinds = {table.general(name)[0]: name for name in parameters}
    for name in kinds.values():
        changed: list[tuple[str, Shape | None]] = [("missing", None)]
        shape = parameters[name]
        changed += [
            ("resized", (*shape[:axis], shape[axis] + 2, *shape[axis + 1 :])) for axis in range(len(shape))
        ]
        for label, other in changed:
            weights = {key: mx.zeros(value) for key, value in parameters.items() if key != name}
            ours = {key: value for key, value in tensors.items() if key != name}
            if other is not None:
                weights[name] = mx.zeros(other)
                ours |= lazy({name: other})
            theirs = _program_refuses(made, weights)
            said = bool(refused(table, ours, one, prog.name))
            if theirs or said:
                numbers[label][0 if theirs and said else 1 if theirs else 2] += 1
                if said and not theirs:
                    told.append(f"{label}: {name}")
    return {"passed": passed, "configs": len(tried), **numbers, "false": told[:3]}


def _program_refuses(made: Any, weights: dict[str, Any]) -> bool:
    """Whether the program's sanitize or its strict load refuses weights."""
    try:
        weights = made.fresh(weights)
        made.model.load_weights(list(weights.items()), strict=True)
    except (Exception, SystemExit):
        return True
    return False


NO_TABLE = (
    (r"no tiny model|too many to follow|no len|ImportError", "its own model could not be built small"),
    (r"knows? |lacks |wants |Expected shape", "no checkpoint was found that its own `sanitize` takes"),
    (
        r"leave its own result|take its own result|laid out for it in part|changed twice",
        "its own `sanitize` changes what it made",
    ),
    (r"", "what its `sanitize` does, no rule says"),
)
"""What is said of a model type without a table → for whom it stays without shapes; the first counts."""


def left(program: str, kept: dict[str, Any]) -> dict[str, str]:
    """The model types that have no shapes, and why."""
    told: dict[str, str] = json.loads(LEFT.read_text()).get(program, {}) if LEFT.exists() else {}
    result = {}
    for name, row in fixtures.load(program).items():
        if name in kept:
            continue
        if row["kind"] == "not possible":
            why = next(said for pattern, said in NO_TABLE if re.search(pattern, row["why"].split("; or ")[0]))
            result[name] = f"no table: {why}"
        else:
            result[name] = told.get(name, "not learned yet")
    return result


def text(kept: dict[str, dict[str, Any]]) -> str:
    """The page."""
    parts = [
        "# Shapes that are checked\n",
        "Generated by `python -m tests.derive.shapes PROGRAM --prove`. Before a byte moves, a model is"
        " compared with what its consumer's own model holds at its `config.json`. For each model type: the"
        " kinds of tensors that are known, and the lengths of their axes that fields explain (the rest is not"
        " checked); at how many configs the program's own parameters passed; how many of the loads that the"
        " program refuses wconv refuses, of all with one parameter missing, and of all with one axis of"
        " another length; and what wconv alone refuses, which should be nothing.\n",
    ]
    for program, rows in kept.items():
        columns = ("missing", "resized")
        sums = {one: [sum(row[one][at] for row in rows.values()) for at in range(3)] for one in columns}
        alone = sum(sums[one][2] for one in columns)
        parts.append(
            f"## {program}\n\n{len(rows)} model types. Missing: {sums['missing'][0]:,} of"
            f" {sum(sums['missing'][:2]):,} found; resized: {sums['resized'][0]:,} of"
            f" {sum(sums['resized'][:2]):,} found; refused by wconv alone: {alone}.\n"
        )
        parts.append("| model type | kinds | lengths | passed | missing | resized | alone |\n|" + "---|" * 7)
        for name in sorted(rows):
            row = rows[name]
            missing, resized = row["missing"], row["resized"]
            parts.append(
                f"| {name} | {row['kinds']} | {row['known']} of {row['lengths']} | {row['passed']} of"
                f" {row['configs']} | {missing[0]} of {sum(missing[:2])} | {resized[0]} of"
                f" {sum(resized[:2])} | {missing[2] + resized[2]} |"
            )
        parts.append("")
        others = left(program, rows)
        parts.append(
            f"Without shapes: {len(others)} model types. Without a table a model passes with its names as"
            " they are, and only whole layers that are missing are told; of the others, what the fields of"
            " config.json say plainly is checked: layers, vocabulary, width, output layer.\n"
        )
        parts.append("| model type | why it has no shapes |\n|---|---|")
        parts += [f"| {name} | {why} |" for name, why in sorted(others.items())]
        parts.append("")
    return "\n".join(parts)


def of_table(table: ShapeTable) -> dict[str, int]:
    lengths = [axis for row in table.rows for axis in row.shape]
    return {
        "kinds": len({row.name for row in table.rows}),
        "lengths": len(lengths),
        "known": sum(axis != shapes.UNCHECKED for axis in lengths),
    }


def load() -> dict[str, dict[str, Any]]:
    kept: dict[str, dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return kept


def keep(program: str, model_type: str, found: dict[str, Any]) -> None:
    """Adds what was counted of a model type, at once: a long run that ends early keeps what it found."""
    kept = load()
    kept.setdefault(program, {})[model_type] = found
    save(kept)


def leave(program: str, model_type: str, why: str) -> None:
    """Keeps why a model type has no shapes."""
    told: dict[str, dict[str, str]] = json.loads(LEFT.read_text()) if LEFT.exists() else {}
    told.setdefault(program, {})[model_type] = why
    LEFT.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")


def save(kept: dict[str, dict[str, Any]]) -> None:
    KEPT.write_text(json.dumps(kept, indent=None, sort_keys=True, separators=(",", ":")) + "\n")
    PAGE.write_text(text(kept))

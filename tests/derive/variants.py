"""Names that a program has with other settings: a norm, a bias or a gate that a config may switch on."""

from __future__ import annotations

import copy
import re
from typing import Any

from tests.derive.programs import Program, probe
from tests.derive.sources import Source

SWITCHES = re.compile(r".*(bias|norm|gate|sink|tie|use_|has_|with_|enable|parallel).*")
MOST = 16

UNCHANGED = ("Linear", "Norm", "Embedding")
"""Modules of which every parameter has the shape that checkpoints give it."""


def names(prog: Program, model_type: str, source: Source) -> dict[str, str]:
    """Parameters, with the class that holds each, that the model has with one setting the other way."""
    found: dict[str, str] = {}
    config = source.config
    places = [(), *((key,) for key in ("text_config", "llm_config") if isinstance(config.get(key), dict))]
    for place in places:
        part = config[place[0]] if place else config
        switches = [key for key, value in part.items() if isinstance(value, bool) and SWITCHES.fullmatch(key)]
        for key in switches[:MOST]:
            other = copy.deepcopy(config)
            inner: dict[str, Any] = other[place[0]] if place else other
            inner[key] = not inner[key]
            try:
                made = probe(prog, model_type, other)
            except (Exception, SystemExit):
                continue
            found.update(
                {
                    name: owner
                    for name, owner in made.owners.items()
                    if name not in source.model.parameters and any(word in owner for word in UNCHANGED)
                }
            )
    return found

"""The model types that a program's command is known to take: those of one version, in its `model_types.json`.

`python -m tests.oracle.model_types` writes these files anew, out of the programs that are installed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources


@dataclass(frozen=True, slots=True)
class KnownModels:
    """The model types of one version of a program, as it spells them.

    Attributes:
        required: model type → the fields of config.json's root without which it makes no model.
    """

    version: str
    model_types: frozenset[str]
    required: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@functools.cache
def read(folder: str) -> KnownModels:
    """What `model_types.json` in a program's folder says."""
    text = resources.files("wconv.consumers").joinpath(folder, "model_types.json").read_text("utf-8")
    found = json.loads(text)
    required = {name: tuple(fields.split()) for name, fields in found.get("required", {}).items()}
    return KnownModels(found["version"], frozenset(found["model_types"]), required)

"""How the tensors of an adapter may be called: a record of it, which each program fills in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Modules = Literal["diffusers", "original", "own"]
"""Whose names of modules: diffusers', those of the model's makers, or the program's own."""
Alpha = Literal["always", "scaled", "metadata", "config", "none"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Keys:
    """What follows a module's name; "" for what cannot be said."""

    down: str = ".lora_A.weight"
    up: str = ".lora_B.weight"
    magnitude: str = ""
    diff: str = ""
    diff_b: str = ""
    column: bool = False
    """Whether magnitudes are a matrix of one column."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Naming:
    """How the tensors of an adapter are called.

    Attributes:
        whom: the program, for messages.
        modules: whose names of modules.
        prefixes: "main" or a kind of text encoder → what comes first, `{}` for the component's name; a kind
            that is not there cannot be said.
        linear: whether the program adapts matrices alone.
        flat: whether dots within a module's name become underscores.
        alpha: a tensor for each module, the same where the scale is not 1, settings in the header or in a
            file beside it, or nothing.
        families: the families of models that have such names; None for all.
        filename: of an adapter in a directory.
        command: loads the result; `{model}` stands for its path.
    """

    whom: str
    modules: Modules
    keys: Keys
    prefixes: Mapping[str, str]
    alpha: Alpha
    linear: bool = False
    flat: bool = False
    families: tuple[str, ...] | None = None
    filename: str = "adapter.safetensors"
    command: str = ""

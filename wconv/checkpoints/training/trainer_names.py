"""What trainers put before the names of a model: found, taken off and told."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from wconv.formats.contents import Contents

ROLES = ("actor.", "policy.", "actor_module.", "student.", "language_model_module.")
"""Prefixes of the model that is trained, where others are kept beside it."""

OTHER_ROLES = ("critic.", "ref.", "reference.", "ref_policy.", "reward.", "value.", "teacher.")
"""Prefixes of models that only help to train it."""

OUTER = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "model.")
"""Prefixes of every name; `model.` is one only where the model's own names follow it."""

OWN = ("model.", "lm_head.", "transformer.", "language_model.", "visual.", "score.")
"""How the names of a whole model begin, where `model.` is before them: else it is the model's own."""


def by_prefix(root: Any, key: str | None) -> tuple[Any, str | None, tuple[str, ...]]:
    """The part of a flat state dict whose names begin with `key`, where nothing is kept under that key.

    Returns:
        The state dict, the key that is left to look for in it, and what the user should be told.
    """
    if key is None or type(root) is not dict or key.split(".", 1)[0] in root:
        return root, key, ()
    start = f"{key}."
    picked = {
        name.removeprefix(start): value
        for name, value in root.items()
        if type(name) is str and name.startswith(start)
    }
    return (picked, None, (f"took {key}",)) if picked else (root, key, ())


def stripped(contents: Contents, *, whole: bool) -> Contents:
    """A checkpoint without what a trainer put before the names.

    Args:
        whole: `--key` did not say what is wanted: models that only help to train are left out.
    """
    names = [*contents.tensors, *contents.skipped]
    left_out: list[str] = []
    taken: list[str] = []
    short = {name: name for name in names}
    if whole:
        role, others = _role(names)
        if role:
            left_out = [name for name in names if not name.startswith(role)]
            short = {name: name.removeprefix(role) for name in names if name.startswith(role)}
            taken.append(role)
            if not others:
                left_out = []
    while True:
        prefix = _outer(short.values())
        if not prefix:
            break
        short = {name: text.removeprefix(prefix) for name, text in short.items()}
        taken.append(prefix)
    if not taken or len(set(short.values())) < len(short):
        return contents
    notes = [*contents.notes, f"took {', '.join(taken)} off the names"]
    if left_out:
        kinds = sorted({name.split(".", 1)[0] for name in left_out})
        notes.append(f"left out {', '.join(kinds)}; --key picks another")
    return dataclasses.replace(
        contents,
        tensors=_renamed(contents.tensors, short),
        skipped=_renamed(contents.skipped, short),
        notes=tuple(notes),
        ties=tuple(
            tuple(short[name] for name in tie) for tie in contents.ties if all(name in short for name in tie)
        ),
        not_numbers=frozenset(short[name] for name in contents.not_numbers if name in short),
    )


def _renamed(values: Mapping[str, Any], short: Mapping[str, str]) -> dict[str, Any]:
    return {short[name]: value for name, value in values.items() if name in short}


def _role(names: Collection[str]) -> tuple[str, bool]:
    """The prefix of the model that is trained, and whether others stand beside it; "" where there is none."""
    for role in ROLES:
        held = [name for name in names if name.startswith(role)]
        if held:
            others = len(names) - len(held)
            if all(name.startswith((role, *OTHER_ROLES)) for name in names):
                return role, bool(others)
    return "", False


def _outer(names: Collection[str]) -> str:
    """A prefix of all names that is none of the model's own."""
    for prefix in OUTER:
        if names and all(name.startswith(prefix) and len(name) > len(prefix) for name in names):
            if prefix != "model.":
                return prefix
            inner = [name.removeprefix(prefix) for name in names]
            if all(name.startswith(OWN) for name in inner) and any(
                name.startswith(("model.", "lm_head.")) for name in inner
            ):
                return prefix
    return ""

"""Tables that are rules files: `<program>/tables/<model_type>.toml`, read when the model type is asked for.

A file may say `same_as = "llama"` and nothing else. One that has `derived_from` was read off the program
itself by `python -m tests.derive` and not written by a person: `derived_tables` says when it counts.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING

from wconv.errors import LayoutError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from wconv.layouts.apply import Layout

SUFFIX = ".toml"
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
"""What a model type may be to be looked for among the files."""

SAME_AS = re.compile(r'^same_as = "([a-z0-9_.-]+)"$', re.MULTILINE)


@functools.lru_cache(maxsize=1024)
def find(folder: str, model_type: str) -> Layout | None:
    """The table of a model type, by its own file or the one that this says it is the same as.

    Args:
        folder: the program's, in `wconv/consumers`.

    Raises:
        LayoutError: the file is no rules file.
    """
    from wconv.layouts.file.rules_file import parse

    text = _text(folder, model_type)
    if text is None:
        return None
    same = SAME_AS.search(text)
    if same is None:
        return replace(parse(text, f"{folder}/{model_type}{SUFFIX}"), model_types=(model_type,))
    other = _text(folder, same[1])
    if other is None or SAME_AS.search(other):
        raise LayoutError(f"{folder}/{model_type}{SUFFIX}: there is no table of {same[1]}")
    found = find(folder, same[1])
    return None if found is None else replace(found, model_types=(model_type,))


@functools.lru_cache(maxsize=1024)
def component(folder: str, name: str) -> Layout:
    """A table by the name of its file, which says itself for which kinds of models or components it is.

    Raises:
        LayoutError: there is no such file, or it is no rules file.
    """
    from wconv.layouts.file.rules_file import parse

    text = _text(folder, name)
    if text is None:
        raise LayoutError(f"{folder}/{name}{SUFFIX}: there is no such table")
    return parse(text, f"{folder}/{name}{SUFFIX}")


def model_types(folder: str) -> tuple[str, ...]:
    """Every model type that has a file; none is read."""
    place = _place(folder)
    names = (one.name for one in place.iterdir()) if place.is_dir() else iter(())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


def tables(folder: str) -> Iterator[Layout]:
    """Every table but those that are the same as another, by model type."""
    for model_type in model_types(folder):
        text = _text(folder, model_type)
        layout = find(folder, model_type)
        if text is not None and layout is not None and not SAME_AS.search(text):
            yield layout


def _place(folder: str) -> Traversable:
    return resources.files("wconv.consumers").joinpath(folder, "tables")


def _text(folder: str, model_type: str) -> str | None:
    if not FILE_NAME.fullmatch(model_type):
        return None
    file = _place(folder).joinpath(model_type + SUFFIX)
    return file.read_text(encoding="utf-8") if file.is_file() else None

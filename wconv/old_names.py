"""Arguments that were called otherwise: their old names still work, with a DeprecationWarning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

ARGUMENTS = {"expand": "allow_inflation"}
"""Old name → name, in every function that has it."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def with_new_names(function: str, arguments: Mapping[str, Any], stacklevel: int = 3) -> dict[str, Any]:
    """Keyword arguments of a call by the names that they have now.

    Args:
        function: what was called, for the warning.
        stacklevel: of the caller whom the warning is for, as `warnings.warn` counts.
    """
    named = dict(arguments)
    for old, new in ARGUMENTS.items():
        if old in named:
            warnings.warn(f"{function}: {old} is called {new} now", DeprecationWarning, stacklevel)
            named[new] = named.pop(old)
    return named


def takes_old_names(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function that takes its arguments by their old names, too."""

    @functools.wraps(function)
    def call(*words: Parameters.args, **arguments: Parameters.kwargs) -> Result:
        if arguments.keys() & ARGUMENTS.keys():
            arguments = with_new_names(function.__name__, arguments)  # type: ignore[assignment]
        return function(*words, **arguments)

    return call

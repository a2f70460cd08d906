"""Gradients are never recorded: the context managers that switch recording off work, the others say so."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any

_depth = 0


class no_grad:  # noqa: N801 - torch's name
    """`with no_grad():` or `@no_grad()`; within it a tensor that requires grad may be turned into numpy."""

    __module__ = "torch"

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        made = super().__new__(cls)
        return made if function is None else made(function)

    def __enter__(self) -> None:
        global _depth
        _depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _depth
        _depth -= 1


class inference_mode(no_grad):  # noqa: N801 - torch's name
    """The same as `no_grad` here; `inference_mode(False)` is refused."""

    def __new__(cls, mode: Any = True) -> Any:
        if mode is False:
            raise NotImplementedError(_NO_AUTOGRAD.format(what="inference_mode(False)"))
        return super().__new__(cls, mode if callable(mode) else None)


_NO_AUTOGRAD = "{what}: wconv.torch moves weights and records no gradients; autograd needs PyTorch itself"


def is_grad_enabled() -> bool:
    """Whether torch would record gradients here. wconv.torch never does; the answer follows `no_grad`."""
    return not _depth


def set_grad_enabled(mode: bool) -> Any:
    """`set_grad_enabled(False)` as a context manager.

    Raises:
        NotImplementedError: for True.
    """
    if mode:
        raise NotImplementedError(_NO_AUTOGRAD.format(what="set_grad_enabled(True)"))
    return no_grad()


def refuse_autograd(what: str) -> NotImplementedError:
    """The error for a call that needs autograd."""
    return NotImplementedError(_NO_AUTOGRAD.format(what=what))

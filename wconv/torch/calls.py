"""What every offered function does before it runs: numpy's names for arguments, other kinds of tensors.

torch takes `axis` for `dim`, `keepdims` for `keepdim`, `x` for `input`; a class with `__torch_function__` is
asked what a function does to its instances; tensors on the meta device have a shape and no values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from wconv.torch import dtypes, meta
from wconv.torch.device import device, keeps_order, layout, memory_format, require_strided
from wconv.torch.size import Size, lengths
from wconv.torch.tensor import Tensor

VAR_KEYWORDS = 8
"""The flag of a function's code that says that it takes any keyword (inspect.CO_VARKEYWORDS)."""

NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}
"""Names that torch takes from numpy's users: numpy's, torch's."""

OTHER_NAMES = {
    "bmm": {"mat2": "other"},
    "broadcast_to": {"shape": "size"},
    "isin": {"element": "elements", "test_element": "test_elements"},
    "dot": {"tensor": "other"},
    "mm": {"mat2": "other"},
    "mv": {"vec": "other"},
    "tensor_split": dict.fromkeys(("indices", "sections"), "indices_or_sections")
    | {"tensor_indices_or_sections": "indices_or_sections"},
    "transpose": {"axis0": "dim0", "axis1": "dim1"},
}
"""Names of arguments that torch calls otherwise in some functions: torch's, ours."""

KEYWORDS = {
    "arange": ("start", "end", "step"),
    "empty": ("size",),
    "ones": ("size",),
    "rand": ("size",),
    "randint": ("low", "high", "size"),
    "randint_like": ("low", "high"),
    "randn": ("size",),
    "zeros": ("size",),
}
"""Arguments that functions take by name among their others."""

OPTIONS = frozenset({"device", "dtype", "layout", "memory_format", "pin_memory", "requires_grad"})
"""What every function that makes a tensor takes."""

ONE_BY_ONE = {
    "expand": "size",
    "flip": "dims",
    "permute": "dims",
    "repeat": "repeats",
    "reshape": "shape",
    "tile": "dims",
    "view": "size",
}
"""Functions that take several numbers, and under which name all at once."""

PLAIN: set[type] = {
    Tensor,
    Size,
    bool,
    int,
    float,
    complex,
    str,
    slice,
    type(None),
    type(...),
    np.ndarray,
    dtypes.dtype,
    device,
    layout,
    memory_format,
}
"""Types of arguments that need no look: neither they nor what is in them changes how a call is done."""

META_MAKERS = frozenset(
    """
    tensor as_tensor zeros ones empty full arange linspace eye to
    rand randn randint randperm normal_tensor sparse_coo_tensor sparse_csr_tensor sparse_csc_tensor
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like
    new_zeros new_ones new_empty new_full
    """.split()  # noqa: SIM905
)
"""Functions whose `device` may be "meta"."""


@functools.cache
def offered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as its callers see it."""
    code = getattr(function, "__code__", None)
    if code is None:
        return function
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    takes_device = function.__name__ in META_MAKERS
    others = OTHER_NAMES.get(function.__name__)
    spare = OPTIONS.difference(names) if not code.co_flags & VAR_KEYWORDS else {"memory_format"}

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if others is not None and not others.keys().isdisjoint(kwargs):
                kwargs = {others.get(name, name): value for name, value in kwargs.items()}
            if takes_device and not spare.isdisjoint(kwargs):
                return _with_options(call, args, kwargs, spare)
            if not NUMPY_NAMES.keys().isdisjoint(kwargs):
                kwargs = _renamed(function.__name__, kwargs, names)
            if function.__name__ in ONE_BY_ONE and ONE_BY_ONE[function.__name__] in kwargs:
                rest = dict(kwargs)
                return call(*args, rest.pop(ONE_BY_ONE[function.__name__]), **rest)
            for each in kwargs.values():
                if type(each) not in PLAIN and _is_special(each):
                    return _special(call, function, args, kwargs)
        for each in args:
            if type(each) not in PLAIN and _is_special(each):
                return _special(call, function, args, kwargs)
        if takes_device and _is_meta(kwargs.get("device")):
            return _on_meta(function, args, kwargs)
        if takes_device and function.__name__ == "to" and len(args) > 1 and _is_meta(args[1]):
            return _on_meta(function, args, kwargs)
        return function(*args, **kwargs)

    call.__name__, call.__qualname__ = function.__name__, function.__qualname__
    call.__doc__, call.__module__ = function.__doc__, function.__module__
    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


def _with_options(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any], spare: Any) -> Tensor:
    """A function that makes a tensor, with options that it leaves to its callers.

    Raises:
        RuntimeError: an option is not offered.
    """
    options = {name: kwargs[name] for name in kwargs if name in spare}
    require_strided(options.get("layout"))
    keep = keeps_order(options.get("memory_format"))
    if options.get("pin_memory"):
        raise RuntimeError("pin_memory=True is not offered by wconv.torch: it serves copies to a GPU")
    made: Tensor = call(*args, **{name: value for name, value in kwargs.items() if name not in spare})
    made = made if keep else made.contiguous()
    if options.get("requires_grad"):
        made.requires_grad = True
    return made


def takes(function: Callable[..., Any], argument: str) -> bool:
    """Whether an offered function takes an argument of that name."""
    inner = getattr(function, "__wrapped__", function)
    code = inner.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    name = inner.__name__
    if argument in names or argument in OTHER_NAMES.get(name, {}) or argument == ONE_BY_ONE.get(name):
        return True
    if name in META_MAKERS and argument in OPTIONS:
        return True
    return argument in KEYWORDS.get(name, ()) or NUMPY_NAMES.get(argument) in names


def _renamed(what: str, kwargs: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Arguments by torch's names. Raises: TypeError: one is given by both."""
    made: dict[str, Any] = {}
    for name, value in kwargs.items():
        torchs = NUMPY_NAMES.get(name, name)
        own = torchs if name not in names and torchs in names else name
        if own in made or (own != name and own in kwargs):
            raise TypeError(f"{what}() got {own!r} twice: as {own!r} and as {name!r}")
        made[own] = value
    return made


def _is_meta(place: Any) -> bool:
    return (isinstance(place, device) and place.type == "meta") or (
        isinstance(place, str) and place.startswith("meta")
    )


def _is_special(each: Any) -> bool:
    """Whether an argument, or one in a list of arguments, decides how the call is done."""
    if isinstance(each, (list, tuple)):
        return any(type(part) not in PLAIN and _is_special(part) for part in each)
    return isinstance(each, meta.MetaTensor) or _asks(each)


def _asks(each: Any) -> bool:
    """Whether an object's class wants to be asked: not one of the tensors that are torch's own."""
    return not isinstance(each, Tensor | type) and hasattr(type(each), "__torch_function__")


def _overriding(args: Any) -> list[Any]:
    """The arguments whose class says itself what a function does to them."""
    found = []
    for each in args:
        found += _overriding(each) if isinstance(each, (list, tuple)) else [each] if _asks(each) else []
    return found


def _special(call: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    asked = _overriding([*args, *kwargs.values()])
    for each in asked:
        found = type(each).__torch_function__(call, tuple({type(one) for one in asked}), args, kwargs)
        if found is not NotImplemented:
            return found
    if asked:
        raise TypeError(f"no implementation found for {function.__name__} on {type(asked[0]).__name__}")
    if function.__name__ == "to":
        return _moved(function, args, kwargs)
    real = kwargs.get("device") is not None and not _is_meta(kwargs["device"])
    return meta.shapes_only(function, args, _elsewhere(kwargs), real)


def _on_meta(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function that makes a tensor, asked for one on the meta device."""
    if function.__name__ == "to":
        return meta.like(function(*[None if _is_meta(a) else a for a in args], **_elsewhere(kwargs)))
    if function.__name__ in ("zeros", "ones", "empty"):  # without a moment in which they take memory
        size = args or (kwargs.get("size", ()),)
        return meta.empty(lengths(size), kwargs.get("dtype") or dtypes.get_default_dtype())
    return meta.like(function(*args, **_elsewhere(kwargs)))


def _moved(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`to` of a tensor without values: another dtype, or nowhere."""
    places = [each for each in (*args[1:], kwargs.get("device")) if isinstance(each, (str, device))]
    if any(not _is_meta(place) for place in places) and isinstance(args[0], meta.MetaTensor):
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    rest = [each for each in args if not _is_meta(each)]
    return meta.shapes_only(function, tuple(rest), _elsewhere(kwargs))


def _elsewhere(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != "device" or not _is_meta(value)}

"""State dicts into modules, with torch's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from wconv.torch.parameter import Parameter
from wconv.torch.tensor import Tensor

EXTRA = "_extra_state"
"""The name under which a module keeps what is no tensor."""


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` returns."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_state_dict(
    module: Any, state_dict: Mapping[str, Any], strict: bool, assign: bool
) -> IncompatibleKeys:
    """See `Module.load_state_dict`."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    missing: list[str] = []
    known: set[str] = set()
    errors: list[str] = []
    for path, each in module.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        _load_own(each, prefix, state_dict, assign, missing, known, errors)
    unexpected = [name for name in state_dict if name not in known]
    if strict:
        for what, names in (("Unexpected", unexpected), ("Missing", missing)):
            if names:
                listed = ", ".join(f'"{name}"' for name in names)
                errors.insert(0, f"{what} key(s) in state_dict: {listed}. ")
    if errors:
        lines = "\n\t".join(errors)
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{lines}")
    return IncompatibleKeys(missing, unexpected)


def _load_own(
    module: Any,
    prefix: str,
    state_dict: Mapping[str, Any],
    assign: bool,
    missing: list[str],
    known: set[str],
    errors: list[str],
) -> None:
    """Fills one module's own tensors."""
    for name, held in module._own().items():
        key = prefix + name
        known.add(key)
        if key not in state_dict:
            missing.append(key)
            continue
        given = state_dict[key]
        if not isinstance(given, Tensor):
            errors.append(
                f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object'
                f" from checkpoint but received {type(given)}"
            )
        elif given.shape != held.shape and not (given.shape == (1,) and held.shape == ()):
            errors.append(
                f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint,"
                f" the shape in current model is {held.shape}."
            )
        elif assign:
            _assign(module, name, held, given)
        else:
            held.copy_(given.reshape(held.shape))
    if hasattr(type(module), "set_extra_state"):
        known.add(prefix + EXTRA)
        if prefix + EXTRA in state_dict:
            module.set_extra_state(state_dict[prefix + EXTRA])
        else:
            missing.append(prefix + EXTRA)


def _assign(module: Any, name: str, held: Tensor, given: Tensor) -> None:
    if isinstance(held, Parameter):
        if not isinstance(given, Parameter):
            given = Parameter(given, held.requires_grad)
        else:
            given.requires_grad_(held.requires_grad)
    setattr(module, name, given)

"""`load_model` and `save_model` of `safetensors.torch`: modules whose tensors may have several names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from wconv.torch.modules import Module
from wconv.torch.safetensors_torch import load_file, save_file
from wconv.torch.tensor import Tensor


def save_model(
    model: Module,
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    force_contiguous: bool = True,
) -> None:
    """Writes a module's state dict: of names that share memory one, the others into the metadata.

    Raises:
        RuntimeError: none of the names that share memory covers all of it.
        ValueError: a tensor is not contiguous, and `force_contiguous` is off.
    """
    state: dict[str, Tensor] = dict(model.state_dict())
    for kept, others in _second_names(state).items():
        for other in others:
            metadata = {} if metadata is None else metadata
            metadata.setdefault(other, kept)
            del state[other]
    if force_contiguous:
        state = {name: tensor.contiguous() for name, tensor in state.items()}
    try:
        save_file(state, filename, metadata)
    except ValueError as error:
        raise ValueError(f"{error} Or use save_model(..., force_contiguous=True).") from None


def load_model(
    model: Module,
    filename: str | os.PathLike[str],
    strict: bool = True,
    device: Any = "cpu",
    *,
    backend: str = "mmap",
) -> tuple[Any, list[str]]:
    """Copies a file's tensors into a module; returns the names that were missing and those that are unknown.

    Raises:
        RuntimeError: with `strict`, there are such names; or a shape differs.
    """
    state = load_file(filename, device=device, backend=backend)
    doubled = _second_names(model.state_dict(), state)
    incompatible, unexpected = model.load_state_dict(state, strict=False)
    absent = set(incompatible)
    for others in doubled.values():
        for other in others:
            if other in absent:
                absent.remove(other)
            else:
                unexpected.append(other)
    if strict and (absent or unexpected):
        lines = [f"Error(s) in loading state_dict for {type(model).__name__}:"]
        for what, names in (("Missing", absent), ("Unexpected", unexpected)):
            if names:
                lines.append(
                    f"    {what} key(s) in state_dict: " + ", ".join(f'"{n}"' for n in sorted(names))
                )
        raise RuntimeError("\n".join(lines))
    return absent, unexpected


def _second_names(state: Mapping[str, Tensor], preferred: Iterable[str] = ()) -> dict[str, list[str]]:
    """Of the names of each memory: the one to keep, and the others."""
    by_memory: dict[tuple[int, int], list[str]] = {}
    for name, tensor in state.items():
        if not tensor.is_meta and tensor.untyped_storage().nbytes():
            storage = tensor.untyped_storage()
            by_memory.setdefault((storage.data_ptr(), storage.nbytes()), []).append(name)
    wanted, found = set(preferred), {}
    for names in by_memory.values():
        for group in _overlapping(names, state):
            complete = {name for name in group if _covers_all(state[name])}
            if not complete:
                raise RuntimeError(
                    f"no suitable name to keep for saving amongst {sorted(group)}: none is covering the"
                    " entire storage"
                )
            kept = min(wanted & complete or complete)
            found[kept] = [name for name in sorted(group) if name != kept]
    return {kept: others for kept, others in found.items() if others}


def _overlapping(names: list[str], state: Mapping[str, Tensor]) -> list[set[str]]:
    """Names of one storage, apart where their bytes are."""
    groups: list[set[str]] = []
    end = -1
    for start, stop, name in sorted((state[n].data_ptr(), _stop(state[n]), n) for n in names):
        if start < end:
            groups[-1].add(name)
        else:
            groups.append({name})
        end = max(stop, end)
    return groups


def _stop(tensor: Tensor) -> int:
    """The address behind the tensor's last element."""
    if not tensor.numel():
        return tensor.data_ptr()
    last = sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride(), strict=True))
    end: int = tensor.data_ptr() + (last + 1) * tensor.itemsize
    return end


def _covers_all(tensor: Tensor) -> bool:
    storage = tensor.untyped_storage()
    if tensor.is_meta:
        return tensor.nbytes == storage.nbytes()
    return tensor.data_ptr() == storage.data_ptr() and tensor.nbytes == storage.nbytes()


_end_ptr, _is_complete = _stop, _covers_all


def _find_shared_tensors(state_dict: Mapping[str, Tensor]) -> list[set[str]]:
    """Names by memory: each set of those whose bytes overlap, a set of one for a name that is alone."""
    by_memory: dict[tuple[int, int], list[str]] = {}
    found: list[set[str]] = []
    for name, tensor in state_dict.items():
        if not tensor.is_meta and tensor.untyped_storage().nbytes():
            storage = tensor.untyped_storage()
            by_memory.setdefault((storage.data_ptr(), storage.nbytes()), []).append(name)
    for names in by_memory.values():
        found += _overlapping(names, state_dict)
    return found


def _remove_duplicate_names(
    state_dict: Mapping[str, Tensor], *, preferred_names: Any = None, discard_names: Any = None
) -> dict[str, list[str]]:
    """Of the names of each memory: the one to keep, and the others."""
    unwanted = set(discard_names or ())
    kept = [name for name in state_dict if name not in unwanted]
    return _second_names(state_dict, preferred_names or (kept if unwanted else ()))

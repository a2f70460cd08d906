"""Tensors put together and taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wconv.torch import dtypes
from wconv.torch.convert import convert
from wconv.torch.indexing import narrow, select
from wconv.torch.promotion import promote_types, result_type
from wconv.torch.size import axis, whole
from wconv.torch.tensor import Tensor


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after another along an axis, in their common dtype."""
    parts = _tensors(tensors, "cat")
    common = parts[0].dtype
    for part in parts[1:]:
        common = promote_types(common, part.dtype)
    if any(not part.ndim for part in parts):
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    full = [part for part in parts if part.shape != (0,)] or parts[:1]
    at = axis(dim, full[0].ndim)
    arrays = [part._array if part.dtype is common else convert(part._array, common) for part in full]
    try:
        return Tensor._of(np.asarray(np.concatenate(arrays, at), order="C"))
    except ValueError:
        shapes = ", ".join(str(list(part.shape)) for part in full[:4])
        raise RuntimeError(f"Sizes of tensors must match except in dimension {at}. Got {shapes}") from None


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis."""
    parts = _tensors(tensors, "stack")
    if any(part.shape != parts[0].shape for part in parts):
        other = next(part for part in parts if part.shape != parts[0].shape)
        raise RuntimeError(
            f"stack expects each tensor to be equal size, but got {list(parts[0].shape)} at entry 0 and"
            f" {list(other.shape)} later"
        )
    at = axis(dim, parts[0].ndim + 1)
    return cat([part.unsqueeze(at) for part in parts], at)


def _tensors(tensors: Any, name: str) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        raise TypeError(f"{name}(): argument 'tensors' must be tuple of Tensors, not Tensor")
    parts = list(tensors)
    if not parts:
        raise (ValueError if name == "cat" else RuntimeError)(f"{name} expects a non-empty list of Tensors")
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(
                f"{name}: expected Tensor as element in argument 0, but got {type(part).__name__}"
            )
    return parts


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    return cat([part.reshape(1, -1) if part.ndim < 2 else part for part in tensors], 0)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    parts = [part.reshape(-1) if not part.ndim else part for part in tensors]
    return cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive parts: of one length (the last may be shorter), or of the lengths given."""
    if not tensor.ndim:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    at = axis(dim, tensor.ndim)
    length = tensor.shape[at]
    if isinstance(split_size_or_sections, (list, tuple)):
        sizes = [whole(size) for size in split_size_or_sections]
        if sum(sizes) != length or min(sizes, default=0) < 0:
            raise RuntimeError(f"split: the lengths {sizes} do not add up to the {length} of axis {at}")
    else:
        size = whole(split_size_or_sections)
        if size < 0 or (size == 0 and length):
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
        sizes = [min(size, length - first) for first in range(0, length, size)] if length else [0]
    starts = np.cumsum([0, *sizes]).tolist()
    return tuple(narrow(tensor, at, start, size) for start, size in zip(starts, sizes, strict=False))


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of at most `chunks` parts of one length; the last may be shorter."""
    if not input.ndim:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks < 1:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    at = axis(dim, input.ndim)
    length = input.shape[at]
    if not length:
        return tuple(narrow(input, at, 0, 0) for _ in range(chunks))
    return split(input, -(-length // chunks), at)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of so many parts as equal as can be, or cut at the positions given."""
    at = axis(dim, input.ndim)
    length = input.shape[at]
    if isinstance(indices_or_sections, (list, tuple)):
        cuts = [
            max(0, min(cut if cut >= 0 else cut + length, length)) for cut in map(whole, indices_or_sections)
        ]
    else:
        sections = whole(indices_or_sections)
        if sections < 1:
            raise RuntimeError(f"number of sections must be larger than 0, got {sections}")
        small, longer = divmod(length, sections)
        cuts = [part * small + min(part, longer) for part in range(1, sections)]
    bounds = zip([0, *cuts], [*cuts, length], strict=True)
    return tuple(narrow(input, at, start, max(stop - start, 0)) for start, stop in bounds)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """A view of each position of an axis."""
    if not input.ndim:
        raise IndexError("unbind: Dimension specified as 0 but tensor has no dimensions")
    at = axis(dim, input.ndim)
    return tuple(select(input, at, position) for position in range(input.shape[at]))


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """Elements of `input` where the condition is set, of `other` elsewhere; with one argument, indices."""
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if condition.dtype not in (dtypes.bool_, dtypes.uint8):
        raise RuntimeError(f"where expected condition to be a boolean tensor, but got {condition.dtype}")
    common = result_type(input, other)
    arrays = [_of(each, common) for each in (input, other)]
    try:
        return Tensor._of(np.asarray(np.where(condition._array != 0, *arrays)))
    except ValueError as error:
        raise RuntimeError(f"where: {error}") from None


def _of(each: Any, common: dtypes.dtype) -> Any:
    array = each._array if isinstance(each, Tensor) else np.asarray(each)
    return convert(array, common)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    order = list(range(len(given)))
    if indexing == "xy" and len(given) > 1:
        order[:2] = [1, 0]
    shape = [given[at].numel() for at in order]
    return tuple(
        each.reshape([-1 if at == order[axis_of] else 1 for axis_of in range(len(given))]).expand(shape)
        for at, each in enumerate(given)
    )


METHODS = (split, chunk, tensor_split, unbind)
FUNCTIONS = (cat, stack, vstack, hstack, split, chunk, tensor_split, unbind, where, meshgrid)
FUNCTION_ALIASES = {"concat": cat, "concatenate": cat}


def where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """`self.where(condition, other)`: the tensor's own elements where the condition is set."""
    made: Tensor = where(condition, self, other)
    return made


METHOD_ALIASES = {"where": where_method}

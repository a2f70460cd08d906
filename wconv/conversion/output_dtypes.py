"""Which dtype a tensor is written in: what the user asked for, within what MLX programs can load."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from wconv.consumers.mlx.dtypes import SUBSTITUTES
from wconv.errors import LayoutError
from wconv.quantized import names as quantized_names
from wconv.quantized.schemes import FP8_BLOCKS
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType

if TYPE_CHECKING:
    from wconv.tensors.lazy import LazyTensor

_BY_SOURCE = {row.source: row for row in SUBSTITUTES}
_BYTES_FOR_CONSUMERS = ("float8_e4m3fn", "float8_e8m0fnu")
_NONE: Mapping[str, str] = {}
_SCALE = re.compile(r"(?:[._](?:weight_)?scales?(?:_inv)?|_scale_inv)$")


def written_dtype(
    name: str,
    source: DType,
    requested: DType | None,
    names: Collection[str],
    keep: Collection[str] = (),
    *,
    for_torch: bool = False,
) -> DType:
    """The dtype in which a tensor is written.

    Floating types follow the request, except names in `keep` and fp8 with scales, which the consumer decodes
    itself (mlx-lm's sanitize calls `mx.from_fp8` on the bytes); integers and booleans stay.

    Args:
        requested: what `--dtype` asked for; None keeps the source's own where MLX can hold it.
        names: all names of the output, to find a tensor's scales.
        keep: names that the consumer does not cast.
        for_torch: torch will load it, which holds all types of whole bytes.
    """
    if source.name in _BYTES_FOR_CONSUMERS and _has_scales(name, names):
        return source
    if requested is not None and source.is_floating and name not in keep:
        return requested
    if for_torch and source.bits >= 8:
        return source
    substitute = _BY_SOURCE.get(source.name)
    return dtypes.BY_NAME[substitute.written] if substitute else source


def written_dtypes(
    tensors: Mapping[str, LazyTensor],
    requested: DType | None,
    keep: Collection[str] = (),
    *,
    casts: Mapping[str, str] = _NONE,
    for_torch: bool = False,
) -> Iterator[DType]:
    """What `written_dtype` says of each tensor of a state dict, in order.

    Weights in a quantization scheme, and what belongs to them, keep their bytes.

    Args:
        casts: what becomes of dtypes where nothing is requested.

    Raises:
        LayoutError: the request would cast what belongs to such weights.
    """
    found = quantized_names.recognise(tensors)
    members = found.members if found else frozenset()
    # such a scheme has further narrow tensors without scales; what decodes DeepSeek's does not know them
    whole = found is not None and requested is None and found.scheme is not FP8_BLOCKS
    usual: dict[str, DType] = {}
    for name, tensor in tensors.items():
        source = tensor.dtype
        if (name in members and name not in keep) or (whole and quantized_names.is_narrow(source)):
            refused = requested is not None and source.is_floating and source is not requested
            if found is not None and refused and source.bits >= 16:
                raise LayoutError(
                    f"{name} belongs to the weights of {found.scheme.title}, which are not decoded:"
                    " leave --dtype out to keep all as it is, or add -d (dequantize=True)"
                )
            yield source
            continue
        # elsewhere the name says nothing
        special = name in keep or source.name in _BYTES_FOR_CONSUMERS
        to = None if special else usual.get(source.name)
        if to is None:
            cast = casts.get(source.name)
            wanted = requested or (dtypes.by_name(cast) if cast is not None else None)
            to = written_dtype(name, source, wanted, tensors, keep, for_torch=for_torch)
            if not special:
                usual[source.name] = to
        yield to


def _has_scales(name: str, names: Collection[str]) -> bool:
    """`name` is a weight whose scales are there, or is itself the scales."""
    if _SCALE.search(name):
        return True
    return any(True for _ in quantized_names.companions(name, names))

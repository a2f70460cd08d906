"""Which names a file describes as one tensor made of several, as torchao does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MARK = "_qdata"
"""How the name of a part ends, of which there is one in most of them."""

SIGN = '{"_type": "'
"""What a description begins with."""

PLAIN = ("Tensor", "torch.Tensor")
"""What it says of a tensor that is only itself."""


def is_described(name: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a file says of a name that several tensors are that one."""
    said = metadata.get(name)
    return isinstance(said, str) and said.startswith(SIGN) and said[len(SIGN) :].split('"')[0] not in PLAIN


def has_any(names: Iterable[str], metadata: Mapping[str, Any]) -> bool:
    """Whether some of these tensors are parts of others, or a file says so."""
    return any(name.endswith(MARK) for name in names) or any(
        is_described(name, metadata) for name in metadata
    )


def is_loose(metadata: Mapping[str, Any]) -> bool:
    """Whether tensors were taken apart that a pickle holds: no program reads those as they are."""
    return "tensor_names" not in metadata and any(is_described(name, metadata) for name in metadata)

"""Variants of a model's weights in one directory: `model.fp16.safetensors` beside `model.safetensors`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wconv.errors import WconvError
from wconv.formats import registry

SHARD = r"-\d{5,6}-of-\d{5,6}"


def of_variant(names: Sequence[str], variant: str) -> list[str]:
    """The weights files and indexes of one variant, as diffusers and transformers name them.

    Raises:
        WconvError: `variant` is no word that a file name may have.
    """
    if not re.fullmatch(r"\w+", variant):
        raise WconvError(f"--variant {variant!r:.40} is no word such as fp16")
    suffix = f"(?:{'|'.join(map(re.escape, registry.shard_suffixes()))})"
    mark = re.escape(variant)
    wanted = re.compile(
        rf".+\.{mark}(?:{SHARD})?{suffix}|.+{SHARD}\.{mark}{suffix}|.+{suffix}\.index\.{mark}\.json"
    )
    return [name for name in names if wanted.fullmatch(name)]


def plain(name: str, variant: str | None) -> str:
    """A file's name without the variant's."""
    return name.replace(f".{variant}", "", 1) if variant else name

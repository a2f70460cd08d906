"""Names of files that training programs leave: known before any of their formats is imported."""

from __future__ import annotations

import re

METADATA = ".metadata"
"""What describes a checkpoint of `torch.distributed.checkpoint`."""

DESCRIPTIONS = frozenset({METADATA, "manifest.ocdbt", "_METADATA", "_CHECKPOINT_METADATA"})
"""Files that stand for the directory that they describe."""

SHARD = re.compile(r"shard-(?P<rank>\d{5})-model-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
"""A rank's file of torch's `HuggingFaceStorageWriter`."""


def is_piece(name: str) -> bool:
    """Whether a file's name says that its tensors are pieces."""
    return SHARD.fullmatch(name) is not None

"""Tensors that a consumer keeps among its weights and the source among its settings."""

from __future__ import annotations

from wconv.consumers import registry
from wconv.consumers.consumer import TensorMaker
from wconv.layouts.apply import Layout

SETTINGS = "generation_config.json"
"""The file of the settings."""


def tensor_maker(table: Layout | None) -> TensorMaker | None:
    """What makes tensors out of the settings for a layout; None where nothing is to be made."""
    if table is None or not table.config:
        return None
    makers = (one.tensor_makers() for one in registry.CONSUMERS)
    return next((found[table.config] for found in makers if table.config in found), None)

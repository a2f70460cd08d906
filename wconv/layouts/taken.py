"""Which consumers load weights in a quantization scheme as they are, and what is said of the others.

Facts: mlx-lm 0.32.2 `utils.py: load_model`, mlx-vlm 0.7.10 likewise. DeepSeek's 8-bit blocks are decoded by
the models that are published in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wconv.errors import LayoutError
from wconv.quantized_names import AWQ, FP8_BLOCKS, MLX, MXFP4, MXFP8, NVFP4, Described, Recognised, recognise

LANGUAGE = frozenset(one.name for one in (MLX, AWQ, NVFP4, MXFP4, MXFP8, FP8_BLOCKS)) | {"bitnet"}

TAKEN: Mapping[str, frozenset[str]] = {
    "mlx-lm": LANGUAGE,
    "mlx-vlm": LANGUAGE,
    "mflux": frozenset({MLX.name}),
    "mlx-examples": frozenset({MLX.name}),
}
"""Consumer → the schemes that it takes."""

ANY = "no MLX program"
"""Stands for whoever may load a model without a table."""


def check_taken(
    consumer: str, tensors: Mapping[str, Described], config: Mapping[str, Any] | None = None
) -> Recognised | None:
    """What the weights of a checkpoint are stored in; None where they are plain.

    Raises:
        LayoutError: in a scheme that the consumer (or, for `ANY`, every one) does not take as it is.
    """
    found = recognise(tensors, config)
    if found is None:
        return None
    takers = TAKEN.values() if consumer == ANY else [TAKEN.get(consumer, frozenset())]
    if not any(found.scheme.name in taken for taken in takers):
        raise refusal(found, consumer)
    return found


def refusal(found: Recognised, consumer: str, name: str | None = None) -> LayoutError:
    """Says that a scheme is neither decoded nor taken by a consumer."""
    whom = f"{consumer} loads it" if consumer == ANY else f"{consumer} does not load it as it is"
    return LayoutError(
        f"{name or found.example} shows {found.scheme.title}, which is not decoded, and {whom}:"
        " convert the model in 16 bits, or copy this one unchanged with --layout hf and without --dtype"
    )

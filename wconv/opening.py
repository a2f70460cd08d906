"""`wconv.open`: checkpoints of every kind, those of models whose tensors lie in pieces among them."""

from __future__ import annotations

import os

from wconv.checkpoints import open as checkpoints
from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers.pieces import PIECES
from wconv.old_names import takes_old_names


@takes_old_names
def open(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    variant: str | None = None,
    allow_inflation: bool = False,
    skip_unreadable: bool = False,
    config: str | os.PathLike[str] | None = None,
) -> Checkpoint:
    """Opens a weights file, or a directory with one, with numbered shards, or with shards and an index; or
    what a training program saved of several ranks.

    Only what describes the tensors is read; each is read when it is asked for its values.

    Args:
        path: a weights file of any supported format, or a model directory.
        key: for a wrapped PyTorch checkpoint, the path to its state dict ("model.encoder"); found if absent.
        variant: of a directory's weights, those called so ("fp16" for `model.fp16.safetensors`).
        allow_inflation: allows tensors that take far more than their file (expanded views, sparse, deflated).
        skip_unreadable: allows tensors whose values cannot be had (on the meta device, of an unknown class):
            they are left out and stand in `skipped`.
        config: a directory with config.json, in place of the one beside the weights.

    Raises:
        FormatError: nothing there, or not all of it, can be read; the message names the file and says why.
        UnsafeError: a file asks for something that no weights need.

    Example:
        >>> checkpoint = wconv.open("model.ckpt")
        >>> checkpoint["linear.weight"].shape
        (200, 4)
    """
    return checkpoints.open(
        path,
        key=key,
        variant=variant,
        allow_inflation=allow_inflation,
        skip_unreadable=skip_unreadable,
        pieces=PIECES,
        config=config,
    )

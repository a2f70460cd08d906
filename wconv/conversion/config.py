"""config.json as it is written beside the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import config_dtypes
from wconv.consumers.lay_out import PreparedModel
from wconv.consumers.mlx import config_fields
from wconv.conversion.request import Request
from wconv.writing.plan import Entry


@dataclass(frozen=True, slots=True)
class WrittenConfig:
    """What becomes of config.json.

    Attributes:
        fields: all of it, where it is written anew; None where the source's is copied, or there is none.
        added: the fields that it gained for the consumers.
        notes: what the user should know of it.
    """

    fields: dict[str, Any] | None
    added: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def written_config(
    request: Request, opened: Checkpoint, entries: Sequence[Entry], laid: PreparedModel, *, has_sidecars: bool
) -> WrittenConfig:
    """The config that fits the weights as they are written: their dtypes, tied heads, the consumer's fields.

    Args:
        has_sidecars: whether anything is written beside the weights.
    """
    sizes = config_dtypes.sizes_of((entry.dtype, entry.tensor.shape) for entry in entries)
    if laid.config is not None and not request.single:
        return WrittenConfig(config_dtypes.corrected(laid.config, sizes)[0])
    untied = laid.applied.untied
    if not has_sidecars or opened.config is None:
        return WrittenConfig(None)
    if laid.form is not None:
        config, said = config_dtypes.corrected(opened.config, sizes)
        if untied:
            return WrittenConfig(config_fields.untied(config))
        return WrittenConfig(config if said else None)
    config, added = config_fields.normalise(opened.config)
    dtype = config_dtypes.of_weights(sizes)
    said = ""
    if request.dtype is not None and dtype is not None:
        config = config_dtypes.with_dtype(config, dtype.name)
    else:
        config, said = config_dtypes.corrected(config, sizes)
    if untied:
        config = config_fields.untied(config)
    for name in laid.stale:
        config.pop(name, None)
    return WrittenConfig(config, added, (config_dtypes.note(said, sizes),) if said else ())


def as_read(config: Mapping[str, Any] | None, untied: Sequence[str]) -> Mapping[str, Any] | None:
    """A source's config.json with all that the consumers will read in the one that is written.

    Args:
        untied: output layers that differ from the embedding, whatever it says.
    """
    if config is None:
        return None
    read, _ = config_fields.normalise(config)
    return config_fields.untied(read) if untied else read


def untied_notes(untied: Sequence[str], config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What happened, or is to be done, where a head that is said to be tied is another matrix."""
    if config is not None:
        what = "config.json says so now: tie_word_embeddings is false"
    else:
        what = "load it with a config.json in which tie_word_embeddings is false"
    return tuple(f"{name} differs from the embedding and is kept; {what}" for name in untied)

"""`open(path)`: a weights file or a model directory becomes one mapping from names to lazy tensors."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wconv import formats
from wconv.checkpoints import model_parallel, weights_files
from wconv.checkpoints.checkpoint import Checkpoint, check_lost
from wconv.checkpoints.hints import missing_source
from wconv.checkpoints.index import check_index
from wconv.checkpoints.locate import locate
from wconv.checkpoints.training import file_names
from wconv.checkpoints.variants import of_variant
from wconv.checkpoints.weights_files import is_weights
from wconv.errors import FormatError, os_errors_as, require_name
from wconv.formats import prefixes, registry
from wconv.formats.side_files import PIPELINE_INDEX, read_json
from wconv.quantized import names as quantized_names
from wconv.tensors.lazy import LazyTensor

if TYPE_CHECKING:
    from wconv.checkpoints.training.opening import TrainingPlace

CONFIG = "config.json"
"""What says what the model is."""

QUANTIZATION = "hf_quant_config.json"
"""Where ModelOpt says how weights are quantized."""


@os_errors_as(FormatError, "read")
def open(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    variant: str | None = None,
    allow_inflation: bool = False,
    skip_unreadable: bool = False,
    pieces: Sequence[tuple[str, str]] = (),
    config: str | os.PathLike[str] | None = None,
) -> Checkpoint:
    """Opens a weights file, or a directory with one, with numbered shards, or with shards and an index; or
    what a training program saved of several ranks.

    Args:
        key: for a wrapped PyTorch checkpoint, the path to its state dict ("model.encoder").
        variant: of a directory's weights, those called so ("fp16" for `model.fp16.safetensors`).
        allow_inflation: allows tensors that take far more than their file (expanded views, sparse, deflated).
        skip_unreadable: allows tensors whose values cannot be had (on the meta device, of an unknown class):
            they are left out and stand in `skipped`.
        pieces: how tensors are cut whose pieces lie in the files of several ranks, as for
            `model_parallel.join`; such files are refused without.
        config: a directory with config.json and tokenizer, in place of those beside the weights.

    Raises:
        FormatError: nothing there, or not all of it, can be read; the message names the file and says why.
        UnsafeError: a file asks for something that no weights need.
    """
    require_name(path, kind=FormatError)
    place = locate(path)
    if place.name in file_names.DESCRIPTIONS and place.is_file():
        place = place.parent
    if place.is_dir():
        opened = _open_directory(place, key, variant, allow_inflation, pieces)
    else:
        opened = _open_file(place, key, allow_inflation)
    if config is not None:
        opened = _with_config(opened, config)
    if not skip_unreadable:
        check_lost(place, opened.lost, others=bool(opened.tensors))
    return opened


def _with_config(opened: Checkpoint, config: str | os.PathLike[str]) -> Checkpoint:
    """A checkpoint with the config of another directory. Raises `FormatError`."""
    require_name(config, "the directory of config.json", FormatError)
    directory = Path(config)
    if directory.name == CONFIG and directory.is_file():
        directory = directory.parent
    if not (directory / CONFIG).is_file():
        raise FormatError(f"{directory} has no {CONFIG}: --config names a directory with one")
    return dataclasses.replace(opened, config=read_json(directory / CONFIG), beside=directory)


def _open_training(source: Path, place: TrainingPlace, key: str | None, allow_inflation: bool) -> Checkpoint:
    """What a training program saved in a directory."""
    from wconv.checkpoints.training import opening as training

    found = training.read(place.directory, place.kind, place.found, key, allow_inflation)
    beside = training.beside(source, place.directory)
    contents = found.contents
    return Checkpoint(
        source,
        contents.format,
        contents.tensors,
        found.files,
        read_json(beside / CONFIG) if (beside / CONFIG).is_file() else None,
        metadata=contents.metadata,
        skipped=contents.skipped,
        notes=(*place.notes, *contents.notes),
        ties=contents.ties,
        not_numbers=contents.not_numbers,
        beside=beside,
        in_pieces=True,
    )


def _open_file(place: Path, key: str | None, allow_inflation: bool) -> Checkpoint:
    if not place.exists():
        raise FormatError(missing_source(place))
    (contents,) = _without_prefixes([formats.open_file(str(place), key=key, allow_inflation=allow_inflation)])
    return Checkpoint(
        place,
        contents.format,
        contents.tensors,
        (place,),
        metadata=contents.metadata,
        skipped=contents.skipped,
        notes=contents.notes,
        ties=contents.ties,
        modules=contents.modules,
        not_numbers=contents.not_numbers,
    )


def _open_directory(
    directory: Path,
    key: str | None,
    variant: str | None,
    allow_inflation: bool,
    pieces: Sequence[tuple[str, str]],
) -> Checkpoint:
    names = [name for name in weights_files.listdir(directory) if not os.path.isdir(directory / name)]
    if PIPELINE_INDEX in names:
        raise FormatError(f"{directory} is a pipeline: open its components, such as {directory}/transformer")
    if variant is None and not any(_is_flat(name) for name in names):
        from wconv.checkpoints.training import opening as training

        place = training.find(directory, names, deep=not any(map(is_weights, names)))
        if place is not None:
            return _open_training(directory, place, key, allow_inflation)
    config = read_json(directory / CONFIG) if CONFIG in names else None
    wanted = of_variant(names, variant) if variant else names
    if variant and not wanted:
        raise FormatError(f"{directory} holds no {variant} variant of the weights")
    found = weights_files.find_weights(directory, wanted, variant)
    shards, index, weight_map = found.shards, found.index, found.listed
    in_pieces = bool(shards) and model_parallel.PIECE.fullmatch(shards[0]) is not None
    merged = _merge(directory, shards, key, allow_inflation, apart=in_pieces)
    unlisted = check_index(directory, index, weight_map, merged, config) if index and weight_map else ()
    merged = _without_prefixes(merged)
    left_out = {
        name: "not in the index" if weight_map is not None else "other weights were taken"
        for name in names
        if name not in shards and is_weights(name)
    }
    return Checkpoint(
        directory,
        merged[0].format if merged else "",
        _joined([contents.tensors for contents in merged], directory, pieces if in_pieces else None),
        tuple(directory / shard for shard in shards),
        config,
        _join_metadata(shards, merged),
        {name: reason for contents in merged for name, reason in contents.skipped.items()},
        left_out,
        tuple(
            dict.fromkeys(
                (*found.notes, *unlisted, *(note for contents in merged for note in contents.notes))
            )
        ),
        tuple(tie for contents in merged for tie in contents.ties),
        {path: module for contents in merged for path, module in contents.modules.items()},
        _params(directory) if config is None and model_parallel.PARAMS in names else None,
        _quantization(directory, config) if config is not None and QUANTIZATION in names else None,
        frozenset(name for contents in merged for name in contents.not_numbers),
    )


def _is_flat(name: str) -> bool:
    """Whether a file is a model's safetensors: what a trainer keeps beside it is not looked at then."""
    return name.endswith(registry.SAFETENSORS.suffixes) and not file_names.is_piece(name)


def _joined(
    parts: list[dict[str, LazyTensor]], directory: Path, pieces: Sequence[tuple[str, str]] | None
) -> dict[str, LazyTensor]:
    """The tensors of all files as one mapping, made anew only where there are several."""
    if pieces is not None:
        return model_parallel.join_pieces(parts, directory, pieces)
    if len(parts) == 1:
        return parts[0]
    return {name: tensor for part in parts for name, tensor in part.items()}


def _quantization(directory: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """ModelOpt's hf_quant_config.json, which counts where config.json has no such settings."""
    said = bool(quantized_names.config_of(config)) or "quantization" in config
    return None if said else read_json(directory / QUANTIZATION)


def _without_prefixes(merged: list[formats.Contents]) -> list[formats.Contents]:
    """safetensors files without what wrappers put before every name; pickles have been read so."""
    flat = registry.SAFETENSORS.name
    names = [name for contents in merged if contents.format == flat for name in contents.tensors]
    if not prefixes.may_have(names):
        return merged
    short, taken = prefixes.strip_prefixes(names)
    if not taken:
        return merged
    return [
        dataclasses.replace(
            contents,
            tensors={short[name]: tensor for name, tensor in contents.tensors.items()},
            notes=(*contents.notes, prefixes.note(taken)),
        )
        if contents.format == flat
        else contents
        for contents in merged
    ]


def _params(directory: Path) -> dict[str, Any]:
    """params.json without its `model_type`, which is none of transformers'."""
    found = read_json(directory / model_parallel.PARAMS)
    return {name: value for name, value in found.items() if name != "model_type"}


def _merge(
    directory: Path, shards: list[str], key: str | None, allow_inflation: bool, *, apart: bool
) -> list[formats.Contents]:
    """All files' contents; a name may stand in several only where they are pieces to be joined."""
    merged: list[formats.Contents] = []
    owner: dict[str, str] = {}
    for shard in shards:
        contents = formats.open_file(str(directory / shard), key=key, allow_inflation=allow_inflation)
        if not apart and not owner.keys().isdisjoint(contents.tensors):
            name = next(name for name in contents.tensors if name in owner)
            raise FormatError(f"{directory}: {name:.80} stands in both {owner[name]} and {shard}")
        owner.update(dict.fromkeys(contents.tensors, shard))
        merged.append(contents)
    return merged


def _join_metadata(shards: list[str], merged: list[formats.Contents]) -> Mapping[str, Any]:
    """One file's metadata as it is; of several, what they agree on, and the rest by shard."""
    if len(merged) == 1:
        return merged[0].metadata
    joined: dict[str, Any] = {}
    for shard, contents in zip(shards, merged, strict=True):
        for name, value in contents.metadata.items():
            if name not in joined:
                joined[name] = value
            elif joined[name] is not value and repr(joined[name]) != repr(value):
                joined[f"{shard}:{name}"] = value
    return joined

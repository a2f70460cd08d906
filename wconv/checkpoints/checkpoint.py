"""`open(path)`: a weights file or a model directory becomes one mapping from names to lazy tensors."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv import formats
from wconv.checkpoints import model_parallel, weights_files
from wconv.checkpoints.hints import absent
from wconv.checkpoints.variants import of_variant
from wconv.checkpoints.weights_files import Found
from wconv.errors import FormatError, require_name, told
from wconv.formats import prefixes
from wconv.formats.modules import Module
from wconv.formats.side_files import PIPELINE_INDEX, read_json
from wconv.old_names import takes_old_names
from wconv.quantized import names as quantized_names
from wconv.stores import files
from wconv.tensors.lazy import LazyTensor
from wconv.wording import fitted, plural

NUMBERED = re.compile(r"(?P<stem>.+?)-(?P<number>\d{5,6})-of-(?P<count>\d{5,6})(?P<suffix>\.[A-Za-z.]+)")

PREFERENCE = (
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "*.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.npz",
)
"""Which weights of a directory are taken, the first that is there: safetensors before pickles."""

COMPLETE = tuple(pattern for pattern in PREFERENCE if "*" not in pattern)
"""What is sure to be a whole model, where the files that an index lists are not there."""

NOT_WEIGHTS = (
    "training_args.bin",
    "optimizer.bin",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "scaler.pt",
)
"""What trainers leave beside a model under the names of weights."""

QUANTIZATION = "hf_quant_config.json"
"""Where ModelOpt says how weights are quantized."""

ADAPTERS, EARLIER = "adapters.safetensors", re.compile(r"\d+_adapters\.safetensors")
"""What mlx-lm trains, and what it keeps of it on the way (mlx-lm 0.32, `tuner/trainer.py`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint(Mapping[str, LazyTensor]):
    """A state dict that has been opened but not read: `checkpoint["lm_head.weight"].numpy()` reads.

    Attributes:
        path: what was opened.
        format: what it is, in words ("safetensors", "PyTorch zip").
        tensors: name → lazy tensor, in the order of the files.
        files: the weights files, in order.
        config: config.json of a model directory, else None.
        params: params.json of a directory without config.json, else None.
        quantization: hf_quant_config.json of a directory, where config.json says nothing of the kind.
        metadata: what else the files say, as plain data.
        skipped: what cannot be had, each with the reason: tensors, where `skip_unreadable` allowed it, and
            arrays that are of no numbers.
        left_out: weights files in the directory that were not opened, each with the reason.
        notes: what the user should be told.
        ties: groups of names that share their bytes.
        modules: the modules that the tensors belong to, by dotted path, where a file holds whole modules.
        not_numbers: those of `skipped` that hold texts, dates or records, which no weights do.

    Example:
        >>> with wconv.open("model.ckpt") as checkpoint:
        ...     array = checkpoint["linear.weight"].numpy()
        >>> array.shape
        (200, 4)
    """

    path: Path
    format: str
    tensors: dict[str, LazyTensor]
    files: tuple[Path, ...]
    config: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    modules: Mapping[str, Module] = field(default_factory=dict)
    params: Mapping[str, Any] | None = None
    quantization: Mapping[str, Any] | None = None
    not_numbers: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> LazyTensor:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return fitted(f"<Checkpoint {self.path}: {self.format}, {plural(len(self), 'tensor')}>")

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the files; a tensor that is read after that opens its own again."""
        for file in self.files:
            files.close(str(file))

    @property
    def description(self) -> Mapping[str, Any] | None:
        """What is said of the model: by config.json or params.json, or by `dims` beside a file's weights."""
        if self.config is not None and self.quantization is not None:
            return {**self.config, "quantization_config": self.quantization}
        if self.config is not None or self.params is not None:
            return self.config if self.config is not None else self.params
        dims = self.metadata.get("dims")
        return {"dims": dims} if isinstance(dims, Mapping) else None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors in their stored dtypes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def lost(self) -> dict[str, str]:
        """The tensors among `skipped`."""
        return {name: reason for name, reason in self.skipped.items() if name not in self.not_numbers}


def check_lost(path: Path, lost: Mapping[str, str], *, others: bool) -> None:
    """Refuses to go on without tensors that a file has, be there others or not. Raises `FormatError`."""
    if lost:
        name, reason = next(iter(lost.items()))
        more = f" (and {len(lost) - 1:,} more)" if len(lost) > 1 else ""
        advice = f"; --skip-unreadable (skip_unreadable=True) goes on without {'them' if more else 'it'}"
        raise FormatError(
            f"{path}: {name:.100} cannot be read: {reason:.200}{more}{advice if others else ''}"
        )


@takes_old_names
@told(FormatError, "read")
def open(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    variant: str | None = None,
    allow_inflation: bool = False,
    skip_unreadable: bool = False,
) -> Checkpoint:
    """Opens a weights file, or a directory with one, with numbered shards, or with shards and an index.

    Args:
        key: for a wrapped PyTorch checkpoint, the path to its state dict ("model.encoder").
        variant: of a directory's weights, those called so ("fp16" for `model.fp16.safetensors`).
        allow_inflation: allows tensors that take far more than their file (expanded views, sparse, deflated).
        skip_unreadable: allows tensors whose values cannot be had (on the meta device, of an unknown class):
            they are left out and stand in `skipped`.

    Raises:
        FormatError: nothing there, or not all of it, can be read; the message names the file and says why.
        UnsafeError: a file asks for something that no weights need.

    Example:
        >>> {name: tensor.shape for name, tensor in wconv.open("model.ckpt").items()}
        {'linear.weight': (200, 4)}
    """
    require_name(path, kind=FormatError)
    place = Path(path)
    if place.is_dir():
        opened = _open_directory(place, key, variant, allow_inflation)
    else:
        opened = _open_file(place, key, allow_inflation)
    if not skip_unreadable:
        check_lost(place, opened.lost, others=bool(opened.tensors))
    return opened


def _open_file(place: Path, key: str | None, expand: bool) -> Checkpoint:
    if not place.exists():
        raise FormatError(absent(place))
    (contents,) = _without_prefixes([formats.open_file(str(place), key=key, expand=expand)])
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


def _open_directory(directory: Path, key: str | None, variant: str | None, expand: bool) -> Checkpoint:
    names = [name for name in weights_files.listdir(directory) if not os.path.isdir(directory / name)]
    if PIPELINE_INDEX in names:
        raise FormatError(f"{directory} is a pipeline: open its components, such as {directory}/transformer")
    config = read_json(directory / "config.json") if "config.json" in names else None
    wanted = of_variant(names, variant) if variant else names
    if variant and not wanted:
        raise FormatError(f"{directory} holds no {variant} variant of the weights")
    found = _find(directory, wanted, variant)
    shards, index, weight_map = found.shards, found.index, found.listed
    pieces = bool(shards) and model_parallel.PIECE.fullmatch(shards[0]) is not None
    merged = _merge(directory, shards, key, expand, apart=pieces)
    unlisted = _check_index(directory, index, weight_map, merged, config) if index and weight_map else ()
    merged = _without_prefixes(merged)
    left_out = {
        name: "not in the index" if weight_map is not None else "other weights were taken"
        for name in names
        if name not in shards and is_weights(name)
    }
    return Checkpoint(
        directory,
        merged[0].format if merged else "",
        _joined([contents.tensors for contents in merged], directory, pieces=pieces),
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


def _joined(parts: list[dict[str, LazyTensor]], directory: Path, *, pieces: bool) -> dict[str, LazyTensor]:
    """The tensors of all files as one mapping, made anew only where there are several."""
    if pieces:
        return model_parallel.join(parts, directory)
    if len(parts) == 1:
        return parts[0]
    return {name: tensor for part in parts for name, tensor in part.items()}


def _quantization(directory: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """ModelOpt's hf_quant_config.json, which counts where config.json has no such settings."""
    said = bool(quantized_names.config_of(config)) or "quantization" in config
    return None if said else read_json(directory / QUANTIZATION)


def _without_prefixes(merged: list[formats.Contents]) -> list[formats.Contents]:
    """safetensors files without what wrappers put before every name; pickles have been read so."""
    names = [name for contents in merged if contents.format == "safetensors" for name in contents.tensors]
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
        if contents.format == "safetensors"
        else contents
        for contents in merged
    ]


def _params(directory: Path) -> dict[str, Any]:
    """params.json without its `model_type`, which is none of transformers'."""
    found = read_json(directory / model_parallel.PARAMS)
    return {name: value for name, value in found.items() if name != "model_type"}


def _find(directory: Path, names: list[str], variant: str | None) -> Found:
    """The weights: by an index where there is one, of safetensors before PyTorch's, else by name.

    Raises:
        FormatError: there are none, several, or not all that an index lists and nothing complete instead.
    """
    safe, pickled = weights_files.indexes(names, variant)
    listed: set[str] = set()
    refused: FormatError | None = None
    first = ""
    for at, index in enumerate((*safe, *pickled)):
        if at == len(safe):
            others = [name for name in names if name not in listed and name.endswith(".safetensors")]
            if not safe and others:
                break
            whole = _complete(directory, others, variant) if refused else None
            if whole is not None:
                return _instead(first, whole)
        weight_map = _weight_map(directory, index)
        shards, error = weights_files.missing(directory, index, weight_map)
        if error is None:
            notes = (weights_files.instead(first, index),) if refused else ()
            return Found(shards, index, weight_map, notes)
        listed.update(shards)
        refused, first = refused or error, first or index
    if refused is None:
        return Found(_find_weights(directory, names))
    whole = _complete(directory, [name for name in names if name not in listed], variant)
    if whole is None:
        raise refused
    return _instead(first, whole)


def _instead(index: str, shards: list[str]) -> Found:
    """Files that are taken because those that an index lists are not there."""
    more = f" and {len(shards) - 1} more" if len(shards) > 1 else ""
    return Found(shards, notes=(weights_files.instead(index, shards[0] + more),))


def _complete(directory: Path, names: list[str], variant: str | None) -> list[str] | None:
    """Files that are surely a whole model; None where there are none."""
    try:
        return _find_weights(directory, names, PREFERENCE if variant else COMPLETE)
    except FormatError:
        return None


def _weight_map(directory: Path, index: str) -> dict[str, str]:
    weight_map = read_json(directory / index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{directory / index} has no weight_map: delete it, or download it again")
    if set(map(type, weight_map.values())) == {str} and all(map(is_plain, set(weight_map.values()))):
        return weight_map
    odd = (pair for pair in weight_map.items() if not isinstance(pair[1], str) or not is_plain(pair[1]))
    name, shard = next(odd)
    raise FormatError(
        f"{directory / index} places {name!r:.80} in {shard!r:.80}, no plain file name: refused"
    )


def is_plain(name: str) -> bool:
    """A file name that stays within its directory on every system, and fits on a line."""
    if not 0 < len(name) < 256 or name in (".", "..") or not name.isprintable():
        return False
    return not any(sign in name for sign in "/\\:")


def _find_weights(directory: Path, names: list[str], patterns: Sequence[str] = PREFERENCE) -> list[str]:
    """The weights files of a directory that has no index: the first of `patterns` that is there."""
    candidates = [name for name in names if is_weights(name)]
    if ADAPTERS in candidates:
        candidates = [name for name in candidates if not EARLIER.fullmatch(name)]
    families: dict[str, list[str]] = {}
    for name in candidates:
        numbered = NUMBERED.fullmatch(name)
        piece = model_parallel.PIECE.fullmatch(name)
        family = f"consolidated.*.{piece['suffix']}" if piece else name
        families.setdefault(numbered["stem"] + numbered["suffix"] if numbered else family, []).append(name)
    for wanted in patterns:
        if wanted in families:
            found = [wanted]
        else:
            found = [name for name in families if wanted[0] == "*" and name.endswith(wanted[1:])]
        if len(found) > 1:
            raise FormatError(
                f"{directory} holds several weights files ({', '.join(found[:4])}"
                f"{', …' if len(found) > 4 else ''}): name the one to convert"
            )
        if found:
            _check_numbers(directory, families[found[0]])
            if model_parallel.PIECE.fullmatch(families[found[0]][0]):
                return model_parallel.order(families[found[0]], directory)
            return families[found[0]]
    raise FormatError(f"{directory} holds no weights (no *.safetensors, *.bin, *.pt …)")


def _check_numbers(directory: Path, shards: list[str]) -> None:
    """`…-00002-of-00004` promises four files: each must be there, once."""
    numbered = [match for name in shards if (match := NUMBERED.fullmatch(name))]
    if not numbered:
        return
    counts = {int(match["count"]) for match in numbered}
    if len(counts) > 1 or len(numbered) != len(shards):
        raise FormatError(f"{directory} mixes shards of several sets ({shards[0]}, {shards[-1]}): keep one")
    count = counts.pop()
    present = {int(match["number"]) for match in numbered}
    first = 0 if 0 in present else 1
    missing = [number for number in range(first, first + min(count, 10**6)) if number not in present]
    if missing:
        name = numbered[0]
        width = len(name["number"])
        lost = f"{name['stem']}-{missing[0]:0{width}}-of-{name['count']}{name['suffix']}"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FormatError(f"{directory / lost}{more} is missing: download it again")


def is_weights(name: str) -> bool:
    """Whether a file's name says that it holds weights."""
    return name.endswith(WEIGHTS_SUFFIXES) and name not in NOT_WEIGHTS


WEIGHTS_SUFFIXES = tuple(dict.fromkeys(os.path.splitext(pattern)[1] for pattern in PREFERENCE))


def _merge(
    directory: Path, shards: list[str], key: str | None, expand: bool, *, apart: bool
) -> list[formats.Contents]:
    """All files' contents; a name may stand in several only where they are pieces to be joined."""
    merged: list[formats.Contents] = []
    owner: dict[str, str] = {}
    for shard in shards:
        contents = formats.open_file(str(directory / shard), key=key, expand=expand)
        if not apart and not owner.keys().isdisjoint(contents.tensors):
            name = next(name for name in contents.tensors if name in owner)
            raise FormatError(f"{directory}: {name:.80} stands in both {owner[name]} and {shard}")
        owner.update(dict.fromkeys(contents.tensors, shard))
        merged.append(contents)
    return merged


def _check_index(
    directory: Path,
    index: str,
    weight_map: Mapping[str, str],
    merged: list[formats.Contents],
    config: Mapping[str, Any] | None,
) -> tuple[str, ...]:
    """Index and shards must say the same.

    PyTorch shards may hold more (tied heads), and both may lack one of two names of one matrix: it is told.
    """
    shards = sorted(set(weight_map.values()))
    if merged[0].format != "safetensors" and prefixes.may_have(weight_map):
        # as the names in the files were read
        short, _ = prefixes.strip_prefixes(list(weight_map))
        weight_map = {short[name]: shard for name, shard in weight_map.items()}
    if weight_map == {
        name: shard for shard, contents in zip(shards, merged, strict=True) for name in contents.tensors
    }:
        return ()
    unlisted: list[str] = []
    held: set[str] = set()
    for shard, contents in zip(shards, merged, strict=True):
        held.update(contents.tensors, contents.skipped)
        for name in contents.tensors:
            listed = weight_map.get(name)
            if listed is None and contents.format != "safetensors":
                unlisted.append(f"{name:.200} is in {shard} though {index} does not list it")
            elif listed != shard:
                where = f"places in {listed}" if listed else "does not list"
                raise FormatError(
                    f"{directory / shard} holds {name:.80}, which {index} {where}:"
                    " download both again, or delete the index"
                )
    for name, shard in weight_map.items():
        if name not in held:
            other = weights_files.tied(name, held, config)
            if other is not None:
                unlisted.append(f"{name:.200} is in no file though {index} lists it: tied to {other:.200}")
                continue
            raise FormatError(
                f"{name:.80} is missing: {index} places it in {directory / shard}, which lacks it"
            )
    return tuple(unlisted)


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

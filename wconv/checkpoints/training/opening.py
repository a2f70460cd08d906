"""Which kind of training checkpoint a directory is, and the checkpoint that it makes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv.checkpoints.training import dcp, hub_shards, megatron, orbax, rank_files, trainer_names, zero
from wconv.checkpoints.training.saved import RankFiles, is_below
from wconv.errors import FormatError
from wconv.formats import check_names
from wconv.formats.contents import Contents, Tree
from wconv.formats.sources import MemorySource
from wconv.formats.torch import file as torch_file
from wconv.stores.files import SourceFile


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which training programs save pieces.

    Attributes:
        format: what it is called in messages.
        find: the files that tell it, among the names of a directory's files; none where it is another.
        read: the object that was saved, and the files that it lies in.
    """

    format: str
    find: Callable[[Path, Sequence[str]], list[str]]
    read: Callable[[Path, Sequence[str]], tuple[Any, RankFiles]]


ORBAX = "Orbax"

KINDS = (
    Kind("torch.distributed.checkpoint", dcp.find, dcp.read),
    Kind("torch.distributed.checkpoint in safetensors", hub_shards.find, hub_shards.read),
    Kind("PyTorch rank files", rank_files.find, rank_files.read),
    Kind("DeepSpeed ZeRO", zero.find, zero.read),
    Kind("Megatron ranks", megatron.find, megatron.read),
    Kind(ORBAX, orbax.find, orbax.read),
)
"""The kinds, in the order in which a directory is compared with them."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A training checkpoint: what is in it, and the files that it lies in."""

    contents: Contents
    files: tuple[Path, ...]


def kind_of(directory: Path, names: Sequence[str]) -> tuple[Kind, list[str]] | None:
    """The kind of a directory with files of these names, and those that tell; None where it is none."""
    for kind in KINDS:
        found = kind.find(directory, names)
        if found:
            return kind, found
    return None


def read(directory: Path, kind: Kind, found: Sequence[str], key: str | None, expand: bool) -> Opened:
    """Opens a training checkpoint.

    Args:
        found: the files that told its kind.
        key: where in what was saved the state dict lies; found when absent.
        expand: allows tensors that take far more than the files.

    Raises:
        FormatError: a file is missing or damaged, or not all of a tensor is there.
        UnsafeError: a file asks for something that no weights need.
    """
    root, held = kind.read(directory, found)
    root, inner, notes = trainer_names.by_prefix(root, key)
    if kind.format == ORBAX and key is None:
        root, notes = orbax.without_state(root)
    where = MemorySource(b"", str(directory))
    where.size = held.nbytes
    contents = torch_file.contents(Tree(kind.format, root, held.nbytes), where, inner, expand)
    contents = dataclasses.replace(contents, notes=(*notes, *contents.notes, *held.notes), root=None)
    check_names(contents, str(directory))
    return Opened(trainer_names.stripped(contents, whole=key is None), held.files)


@dataclass(frozen=True, slots=True)
class TrainingPlace:
    """Where in a directory a training checkpoint lies: it itself, or a sub-directory.

    Attributes:
        found: the files that tell its kind.
        notes: what the user should be told.
    """

    directory: Path
    kind: Kind
    found: list[str]
    notes: tuple[str, ...] = ()


TAG_FILES = ("latest", "latest_checkpointed_iteration.txt")
"""What names the sub-directory that was saved last."""

NOT_MODELS = ("optim", "critic", "ref", "reward", "scheduler", "dataloader", "rng", "train_state")
"""How sub-directories begin that hold something else than the model."""

SUBDIRECTORIES = 200
"""Sub-directories that are looked into."""


def find(directory: Path, names: Sequence[str], *, deep: bool) -> TrainingPlace | None:
    """The training checkpoint that a directory is or holds; None where there is none.

    Args:
        names: of its files.
        deep: whether it may lie in a sub-directory.

    Raises:
        FormatError: it holds several.
    """
    here = kind_of(directory, names)
    if here is not None:
        return TrainingPlace(directory, *here)
    if not deep:
        return None
    inner_item = orbax.item(directory, names)
    if inner_item is not None:
        place, taken = inner_item
        inner = _look(place)
        if inner is not None:
            return dataclasses.replace(inner, notes=(f"took {taken}", *inner.notes))
    tag = _tag(directory, names)
    if tag:
        inner = _look(directory / tag)
        if inner is not None:
            return dataclasses.replace(inner, notes=(f"took {tag}, the latest", *inner.notes))
    found: dict[str, TrainingPlace] = {}
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name)[:SUBDIRECTORIES]:
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith((".", *NOT_MODELS)):
            inner = _look(directory / entry.name)
            if inner is not None:
                found[entry.name] = inner
    if len(found) > 1:
        raise FormatError(
            f"{directory} holds several training checkpoints ({', '.join(list(found)[:4])}"
            f"{', …' if len(found) > 4 else ''}): name the one to convert"
        )
    for name, inner in found.items():
        return dataclasses.replace(inner, notes=(f"took {name}", *inner.notes))
    return None


def _look(directory: Path) -> TrainingPlace | None:
    """The training checkpoint that a sub-directory is."""
    try:
        names = sorted(entry.name for entry in os.scandir(directory) if entry.is_file())
    except OSError:
        return None
    here = kind_of(directory, names)
    return TrainingPlace(directory, *here) if here is not None else None


def _tag(directory: Path, names: Sequence[str]) -> str:
    """The sub-directory that was saved last, by the file that says so; "" where nothing does."""
    for name in TAG_FILES:
        if name in names:
            text = SourceFile(str(directory / name))
            tag = text.read(0, min(text.size, 200)).decode("utf-8", "replace").strip()
            tag = f"iter_{int(tag):07d}" if tag.isascii() and tag.isdigit() else tag
            if is_below(tag) and "/" not in tag and (directory / tag).is_dir():
                return tag
    return ""


SIDE_DIRECTORIES = ("huggingface", "hf", "hf_config", "tokenizer")
"""Sub-directories in which trainers keep config and tokenizer."""


def beside(source: Path, directory: Path) -> Path:
    """The directory whose files stand beside the weights: the nearest with a config.json, else the source.

    Args:
        source: what the user named; `directory`, where the checkpoint lies, is it or within it.
    """
    candidates = [
        *(
            place
            for base in dict.fromkeys((source, directory))
            for place in (base, *(base / n for n in SIDE_DIRECTORIES))
        ),
        directory.absolute().parent,
        source.absolute().parent,
    ]
    return next((place for place in candidates if (place / "config.json").is_file()), source)

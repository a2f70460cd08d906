"""Orbax: trees of JAX arrays, each a Zarr array of chunks, in OCDBT's files or in a directory of its own.

`_METADATA` names the leaves and how they are nested; `_sharding` says on which devices they were, which
nobody needs to read them. A checkpoint may have several items (`default`, `state`, `params`), and a manager
of checkpoints has a directory for each step (orbax-checkpoint 0.12).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wconv.checkpoints.training.saved import RankFiles
from wconv.errors import FormatError
from wconv.formats.side_files import read_json
from wconv.formats.sources import FileSource, Source
from wconv.formats.torch.objects import JoinedTensor
from wconv.formats.zarr import arrays, ocdbt
from wconv.formats.zarr.ocdbt import ValuePlace
from wconv.tensors.lazy import LazyTensor

METADATA = "_METADATA"
"""What names the leaves of a tree."""

CHECKPOINT = "_CHECKPOINT_METADATA"
"""What Orbax leaves at the top of a checkpoint, beside its items."""

STRINGS = "_strings.json"
"""Where leaves are that are texts."""

PROCESS = re.compile(r"ocdbt\.process_\d{1,6}")
"""What each process wrote, until Orbax has joined their trees."""

UNFINISHED = ".orbax-checkpoint-tmp"
"""What is in a directory's name until all of it is there."""

PARAMETERS = ("params", "model", "model_params")
"""Branches of a tree that are a model's parameters."""

STATE = ("opt_state", "opt_states", "optimizer", "optimizer_state", "opt", "ema", "ema_params", "rng", "rngs")
"""Branches that are no part of the model, beside those."""

SCALARS = 20_000
"""Numbers that are no arrays and are read when a checkpoint is opened."""

ENTRIES = 2_000_000
"""Files in the directories of a checkpoint."""


def find(directory: Path, names: Sequence[str]) -> list[str]:
    """What tells a tree among a directory's files."""
    found = [name for name in (ocdbt.MANIFEST, METADATA) if name in names]
    if not found and CHECKPOINT not in names:
        return []
    return found or (_processes(directory) if names else [])


def item(directory: Path, names: Sequence[str]) -> tuple[Path, str] | None:
    """Where in a checkpoint, or in the newest step of a manager's, the tree lies, and what was taken.

    Raises:
        FormatError: there are several, or it was not saved to its end.
    """
    if UNFINISHED in directory.name:
        raise FormatError(f"{directory} was not saved to its end: take another step")
    steps = [] if CHECKPOINT in names else _steps(directory)
    if steps:
        step = max(steps, key=lambda name: (int(re.sub(r"\D", "", name)), name))
        inner = item(directory / step, _files(directory / step))
        return (inner[0], f"{step}/{inner[1]}") if inner is not None else (directory / step, step)
    if CHECKPOINT not in names:
        return None
    found = [name for name in _directories(directory) if find(directory / name, _files(directory / name))]
    if len(found) > 1:
        for name in ("default", "state", "pytree", *PARAMETERS):
            if name in found:
                return directory / name, name
        raise FormatError(
            f"{directory} holds several trees ({', '.join(found[:6])}): name the one to convert"
        )
    return (directory / found[0], found[0]) if found else None


def _steps(directory: Path) -> list[str]:
    """The steps of a manager's directory: numbers, perhaps with something before them."""
    found = [name for name in _directories(directory) if re.fullmatch(r"(?:[a-z_]+_)?\d{1,12}", name)]
    return [name for name in found if os.path.isfile(directory / name / CHECKPOINT)]


def _directories(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(
            entry.name
            for entry in itertools.islice(entries, ENTRIES)
            if entry.is_dir(follow_symlinks=False) and UNFINISHED not in entry.name
        )


def _files(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in itertools.islice(entries, ENTRIES) if entry.is_file()]


def _processes(directory: Path) -> list[str]:
    return [
        f"{name}/{ocdbt.MANIFEST}"
        for name in _directories(directory)
        if PROCESS.fullmatch(name) and (directory / name / ocdbt.MANIFEST).is_file()
    ]


def read(directory: Path, names: Sequence[str]) -> tuple[dict[Any, Any], RankFiles]:
    """The leaves by their full names (`params.decoder.layers_0.kernel`), and the files they lie in.

    Raises:
        FormatError: a file is missing or damaged, or an array lacks a chunk.
        UnsafeError: it claims more than any checkpoint has.
        WconvError: zstandard is not installed.
    """
    files = RankFiles(directory, names[0])
    metadata = read_json(files_path(files, METADATA)) if (directory / METADATA).exists() else {}
    leaves = _leaves(metadata, str(directory / METADATA))
    manifests = [name for name in names if name.endswith(ocdbt.MANIFEST)] or _processes(directory)
    held = _tree(files, manifests) if manifests else _plain(files)
    whole = metadata.get("store_array_data_equal_to_fill_value") is True
    root: dict[Any, Any] = {}
    texts = _texts(files)
    scalars, absent = 0, list[str]()
    for name in leaves or sorted(held):
        kind = leaves.get(name, "")
        if name in texts:
            root[name] = texts[name]
        elif name not in held:
            if kind not in EMPTY:
                raise FormatError(f"{directory}: {name:.200} is in no file, and {METADATA} names it")
        else:
            found, lacks = _array(held[name], name, str(directory), whole)
            absent += [name] if lacks else []
            scalars += kind == "scalar"
            number = kind == "scalar" and found.size == 1 and scalars <= SCALARS
            root[name] = found.numpy().item() if number else JoinedTensor(found)
    if absent:
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        files.notes.append(f"{absent[0]:.150}{more}: what is not stored of it is taken for zero")
    for name in sorted(held.keys() - leaves.keys()) if leaves else ():
        files.notes.append(f"left out {name:.150}, which {METADATA} does not name")
    return root, files


EMPTY = frozenset({"None", "Dict", "List", "Tuple", "NamedTuple", "string", "EmptyNode"})
"""Kinds of leaves that no array is kept of."""


def files_path(files: RankFiles, name: str) -> Path:
    """A file of the checkpoint, which must be within it."""
    return Path(files.path(name))


def without_state(root: dict[Any, Any]) -> tuple[dict[Any, Any], tuple[str, ...]]:
    """A tree without what only training needs, where it has parameters, and what the user should be told."""
    tops = {name.split(".", 1)[0] for name in root if type(name) is str}
    out = sorted(tops.intersection(STATE)) if tops.intersection(PARAMETERS) else []
    if not out:
        return root, ()
    kept = {name: value for name, value in root.items() if name.split(".", 1)[0] not in out}
    return kept, (f"left out {', '.join(out)}; --key picks another",)


def _leaves(metadata: Mapping[str, Any], where: str) -> dict[str, str]:
    """The names of the leaves, and the kind of each."""
    tree = metadata.get("tree_metadata", {})
    if not isinstance(tree, dict):
        raise FormatError(f"{where} is damaged: it names no leaves")
    found: dict[str, str] = {}
    for leaf in tree.values():
        keys = leaf.get("key_metadata") if isinstance(leaf, dict) else None
        value = leaf.get("value_metadata") if isinstance(leaf, dict) else None
        parts = [key.get("key") if isinstance(key, dict) else None for key in keys or ()]
        if not isinstance(value, dict) or not parts or any(type(part) not in (str, int) for part in parts):
            raise FormatError(f"{where} is damaged: it names no leaves")
        name = ".".join(map(str, parts))
        if name in found:
            raise FormatError(f"{where}: {name:.200} stands in it twice")
        found[name] = str(value.get("value_type"))
    return found


def _texts(files: RankFiles) -> dict[str, str]:
    if not (files.directory / STRINGS).exists():
        return {}
    found = read_json(files_path(files, STRINGS))
    return {name: value for name, value in found.items() if type(value) is str}


Chunks = dict[str, Source]


def _tree(files: RankFiles, manifests: Sequence[str]) -> dict[str, Chunks]:
    """What OCDBT's trees hold: chunks and metadata by the name of the array."""
    held: dict[str, Chunks] = {}
    for manifest in manifests:
        below = manifest.removesuffix(ocdbt.MANIFEST)
        files.listed = manifest

        def reader(place: ValuePlace, below: str = below) -> Source:
            name = below + place.file
            path = files.path(name)
            files.check_range(name, place.offset, place.length, "a value")
            return FileSource(path, place.offset, place.length)

        tree = ocdbt.read(FileSource(files.path(manifest)), reader)
        try:
            texts = {key.decode(): value for key, value in tree.items()}
        except UnicodeDecodeError:
            raise FormatError(f"{files.directory / manifest} is damaged: a key is no text") from None
        names = _names(texts)
        for key, value in texts.items():
            name, chunk = _split(key, names)
            if held.setdefault(name, {}).setdefault(chunk, value) is not value:
                raise FormatError(f"{files.directory}: two processes have written {key!r:.100}")
    return held


def _names(keys: Iterable[str]) -> frozenset[str]:
    """The names of the arrays among keys: those that have metadata below them."""
    ends = tuple(f"/{metadata}" for metadata in arrays.METADATA.values())
    return frozenset(key.rpartition("/")[0] for key in keys if key.endswith(ends))


def _split(key: str, names: Collection[str]) -> tuple[str, str]:
    """The name of the array that a key is of, which may have slashes itself, and the key below it."""
    name = key
    while name:
        name = name.rpartition("/")[0]
        if name in names:
            return name, key[len(name) + 1 :]
    name, _, chunk = key.partition("/")
    return name, chunk


def _plain(files: RankFiles) -> dict[str, Chunks]:
    """What directories hold: one for each array, with a file for each chunk."""
    found: list[str] = []
    pending = [f"{name}/" for name in _directories(files.directory) if not PROCESS.fullmatch(name)]
    count = 0
    while pending:
        below = pending.pop()
        with os.scandir(files.directory / below) as entries:
            for entry in entries:
                key = f"{below}{entry.name}"
                count += 1
                if count > ENTRIES or below.count("/") > 64:
                    raise FormatError(f"{files.directory} holds more than {ENTRIES:,} files")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{key}/")
                else:
                    found.append(key)
    names = _names(found)
    held: dict[str, Chunks] = {}
    for key in found:
        name, chunk = _split(key, names)
        if name in names:
            held.setdefault(name, {})[chunk] = FileSource(files.path(key))
    return held


def _array(chunks: Chunks, name: str, where: str, whole: bool) -> tuple[LazyTensor, bool]:
    """One array, and whether it lacks chunks. Raises `FormatError`."""
    for version, key in arrays.METADATA.items():
        source = chunks.get(key)
        if source is not None:
            place = f"{where}: {key} of {name:.200}"
            if source.size > arrays.METADATA_LIMIT:
                raise FormatError(f"{place} is too large for what it should be: {source.size:,} bytes")
            spec = arrays.parse(source.read(0, source.size), version, place)
            rest = {key: value for key, value in chunks.items() if key not in arrays.METADATA.values()}
            return arrays.tensor(spec, rest, name, where, whole=whole), len(rest) < spec.count
    raise FormatError(f"{where}: {name:.200} has chunks and no metadata of Zarr's")

"""The object tree of a PyTorch file, and the state dict in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wconv.errors import FormatError, UnsafeError
from wconv.formats import prefixes
from wconv.formats.contents import Contents, Tree
from wconv.formats.sources import Source
from wconv.formats.torch import archive, state_dict, ties, wrappers
from wconv.formats.torch import modules as pickled_modules
from wconv.formats.torch import script as torchscript
from wconv.formats.torch.archive import ReadNested
from wconv.formats.torch.materialise import MATERIALISERS, materialise
from wconv.formats.torch.objects import (
    LEAVES,
    NotNumbersError,
    Record,
    SparseTensor,
    TorchTensor,
    UnavailableError,
)
from wconv.formats.torch.pickle.machine import Machine
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.zip.directory import ZipDirectory
from wconv.tensors.lazy import LazyTensor

INFLATION = 8
"""How many times the file's size its tensors may have without being asked for by `allow_inflation=True`; …"""

INFLATION_FREE = 64 << 20
"""… they may have this many bytes in any case."""


PICKLE = b"\x80"
"""What a pickle begins with."""

PLAIN_STARTS = (b"(", b"]", b"}", b"c")
"""First bytes of pickles of protocol 0 and 1 that could hold tensors."""

OLD_STARTS = (b"(d", b"(l", b"(i", b"cc", b"ct", b"cn", b"(c", b"}q", b"]q", b"c_")
"""What such a pickle begins with where all of it is text."""


def is_pickle(source: Source, start: bytes) -> bool:
    """Whether a file is a pickle by itself; those of protocols 0 and 1 have no signature.

    Args:
        start: its first bytes, at most a few hundred.
    """
    if start[:1] == PICKLE:
        return True
    if start[:1] not in PLAIN_STARTS:
        return False
    return not start.isascii() or (source.read(source.size - 1, 1) == b"." and start[:2] in OLD_STARTS)


def read_pickle(source: Source, read_nested: ReadNested) -> Tree:
    """The object of a pickle, and where it ends.

    Raises:
        FormatError: the pickle is damaged.
        UnsafeError: it asks for something that no weights need.
    """
    machine = Machine(source, NAMES, read_nested=read_nested)
    root = machine.run()
    return Tree("pickle", root, machine.program, machine.end)


def read_zip(directory: ZipDirectory, read_nested: ReadNested) -> Tree:
    """The object tree of an archive that `torch.save` or `torch.jit.save` wrote.

    Raises:
        FormatError: the archive is damaged.
        UnsafeError: it asks for something that no weights need.
    """
    folder = directory.folder("data.pkl")
    if folder is None:
        raise FormatError(
            f"{directory.source.where} is a zip archive without a PyTorch checkpoint (no data.pkl)"
        )
    program = directory.entries[folder + "data.pkl"].size
    if folder + "constants.pkl" in directory.entries:
        return Tree("TorchScript archive", torchscript.load(directory, folder, read_nested), program)
    return Tree("PyTorch zip", archive.load(directory, folder, read_nested), program)


def contents(tree: Tree, source: Source, key: str | None, allow_inflation: bool) -> Contents:
    """The state dict of a tree, as lazy tensors.

    Raises:
        FormatError: no tensor is in it, none at `key`, or two have one name.
        UnsafeError: the objects are nested or repeated beyond all measure, or the tensors would take more
            than `INFLATION` times the file and `allow_inflation` was not asked for.
    """
    where = source.where
    state_dict.check_tree(tree.root, tree.program, where)
    root = state_dict.unboxed(tree.root)
    chosen = wrappers.choose_state_dict(root, key, where)
    found = state_dict.flatten(chosen.value, where)
    more = tree.end is not None and source.read(tree.end, min(1, source.size - tree.end)) == PICKLE
    if more and found.tensors:
        found.skipped[f"what follows byte {tree.end:,}"] = "the file holds several objects, this is the first"
    if not found.tensors and not found.skipped:
        raise FormatError(f"{where} ({tree.format}) holds no tensors")
    short, taken = prefixes.strip_prefixes([*found.tensors, *found.skipped, *found.described])
    notes = [*chosen.notes, *found.notes, *_left_notes(found)]
    if taken:
        notes.append(prefixes.note(taken))
        found.tensors = {short[name]: leaf for name, leaf in found.tensors.items()}
        found.skipped = {short[name]: reason for name, reason in found.skipped.items()}
        found.described = {short[name]: text for name, text in found.described.items()}
        found.apart = {
            short[name]: tuple(short[part] for part in parts) for name, parts in found.apart.items()
        }
    tensors, skipped, not_numbers = _lazy(found.tensors, found.skipped, notes)
    tied, overlaps = ties.ties({name: found.tensors[name] for name in tensors})
    for one, other in overlaps[:3]:
        notes.append(f"{one} and {other} share some of their elements: each is written in full")
    if len(overlaps) > 3:
        notes.append(f"{len(overlaps) - 3} more tensors share some of their elements with others")
    if not allow_inflation:
        check_inflation(tensors, source)
    metadata = {
        **_beside(root, chosen.path),
        **{str(key): value for key, value in chosen.beside.items()},
        **found.others,
        **found.described,
    }
    modules = pickled_modules.by_path(found.modules, taken)
    return Contents(
        tree.format,
        tensors,
        metadata,
        skipped,
        tuple(notes),
        tied,
        modules,
        tree.root,
        frozenset(not_numbers),
        found.apart,
    )


FEW = 4
"""Names that a note tells before it counts the rest."""


def _left_notes(found: state_dict.Flattened) -> Iterator[str]:
    """What lay among the tensors and is none, and tensors that no state dict has."""
    if found.loose:
        texts = [f"{name:.100} ({value})" for name, value in found.loose.items()]
        yield f"not written, for they are no tensors: {_few(texts)}"
    if found.unlisted:
        yield f"not written, for no state dict has them: {_few(found.unlisted)}"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - FEW:,} more" if len(names) > FEW else ""
    return ", ".join(f"{name:.150}" for name in names[:FEW]) + more


def _lazy(
    leaves: Mapping[str, Any], skipped: Mapping[str, str], notes: list[str]
) -> tuple[dict[str, LazyTensor], dict[str, str], list[str]]:
    """The tensors that can be had, why each other one cannot, and which of those are no weights."""
    tensors: dict[str, LazyTensor] = {}
    left = dict(skipped)
    not_numbers: list[str] = []
    changed: dict[str, int] = {}
    for name, leaf in leaves.items():
        kind = type(leaf)
        try:
            tensors[name] = MATERIALISERS.get(kind, materialise)(leaf)
        except UnavailableError as error:
            left[name] = str(error)
            if isinstance(error, NotNumbersError):
                not_numbers.append(name)
            continue
        if kind is TorchTensor:
            if isinstance(leaf.dtype, str):
                text = f"{leaf.dtype} → {tensors[name].dtype.name}"
                changed[text] = changed.get(text, 0) + 1
        elif kind is SparseTensor:
            text = f"{leaf.layout} → dense"
            changed[text] = changed.get(text, 0) + 1
    notes.extend(f"{text}: {count} tensor{'s' * (count > 1)}" for text, count in changed.items())
    return tensors, left, not_numbers


def check_inflation(tensors: Mapping[str, LazyTensor], source: Source) -> None:
    """Refuses tensors that would take far more than their file. Raises `UnsafeError`."""
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > max(INFLATION * source.size, INFLATION_FREE):
        largest = max(tensors, key=lambda name: tensors[name].nbytes)
        raise UnsafeError(
            f"{source.where} has {source.size:,} bytes and its tensors would take {total:,} (the largest:"
            f" {largest:.200}, {tensors[largest].shape!r:.80}): refused unless asked for with"
            " --allow-inflation (allow_inflation=True)"
        )


def _beside(root: Any, path: tuple[Any, ...]) -> dict[str, Any]:
    """What lies beside the state dict, level by level down to it."""
    beside: dict[str, Any] = {}
    value = root
    for key in path:
        entries = value if isinstance(value, dict) else value.items if isinstance(value, Record) else {}
        for name, item in entries.items():
            if name != key and not isinstance(item, LEAVES):
                beside.setdefault(str(name), item)
        value = entries.get(key)
        if value is None:
            break
    return beside

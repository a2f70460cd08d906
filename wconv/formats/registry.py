"""The formats that wconv reads, one row each: how they are told, opened, and named.

A new format is a file with its reader and a row here. A format's reader is imported when a file may be of it;
what is asked about names imports nothing.
"""

from __future__ import annotations

import contextvars
from typing import Any

from wconv.errors import UnsafeError
from wconv.formats import sniff
from wconv.formats.contents import Contents, Tree
from wconv.formats.format import Candidate, Format
from wconv.formats.sources import Source

NUMPY = b"\x93NUMPY"
"""What a `.npy` file begins with."""

ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")
"""What a zip archive begins with."""

NESTING = 3
"""Checkpoints within checkpoints."""


def _is_safetensors(candidate: Candidate) -> bool:
    # the length of a header may begin with the letters of an archive: not with all of its signature
    return candidate.start[8:9] == b"{" and not candidate.start.startswith((*ARCHIVES, NUMPY))


def _read_safetensors(candidate: Candidate, allow_inflation: bool) -> Contents:
    from wconv.formats import safetensors

    return safetensors.open_file(candidate.source.where)


def _begins_safetensors(start: bytes) -> bool:
    from wconv.formats.safetensors import HEADER_LIMIT

    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= HEADER_LIMIT


def _is_torch_zip(candidate: Candidate) -> bool:
    folder = candidate.folder("data.pkl")
    return folder is not None and not candidate.holds(folder + "archive_format")


def _read_torch_zip(candidate: Candidate, allow_inflation: bool) -> Tree:
    from wconv.formats.torch import file

    return file.read_zip(candidate.archive, read_nested)


def _is_export(candidate: Candidate) -> bool:
    return candidate.folder("archive_format") is not None


def _read_export(candidate: Candidate, allow_inflation: bool) -> Tree:
    from wconv.formats.torch import export

    folder = candidate.folder("archive_format")
    assert folder is not None
    return Tree(EXPORT.name, export.load(candidate.archive, folder, read_nested), 0)


def _is_old_export(candidate: Candidate) -> bool:
    return candidate.folder("serialized_exported_program.json") is not None


def _read_old_export(candidate: Candidate, allow_inflation: bool) -> Tree:
    from wconv.formats.torch import export

    return Tree(OLD_EXPORT.name, export.load_old(candidate.archive, read_nested), 0)


def _is_old_script(candidate: Candidate) -> bool:
    return candidate.folder("model.json") is not None


def _read_old_script(candidate: Candidate, allow_inflation: bool) -> Tree:
    from wconv.formats.torch import script

    folder = candidate.folder("model.json")
    assert folder is not None
    return Tree(OLD_SCRIPT.name, script.load_json(candidate.archive, folder), 0)


def _is_legacy(candidate: Candidate) -> bool:
    from wconv.formats.torch import legacy

    return not candidate.is_zip and legacy.recognise(candidate.source)


def _read_legacy(candidate: Candidate, allow_inflation: bool) -> Tree:
    from wconv.formats.torch import legacy

    root, end = legacy.load(candidate.source, read_nested)
    return Tree(LEGACY.name, root, candidate.source.size, end)


def _is_tar(candidate: Candidate) -> bool:
    from wconv.formats.torch import tar

    return not candidate.is_zip and tar.recognise(candidate.start)


def _read_tar(candidate: Candidate, allow_inflation: bool) -> Tree:
    from wconv.formats.torch import tar

    return Tree(TAR.name, tar.load(candidate.source, read_nested), candidate.source.size)


def _is_gzip(candidate: Candidate) -> bool:
    from wconv.formats.torch import tar

    return candidate.start.startswith(b"\x1f\x8b") and tar.inflated(candidate.source) is not None


def _read_gzip(candidate: Candidate, allow_inflation: bool) -> Tree:
    from wconv.formats.torch import tar

    source = tar.inflated(candidate.source)
    assert source is not None
    return Tree(GZIP.name, tar.load(source, read_nested), source.size)


def _is_pickle(candidate: Candidate) -> bool:
    from wconv.formats.torch import file

    return file.is_pickle(candidate.source, candidate.start)


def _read_pickle(candidate: Candidate, allow_inflation: bool) -> Tree:
    from wconv.formats.torch import file

    return file.read_pickle(candidate.source, read_nested)


def _is_npz(candidate: Candidate) -> bool:
    return candidate.is_zip and all(name.endswith(".npy") for name in candidate.archive.entries)


def _read_npz(candidate: Candidate, allow_inflation: bool) -> Contents | Tree:
    from wconv.formats.numpy import file

    return file.open_npz(candidate.archive, allow_inflation, read_nested)


def _is_npy(candidate: Candidate) -> bool:
    return candidate.start.startswith(NUMPY)


def _read_npy(candidate: Candidate, allow_inflation: bool) -> Contents | Tree:
    from wconv.formats.numpy import file

    return file.open_npy(candidate.source, read_nested)


SAFETENSORS = Format(
    "safetensors",
    _is_safetensors,
    _read_safetensors,
    suffixes=(".safetensors",),
    directory=("model.safetensors", "diffusion_pytorch_model.safetensors", "*.safetensors"),
    shards=".safetensors",
    begins=_begins_safetensors,
)
TORCH_ZIP = Format(
    "PyTorch zip",
    _is_torch_zip,
    _read_torch_zip,
    suffixes=(".pt", ".pth", ".bin", ".ckpt"),
    directory=("pytorch_model.bin", "diffusion_pytorch_model.bin", "*.bin", "*.pt", "*.pth", "*.ckpt"),
    shards=".bin",
    begins=lambda start: first_member(start).endswith(b"/data.pkl"),
)
EXPORT = Format("torch.export archive", _is_export, _read_export, suffixes=(".pt2",))
OLD_EXPORT = Format("torch.export archive", _is_old_export, _read_old_export)
OLD_SCRIPT = Format("TorchScript archive", _is_old_script, _read_old_script)
LEGACY = Format("PyTorch legacy stream", _is_legacy, _read_legacy)
TAR = Format("PyTorch tar", _is_tar, _read_tar, suffixes=(".tar", ".nemo"))
GZIP = Format("PyTorch tar in gzip", _is_gzip, _read_gzip, suffixes=(".tgz",))
PICKLE = Format("pickle", _is_pickle, _read_pickle, suffixes=(".pkl", ".pickle"))
NPZ = Format(
    "NumPy archive",
    _is_npz,
    _read_npz,
    suffixes=(".npz",),
    directory=("*.npz",),
    begins=lambda start: first_member(start).endswith(b".npy"),
)
NPY = Format("NumPy array", _is_npy, _read_npy, suffixes=(".npy",))

FORMATS: tuple[Format, ...] = (
    SAFETENSORS,
    TORCH_ZIP,
    EXPORT,
    OLD_EXPORT,
    OLD_SCRIPT,
    LEGACY,
    TAR,
    GZIP,
    PICKLE,
    NPZ,
    NPY,
)
"""All formats, in the order in which a file is compared with them and a directory's weights are preferred."""

NESTED = (TORCH_ZIP, LEGACY, TAR, PICKLE)
"""The formats of a checkpoint that lies within another."""

FOREIGN = (".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".mlmodel", ".tflite", ".ot")
"""Suffixes of weights, beside a model's on hubs, that wconv does not read."""


def first_member(start: bytes) -> bytes:
    """The name of the first member of a zip archive that begins so; empty where it is none."""
    return start[30 : 30 + int.from_bytes(start[26:28], "little")] if start.startswith(b"PK\x03\x04") else b""


def recognise(candidate: Candidate, formats: tuple[Format, ...] | None = None) -> Format | None:
    """The format of a file; None where it is of none.

    Raises:
        FormatError: it is a damaged zip archive.
    """
    return next((row for row in formats or FORMATS if row.recognise(candidate)), None)


def begins(start: bytes) -> bool:
    """Whether a file that begins so was surely meant to be weights, even if its rest is missing."""
    return any(row.begins(start) for row in FORMATS)


def suffixes() -> tuple[str, ...]:
    """What the names of files end in that wconv reads, each once."""
    return tuple(dict.fromkeys(suffix for row in FORMATS for suffix in row.suffixes))


def directory_patterns() -> tuple[str, ...]:
    """Patterns of the files that are taken for the weights of a directory, the preferred ones first."""
    return tuple(pattern for row in FORMATS for pattern in row.directory)


def weights_suffixes() -> tuple[str, ...]:
    """What the names of files end in that are taken for weights in a directory."""
    found = (pattern[1:] for pattern in directory_patterns() if pattern.startswith("*"))
    return tuple(dict.fromkeys(found))


def shard_suffixes() -> tuple[str, ...]:
    """What the shards end in that an index may list, the preferred ones first."""
    return tuple(row.shards for row in FORMATS if row.shards)


_nesting = contextvars.ContextVar("_nesting", default=0)


def read_nested(source: Source) -> Any:
    """The object of a checkpoint that lies within another.

    Raises:
        FormatError: the bytes are damaged or no such checkpoint.
        UnsafeError: it lies within more than `NESTING` others, or asks for something that no weights need.
    """
    depth = _nesting.get()
    if depth >= NESTING:
        raise UnsafeError(f"{source.where} holds checkpoints within checkpoints: refused")
    token = _nesting.set(depth + 1)
    try:
        candidate = Candidate(source)
        row = recognise(candidate, NESTED)
        if row is None:
            raise sniff.refuse(candidate)
        found = row.read(candidate, False)
        assert isinstance(found, Tree)
        return found.root
    finally:
        _nesting.reset(token)

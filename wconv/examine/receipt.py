"""A receipt: what a result was made of, with which options, and digests of its tensors and its files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv import __version__
from wconv.conversion.planned import Conversion
from wconv.errors import FormatError, OutputError
from wconv.examine.digests import digests
from wconv.examine.opened_output import open_output
from wconv.formats.side_files import read_json
from wconv.stores import files, stand_ins

NAME = "wconv.json"
"""What a receipt is called that lies in the directory it is of."""

KIND = "wconv receipt 1"
"""What its field `kind` says."""

SKIPPED = (".git", ".cache")
"""Directories that are no part of a result."""

ALGORITHM = "sha256"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt says.

    Attributes:
        tensors: by name: dtype, shape, "sha256" and the source's tensors ("from").
        resources: the result's files by their paths in it: SHA-256 of each.
        weights: of those, the ones that depend on how the result is cut: weights and indexes.
        parts: of a pipeline, its components' sub-directories.
        beside: files of tensors that are not the model's.
    """

    tensors: Mapping[str, Mapping[str, Any]]
    resources: Mapping[str, str]
    weights: frozenset[str]
    parts: tuple[str, ...]
    beside: tuple[str, ...]


def write_receipt(planned: Conversion, path: str | os.PathLike[str], *, jobs: int | None = None) -> None:
    """Reads a finished result again, and its source, and writes its receipt.

    Args:
        planned: what was carried out.
        path: the file that is written.
        jobs: threads; as many as there are cores when absent.

    Raises:
        FormatError: the result or the source cannot be read.
        OutputError: the receipt cannot be written.

    Example:
        >>> planned = wconv.prepare("model.ckpt", "model.safetensors")
        >>> report = wconv.run(planned)
        >>> wconv.write_receipt(planned, "receipt.json")
    """
    path = Path(path)
    place, parts, beside = planned.report.output, sorted(planned.parts), sorted(planned.plan.beside)
    opened = open_output(place, parts, beside)
    inside = dict(files_of(place, path))
    sources = {str(number): file for number, file in enumerate(planned.checkpoint.files) if file.is_file()}
    here = {number: file for number, file in sources.items() if stand_ins.find(str(file)) is None}
    found = digests(
        opened.tensors, {**inside, **{f"\0{number}": file for number, file in here.items()}}, jobs=jobs
    )
    receipt = {
        "kind": KIND,
        "wconv": __version__,
        "source": planned.report.source.name,
        "files": [_source(file, found.files.get(f"\0{number}")) for number, file in sources.items()],
        "parts": parts,
        "beside": beside,
        "options": dict(planned.parameters),
        "rules": planned.report.layout,
        "resources": [
            {"name": name, "algorithm": ALGORITHM, "digest": found.files[name]} for name in sorted(inside)
        ],
        "weights": sorted(_cut(planned) & inside.keys()),
        "tensors": {
            name: {
                "dtype": opened.tensors[name].dtype.name,
                "shape": list(opened.tensors[name].shape),
                "sha256": found.tensors[name],
                "from": list(planned.sources.get(name, ())),
            }
            for name in sorted(opened.tensors)
        },
    }
    try:
        path.write_text(json.dumps(receipt, indent=1, default=str) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def files_of(place: Path, receipt: Path) -> Iterator[tuple[str, Path]]:
    """The files of a result by their paths in it, without its receipt."""
    if not place.is_dir():
        yield place.name, place
        return
    own = os.path.realpath(receipt)
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and os.path.realpath(path) != own:
                yield path.relative_to(place).as_posix(), path


def _cut(planned: Conversion) -> set[str]:
    """The files that depend on how the result is cut into shards."""
    from wconv.writing.plan import within

    if not planned.report.output.is_dir():
        return {planned.report.output.name}
    parts = (planned.parts or {"": planned}).items()
    indexes = {within(name, part.plan.index_name) for name, part in parts}
    return indexes | {shard.filename for shard in planned.plan.shards}


def _source(file: Path, digest: str | None) -> dict[str, Any]:
    """A source file's fingerprint: what a server says of one that lies there."""
    said: dict[str, Any] = {"name": file.name, "bytes": files.size(str(file))}
    remote = stand_ins.find(str(file))
    if remote is not None and digest is None:
        return {**said, "etag": remote.etag}
    return {**said, ALGORITHM: digest}


def read_receipt(path: Path, output: Path) -> Receipt:
    """What a receipt says of a result.

    Raises:
        FormatError: it is not there, or is none.
    """
    if not path.is_file():
        raise FormatError(f"{path} does not exist: name a receipt, or the source with --against ({output})")
    found = read_json(path)
    tensors = found.get("tensors")
    if found.get("kind") != KIND or not isinstance(tensors, dict):
        raise FormatError(f"{path} is no receipt of wconv")
    if not all(isinstance(one, dict) for one in tensors.values()):
        raise FormatError(f"{path} is damaged: a tensor is not described")
    parts, beside, weights = (_places(found.get(key), path) for key in ("parts", "beside", "weights"))
    resources = found.get("resources")
    if not isinstance(resources, list) or not all(_is_resource(one) for one in resources):
        raise FormatError(f"{path} is damaged: a file is not described")
    named = {one["name"]: one["digest"] for one in resources}
    _places(list(named), path)
    return Receipt(tensors, named, frozenset(weights), parts, beside)


def _is_resource(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("algorithm") == ALGORITHM
        and all(isinstance(value.get(key), str) for key in ("name", "digest"))
    )


def _places(names: Any, path: Path) -> tuple[str, ...]:
    """Paths within the result. Raises `FormatError`: one leads out of it."""
    if not isinstance(names, list) or not all(isinstance(one, str) and _is_within(one) for one in names):
        raise FormatError(f"{path} is damaged: it names places that are none")
    return tuple(names)


def _is_within(name: str) -> bool:
    parts = name.split("/")
    plain = name.isprintable() and not any(sign in name for sign in "\\:")
    return plain and 0 < len(name) < 1024 and all(part not in ("", ".", "..") for part in parts)

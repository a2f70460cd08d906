"""The bytes of an output that are not tensors' elements, compared with what a conversion writes.

Headers of weights files, configs and indexes are known to the last byte before anything is written; what is
copied is compared with its source. With the tensors' elements that is every byte of every file.
"""

from __future__ import annotations

import bisect
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv.conversion.made_files import is_single_file, made_files
from wconv.conversion.planned import Conversion
from wconv.errors import FormatError
from wconv.stores import files
from wconv.stores.files import Readable
from wconv.wording import plural
from wconv.writing.plan import Shard, within

STEP = 1 << 20
"""Bytes that are compared at once."""

CUT_OTHERWISE = "it is cut into other files than this conversion would write: their headers were not compared"


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What was found of an output's files.

    Attributes:
        compared: how many are what they should be in every byte that is no tensor's.
        wrong: path in the output → what is wrong with it.
        config: fields of config.json that are not what they should be: what they are, and should be.
        notes: what could not be compared.
    """

    compared: int
    wrong: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def check_files(planned: Conversion) -> FileCheck:
    """Compares headers, configs, indexes and copies with what a conversion writes.

    Raises:
        FormatError: a file cannot be read.
    """
    place, single = planned.report.output, is_single_file(planned)
    shards = {shard.filename: place if single else place / shard.filename for shard in planned.plan.shards}
    as_planned = all(path.is_file() for path in shards.values())
    wrong: dict[str, str] = {}
    compared = 0
    for shard in planned.plan.shards if as_planned else ():
        problem = _in_shard(shard, files.source(str(shards[shard.filename])))
        compared += not problem
        if problem:
            wrong[place.name if single else shard.filename] = problem
    if single:
        return FileCheck(compared, wrong)
    parts = _parts(planned)
    indexes = {within(name, part.plan.index_name) for name, part in parts}
    configs = {within(name, part.config_name): (name, part.config) for name, part in parts}
    fields: dict[str, tuple[Any, Any]] = {}
    made = made_files(planned)
    for name, data in made.items():
        if name not in indexes or as_planned:
            problem = _beside(place / name, data)
            compared += not problem
            part, config = configs.get(name, ("", None))
            if problem and config is not None:
                found = _config_fields(place / name, config)
                fields |= {within(part, key): both for key, both in found.items()}
                problem = "" if found else "has other bytes than this conversion writes, and the same values"
            wrong |= {name: problem} if problem else {}
    opened, side_files = planned.checkpoint, planned.sidecars
    for name in side_files.copied if side_files is not None else ():
        if name not in made:
            problem = _copy(place / name, (opened.beside or opened.path) / name)
            compared += not problem
            wrong |= {name: problem} if problem else {}
    return FileCheck(compared, wrong, fields, () if as_planned else (CUT_OTHERWISE,))


def _config_fields(path: Path, config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Fields that are not what a conversion writes: what they are, and what they should be.

    Raises:
        FormatError: it is no JSON.
    """
    try:
        there = json.loads(path.read_bytes())
        there.keys()
    except (OSError, ValueError, AttributeError, RecursionError):
        raise FormatError(f"{path} is missing or damaged: convert the source again") from None
    wanted = json.loads(json.dumps(config))
    return {
        key: (there.get(key), wanted.get(key))
        for key in (*wanted, *(key for key in there if key not in wanted))
        if (key in there) != (key in wanted) or there[key] != wanted[key]
    }


def _parts(planned: Conversion) -> Iterable[tuple[str, Conversion]]:
    """The components of a pipeline by their sub-directories, or the one model that it is."""
    return (planned.parts or {"": planned}).items()


def _in_shard(shard: Shard, file: Readable) -> str:
    """What is wrong with a weights file beside its tensors' elements; "" where nothing is."""
    if file.size != shard.nbytes:
        return f"has {plural(file.size, 'byte')} and should have {shard.nbytes:,}"
    # the checksums of an archive are known when all of it is written
    later = sorted(place for places in shard.archive.checksums for place in places) if shard.archive else []
    for offset, data in shard.pieces:
        found = bytearray(file.read(offset, len(data)))
        for place in later[bisect.bisect_left(later, offset) : bisect.bisect_left(later, offset + len(data))]:
            found[place - offset : place - offset + 4] = bytes(4)
        if found != data:
            return "has another header than this conversion writes"
    if shard.archive is None:
        return ""
    contents = zip(shard.entries, shard.archive.offsets, shard.archive.checksums, strict=False)
    for entry, offset, places in contents:
        checksum = _checksum(file, offset, entry.nbytes)
        if any(bytes(file.read(place, 4)) != checksum for place in places):
            return f"says another checksum of {entry.name:.100} than its bytes have"
    return ""


def _checksum(file: Readable, offset: int, nbytes: int) -> bytes:
    checksum = 0
    for at in range(0, nbytes, STEP):
        checksum = zlib.crc32(file.read(offset + at, min(STEP, nbytes - at)), checksum)
    return checksum.to_bytes(4, "little")


def _beside(path: Path, data: bytes) -> str:
    """What is wrong with a file whose bytes are known."""
    if not path.is_file():
        return "is missing"
    file = files.source(str(path))
    if file.size != len(data) or bytes(file.read(0, file.size)) != data:
        return "is not what this conversion writes"
    return ""


def _copy(path: Path, source: Path) -> str:
    """What is wrong with a file that is a copy."""
    if not path.is_file():
        return "is missing"
    file, other = files.source(str(path)), files.source(str(source))
    if file.size != other.size:
        return f"has {plural(file.size, 'byte')}, and {other.size:,} in the source"
    for at in range(0, file.size, STEP):
        count = min(STEP, file.size - at)
        if file.read(at, count) != other.read(at, count):
            return "is not what it is in the source"
    return ""

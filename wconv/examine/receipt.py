"""A receipt: what a result was made of, with which options, and a digest of every tensor in it.

A digest is SHA-256 of a tensor's bytes, in C order and little-endian, so it does not depend on files: cut
into other shards, or written by another program, the same values have the same digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv import __version__
from wconv.checkpoints.index import is_plain
from wconv.conversion.planned import Conversion
from wconv.errors import FormatError, OutputError
from wconv.examine.fold import fold
from wconv.examine.verify import SHOWN, open_output
from wconv.formats.side_files import read_json
from wconv.stores import files
from wconv.tensors.base import LazyTensor
from wconv.tensors.parallel import ranges, share
from wconv.wording import fitted, gigabytes, plural

NAME = "wconv.json"
"""What a receipt is called that lies in the directory it is of."""

KIND = "wconv receipt 1"
"""What its field `kind` says."""


@dataclass(frozen=True, slots=True)
class ReceiptCheck:
    """What a result was found to be, by its receipt.

    Attributes:
        tensors: how many have the digest that the receipt says.
        nbytes: of these.
        different: tensors with another digest, dtype or shape; with what is wrong.
        missing: tensors of the receipt that are not there.
        extra: tensors that the receipt does not know.
    """

    output: Path
    receipt: Path
    tensors: int
    nbytes: int
    different: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return fitted(f"<ReceiptCheck of {self.output}: {'proved' if self.proved else 'not proved'}>")

    @property
    def proved(self) -> bool:
        """Whether everything is there, nothing else is, and every digest is right."""
        return not (self.different or self.missing or self.extra)

    def lines(self) -> Iterator[str]:
        """What people are shown."""
        wrong = [f"{name}: {what}" for name, what in self.different.items()]
        wrong += [f"{name}: is missing" for name in fold(self.missing)]
        wrong += [f"{name}: is not in the receipt" for name in fold(self.extra)]
        yield from wrong[:SHOWN]
        if len(wrong) > SHOWN:
            yield f"and {len(wrong) - SHOWN:,} more lines (--json has all)"
        done = f"{plural(self.tensors, 'tensor')}, {gigabytes(self.nbytes)}"
        if self.proved:
            yield f"{self.output}: proved: {done} are what {self.receipt} says, and nothing else is there"
        else:
            yield f"{self.output}: not what {self.receipt} says ({done} are)"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        return {
            "proved": self.proved,
            "output": str(self.output),
            "receipt": str(self.receipt),
            "tensors": self.tensors,
            "bytes": self.nbytes,
            "different": dict(self.different),
            "missing": list(self.missing),
            "extra": list(self.extra),
        }


def write_receipt(planned: Conversion, path: Path, *, jobs: int | None = None) -> None:
    """Reads a finished result again and writes its receipt.

    Raises:
        FormatError: the result cannot be read.
        OutputError: the receipt cannot be written.
    """
    parts, beside = sorted(planned.parts), sorted(planned.plan.beside)
    tensors, _ = open_output(planned.report.output, parts, beside)
    found = digests(tensors, jobs=jobs)
    sources = planned.sources
    receipt = {
        "kind": KIND,
        "wconv": __version__,
        "source": planned.report.source.name,
        "files": [
            {"name": file.name, "bytes": files.size(str(file))}
            for file in planned.checkpoint.files
            if file.is_file()
        ],
        "parts": parts,
        "beside": beside,
        "options": dict(planned.parameters),
        "rules": planned.report.layout,
        "tensors": {
            name: {
                "dtype": tensors[name].dtype.name,
                "shape": list(tensors[name].shape),
                "sha256": found[name],
                "from": list(sources.get(name, ())),
            }
            for name in sorted(tensors)
        },
    }
    try:
        path.write_text(json.dumps(receipt, indent=1, default=str) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def check_receipt(
    output: str | os.PathLike[str], receipt: str | os.PathLike[str] | None = None, *, jobs: int | None = None
) -> ReceiptCheck:
    """Whether a result is what its receipt says: every tensor, by its digest.

    Args:
        receipt: the file; `wconv.json` in the result's directory when absent.
        jobs: threads; as many as there are cores when absent.

    Raises:
        FormatError: there is no receipt, it is none, or the result cannot be read.
    """
    place = Path(output)
    path = Path(receipt) if receipt is not None else place / NAME
    said, parts, beside = _read(path, place)
    tensors, skipped = open_output(place, parts, beside)
    different = {name: f"cannot be read: {reason}" for name, reason in skipped.items() if name in said}
    compared = {}
    for name, tensor in tensors.items():
        wanted = said.get(name)
        if wanted is None:
            continue
        if wanted.get("dtype") != tensor.dtype.name or wanted.get("shape") != list(tensor.shape):
            stands = f"{tensor.dtype.name} {list(tensor.shape)}"
            different[name] = f"is {stands}, and {wanted.get('dtype')} {wanted.get('shape')} in the receipt"
        else:
            compared[name] = tensor
    found = digests(compared, jobs=jobs)
    for name, digest in found.items():
        if said[name].get("sha256") != digest:
            different[name] = "has other values"
    right = [tensor for name, tensor in compared.items() if name not in different]
    return ReceiptCheck(
        place,
        path,
        len(right),
        sum(tensor.nbytes for tensor in right),
        {f"{name:.200}": f"{what:.200}" for name, what in different.items()},
        tuple(name for name in said if name not in tensors and name not in skipped),
        tuple(name for name in tensors if name not in said),
    )


def _read(path: Path, output: Path) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """The tensors of a receipt, and the places within the result in which they lie."""
    if not path.is_file():
        raise FormatError(f"{path} does not exist: name a receipt, or the source with --against ({output})")
    found = read_json(path)
    tensors = found.get("tensors")
    if found.get("kind") != KIND or not isinstance(tensors, dict):
        raise FormatError(f"{path} is no receipt of wconv")
    if not all(isinstance(one, dict) for one in tensors.values()):
        raise FormatError(f"{path} is damaged: a tensor is not described")
    places = [found.get(key) for key in ("parts", "beside")]
    for names in places:
        if not isinstance(names, list) or not all(isinstance(one, str) and is_plain(one) for one in names):
            raise FormatError(f"{path} is damaged: it names places that are none")
    return tensors, *places  # type: ignore[return-value]


def digests(tensors: Mapping[str, LazyTensor], *, jobs: int | None = None) -> dict[str, str]:
    """SHA-256 of each tensor's bytes, in hexadecimal; several tensors at a time, a range of each.

    Raises:
        FormatError: a file does not hold what its header promised.
    """
    found: dict[str, str] = {}
    lock = threading.Lock()

    def make_worker() -> Callable[[str], None]:
        def work(name: str) -> None:
            tensor = tensors[name]
            digest = hashlib.sha256()
            for part in ranges(name, (tensor,)):
                digest.update(tensor.read_range(part.start, part.stop).view("u1").data)
            with lock:
                found[name] = digest.hexdigest()

        return work

    share(sorted(tensors, key=lambda name: -tensors[name].nbytes), make_worker, jobs)
    return found

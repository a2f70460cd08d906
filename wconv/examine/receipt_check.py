"""A result compared with its receipt: every file, and every tensor of files that were changed or cut anew."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv.examine.digests import digests
from wconv.examine.fold import fold
from wconv.examine.opened_output import open_output
from wconv.examine.receipt import NAME, Receipt, files_of, read_receipt
from wconv.examine.verify import SHOWN
from wconv.tensors.base import LazyTensor
from wconv.tensors.lazy import FileTensor
from wconv.wording import fitted, gigabytes, plural

CUT_OTHERWISE = "it is cut into other files than the receipt's: tensors were compared, and all other files"


@dataclass(frozen=True, slots=True)
class ReceiptCheck:
    """What a result was found to be, by its receipt.

    Attributes:
        tensors: how many are what the receipt says.
        nbytes: of these.
        different: tensors with another digest, dtype or shape; with what is wrong.
        missing: tensors of the receipt that are not there.
        extra: tensors that the receipt does not know.
        files: how many files are what the receipt says, in every byte.
        wrong_files: path in the result → what is wrong with the file.
        unknown_files: files that are not in the receipt and hold no tensors.
        notes: what could not be compared.

    Example:
        >>> _ = wconv.convert("model.ckpt", "model.safetensors")
        >>> wconv.check_receipt("model.safetensors", "none.json")
        Traceback (most recent call last):
        ...
        wconv.errors.FormatError: none.json does not exist: ...
    """

    output: Path
    receipt: Path
    tensors: int
    nbytes: int
    different: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    files: int = 0
    wrong_files: Mapping[str, str] = field(default_factory=dict)
    unknown_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return fitted(f"<ReceiptCheck of {self.output}: {'proved' if self.proved else 'not proved'}>")

    @property
    def proved(self) -> bool:
        """Whether every tensor and every file of the receipt is there and right, and no other tensor is."""
        return not (self.different or self.missing or self.extra or self.wrong_files)

    def lines(self) -> Iterator[str]:
        """What people are shown."""
        wrong = [f"{name}: {what}" for name, what in self.different.items()]
        wrong += [f"{name}: is missing" for name in fold(self.missing)]
        wrong += [f"{name}: is not in the receipt" for name in fold(self.extra)]
        wrong += [f"{name}: {what}" for name, what in self.wrong_files.items()]
        yield from wrong[:SHOWN]
        if len(wrong) > SHOWN:
            yield f"and {len(wrong) - SHOWN:,} more lines (--json has all)"
        if self.unknown_files:
            more = f" and {len(self.unknown_files) - SHOWN:,} more" if len(self.unknown_files) > SHOWN else ""
            yield f"files that are not in the receipt: {', '.join(self.unknown_files[:SHOWN])}{more}"
        yield from self.notes
        done = f"{plural(self.tensors, 'tensor')}, {gigabytes(self.nbytes)}"
        if self.proved:
            done += f", and {plural(self.files, 'file')}"
            yield f"{self.output}: proved: {done} are what {self.receipt} says, and no other tensor is there"
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
            "files": self.files,
            "wrong_files": dict(self.wrong_files),
            "unknown_files": list(self.unknown_files),
            "notes": list(self.notes),
        }


def check_receipt(
    output: str | os.PathLike[str], receipt: str | os.PathLike[str] | None = None, *, jobs: int | None = None
) -> ReceiptCheck:
    """Whether a result is what its receipt says: every tensor and every file, by their digests.

    Of a file that has the right digest, the tensors need no second look. A result that is cut into other
    shards than the receipt's is proved by its tensors.

    Args:
        receipt: the file; `wconv.json` in the result's directory when absent.
        jobs: threads; as many as there are cores when absent.

    Raises:
        FormatError: there is no receipt, it is none, or the result cannot be read.

    Example:
        >>> planned = wconv.prepare("model.ckpt", "model.safetensors")
        >>> report = wconv.run(planned)
        >>> wconv.write_receipt(planned, "receipt.json")
        >>> wconv.check_receipt("model.safetensors", "receipt.json").proved
        True
    """
    place = Path(output)
    path = Path(receipt) if receipt is not None else place / NAME
    said = read_receipt(path, place)
    there = dict(files_of(place, path))
    as_cut = said.weights <= there.keys()
    wanted = {name for name in said.resources if as_cut or name not in said.weights}
    if not place.is_dir() and len(said.resources) == 1:
        # a single file may be called otherwise by now
        there = dict.fromkeys(said.resources, place)
        as_cut, wanted = True, set(said.resources)
    found = digests({}, {name: there[name] for name in there if name in wanted}, jobs=jobs).files
    wrong_files = {name: "is missing" for name in wanted if name not in there}
    wrong_files |= {
        name: "has other bytes than the receipt says"
        for name, digest in found.items()
        if digest != said.resources[name]
    }
    right = {os.path.realpath(there[name]) for name in found if name not in wrong_files}
    opened = open_output(place, said.parts, said.beside)
    wrong_files |= {name: what for name, what in opened.left_over.items() if name not in said.resources}
    different = {
        name: f"cannot be read: {why}" for name, why in opened.skipped.items() if name in said.tensors
    }
    compared = {name: tensor for name, tensor in opened.tensors.items() if name in said.tensors}
    different |= _described_otherwise(said, compared)
    real = functools.lru_cache(os.path.realpath)
    left = {
        name: tensor
        for name, tensor in compared.items()
        if name not in different
        and not (type(tensor) is FileTensor and real(tensor.file_position[0]) in right)
    }
    for name, digest in digests(left, {}, jobs=jobs).tensors.items():
        if said.tensors[name].get("sha256") != digest:
            different[name] = "has other values"
    proved = [tensor for name, tensor in compared.items() if name not in different]
    known = {*said.resources, *(opened.left_over), *(said.weights if as_cut else ())}
    weights = {real(tensor.file_position[0]) for tensor in opened.tensors.values()}
    return ReceiptCheck(
        place,
        path,
        len(proved),
        sum(tensor.nbytes for tensor in proved),
        {f"{name:.200}": f"{what:.200}" for name, what in different.items()},
        tuple(name for name in said.tensors if name not in opened.tensors and name not in opened.skipped),
        tuple(name for name in opened.tensors if name not in said.tensors),
        sum(name not in wrong_files for name in found),
        dict(sorted(wrong_files.items())),
        tuple(
            name
            for name, file in there.items()
            if name not in known and os.path.realpath(file) not in weights
        ),
        () if as_cut else (CUT_OTHERWISE,),
    )


def _described_otherwise(said: Receipt, tensors: Mapping[str, LazyTensor]) -> dict[str, str]:
    """Tensors whose dtype or shape is not the receipt's."""
    different = {}
    for name, tensor in tensors.items():
        wanted = said.tensors[name]
        if wanted.get("dtype") != tensor.dtype.name or wanted.get("shape") != list(tensor.shape):
            stands = f"{tensor.dtype.name} {list(tensor.shape)}"
            different[name] = f"is {stands}, and {wanted.get('dtype')} {wanted.get('shape')} in the receipt"
    return different

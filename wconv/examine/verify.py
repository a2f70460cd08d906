"""`verify`: reads an output again and proves that every byte of it is what the source gives."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from wconv.conversion.options import ConvertArguments, options_of, takes_options
from wconv.conversion.planned import Conversion, reading
from wconv.conversion.prepare import plan
from wconv.examine.compare import same_bytes
from wconv.examine.fold import fold
from wconv.examine.opened_output import open_output
from wconv.examine.output_files import check_files
from wconv.tensors.base import Array, LazyTensor
from wconv.tensors.parallel import share
from wconv.wording import fitted, gigabytes, plural
from wconv.writing.buffers import Buffers
from wconv.writing.chunks import OutputRange, WorkUnit, shard_offsets, work_units
from wconv.writing.plan import Entry, Plan, Shard

SHOWN = 10
"""Names of each kind that people are shown; JSON has all."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What an output was found to be.

    Attributes:
        tensors: how many were compared, byte for byte, with what the source gives.
        nbytes: of these.
        different: name → how many bytes of it are not what they should be.
        missing: tensors that should be there and are not, each with the reason.
        extra: tensors that are there and should not.
        config: fields of config.json that are not what they should be: what they are, and should be.
        files: how many files were compared beside their tensors: headers, configs, indexes, copies.
        wrong_files: path in the output → what is wrong with the file, beside its tensors.
        notes: what could not be compared.

    Example:
        >>> _ = wconv.convert("Logics-Parsing", "out", dtype="float16")
        >>> wconv.verify("out", "Logics-Parsing", dtype="float16").proved
        True
    """

    output: Path
    source: Path
    tensors: int
    nbytes: int
    different: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    config: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    files: int = 0
    wrong_files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return fitted(f"<Verification of {self.output}: {'proved' if self.proved else 'not proved'}>")

    @property
    def proved(self) -> bool:
        """Whether everything is there, nothing else is, and every byte is right."""
        return not (self.different or self.missing or self.extra or self.config or self.wrong_files)

    def lines(self) -> Iterator[str]:
        """What people are shown."""
        for name, count in list(self.different.items())[:SHOWN]:
            yield f"{name}: {plural(count, 'byte')} are not what {self.source} gives"
        if len(self.different) > SHOWN:
            yield f"and {plural(len(self.different) - SHOWN, 'tensor')} more that differ (--json has all)"
        reasons: dict[str, list[str]] = {}
        for name, reason in self.missing.items():
            reasons.setdefault(reason, []).append(name)
        lines = [f"{name}: {reason}" for reason, names in reasons.items() for name in fold(names)]
        yield from lines[:SHOWN]
        if len(lines) > SHOWN:
            yield f"and {len(lines) - SHOWN:,} more lines of tensors that are missing (--json has all)"
        extra = list(fold(self.extra))
        if extra:
            yield f"not of {self.source}: {', '.join(extra[:SHOWN])}{' …' if len(extra) > SHOWN else ''}"
        for name, (found, wanted) in self.config.items():
            yield f"config.json: {name} is {_short(found)} and should be {_short(wanted)}"
        yield from (f"{name}: {what}" for name, what in list(self.wrong_files.items())[:SHOWN])
        if len(self.wrong_files) > SHOWN:
            yield f"and {plural(len(self.wrong_files) - SHOWN, 'file')} more (--json has all)"
        yield from self.notes
        done = f"{plural(self.tensors, 'tensor')}, {gigabytes(self.nbytes)}"
        if self.proved:
            done += f", and {plural(self.files, 'file')} around them" if self.files else ""
            yield f"{self.output}: proved: {done} are what {self.source} gives, and no other tensor is there"
        else:
            yield f"{self.output}: not what {self.source} gives ({done} compared)"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        return {
            "proved": self.proved,
            "output": str(self.output),
            "source": str(self.source),
            "tensors": self.tensors,
            "bytes": self.nbytes,
            "different": dict(self.different),
            "missing": dict(self.missing),
            "extra": list(self.extra),
            "config": {name: list(both) for name, both in self.config.items()},
            "files": self.files,
            "wrong_files": dict(self.wrong_files),
            "notes": list(self.notes),
        }


@takes_options(ConvertArguments)
def verify(
    output: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    **options: Unpack[ConvertArguments],
) -> Verification:
    """Proves that an output is what a source gives, by converting it again without writing.

    Every tensor is computed anew, a range at a time, and compared with the output's bytes, and so is every
    other byte: headers, indexes, configs, copies. How the output is cut into shards does not count. Give the
    options that the output was converted with.

    Args:
        output: what a conversion wrote.
        source: what it was made of.
        jobs: threads; as many as there are cores when absent.
        options: `help(wconv.ConvertOptions)` describes each.

    Raises:
        WconvError: one of both cannot be read, or the options do not fit the source.

    Example:
        >>> report = wconv.convert("model.ckpt", "model.safetensors")
        >>> list(wconv.verify("model.safetensors", "model.ckpt").lines())
        ['model.safetensors: proved: 1 tensor, ... are what model.ckpt gives, and no other tensor is there']
    """
    return verify_planned(plan(source, output, options_of("verify", options)), jobs=jobs)


def verify_planned(planned: Conversion, *, jobs: int | None = None) -> Verification:
    """What `verify` does, for a conversion that is planned and was run."""
    place = planned.report.output
    wanted = {name: one for shard in planned.plan.shards for name, one in _of_shard(planned.plan, shard)}
    opened = open_output(place, planned.parts, planned.plan.beside)
    found = opened.tensors
    missing = _missing(wanted, found, opened.skipped)
    different = _compared(planned, wanted, found, missing, jobs)
    compared = [one.entry for name, one in wanted.items() if name not in missing]
    files = check_files(planned)
    copied = planned.sidecars.copied if planned.sidecars is not None else ()
    left_over = {name: what for name, what in opened.left_over.items() if name not in copied}
    return Verification(
        place,
        planned.checkpoint.path,
        len(compared),
        sum(entry.nbytes for entry in compared),
        different,
        missing,
        tuple(name for name in found if name not in wanted),
        files.config,
        files.compared,
        {**files.wrong, **left_over},
        files.notes,
    )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A tensor of the plan, and where its bytes begin in its shard."""

    entry: Entry
    offset: int


def _of_shard(plan: Plan, shard: Shard) -> Iterator[tuple[str, _Wanted]]:
    offsets = shard.archive.offsets if shard.archive is not None else shard_offsets(shard)
    for entry, offset in zip(shard.entries, offsets, strict=False):
        yield _label(plan, shard, entry.name), _Wanted(entry, offset)


def _label(plan: Plan, shard: Shard, name: str) -> str:
    """A tensor's name among all of the output; what is not the model's has its file's name before it."""
    return f"{shard.filename}:{name}" if shard.filename in plan.beside else shard.label(name)


def _missing(
    wanted: Mapping[str, _Wanted], found: Mapping[str, LazyTensor], skipped: Mapping[str, str]
) -> dict[str, str]:
    """What cannot be compared, and why."""
    missing: dict[str, str] = {}
    for name, one in wanted.items():
        tensor = found.get(name)
        if tensor is None:
            missing[name] = f"cannot be read: {skipped[name]}" if name in skipped else "is missing"
        elif tensor.dtype is not one.entry.dtype:
            missing[name] = f"is {tensor.dtype.name} and should be {one.entry.dtype.name}"
        elif tensor.shape != one.entry.shape:
            missing[name] = f"has the shape {list(tensor.shape)} and should have {list(one.entry.shape)}"
    return missing


def _compared(
    planned: Conversion,
    wanted: Mapping[str, _Wanted],
    found: Mapping[str, LazyTensor],
    missing: Mapping[str, str],
    jobs: int | None,
) -> dict[str, int]:
    """Names of tensors that differ, with the number of bytes that do."""
    different: dict[str, int] = {}
    lock = threading.Lock()

    def make_worker() -> Callable[[tuple[Shard, WorkUnit]], None]:
        buffers, scratch = Buffers(), [np.empty(0, np.uint8)]

        def work(part: tuple[Shard, WorkUnit]) -> None:
            shard, unit = part
            results, _ = buffers.compute(unit)
            for target, result in zip(unit.targets, results, strict=True):
                for name, count in _differing(
                    planned.plan, shard, target, result, wanted, found, missing, scratch
                ):
                    with lock:
                        different[name] = different.get(name, 0) + count

        return work

    parts = ((shard, unit) for shard in planned.plan.shards for unit in work_units(shard))
    with reading(planned.checkpoint):
        share(parts, make_worker, jobs)
    return {name: different[name] for name in wanted if name in different}


def _differing(
    plan: Plan,
    shard: Shard,
    target: OutputRange,
    result: Array,
    wanted: Mapping[str, _Wanted],
    found: Mapping[str, LazyTensor],
    missing: Mapping[str, str],
    scratch: list[Any],
) -> Iterator[tuple[str, int]]:
    """The tensors of one computed range that lie otherwise in the output, with their bytes that differ."""
    at = 0
    for name, count in target.spans:
        label = _label(plan, shard, name)
        computed = result[at : at + count]
        at += count
        if label in missing:
            continue
        start = 0 if len(target.spans) > 1 else target.offset - wanted[label].offset
        start //= target.dtype.itemsize
        if scratch[0].size < computed.nbytes:
            scratch[0] = np.empty(computed.nbytes, np.uint8)
        there = scratch[0][: computed.nbytes].view(target.dtype.numpy)
        found[label].read_into(start, start + count, there)
        if not same_bytes(computed, there):
            yield label, int(np.count_nonzero(computed.view(np.uint8) != there.view(np.uint8)))


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:59] + "…"

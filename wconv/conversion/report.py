"""What a conversion did, for programs (`to_dict`) and, line by line, for people (`lines`)."""

from __future__ import annotations

import dataclasses
import math
import shlex
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wconv.errors import OutputError
from wconv.tensors.casts import Overflow, holding
from wconv.wording import fitted, gigabytes, plural

if TYPE_CHECKING:
    from wconv.conversion.quantization_summary import Summary

FEW = 4
"""Names that are told before the rest are counted."""


@dataclass(frozen=True, slots=True)
class Report:
    """The summary of one conversion, complete: what it does not mention did not happen.

    Attributes:
        source, output: paths.
        model_type: of config.json, or "".
        layout: the consumer whose rules were applied, or None when names and layouts passed unchanged.
        tensors_read, tensors_written: counts.
        bytes_before, bytes_after: of the weights files.
        seconds: of `run`: from its beginning to the final rename; planning is not among them.
        dtypes: "bfloat16 → float16" → number of tensors.
        kept: output names that a requested cast left alone, each with the reason.
        dropped: source names that were not written, each with the reason.
        skipped: source names that cannot be had, each with the reason.
        overflows: output name → finite values that became infinite, and the largest magnitude.
        left_out: files of the source that were not copied, each with the reason.
        config_added: fields that config.json gained for the consumers.
        notes: anything else worth a sentence.
        command: loads the result; "" where no program is known to.
        known: what is known instead of a command, as a sentence.
        resumed: shards that an earlier run had finished.
        unchanged: source names that the layout does not know and that passed as they are, with the reason.
        components: of a pipeline, what became of each component.
        quantization: what was quantized, and how.

    Example:
        >>> report = wconv.convert("model.ckpt", "model.safetensors", dtype="float16")
        >>> report.dtypes
        {'float32 → float16': 1}
        >>> report.tensors_written, report.shards
        (1, ('model.safetensors',))
    """

    source: Path
    output: Path
    model_type: str
    layout: str | None
    tensors_read: int
    tensors_written: int
    shards: tuple[str, ...]
    bytes_before: int
    bytes_after: int
    dtypes: Mapping[str, int]
    kept: Mapping[str, str]
    dropped: Mapping[str, str]
    skipped: Mapping[str, str]
    left_out: Mapping[str, str]
    config_added: tuple[str, ...]
    notes: tuple[str, ...]
    command: str
    seconds: float = 0.0
    overflows: Mapping[str, Overflow] = field(default_factory=dict)
    resumed: tuple[str, ...] = ()
    unchanged: Mapping[str, str] = field(default_factory=dict)
    components: Mapping[str, str] = field(default_factory=dict)
    quantization: Summary | None = None
    known: str = ""

    def __repr__(self) -> str:
        counts = f"{self.tensors_read:,} read, {plural(self.tensors_written, 'tensor')} written"
        return fitted(f"<Report {self.source} → {self.output}: {counts}>")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        plain = dataclasses.asdict(self)
        plain["source"], plain["output"] = str(self.source), str(self.output)
        plain["overflows"] = {
            name: {"count": lost.count, "largest": lost.largest} for name, lost in self.overflows.items()
        }
        return plain

    def lines(self) -> Iterator[str]:
        """The summary as it is printed."""
        yield f"{plural(self.tensors_read, 'tensor')}, {gigabytes(self.bytes_before)}: {self.source}"
        yield self._layout_line()
        for name, what in self.components.items():
            yield f"  {name}: {what}"
        for change, count in self.dtypes.items():
            yield f"  {change}: {plural(count, 'tensor')}"
        if self.quantization is not None:
            yield from (f"  {line}" for line in self.quantization.lines())
        yield from grouped("kept", self.kept)
        yield from grouped("dropped", self.dropped)
        yield from grouped("unchanged", self.unchanged)
        yield from grouped("cannot be read", self.skipped)
        yield from grouped("left out", self.left_out)
        if self.config_added:
            more = f" and {len(self.config_added) - FEW} more" if len(self.config_added) > FEW else ""
            yield f"  config.json gained {', '.join(self.config_added[:FEW])}{more}"
        for note in self.notes:
            yield f"  {note}"
        if self.resumed:
            yield f"  {plural(len(self.resumed), 'shard')} of an earlier run kept"
        if self.overflows:
            yield "  " + overflow_line(self.overflows)

    def closing_lines(self) -> Iterator[str]:
        """Where the model is, its size, the time, and how to load it."""
        rate = self.bytes_after / self.seconds if self.seconds else 0.0
        yield (
            f"{self.output}: {gigabytes(self.bytes_after)} in {plural(len(self.shards), 'file')}"
            f" ({gigabytes(self.bytes_before)} before), {self.seconds:,.1f} s, {gigabytes(int(rate))}/s"
        )
        if self.command:
            yield f"load it: {self.command}"
        elif self.known:
            yield self.known

    def _layout_line(self) -> str:
        if self.components:
            return f"{self.model_type}: {plural(len(self.components), 'component')}"
        if self.layout:
            return f"{self.model_type or 'the model'}: laid out for {self.layout}"
        if self.model_type:
            return f"{self.model_type}: no rules applied; names and layouts unchanged (format: pt)"
        return "names and layouts unchanged (format: pt)"


def command_for(command: str, path: Path) -> str:
    """`command` with `path` for its `{model}`, quoted as Python within quotes and as shells elsewhere."""
    return command.replace("'{model}'", repr(str(path))).replace("{model}", shlex.quote(str(path)))


def overflow_line(overflows: Mapping[str, Overflow]) -> str:
    """One sentence on what a cast lost, or on what no quantization can hold."""
    spoiled = {name: lost for name, lost in overflows.items() if math.isinf(lost.largest)}
    if spoiled:
        name = next(iter(spoiled))
        values = sum(lost.count for lost in spoiled.values())
        more = f" and {plural(len(spoiled) - 1, 'other weight')}" if len(spoiled) > 1 else ""
        verb, are = "hold" if more else "holds", "is" if values == 1 else "are"
        groups = "its group is" if values == 1 else "their groups are"
        return (
            f"{name}{more} {verb} {plural(values, 'value')} that {are} NaN or infinite: {groups} of no use;"
            f" take another copy of the model, or leave {'them' if more else 'it'} dense by --q-rule"
        )
    worst = max(overflows, key=lambda name: overflows[name].largest)
    values = sum(lost.count for lost in overflows.values())
    dtype = holding(overflows[worst].largest)
    advice = f"use --dtype {dtype}" if dtype else "no dtype of MLX holds them"
    return (
        f"{plural(len(overflows), 'tensor')} overflow{'s' if len(overflows) == 1 else ''}:"
        f" {plural(values, 'value')} became infinite (largest {overflows[worst].largest:.3g} in {worst}):"
        f" {advice}"
    )


def warn_of_overflows(path: Path, overflows: Mapping[str, Overflow], *, strict: bool = False) -> None:
    """Warns the caller of the function that calls this of what casts lost.

    Raises:
        OutputError: something was lost, and `strict`.
    """
    if not overflows:
        return
    text = f"{path}: {overflow_line(overflows)}"
    if strict:
        raise OutputError(text)
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def grouped(verb: str, reasons: Mapping[str, str]) -> Iterator[str]:
    """Names by reason, the first few told and the rest counted."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        more = f" and {len(names) - FEW:,} more" if len(names) > FEW else ""
        yield f"  {verb} ({reason}): {', '.join(names[:FEW])}{more}"


def changes(pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Counts of "source → written" dtypes, the most frequent first; unchanged ones by their name alone."""
    counted = Counter(pairs).most_common()
    return {old if old == new else f"{old} → {new}": count for (old, new), count in counted}

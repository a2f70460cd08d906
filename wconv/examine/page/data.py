"""What the page shows, as compact plain data: columns, in which texts and shapes that repeat stand once.

The page reads it by these names (`page/*.js`). Nothing in it is markup: the page sets all of it as text.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wconv import __version__
from wconv.checkpoints.checkpoint import Checkpoint
from wconv.conversion.planned import Conversion
from wconv.errors import called, one_line
from wconv.examine.page.steps import steps_of
from wconv.examine.stats import Stats
from wconv.layouts.rule import Rule
from wconv.stores import files
from wconv.tensors.lazy import FileTensor, PackedFileTensor

LONGEST = 2000
"""Characters of a text that is no name."""

METADATA = 400
"""Values of metadata that are shown, each cut at `LONGEST`."""


@dataclass
class Interned:
    """Values that repeat: each stands once, and is a number elsewhere."""

    values: list[Any] = field(default_factory=list)
    places: dict[Hashable, int] = field(default_factory=dict)

    def number(self, key: Hashable, value: Any = None) -> int:
        """The number of a value; `key` is what tells it from others, where it cannot be looked up itself."""
        place = self.places.get(key)
        if place is None:
            place = self.places[key] = len(self.values)
            self.values.append(key if value is None else value)
        return place


@dataclass(frozen=True, slots=True)
class Target:
    """What a conversion would write, or why it cannot be converted.

    Attributes:
        rules: source name → the rules of the layout that concern it.
        sizes: quantization recipe → bytes.
    """

    conversion: Conversion | None = None
    refusal: str = ""
    rules: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


def collect(
    opened: Checkpoint,
    facts: Sequence[Mapping[str, str]],
    loaders: Sequence[Mapping[str, str]],
    target: Target,
    named: Mapping[str, Any] | None = None,
    found: Mapping[str, Stats] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All that the page shows.

    Args:
        facts: statements on the whole, each with how it is known.
        loaders: which programs load it, and why not.
        named: what pickles name, as `pickles.pickled` says it.
        found: statistics of tensors, where they were asked for.
        metadata: what else the files say, as plain data.
    """
    names = list(opened)
    numbers = {name: at for at, name in enumerate(names)}
    kinds, paths = Interned(), Interned()
    columns = _columns(opened, kinds, paths)
    texts = Interned()
    data = {
        "version": 1,
        "wconv": __version__,
        "title": _title(opened),
        "path": called(str(opened.path)),
        "format": opened.format,
        "bytes": opened.nbytes,
        "elements": sum(tensor.size for tensor in opened.values()),
        "facts": list(facts),
        "loaders": list(loaders),
        "names": names,
        **columns,
        "rules": [_rule_number(target.rules.get(name, ()), texts) for name in names] if target.rules else [],
        "ties": [[numbers[name] for name in tie if name in numbers] for tie in opened.ties],
        "skipped": [[name, text[:LONGEST]] for name, text in opened.skipped.items()][:METADATA],
        "output": _output(target, numbers, kinds, texts),
        "recipes": [[name, size] for name, size in target.sizes.items()],
        "pickles": named,
        "metadata": [[key[:200], _cut(value)] for key, value in list((metadata or {}).items())[:METADATA]],
        "stats": _statistics(found or {}, numbers),
    }
    # what is numbered is complete only now
    return {
        **data,
        "kinds": kinds.values,
        "files": [_file(path) for path in paths.values],
        "texts": texts.values,
    }


def _title(opened: Checkpoint) -> str:
    path = called(str(opened.path))
    return (path.rstrip("/").rpartition("/")[2] or path)[:300]


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return one_line(text[:LONGEST]) + ("…" if len(text) > LONGEST else "")


def _columns(opened: Checkpoint, kinds: Interned, paths: Interned) -> dict[str, list[int]]:
    """Of each tensor: its dtype and shape as one number, its file, and its bytes there.

    An end of -1 is not known: the bytes are compressed, or lie apart.
    """
    kind, file, start, end = [], [], [], []
    for tensor in opened.values():
        kind.append(_kind(tensor.dtype.name, tensor.shape, tensor.nbytes, kinds))
        path, offset = tensor.file_position
        file.append(paths.number(path) if path else -1)
        start.append(offset)
        exact = isinstance(tensor, FileTensor | PackedFileTensor)
        end.append(offset + tensor.nbytes if exact else -1)
    return {"kind": kind, "file": file, "start": start, "end": end}


def _kind(dtype: str, shape: Sequence[int], nbytes: int, kinds: Interned) -> int:
    key = (dtype, tuple(shape))
    place = kinds.places.get(key)
    return kinds.number(key, [dtype, list(shape), nbytes]) if place is None else place


def _file(path: str) -> list[Any]:
    try:
        size = files.size(path)
    except OSError:
        size = 0
    return [path.rsplit("/", 1)[-1], size]


def _rule_number(rules: Iterable[Rule], texts: Interned) -> int:
    text = "\n".join(map(str, rules))
    return texts.number(text[:LONGEST]) if text else -1


def _output(target: Target, numbers: Mapping[str, int], kinds: Interned, texts: Interned) -> dict[str, Any]:
    """What a conversion without options would write: columns again, one for each tensor that is written."""
    conversion = target.conversion
    if conversion is None:
        return {"refusal": target.refusal[:LONGEST]}
    report, steps = conversion.report, Interned()
    dropped = {**report.dropped, **report.skipped}
    shards = [shard.filename for shard in conversion.plan.shards]
    names, kind, file, made_of, ways = [], [], [], [], []
    for at, shard in enumerate(conversion.plan.shards):
        for entry in shard.entries:
            sources = [
                numbers[name]
                for name in conversion.sources.get(shard.label(entry.name), ())
                if name in numbers
            ]
            # most names do not change, or begin another way: what compresses well needs no care
            names.append(entry.name)
            kind.append(_kind(entry.dtype.name, entry.shape, entry.nbytes, kinds))
            file.append(at)
            made_of.append(sources[0] if len(sources) == 1 else sources)
            way = steps_of(entry)
            ways.append(steps.number(repr(way), way) if way else -1)
    return {
        "layout": report.layout or "",
        "command": report.command,
        "known": report.known,
        "bytes": report.bytes_after,
        "notes": [note[:LONGEST] for note in report.notes],
        "dtypes": [[change, count] for change, count in report.dtypes.items()],
        "names": names,
        "kind": kind,
        "file": file,
        "files": shards,
        "from": made_of,
        "way": ways,
        "steps": steps.values,
        "dropped": [
            [numbers[name], texts.number(reason[:LONGEST])]
            for name, reason in dropped.items()
            if name in numbers
        ],
    }


STATISTICS = ("least", "largest", "mean", "deviation", "zeros", "nan", "infinite", "beyond_float16")
"""The columns of statistics; the histogram follows."""

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
"""Heights of a histogram's bars, a letter each."""


def _statistics(found: Mapping[str, Stats], numbers: Mapping[str, int]) -> dict[str, Any] | None:
    if not found:
        return None
    rows = []
    for name, one in found.items():
        values = one.to_dict()
        bars = one.histogram.bars(one.least, one.largest) if one.histogram is not None else []
        short = [_short(values[column]) for column in STATISTICS]
        rows.append([numbers[name], *short, "".join(LETTERS[height] for height in bars)])
    return {"columns": list(STATISTICS), "rows": rows}


def _short(value: float | int | None) -> float | int | None:
    """Five digits are all that is shown."""
    return float(f"{value:.5g}") if isinstance(value, float) else value

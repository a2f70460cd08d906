"""The figures that the README and the page of documentation show, from what `--json` wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks import report
from tests.benchmarks.cases import CASES, FAST, LOAD, LOAD_BIN, LOAD_MLX, MFLUX, SAME, TORCH_LOAD
from tests.benchmarks.measure import ROOT
from tests.benchmarks.report import Measured

FIGURES = Path(__file__).with_name("figures.json")
README = ROOT / "README.md"
PAGE = ROOT / "wconv" / "docs" / "speed.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

ROWS = (
    ("3 GB, bfloat16 → float16", "cast", FAST, ("cp -r", "torch script", "numpy script", "mlx_lm.convert")),
    ("3 GB of `.bin`, bfloat16 → float16", "bin", "wconv .bin", ("wconv .safetensors",)),
    ("3 GB, dtype kept", "copy", SAME, ("cp -r",)),
    ("3 GB → 4 bits", "quantize", "wconv -q", ("mlx_lm.convert -q",)),
    ("2 GB, float32 → float16", "float32", FAST, ("cp -r", "torch script")),
    ("1 GB in 50,000 tensors → float16", "small", FAST, ("cp -r", "torch script")),
    ("4 GB, FLUX.2's transformer → mflux", "mflux", MFLUX, ("cp -r", "mflux")),
    ("2 GB, Depth Pro → MLX", "depth-pro", "wconv", ("torch + mlx",)),
    ("3 GB → numpy arrays", "load", LOAD, ("safetensors.numpy.load_file",)),
    ("3 GB of `.bin` → numpy arrays", "load", LOAD_BIN, (TORCH_LOAD,)),
    ("3 GB → MLX arrays", "load", LOAD_MLX, ("mx.load, mx.eval",)),
    ("a `.pt` of 100,000 tensors, opened", "open", "wconv.open", ("torch.load (mmap)",)),
    ("700 GB in 100,000 tensors, planned", "plan", "wconv --dry-run", ()),
)
"""The README's: what is done, the case, the program of wconv's, and those beside it."""


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The machine, then each case that was measured: what it is, its programs and its goals."""
    yield _measured_on(found)
    for name, case in CASES.items():
        if name not in found["cases"]:
            continue
        measured, goals = report.from_json(found["cases"][name])
        runs = max((len(one.runs) for one in measured.values()), default=0)
        often = f"medians of {runs} runs" if runs > 1 else "one run"
        yield from ("", f"**{name}**, {often}, {found['cases'][name]['date']}. {case.about}", "")
        yield from report.lines(measured, goals)


def summary(found: dict[str, Any]) -> Iterator[str]:
    """A row for each thing that people do, as far as it was measured."""
    yield f"{_measured_on(found)} Medians of whole processes, the source in the page cache."
    yield ""
    yield "| | wconv | its user + system | its memory | beside it |"
    yield "|---|---|---|---|---|"
    for title, name, ours, others in ROWS:
        if name not in found["cases"]:
            continue
        measured, _ = report.from_json(found["cases"][name])
        one = measured[ours]
        if one.failure:
            continue
        beside = (f"`{other}` {_spent(measured[other])}" for other in others if not measured[other].failure)
        processor = f"{median(one.processors()):.2f} s"
        yield f"| {title} | {_wall(one)} | {processor} | {_memory(one)} | {'; '.join(beside)} |"


def write(found: dict[str, Any], page: Path = PAGE, readme: Path = README) -> None:
    """Puts the figures between their two marks in both files.

    Raises:
        ValueError: one has no such marks.
    """
    for path, told in ((page, lines(found)), (readme, summary(found))):
        path.write_text(replaced(path.read_text(), told, path.name))


def replaced(text: str, told: Iterable[str], name: str) -> str:
    """A text with lines between its marks. Raises `ValueError`: it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{name} has no {BEGIN} with {END} after it")
    return "\n".join([before + begin, "", *told, "", end + after])


def _measured_on(found: dict[str, Any]) -> str:
    size = "" if found["scale"] == 1 else f", data of {found['scale']:g} times the size"
    return f"Measured on {found['machine']}{size}."


def _spent(one: Measured) -> str:
    memory = _memory(one)
    return _wall(one) if memory in ("", "0 MB") else f"{_wall(one)}, {memory}"


def _wall(one: Measured) -> str:
    return f"{median(one.walls()):.2f} s"


def _memory(one: Measured) -> str:
    return "" if one.anonymous is None else f"{one.anonymous / 1e6:,.0f} MB"

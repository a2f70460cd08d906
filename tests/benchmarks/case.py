"""What a case of the benchmark is made of: data, programs that are run over them, goals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.benchmarks.measure import python
from wconv.tensors.compiled import OFF

Command = Callable[[Path, Path], list[str]]
"""From where the data lie and where the output goes to a command line."""

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Program:
    """A command to run over the data.

    Attributes:
        needs: the packages it imports beyond wconv's own.
        environment: variables of its own.
        source: what of the data it reads.
        runs: timed runs at most, of what takes long.
    """

    command: Command
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    runs: int = 100


@dataclass(frozen=True)
class Goal:
    """What a program is to reach.

    Attributes:
        against: another program, whose time or memory `limit` is a multiple of; without one, an amount.
        quantity: seconds by the clock or of processors, or megabytes (10^6) of anonymous memory at most.
    """

    program: str
    limit: float
    against: str | None = None
    quantity: Literal["s", "processor s", "MB"] = "s"


@dataclass(frozen=True)
class Case:
    """Programs over the same data, run in turn.

    Attributes:
        seconds: how long it takes on two cores, about, with its data, in so many runs and one for memory.
        runs: timed runs of each program.
        published: it is one of those on the pages.
    """

    make: Callable[[Path, float], Path]
    programs: dict[str, Program]
    goals: tuple[Goal, ...]
    seconds: int
    needs: tuple[str, ...] = ()
    runs: int = 5
    published: bool = True

    @property
    def about(self) -> str:
        return (self.make.__doc__ or "").strip()


def wconv(*options: str, source: str = "", suffix: str = "", sync: bool = False) -> Program:
    """A conversion with two threads, of the data or of one thing among them.

    Without `sync` it does not wait for the disk, as none of the other programs does.
    """
    more = options if sync else ("--no-sync", *options)
    return Program(
        lambda src, out: python("-m", "wconv", src, "-o", out.with_suffix(suffix), "-j", 2, "--quiet", *more),
        source=source,
    )


def script(name: str, *needs: str, source: str = "") -> Program:
    """One of the scripts in `programs`."""
    return Program(lambda src, out: python(PROGRAMS / f"{name}.py", src, out), needs, source=source)


def mlx_lm(*options: str) -> Program:
    """mlx-lm's own converter."""
    return Program(
        lambda src, out: python("-m", "mlx_lm", "convert", "--hf-path", src, "--mlx-path", out, *options),
        ("mlx_lm",),
    )


def few(program: Program, runs: int = 3) -> Program:
    """The same in fewer runs: it takes long, and varies less than it is slower."""
    return replace(program, runs=runs)


def in_numpy(program: Program) -> Program:
    """The same without compiled casts, whether or not they are installed."""
    return replace(program, environment={OFF: "1"})


def compiled(program: Program) -> Program:
    """The same with compiled casts."""
    return replace(program, needs=("numkong",))

"""The cases as a table: which data, which programs over them, and what wconv is to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.benchmarks import data, distributed_data, quantized_data, torch_data
from tests.benchmarks.measure import python

Command = Callable[[Path, Path], list[str]]
"""From where the data lie and where the output goes to a command line."""

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Program:
    """A command to run over the data; `needs` are the packages it imports beyond wconv's own."""

    command: Command
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goal:
    """What a program is to reach.

    Attributes:
        against: another program, whose time or memory `limit` is a multiple of; without one, an amount.
        quantity: seconds, or megabytes (10^6) of anonymous memory at most.
    """

    program: str
    limit: float
    against: str | None = None
    quantity: Literal["s", "MB"] = "s"


@dataclass(frozen=True)
class Case:
    """Programs over the same data, run in turn."""

    make: Callable[[Path, float], Path]
    programs: dict[str, Program]
    goals: tuple[Goal, ...]
    needs: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        return (self.make.__doc__ or "").strip()


def wconv(*options: str, source: str = "", suffix: str = "", sync: bool = False) -> Program:
    """A conversion with two threads, of the data or of one thing among them.

    Without `sync` it does not wait for the disk, as none of the other programs does.
    """
    more = options if sync else ("--no-sync", *options)
    return Program(
        lambda src, out: python(
            "-m", "wconv", src / source, "-o", out.with_suffix(suffix), "-j", 2, "--quiet", *more
        )
    )


def script(name: str, *needs: str, source: str = "") -> Program:
    """One of the scripts in `programs`."""
    return Program(lambda src, out: python(PROGRAMS / f"{name}.py", src / source, out), needs)


COPY = Program(lambda src, out: ["cp", "-r", str(src), str(out)])
FLOAT16 = "wconv --dtype float16"
MFLUX = "wconv --layout mflux"
DENSE = "wconv --dequantize"
DECODED = {DENSE: wconv("-d", "--layout", "hf"), "torch script": script("torch_dequantize", "torch")}


def mlx_lm(*options: str) -> Program:
    """mlx-lm's own converter."""
    return Program(
        lambda src, out: python("-m", "mlx_lm", "convert", "--hf-path", src, "--mlx-path", out, *options),
        ("mlx_lm",),
    )


QUANTIZERS = {"wconv": wconv, "mlx_lm.convert": mlx_lm}

CASES = {
    "model": Case(
        data.qwen,
        {
            "cp -r": COPY,
            FLOAT16: wconv("--dtype", "float16"),
            "wconv (same dtype)": wconv(),
            "wconv (same dtype, on the disk)": wconv(sync=True),
            "mlx_lm.convert": mlx_lm("--dtype", "float16"),
            "torch script": script("torch_cast", "torch"),
            "numpy script": script("numpy_cast"),
        },
        (
            Goal(FLOAT16, 1.0, "cp -r"),
            Goal("wconv (same dtype)", 0.5, "cp -r"),
            Goal(FLOAT16, 1 / 7, "mlx_lm.convert"),
            Goal(FLOAT16, 1 / 4, "torch script"),
            Goal(FLOAT16, 1.0, "numpy script"),
            Goal(FLOAT16, 48, quantity="MB"),
            Goal("wconv (same dtype)", 48, quantity="MB"),
        ),
    ),
    "small": Case(
        data.small_tensors,
        {"cp -r": COPY, FLOAT16: wconv("--dtype", "float16"), "torch script": script("torch_cast", "torch")},
        (
            Goal(FLOAT16, 3.0, "cp -r"),
            Goal(FLOAT16, 1 / 5, "torch script"),
            Goal(FLOAT16, 100, quantity="MB"),
        ),
    ),
    "float32": Case(
        data.float32,
        {"cp -r": COPY, FLOAT16: wconv("--dtype", "float16"), "torch script": script("torch_cast", "torch")},
        (Goal(FLOAT16, 0.8, "cp -r"), Goal(FLOAT16, 48, quantity="MB")),
    ),
    "quantize": Case(
        data.qwen,
        {"wconv -q": wconv("-q"), "mlx_lm.convert -q": mlx_lm("-q")},
        (Goal("wconv -q", 1 / 5, "mlx_lm.convert -q"), Goal("wconv -q", 64, quantity="MB")),
    ),
    "mxfp4": Case(
        data.one_layer,
        {name: program("-q", "--q-mode", "mxfp4") for name, program in QUANTIZERS.items()},
        (Goal("wconv", 1 / 50, "mlx_lm.convert"), Goal("wconv", 64, quantity="MB")),
    ),
    "nvfp4": Case(
        data.one_layer,
        {name: program("-q", "--q-mode", "nvfp4") for name, program in QUANTIZERS.items()},
        (Goal("wconv", 1 / 50, "mlx_lm.convert"), Goal("wconv", 64, quantity="MB")),
    ),
    "fp8": Case(
        quantized_data.fp8_blocks,
        DECODED,
        # a gigabyte of codes in a second
        (Goal(DENSE, 1 / 4, "torch script"), Goal(DENSE, 1.0), Goal(DENSE, 64, quantity="MB")),
    ),
    "int4": Case(
        quantized_data.int4_groups,
        DECODED,
        (Goal(DENSE, 1 / 4, "torch script"), Goal(DENSE, 0.5), Goal(DENSE, 64, quantity="MB")),
    ),
    "plan": Case(
        data.headers_only,
        {
            "wconv --help": Program(lambda src, out: python("-m", "wconv", "--help")),
            "wconv --dry-run": wconv("--dtype", "float16", "--dry-run"),
        },
        (Goal("wconv --help", 0.15), Goal("wconv --dry-run", 3)),
    ),
    "open": Case(
        torch_data.many_tensors,
        {
            "wconv.open": script("wconv_open", source="many.pt"),
            "torch.load (mmap)": script("torch_open", source="many.pt"),
        },
        (Goal("wconv.open", 1 / 4, "torch.load (mmap)"),),
        ("torch",),
    ),
    "distributed": Case(
        distributed_data.four_ranks,
        {"wconv": wconv("--layout", "hf"), "torch script": script("torch_join", "torch")},
        (Goal("wconv", 1 / 4, "torch script"), Goal("wconv", 64, quantity="MB")),
        ("torch",),
    ),
    "pieces": Case(
        distributed_data.many_pieces,
        {"wconv.open": script("wconv_open")},
        (Goal("wconv.open", 2),),
        ("torch",),
    ),
    "bin": Case(
        torch_data.shards,
        {
            "wconv .bin": wconv("--dtype", "float16", source="bin"),
            "wconv .safetensors": wconv("--dtype", "float16", source="safetensors"),
        },
        (Goal("wconv .bin", 1.2, "wconv .safetensors"), Goal("wconv .bin", 48, quantity="MB")),
        ("torch",),
    ),
    "mflux": Case(
        data.flux2,
        {
            "cp -r": COPY,
            MFLUX: wconv("--layout", "mflux"),
            "mflux": script("mflux_save", "mflux"),
        },
        (Goal(MFLUX, 1 / 4, "mflux"), Goal(MFLUX, 1 / 10, "mflux", quantity="MB")),
    ),
    "depth-pro": Case(
        torch_data.depth_pro,
        {
            "wconv": wconv(source="depth_pro.pt", suffix=".safetensors"),
            "torch + mlx": Program(
                lambda src, out: python(
                    PROGRAMS / "torch_depth_pro.py", src / "depth_pro.pt", out.with_suffix(".safetensors")
                ),
                ("torch",),
            ),
        },
        (Goal("wconv", 1 / 4, "torch + mlx"), Goal("wconv", 100, quantity="MB")),
        ("torch",),
    ),
}

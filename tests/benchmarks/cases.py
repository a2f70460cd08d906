"""The cases as a table: which data, which programs over them, and what wconv is to reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.benchmarks import data, distributed_data, examine_data, quantized_data, torch_data
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
    """

    command: Command
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


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


def in_numpy(program: Program) -> Program:
    """The same without compiled casts, whether or not they are installed."""
    return replace(program, environment={OFF: "1"})


def compiled(program: Program) -> Program:
    """The same with compiled casts."""
    return replace(program, needs=("numkong",))


COPY = Program(lambda src, out: ["cp", "-r", str(src), str(out)])
FLOAT16 = "wconv --dtype float16"
FAST = "wconv[fast] --dtype float16"
SAME = "wconv (same dtype)"
TO_FLOAT16 = {
    FAST: compiled(wconv("--dtype", "float16")),
    FLOAT16: in_numpy(wconv("--dtype", "float16")),
}
LOAD = "wconv.load"
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
    "cast": Case(
        data.qwen,
        {
            "cp -r": COPY,
            **TO_FLOAT16,
            "mlx_lm.convert": mlx_lm("--dtype", "float16"),
            "torch script": script("torch_cast", "torch"),
            "numpy script": script("numpy_cast"),
        },
        (
            Goal(FAST, 1.4, "cp -r", "processor s"),
            Goal(FAST, 1.0, "cp -r"),
            Goal(FLOAT16, 2.5, "cp -r", "processor s"),
            Goal(FLOAT16, 1.6, "cp -r"),
            Goal(FAST, 1 / 10, "mlx_lm.convert"),
            Goal(FAST, 1 / 5, "torch script"),
            Goal(FAST, 1 / 5, "numpy script"),
            Goal(FAST, 48, quantity="MB"),
            Goal(FLOAT16, 48, quantity="MB"),
        ),
    ),
    "copy": Case(
        data.qwen,
        {"cp -r": COPY, SAME: wconv(), "wconv (same dtype, on the disk)": wconv(sync=True)},
        (
            Goal(SAME, 0.75, "cp -r"),
            Goal(SAME, 0.75, "cp -r", "processor s"),
            Goal(SAME, 48, quantity="MB"),
        ),
    ),
    "small": Case(
        data.small_tensors,
        {"cp -r": COPY, **TO_FLOAT16, "torch script": script("torch_cast", "torch")},
        (
            Goal(FAST, 2.5, "cp -r"),
            Goal(FAST, 2.5, "cp -r", "processor s"),
            Goal(FAST, 1 / 6, "torch script"),
            Goal(FAST, 100, quantity="MB"),
        ),
    ),
    "float32": Case(
        data.float32,
        {"cp -r": COPY, **TO_FLOAT16, "torch script": script("torch_cast", "torch")},
        (Goal(FAST, 0.8, "cp -r"), Goal(FAST, 48, quantity="MB")),
    ),
    "load": Case(
        torch_data.shards,
        {
            "safetensors.numpy.load_file": script("safetensors_load", source="safetensors"),
            LOAD: script("wconv_load", source="safetensors"),
            "wconv.load (.bin)": script("wconv_load", source="bin"),
            "torch.load (mmap, cloned)": script("torch_load", "torch", source="bin"),
            "mx.load, mx.eval": script("mlx_load", "mlx", source="safetensors"),
            "wconv.load_mlx": script("wconv_load_mlx", "mlx", source="safetensors"),
        },
        (
            Goal(LOAD, 1.0, "safetensors.numpy.load_file"),
            Goal("wconv.load (.bin)", 1.0, "torch.load (mmap, cloned)"),
            Goal("wconv.load_mlx", 1.0, "mx.load, mx.eval"),
        ),
        ("torch",),
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
        (
            Goal("wconv --help", 0.15),
            Goal("wconv --dry-run", 1.5),
            Goal("wconv --dry-run", 1.5, quantity="processor s"),
            Goal("wconv --dry-run", 60, quantity="MB"),
        ),
    ),
    "inspect": Case(
        data.headers_only,
        {"wconv inspect": Program(lambda src, out: python("-m", "wconv", "inspect", "--summary", src))},
        (Goal("wconv inspect", 0.3, quantity="processor s"),),
    ),
    "diff": Case(
        examine_data.two_models,
        {
            "cat": Program(lambda src, out: ["cat", *map(str, sorted(src.glob("*/*.safetensors")))]),
            "wconv diff": Program(
                # of a fine-tune: that they differ is no failure
                lambda src, out: python(PROGRAMS / "any_end.py", "diff", src / "a", src / "b")
            ),
        },
        (Goal("wconv diff", 1.5, "cat"), Goal("wconv diff", 64, quantity="MB")),
    ),
    "verify": Case(
        examine_data.result_and_source,
        {
            "cat": Program(lambda src, out: ["cat", *map(str, sorted(src.glob("*/*.safetensors")))]),
            "wconv verify": Program(
                lambda src, out: python(
                    *("-m", "wconv", "verify", src / "result", "--against", src / "source"),
                    *("--dtype", "float16"),
                )
            ),
            "wconv scan": Program(lambda src, out: python("-m", "wconv", "scan", src / "source")),
        },
        (Goal("wconv verify", 64, quantity="MB"),),
    ),
    "hub": Case(
        data.qwen,
        {
            "wconv org/name": Program(lambda src, out: python(PROGRAMS / "from_hub.py", "wconv", src, out)),
            "download, mlx_lm.convert": Program(
                lambda src, out: python(PROGRAMS / "from_hub.py", "download", src, out),
                ("huggingface_hub", "mlx_lm"),
            ),
        },
        (
            Goal("wconv org/name", 1 / 3, "download, mlx_lm.convert"),
            Goal("wconv org/name", 96, quantity="MB"),
        ),
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
    "rank files": Case(
        distributed_data.rank_files,
        {"wconv": wconv("--layout", "hf"), "torch script": script("torch_rank_files", "torch")},
        (Goal("wconv", 1 / 4, "torch script"), Goal("wconv", 64, quantity="MB")),
        ("torch",),
    ),
    "zero": Case(
        distributed_data.zero_shares,
        {"wconv": wconv("--layout", "hf"), "torch script": script("torch_zero", "torch")},
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

"""The cases as a table: which data, which programs over them, and what wconv is to reach."""

from __future__ import annotations

from tests.benchmarks import data, distributed_data, examine_data, quantized_data, torch_data
from tests.benchmarks.case import (
    PROGRAMS,
    Case,
    Goal,
    Program,
    compiled,
    few,
    in_numpy,
    mlx_lm,
    script,
    wconv,
)
from tests.benchmarks.measure import python

COPY = Program(lambda src, out: ["cp", "-r", str(src), str(out)])
FLOAT16 = "wconv --dtype float16"
FAST = "wconv[fast] --dtype float16"
SAME = "wconv (same dtype)"
TO_FLOAT16 = {
    FAST: compiled(wconv("--dtype", "float16")),
    FLOAT16: in_numpy(wconv("--dtype", "float16")),
}
LOAD, LOAD_BIN, LOAD_MLX = "wconv.load", "wconv.load (.bin)", "wconv.load_mlx"
TORCH_LOAD = "torch.load (mmap, cloned)"
MFLUX = "wconv --layout mflux"
DENSE = "wconv --dequantize"
DECODED = {DENSE: wconv("-d", "--layout", "hf"), "torch script": script("torch_dequantize", "torch")}


QUANTIZERS = {"wconv": wconv, "mlx_lm.convert": mlx_lm}


def _to_floats(mode: str, seconds: int) -> Case:
    """One of MLX's modes of 4-bit floats, which it quantizes slowly."""
    return Case(
        data.one_layer,
        {name: program("-q", "--q-mode", mode) for name, program in QUANTIZERS.items()},
        (Goal("wconv", 1 / 50, "mlx_lm.convert"), Goal("wconv", 64, quantity="MB")),
        seconds=seconds,
        runs=1,
    )


CASES = {
    "cast": Case(
        data.qwen,
        {
            "cp -r": COPY,
            **TO_FLOAT16,
            "mlx_lm.convert": few(mlx_lm("--dtype", "float16")),
            "torch script": few(script("torch_cast", "torch")),
            "numpy script": few(script("numpy_cast")),
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
        seconds=170,
    ),
    "copy": Case(
        data.qwen,
        {"cp -r": COPY, SAME: wconv(), "wconv (same dtype, on the disk)": wconv(sync=True)},
        (
            Goal(SAME, 0.75, "cp -r"),
            Goal(SAME, 0.75, "cp -r", "processor s"),
            Goal(SAME, 48, quantity="MB"),
        ),
        seconds=45,
    ),
    "quantize": Case(
        data.qwen,
        {"wconv -q": wconv("-q"), "mlx_lm.convert -q": few(mlx_lm("-q"), 2)},
        (Goal("wconv -q", 1 / 5, "mlx_lm.convert -q"), Goal("wconv -q", 64, quantity="MB")),
        seconds=50,
        runs=3,
    ),
    "load": Case(
        torch_data.shards,
        {
            "safetensors.numpy.load_file": script("safetensors_load", source="safetensors"),
            LOAD: script("wconv_load", source="safetensors"),
            LOAD_BIN: script("wconv_load", source="bin"),
            TORCH_LOAD: script("torch_load", "torch", source="bin"),
            "mx.load, mx.eval": script("mlx_load", "mlx", source="safetensors"),
            LOAD_MLX: script("wconv_load_mlx", "mlx", source="safetensors"),
        },
        (
            Goal(LOAD, 1.0, "safetensors.numpy.load_file"),
            Goal(LOAD, 1.0, "safetensors.numpy.load_file", "processor s"),
            Goal(LOAD_BIN, 1.0, TORCH_LOAD),
            Goal(LOAD_MLX, 1.0, "mx.load, mx.eval"),
        ),
        seconds=90,
        needs=("torch",),
    ),
    "bin": Case(
        torch_data.shards,
        {
            "wconv .bin": wconv("--dtype", "float16", source="bin"),
            "wconv .safetensors": wconv("--dtype", "float16", source="safetensors"),
        },
        (Goal("wconv .bin", 1.2, "wconv .safetensors"), Goal("wconv .bin", 48, quantity="MB")),
        seconds=35,
        needs=("torch",),
    ),
    "deflated": Case(
        torch_data.deflated,
        {
            LOAD: script("wconv_load"),
            "torch.load": script("torch_load_whole", "torch"),
            FLOAT16: wconv("--dtype", "float16"),
            "wconv -j 1": wconv("--dtype", "float16", "-j", "1"),
        },
        (
            Goal(LOAD, 1.0, "torch.load"),
            Goal(FLOAT16, 0.65, "wconv -j 1"),
            Goal(FLOAT16, 64, quantity="MB"),
        ),
        seconds=65,
        needs=("torch",),
        runs=3,
    ),
    "small": Case(
        data.small_tensors,
        {"cp -r": COPY, **TO_FLOAT16, "torch script": few(script("torch_cast", "torch"))},
        (
            Goal(FAST, 2.5, "cp -r"),
            Goal(FAST, 2.5, "cp -r", "processor s"),
            Goal(FAST, 1 / 6, "torch script"),
            Goal(FAST, 100, quantity="MB"),
        ),
        seconds=55,
    ),
    "float32": Case(
        data.float32,
        {"cp -r": COPY, **TO_FLOAT16, "torch script": few(script("torch_cast", "torch"))},
        (Goal(FAST, 0.8, "cp -r"), Goal(FAST, 48, quantity="MB")),
        seconds=60,
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
        seconds=12,
    ),
    "inspect": Case(
        data.headers_only,
        {"wconv inspect": Program(lambda src, out: python("-m", "wconv", "inspect", "--summary", src))},
        (Goal("wconv inspect", 0.3, quantity="processor s"),),
        seconds=5,
    ),
    "open": Case(
        torch_data.many_tensors,
        {
            "wconv.open": script("wconv_open", source="many.pt"),
            "torch.load (mmap)": script("torch_open", source="many.pt"),
        },
        (Goal("wconv.open", 1 / 4, "torch.load (mmap)"),),
        seconds=45,
        needs=("torch",),
        runs=3,
    ),
    "mflux": Case(
        data.flux2,
        {
            "cp -r": COPY,
            MFLUX: wconv("--layout", "mflux"),
            "mflux": script("mflux_save", "mflux"),
        },
        (Goal(MFLUX, 1 / 4, "mflux"), Goal(MFLUX, 1 / 10, "mflux", quantity="MB")),
        seconds=80,
        runs=3,
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
        seconds=45,
        needs=("torch",),
        runs=3,
    ),
    "fp8": Case(
        quantized_data.fp8_blocks,
        DECODED,
        # a gigabyte of codes in a second
        (Goal(DENSE, 1 / 4, "torch script"), Goal(DENSE, 1.0), Goal(DENSE, 64, quantity="MB")),
        seconds=55,
        runs=3,
    ),
    "int4": Case(
        quantized_data.int4_groups,
        DECODED,
        (Goal(DENSE, 1 / 4, "torch script"), Goal(DENSE, 0.5), Goal(DENSE, 64, quantity="MB")),
        seconds=35,
        runs=3,
    ),
    "mxfp4": _to_floats("mxfp4", seconds=55),
    "nvfp4": _to_floats("nvfp4", seconds=65),
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
        seconds=300,
        runs=3,
        published=False,
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
        seconds=60,
        runs=3,
        published=False,
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
        seconds=60,
        runs=3,
        published=False,
    ),
    "distributed": Case(
        distributed_data.four_ranks,
        {"wconv": wconv("--layout", "hf"), "torch script": script("torch_join", "torch")},
        (Goal("wconv", 1 / 4, "torch script"), Goal("wconv", 64, quantity="MB")),
        seconds=150,
        needs=("torch",),
        runs=3,
        published=False,
    ),
    "rank files": Case(
        distributed_data.rank_files,
        {"wconv": wconv("--layout", "hf"), "torch script": script("torch_rank_files", "torch")},
        (Goal("wconv", 1 / 4, "torch script"), Goal("wconv", 64, quantity="MB")),
        seconds=80,
        needs=("torch",),
        runs=3,
        published=False,
    ),
    "zero": Case(
        distributed_data.zero_shares,
        {"wconv": wconv("--layout", "hf"), "torch script": script("torch_zero", "torch")},
        (Goal("wconv", 1 / 4, "torch script"), Goal("wconv", 64, quantity="MB")),
        seconds=150,
        needs=("torch",),
        runs=3,
        published=False,
    ),
    "pieces": Case(
        distributed_data.many_pieces,
        {"wconv.open": script("wconv_open")},
        (Goal("wconv.open", 2),),
        seconds=30,
        needs=("torch",),
        runs=3,
        published=False,
    ),
}

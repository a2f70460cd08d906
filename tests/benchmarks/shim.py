"""`wconv.torch` beside torch on tensors of 16 MB, two threads: `python -m tests.benchmarks.shim [--write]`.

Both run in one process, in turn; the fastest of several calls counts. `--write` writes the table of the page.
`--files`: torch.load and save_file of 2 GB, whole processes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import measure
from tests.shim import tables

SECONDS = 0.15
"""For each call of each torch."""

Call = Callable[[], Any]


def inputs(t: Any) -> dict[str, Any]:
    """The same tensors of either torch."""
    draw = np.random.default_rng(0)
    made = {name: t.from_numpy(draw.standard_normal((2048, 2048)).astype(np.float32)) for name in "fg"}
    made["i"] = t.from_numpy(draw.integers(0, 100, (2048, 2048)).astype(np.int32))
    made["n"] = t.from_numpy(draw.integers(0, 2048, 2048))
    made["h"] = t.cat([made["f"], made["g"]]).half()
    made["b"] = t.cat([made["f"], made["g"]]).bfloat16()
    return {**made, "m": made["f"] > 0, "p": made["f"].abs() + 0.1, "l": [0.5] * 100_000}


CALLS = """
    f.half() | f.bfloat16() | h.float() | b.float() | b.half() | f.double() | f.int() | f.clone()
    f.t().contiguous() | f.view(64,32,2048).permute(2,0,1).contiguous() | t.cat([f,g]) | t.stack([f,g])
    t.cat(f.chunk(4)) | f[:512].repeat(4,1) | t.flip(f,[0]) | t.roll(f,5,0) | t.tril(f)
    f.index_select(0,n) | f[n] | f[m] | t.where(m,f,g) | t.gather(f,1,i.long()) | f.masked_fill(m,0.)
    f[:512].repeat_interleave(4,0) | f.clone().copy_(g) | f+g | f-g | f*g | f*2.5 | f/g | f**2
    t.maximum(f,g) | f.clamp(-1,1) | b+b | h*h | b*0.5 | f==g | f<g | f.abs() | -f | f.round() | f.floor()
    f.sign() | f.isnan() | f//g | f%g | t.lerp(f,g,0.3) | i+i | i*i | i//3 | i&i | i>>2 | ~m | p.sqrt()
    p.rsqrt() | f.reciprocal() | f.exp() | p.log() | f.sin() | f.cos() | f.tanh() | f.sigmoid()
    t.softmax(f,1) | f.relu() | f.square() | f.expm1() | p.log1p() | t.atan2(f,g) | t.hypot(f,g) | f.sum()
    f.sum(1) | f.mean() | f.std() | f.max() | f.max(1) | f.amax(1) | f.argmax(1) | m.any() | f.norm()
    f.cumsum(0) | f.cumprod(0) | t.count_nonzero(f) | m.nonzero() | f.sort(1) | f.argsort(1) | f.topk(5,1)
    i.unique() | t.isin(i,i[0]) | t.searchsorted(f[0].sort()[0],f) | t.diff(f) | f[:1024]@g
    b[:256,:]@b[:2048] | t.outer(f[0],f[1]) | t.equal(f,g) | t.allclose(f,f) | t.zeros(2048,2048)
    t.ones(2048,2048) | t.full((2048,2048),3.) | t.arange(4194304) | t.linspace(0,1,4194304) | t.eye(2048)
    t.tensor(l) | f[:256].tolist() | t.randn(4194304) | t.rand(4194304) | t.randint(0,100,(4194304,))
    t.randperm(1048576) | t.complex(f,g)
"""
NAMES = [each.strip() for line in CALLS.strip().splitlines() for each in line.split("|")]


def fastest(call: Call) -> float:
    call()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def rows() -> list[dict[str, Any]]:
    """Each call, milliseconds with torch and with wconv.torch, and the ratio."""
    import torch

    import wconv.torch as shim

    torch.set_num_threads(2)
    given = {name: inputs(module) | {"t": module} for name, module in (("torch", torch), ("shim", shim))}
    made = []
    for name in NAMES:
        code = compile(name, "<call>", "eval")
        taken = {side: fastest(lambda code=code, at=at: eval(code, at)) * 1e3 for side, at in given.items()}
        ratio = taken["shim"] / taken["torch"]
        made.append(
            {
                "what": name,
                "torch": round(taken["torch"], 3),
                "ms": round(taken["shim"], 3),
                "ratio": round(ratio, 1),
            }
        )
    return made


LOAD_AND_SAVE = """
import sys
import {torch} as torch
from {safetensors} import save_file
save_file(torch.load(sys.argv[1], map_location="cpu", weights_only=True), sys.argv[2])
"""


def files(megabytes: int = 2048) -> None:
    """torch.load and save_file of a file, with each torch in a process of its own."""
    import torch

    with tempfile.TemporaryDirectory(prefix="wconv-benchmark-") as folder:
        source, out = Path(folder) / "model.pt", Path(folder) / "model.safetensors"
        torch.save({f"w{at}": torch.ones(64 << 17) for at in range(megabytes // 32)}, source)
        for _ in range(3):
            for names in (("torch", "safetensors.torch"), ("wconv.torch", "wconv.torch.safetensors_torch")):
                code = LOAD_AND_SAVE.format(torch=names[0], safetensors=names[1])
                start = time.perf_counter()
                subprocess.run([sys.executable, "-c", code, str(source), str(out)], check=True)
                print(f"{names[0]}: {time.perf_counter() - start:.2f} s", flush=True)
                out.unlink()


def main() -> None:
    if "--files" in sys.argv:
        files()
        return
    import torch

    made = rows()
    for row in sorted(made, key=lambda row: -row["ratio"]):
        print(f"{row['ratio']:6.1f}  {row['torch']:9.3f} {row['ms']:9.3f}  {row['what']}")
    if "--write" in sys.argv:
        tables.write("speed", {"torch": torch.__version__, "machine": measure.machine()}, made)


if __name__ == "__main__":
    main()

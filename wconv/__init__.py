"""Move model weights without torch.

    wconv.convert("Logics-Parsing", dtype="float16")     # a model directory → Logics-Parsing-MLX
    checkpoint = wconv.open("model.ckpt")                # name → lazy tensor; nothing is read yet
    arrays = wconv.load("model.ckpt")                    # name → numpy array
    arrays = wconv.load_mlx("depth_pro.pt")              # name → mlx array
    wconv.save(arrays, "model.safetensors")

Importing this package imports nothing else: each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wconv.api import load, save
    from wconv.checkpoints.checkpoint import Checkpoint
    from wconv.consumers.quantization.recipes import Quantize
    from wconv.conversion.options import ConvertOptions
    from wconv.conversion.planned import Conversion
    from wconv.conversion.prepare import prepare
    from wconv.conversion.report import Report
    from wconv.conversion.run import convert, run
    from wconv.conversion.several import convert_several
    from wconv.errors import FormatError, LayoutError, OutputError, UnsafeError, WconvError
    from wconv.examine.diff import Diff, diff
    from wconv.examine.inspection import Inspection, inspect
    from wconv.examine.receipt import write_receipt
    from wconv.examine.receipt_check import ReceiptCheck, check_receipt
    from wconv.examine.scan.scan import Scan, scan
    from wconv.examine.verify import Verification, verify
    from wconv.layouts.apply import Layout
    from wconv.mlx import load_mlx
    from wconv.opening import open
    from wconv.tensors.lazy import LazyTensor

__version__ = "0.1.0"

_HOMES = {
    "load": "api",
    "load_mlx": "mlx",
    "save": "api",
    "Checkpoint": "checkpoints.checkpoint",
    "open": "opening",
    "Conversion": "conversion.planned",
    "ConvertOptions": "conversion.options",
    "Quantize": "consumers.quantization",
    "ReceiptCheck": "examine.receipt_check",
    "Inspection": "examine.inspection",
    "Scan": "examine.scan.scan",
    "Verification": "examine.verify",
    "check_receipt": "examine.receipt_check",
    "convert": "conversion.run",
    "convert_several": "conversion.several",
    "diff": "examine.diff",
    "inspect": "examine.inspection",
    "scan": "examine.scan.scan",
    "verify": "examine.verify",
    "write_receipt": "examine.receipt",
    "prepare": "conversion.prepare",
    "run": "conversion.run",
    "FormatError": "errors",
    "LayoutError": "errors",
    "OutputError": "errors",
    "UnsafeError": "errors",
    "WconvError": "errors",
    "Diff": "examine.diff",
    "Layout": "layouts.apply",
    "Report": "conversion.report",
    "LazyTensor": "tensors.lazy",
}

__all__ = [
    "Checkpoint",
    "Conversion",
    "ConvertOptions",
    "Diff",
    "FormatError",
    "Inspection",
    "Layout",
    "LayoutError",
    "LazyTensor",
    "OutputError",
    "Quantize",
    "ReceiptCheck",
    "Report",
    "Scan",
    "UnsafeError",
    "Verification",
    "WconvError",
    "__version__",
    "check_receipt",
    "convert",
    "convert_several",
    "diff",
    "inspect",
    "load",
    "load_mlx",
    "open",
    "prepare",
    "run",
    "save",
    "scan",
    "verify",
    "write_receipt",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] != "errors":
        importlib.import_module(f"{__name__}.machine").check()
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

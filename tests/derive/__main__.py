"""Derives tables from a consumer that is installed: `python -m tests.derive mlx-lm|mlx-vlm [MODEL …]`.

Writes `wconv/consumers/<program>/tables/<model_type>.toml` for every model type that can be derived, and says what
cannot be. With MODEL, only those; with `--print`, to the terminal instead.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections import Counter

from tests.derive import tables
from tests.derive.deriving import Derived, derive
from tests.derive.programs import PACKAGES, program


def main(arguments: list[str]) -> int:
    show = "--print" in arguments
    words = [word for word in arguments if not word.startswith("--")]
    if not words or words[0] not in PACKAGES:
        print(__doc__)
        return 2
    quiet()
    prog = program(words[0])
    found: list[Derived] = []
    for model_type in words[1:] or list(prog.model_types()):
        derived = derive(prog, model_type)
        found.append(derived)
        if derived.layout is None:
            print(f"{model_type}: {derived.kind}: {derived.why}")
        elif show:
            print(tables.text(prog, derived))
    if not show:
        tables.write_all(prog, found)
    print(", ".join(f"{count} {kind}" for kind, count in Counter(one.kind for one in found).items()))
    return 0


def quiet() -> None:
    """Without the notes of the programs that are asked."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Derives tables from a consumer that is installed: `python -m tests.derive PROGRAM [MODEL …]`.

PROGRAM is mlx-lm, mlx-vlm, mlx-audio or mlx-embeddings; or mflux, whose components `mflux` derives. Writes
`wconv/consumers/PROGRAM/tables/MODEL_TYPE.toml` for every model type that can be derived, keeps the tiny
checkpoints that they were derived from in `fixtures/derived`, and says what cannot be. Each table is compared
with the consumer's own conversion of the same checkpoint; one that differs is not written.
With MODEL, only those; with `--print`, to the terminal
instead; with `--page`, writes the page of all that is known; with `--watch`, names the model types for which
the tables do not hold with the version installed.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from tests.derive import fixtures, page, proof, tables, watch
from tests.derive.deriving import Derived, derive
from tests.derive.programs import PACKAGES, Program, program


def main(arguments: list[str]) -> int:
    show = "--print" in arguments
    words = [word for word in arguments if not word.startswith("--")]
    if "--page" in arguments and not words:
        page.write()
        return 0
    if words and words[0] == "mflux":
        from tests.derive import mflux

        return mflux.main(words[1:])
    if not words or words[0] not in PACKAGES:
        print(__doc__)
        return 2
    quiet()
    prog = program(words[0])
    if "--watch" in arguments:
        return watched(prog, words[1:])
    kept = fixtures.load(prog.name)
    found: list[Derived] = []
    for model_type in words[1:] or list(prog.model_types()):
        derived = derive(prog, model_type, tables.is_own(prog, model_type))
        kept[model_type] = row(prog, derived)
        if derived.layout is None:
            print(f"{model_type}: {derived.kind}: {derived.why}", flush=True)
        elif show:
            print(tables.text(prog, derived))
        found.append(derived)
    if not show:
        tables.write_all(prog, found)
        fixtures.save(prog, kept)
    print(", ".join(f"{count} {kind}" for kind, count in Counter(one.kind for one in found).items()))
    return 0


def watched(prog: Program, only: list[str]) -> int:
    """Prints what the installed version does otherwise than the tables say; 1 where there is something."""
    derived = fixtures.versions(prog.name).get(prog.name, "")
    found = list(watch.changes(prog, only))
    for model_type, said in found:
        print(f"{model_type}: {said}")
    print(f"{prog.name} {prog.version}: {len(found)} model types differ from the tables, of {derived}")
    return 1 if found else 0


def row(prog: Program, derived: Derived) -> dict[str, Any]:
    """What is kept of a model type; a table that does not do what the consumer does is taken back."""
    result: dict[str, Any] = {"kind": derived.kind, "why": derived.why}
    by_hand = tables.written(prog.name, derived.model_type) if derived.layout is None else None
    layout = derived.layout or by_hand
    if derived.source is None or layout is None:
        return result
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "source").mkdir()
        compared = proof.compare(prog, derived.model_type, derived.source, layout, Path(work))
    differs = next((said for label, said in compared.items() if label != "back" and said != "same"), None)
    if differs is not None and by_hand is not None:
        return {**result, "written": differs}
    if differs is not None:
        derived.layout, derived.kind, derived.why = None, "not possible", differs
        return {"kind": derived.kind, "why": differs}
    source = derived.source
    return {
        **result,
        **compared,
        "sanitizes": prog.sanitizes(derived.model_type),
        "source": source.kind,
        "config": json.loads(json.dumps(source.config, default=str)),
        "shapes": source.shapes,
        "integers": sorted(source.integers),
        "written": ""
        if derived.layout is None
        else proof.against_written(prog, derived.model_type, source, derived.layout),
    }


def quiet() -> None:
    """Without the notes of the programs that are asked."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

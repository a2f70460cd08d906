"""Models that are left as they are published: the program lays them out each time it loads them.

Such a program does not take its own conversion again, or there are no rules for it; what wconv writes has
the checkpoint's own names, and the program must make the same parameters of it, in any dtype.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import wconv
from tests.derive import proof, sources
from tests.derive.programs import Program, probe
from tests.derive.sources import Source
from tests.derive.trace import LARGEST
from wconv.consumers.layout_choice import choose_layout

KIND = "left as published"
PROGRAMS = ("mlx-audio", "mlx-embeddings")
"""Whose loaders take checkpoints as they are published, and pass over names that they do not have."""


def found(prog: Program, model_type: str) -> tuple[Source, bool] | None:
    """A checkpoint that passes unchanged and that the program loads; whether it takes its conversion, too.

    None where there is none, or where what it loads of wconv's result is not the same.
    """
    for make in sources.makers(model_type):
        try:
            source = make(prog, model_type, {})
        except (Exception, SystemExit):
            continue
        if not 0 < sources.size(source) < LARGEST:
            continue
        with tempfile.TemporaryDirectory() as work:
            said = compare(prog, model_type, source, Path(work))
            if all(one == "same" for one in said.values()):
                return source, _again(prog, model_type, source, Path(work))
    return None


def compare(prog: Program, model_type: str, source: Source, work: Path) -> dict[str, str]:
    """What the program loads of wconv's result against what it loads of the source: "same", or how not."""
    place = work / "published"
    place.mkdir()
    wconv.save(proof.checkpoint(source), place / "model.safetensors")
    (place / "config.json").write_text(json.dumps(source.config, default=str))
    said = {}
    for label, dtype in (("own", None), ("float16", "float16")):
        try:
            if choose_layout(prog.name, source.config, source.shapes) is not None:
                raise proof.DifferentError("there is a table")
            expected = loaded(prog, model_type, source, place, dtype)
            wconv.convert(place, work / f"passed-{label}", dtype=dtype)
            proof.differs(loaded(prog, model_type, source, work / f"passed-{label}", None), expected)
            said[label] = "same"
        except Exception as error:
            said[label] = f"{type(error).__name__}: {error}".replace(str(work), "")[:300]
    return said


def loaded(prog: Program, model_type: str, source: Source, path: Path, dtype: str | None) -> dict[str, Any]:
    """The parameters that the program holds of a directory; names that it does not have are passed over.

    Raises:
        DifferentError: a parameter is not there.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten

    weights: dict[str, Any] = {}
    for shard in sorted(path.glob("*.safetensors")):
        weights.update(mx.load(str(shard)))
    made = probe(prog, model_type, source.config)
    made_of_it = made.fresh(weights)
    holds = {name for name, _ in tree_flatten(made.model.parameters())}
    for name in sorted(holds - made_of_it.keys()):
        raise proof.DifferentError(f"{name} is missing")
    kept = [(name, array) for name, array in made_of_it.items() if name in holds]
    made.model.load_weights(kept, strict=True)
    result = {}
    for name, array in tree_flatten(made.model.parameters()):
        floating = dtype is not None and mx.issubdtype(array.dtype, mx.floating)
        result[name] = array.astype(getattr(mx, dtype)) if dtype is not None and floating else array
    return result


def _again(prog: Program, model_type: str, source: Source, work: Path) -> bool:
    """Whether the program takes what it made of a checkpoint for a checkpoint again."""
    try:
        expected = loaded(prog, model_type, source, work / "published", None)
        proof.stored(expected, work / "again")
        proof.differs(loaded(prog, model_type, source, work / "again", None), expected)
    except Exception:
        return False
    return True


def row(prog: Program, model_type: str, reason: str) -> dict[str, Any] | None:
    """What is kept of such a model type; None where it is not one.

    Args:
        reason: why there are no rules for it.
    """
    one = found(prog, model_type)
    if one is None:
        return None
    source, again = one
    why = reason if again else "the program's sanitize does not take its own result"
    return {
        "kind": KIND,
        "why": why,
        "own": "same",
        "float16": "same",
        "back": "same",
        "source": source.kind,
        "sanitizes": prog.sanitizes(model_type),
        "config": json.loads(json.dumps(source.config, default=str)),
        "shapes": source.shapes,
        "integers": sorted(source.integers),
        "written": "",
    }

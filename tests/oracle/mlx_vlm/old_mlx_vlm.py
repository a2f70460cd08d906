"""Run by an older mlx-vlm's own process: what it sees in converted models and what it makes of the sources.

Usage: `python old_mlx_vlm.py SOURCE CONVERTED SOURCE CONVERTED …`; prints "the same" for each pair of which
every bit of the parameters and of the logits agrees, and otherwise what does not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_vlm
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_vlm.utils import load_model

IDS = [[3, 17, 200, 45, 5, 120, 9, 31]]


def main() -> None:
    assert mlx_vlm.__version__ == "0.6.0", mlx_vlm.__version__
    for source, converted in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        try:
            print(difference(halved(load_model(Path(source))), load_model(Path(converted))) or "the same")
        except Exception as error:
            print(f"{type(error).__name__}: {str(error)[:300]!r}")


def halved(model: Any) -> Any:
    """The model in float16, as mlx-vlm's conversion casts it."""
    wanted = getattr(model, "cast_predicate", lambda _: True)

    def cast(name: str, array: mx.array) -> mx.array:
        return array.astype(mx.float16) if wanted(name) and mx.issubdtype(array.dtype, mx.floating) else array

    model.update(tree_map_with_path(cast, model.parameters()))
    return model


def difference(theirs: Any, ours: Any) -> str:
    expected, got = (dict(tree_flatten(model.parameters())) for model in (theirs, ours))
    if got.keys() != expected.keys():
        return f"other parameters: {sorted(got.keys() ^ expected.keys())[:3]}"
    for name, array in expected.items():
        same = got[name].dtype == array.dtype and mx.array_equal(got[name], array, equal_nan=True)
        if not same:
            return f"{name} differs"
    for model in (theirs, ours):
        model.set_dtype(mx.float32)  # the only one for experts without a GPU
    one, other = (model.language_model(mx.array(IDS)).logits for model in (theirs, ours))
    return "" if mx.array_equal(one, other) else "the logits differ"


if __name__ == "__main__":
    main()

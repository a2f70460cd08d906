"""Run by an older mlx-vlm's own process: what it sees in a converted model and what it makes of the source.

Usage: `python old_mlx_vlm.py SOURCE CONVERTED`; exits with an error unless both are the same in every bit.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mlx.core as mx
import mlx_vlm
from mlx.utils import tree_flatten, tree_map
from mlx_vlm.utils import load_model

IDS = [[3, 17, 200, 45, 5, 120, 9, 31]]


def main() -> None:
    assert mlx_vlm.__version__ == "0.6.0", mlx_vlm.__version__
    theirs, ours = (load_model(Path(path)) for path in sys.argv[1:3])
    theirs.update(
        tree_map(
            lambda array: array.astype(mx.float16) if mx.issubdtype(array.dtype, mx.floating) else array,
            theirs.parameters(),
        )
    )
    expected, got = (dict(tree_flatten(model.parameters())) for model in (theirs, ours))
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        assert mx.array_equal(got[name], array, equal_nan=True), name
    for model in (theirs, ours):
        model.set_dtype(mx.float32)  # the only one for experts without a GPU
    one, other = (model.language_model(mx.array(IDS)).logits for model in (theirs, ours))
    assert mx.array_equal(one, other)
    print("the same")


if __name__ == "__main__":
    main()

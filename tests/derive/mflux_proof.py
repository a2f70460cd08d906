"""A component's table against mflux's own loader, on a tiny checkpoint of all that it reads.

The loader's filters, mapping and cast are run on random tensors; wconv's rules and casts on the same. Names,
shapes, dtypes and bits must be the same, from bfloat16 and from float16, and the way back must give the
checkpoint's own.
"""

from __future__ import annotations

import zlib
from typing import Any

import ml_dtypes
import numpy as np

from tests.derive import mflux_parts
from tests.derive.mflux_parts import Part
from tests.derive.mflux_rows import CHANNELS
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout, apply
from wconv.layouts.inverse import restore
from wconv.tensors.lazy import LazyTensor, from_array

DTYPES = {"own": ml_dtypes.bfloat16, "float16": np.float16}
"""What components are published in, and what is asked for in its place."""

KERNELS = {4: (7, 6, 3, 3), 5: (7, 6, 3, 3, 3)}
"""Shapes of convolutions as models have them: with square kernels."""

SIX = (".scale_shift_table",)
"""Ends of names of six vectors in one tensor."""

FP8 = ml_dtypes.float8_e4m3fn


def checkpoint(part: Part, dtype: Any) -> dict[str, Any]:
    """Random weights for every name that mflux reads of a component."""
    arrays = {}
    shapes = mflux_parts.source(part)
    for name, shape in shapes.items():
        random = np.random.default_rng(zlib.crc32(name.encode()))
        if 1 not in shape:
            shape = KERNELS.get(len(shape), shape)
        channels = CHANNELS.get(part.name, ("", 0))
        if name == channels[0]:
            shape = (shape[0], channels[1], *(5 for _ in shape[2:]))
        if name.endswith(SIX):
            shape = (6, shape[-1])
        scaled = f"{name}_scale" in shapes
        kind = FP8 if scaled else np.float32 if name.endswith("_scale") else dtype
        arrays[name] = random.standard_normal(shape, np.float32).astype(kind)
    return arrays


def to_mlx(array: Any) -> Any:
    """An array of NumPy's in MLX; eight bits as bytes, as MLX reads them from files."""
    import mlx.core as mx

    if array.dtype == ml_dtypes.bfloat16:
        return mx.array(array.view(np.uint16)).view(mx.bfloat16)
    return mx.array(array.view(np.uint8) if array.dtype == FP8 else array)


def compare(part: Part, layout: Layout) -> dict[str, str]:
    """What a table makes of a component: "own", "float16" and "back", each "same", or how it differs."""
    found: dict[str, str] = {}
    own = np.float16 if part.component.loading_mode == "torch_checkpoint" else DTYPES["own"]
    for label, dtype in {**DTYPES, "own": own}.items():
        arrays = checkpoint(part, dtype)
        theirs = mflux_parts.loaded(part, {name: to_mlx(array) for name, array in arrays.items()}, cast=True)
        try:
            found[label] = _differs(layout, arrays, theirs) or "same"
        except LayoutError as error:
            found[label] = str(error)
    if found["own"] == "same":
        found["back"] = _back(layout, checkpoint(part, own))
    return found


def _differs(layout: Layout, arrays: dict[str, Any], theirs: dict[str, Any]) -> str:
    ours = apply(layout, {name: from_array(array) for name, array in arrays.items()}, {})
    lacking = [name for name in theirs if name not in ours.tensors]
    beside = [name for name in ours.tensors if name not in theirs]
    if lacking or beside:
        return f"{len(lacking)} names are lacking, {len(beside)} too many: {[*lacking, *beside][0]}"
    for name, array in theirs.items():
        kept = name in ours.keep_dtype
        got = cast(ours.tensors[name], {} if kept else layout.casts)
        if got != bits(array):
            return f"{name}: {got[:2]}, not {bits(array)[:2]}"
    return ""


def bits(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    """An MLX array's dtype, shape and bytes."""
    import mlx.core as mx

    plain = np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)
    return str(array.dtype).removeprefix("mlx.core."), tuple(array.shape), plain.tobytes()


def cast(tensor: LazyTensor, casts: Any) -> tuple[str, tuple[int, ...], bytes]:
    """A tensor as it is written: cast as its table says, eight bits as bytes."""
    import mlx.core as mx

    name = tensor.dtype.name
    if name in casts:
        return bits(to_mlx(tensor.numpy()).astype(getattr(mx, casts[name])))
    return bits(to_mlx(tensor.numpy()))


def _back(layout: Layout, arrays: dict[str, Any]) -> str:
    """Whether the way back gives the checkpoint's own names and bits."""
    tensors = {name: from_array(array) for name, array in arrays.items()}
    try:
        laid = apply(layout, tensors, {}).tensors
        restored = restore(layout, laid, {})
    except LayoutError as error:
        return str(error)
    back = laid if restored is None else restored.tensors
    if back.keys() != tensors.keys():
        lost = [*(tensors.keys() - back.keys()), *(back.keys() - tensors.keys())]
        return f"{len(lost)} names differ: {sorted(lost)[0]}"
    for name, array in arrays.items():
        if back[name].numpy().tobytes() != array.tobytes() or back[name].shape != array.shape:
            return f"{name} has other bits"
    return "same"

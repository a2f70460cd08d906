"""What config.json says of dtypes is what the weights are."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType

Config = dict[str, Any]

FIELDS = ("torch_dtype", "dtype")
"""What transformers 4 and 5 call it."""

DEPTH = 8
"""How deep in each other the parts of a config are looked for."""


def of_weights(sizes: Mapping[DType, int]) -> DType | None:
    """The dtype that a model is said to have: of most elements of its floating tensors, but for fp8.

    Args:
        sizes: how many elements there are of each dtype.
    """
    wide = {dtype: count for dtype, count in sizes.items() if dtype.is_floating and dtype.bits >= 16}
    return max(wide, key=wide.__getitem__) if wide else None


def with_dtype(config: Mapping[str, Any], dtype: str) -> Config:
    """`config` with `torch_dtype`, and `dtype` where there is one, set to `dtype`, in all its parts."""
    new = copy.deepcopy(dict(config))
    new["torch_dtype"] = dtype
    for part in _parts(new):
        for name in FIELDS:
            if isinstance(part.get(name), str):
                part[name] = dtype
    return new


def corrected(config: Mapping[str, Any], sizes: Mapping[DType, int]) -> tuple[Config, str]:
    """`config` with dtypes that the weights have, and what it said before where that was wrong ("" if not).

    Only fields that are there are set. A part keeps what it says where some of the weights are of that dtype.
    """
    main = of_weights(sizes)
    new = copy.deepcopy(dict(config))
    said = ""
    for part in _parts(new) if main is not None else ():
        for name in FIELDS:
            stated = _stated(part.get(name))
            if main is None or stated is None or stated is main or (part is not new and sizes.get(stated)):
                continue
            said = said or stated.name
            part[name] = main.name
    return new, said


def note(said: str, sizes: Mapping[DType, int]) -> str:
    """What the user should know of a config that said something else than its weights."""
    main = of_weights(sizes)
    if main is None:
        return ""
    text = f"config.json said {said} and says {main.name} now, as the weights are"
    if 2 * dtypes.by_name(said).bits == main.bits:
        return f"{text}: --dtype {said} would halve them"
    return text


def sizes_of(pairs: Iterable[tuple[DType, tuple[int, ...]]]) -> Mapping[DType, int]:
    """Elements by dtype, of tensors' dtypes and shapes."""
    sizes: Counter[str] = Counter()
    # of tens of thousands few differ; by name: a string's hash is kept in it
    for (name, shape), count in Counter((dtype.name, shape) for dtype, shape in pairs).items():
        sizes[name] += count * math.prod(shape)
    return {dtypes.by_name(name): count for name, count in sizes.items()}


def _stated(value: Any) -> DType | None:
    """The dtype that a field names; None where it names none ("auto")."""
    name = value.removeprefix("torch.") if isinstance(value, str) else ""
    found = dtypes.BY_NAME.get(name)
    return found if found is not None and found.is_floating else None


def _parts(config: Config, depth: int = 0) -> Iterator[Config]:
    yield config
    for key, value in config.items() if depth < DEPTH else ():
        if not isinstance(value, dict) or "quantization" in key:
            continue
        if key.endswith("_config") or "model_type" in value:
            yield from _parts(value, depth + 1)

"""Every decoder over files with something changed: it gives values, or one line that says what is wrong.

Covers `quantized/`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.quantized.test_damage import arrays
from tests.quantized.test_recognition import CASES
from wconv.errors import WconvError
from wconv.quantized.packed import marked, packed_form
from wconv.quantized.recognition import find_weights
from wconv.tensors.lazy import LazyTensor, from_array

Random = np.random.Generator
ROUNDS = int(os.environ.get("WCONV_ROUNDS", "20"))


def other_bytes(array: Any, random: Random) -> Any:
    raw = bytearray(array.tobytes())
    for _ in range(int(random.integers(1, 5))):
        raw[int(random.integers(len(raw)))] = int(random.integers(256))
    return np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)


def noise(array: Any, random: Random) -> Any:
    return np.frombuffer(random.bytes(array.nbytes), array.dtype).reshape(array.shape)


def other_dtype(array: Any, random: Random) -> Any:
    name = random.choice(["int8", "uint8", "int16", "int32", "uint32", "int64", "float16", "float32", "bool"])
    return np.ones(array.shape, str(name))


def other_shape(array: Any, random: Random) -> Any:
    lengths = [int(random.integers(0, 9)) for _ in range(int(random.integers(0, 5)))]
    return np.zeros(lengths, array.dtype)


def longer(array: Any, random: Random) -> Any:
    return np.concatenate([array.reshape(-1)] * int(random.integers(2, 4)))


def swapped(array: Any, random: Random) -> Any:
    return np.ascontiguousarray(array.T)


def halved(array: Any, random: Random) -> Any:
    flat = array.reshape(-1)
    return flat[: flat.size // 2]


CHANGES: tuple[Callable[[Any, Random], Any], ...] = (
    other_bytes,
    other_bytes,
    noise,
    other_dtype,
    other_shape,
    longer,
    swapped,
    halved,
)


def all_of(tensors: dict[str, LazyTensor], config: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Reads everything that a conversion would, decoded and packed."""
    scheme = find_weights(tensors, config, metadata)
    if scheme is None:
        return
    dense = scheme.decode(tensors).tensors
    for tensor in dense.values():
        tensor.numpy()
    for tensor in marked(dense, scheme).values():
        form = packed_form(tensor)
        if not isinstance(form, str):
            form.weight.numpy()
            form.scales.numpy()


def for_mlx() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """MLX's own form, affine and mxfp4."""
    random = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for name, end in (("a", ()), ("b", ("biases",))):
        made[f"{name}.weight"] = random.integers(0, 1 << 32, (8, 16), dtype=np.uint32)
        scales = random.random((8, 4)).astype(np.float16) if end else np.full((8, 4), 120, np.uint8)
        made |= {f"{name}.{one}": scales for one in ("scales", *end)}
    return made, {"quantization": {"group_size": 32, "bits": 4, "a": {"mode": "mxfp4"}}}, {}


def opened(case: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    return for_mlx() if case == "mlx" else arrays(case)


@pytest.mark.parametrize("case", [*CASES, "mlx"])
def test_something_is_changed(case: str) -> None:
    made, config, metadata = opened(case)
    random = np.random.default_rng(sum(map(ord, case)))
    names = list(made)
    for _ in range(ROUNDS):
        name = names[int(random.integers(len(names)))]
        changed = dict(made)
        if random.random() < 0.1:
            changed[f"{name}.x" if random.random() < 0.5 else name[:-1]] = changed.pop(name)
        else:
            changed[name] = CHANGES[int(random.integers(len(CHANGES)))](made[name], random)
        said = survived(changed, config, metadata)
        assert "\n" not in said
        assert len(said) < 400


NONSENSE: tuple[Any, ...] = (None, 0, -1, True, 1e308, 10**30, "x" * 9_000, [], {}, [-1, "x"], {"x": [0]})


def with_nonsense(settings: dict[str, Any], value: Any) -> Iterator[dict[str, Any]]:
    """Each setting, and each inside of one, is `value`."""
    for key, inner in settings.items():
        yield {**settings, key: value}
        if isinstance(inner, dict):
            yield from ({**settings, key: other} for other in with_nonsense(inner, value))


@pytest.mark.parametrize(
    "case", ["awq-gemv", "ct-int4-zeros", "fp8-blocks", "gptq-4", "modelopt-nvfp4", "mlx"]
)
def test_a_setting_is_nonsense(case: str) -> None:
    made, config, metadata = opened(case)
    for value in NONSENSE:
        for changed in with_nonsense(config, value):
            said = survived(made, changed, metadata)
            assert "\n" not in said
            assert len(said) < 400


def survived(made: dict[str, Any], config: dict[str, Any], metadata: dict[str, Any]) -> str:
    """What is said of it, if anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            all_of({one: from_array(array) for one, array in made.items()}, config, metadata)
        except WconvError as error:
            return str(error)
    return ""

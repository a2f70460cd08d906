"""Random calls on random views do on the shim what they do on torch."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wconv.torch as shim
from tests.oracles import oracle
from tests.shim.observe import plain

pytestmark = pytest.mark.oracle

DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()  # noqa: SIM905
TARGETS = [*DTYPES, "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "complex64"]
BINARY = "add sub mul div floor_divide remainder fmod maximum minimum eq lt ge bitwise_and logical_or".split()  # noqa: SIM905
UNARY = "abs neg floor ceil round sign clone contiguous isnan logical_not square reciprocal".split()  # noqa: SIM905
REDUCTIONS = "all any amax amin argmax argmin".split()  # noqa: SIM905
NUMBERS = [2, -3, 0.37, 2.5, True, 0, 1e-3, 300]
WITH_NUMBER: list[Callable[[Any, Any], Any]] = [
    lambda x, n: x + n, lambda x, n: x - n, lambda x, n: x * n, lambda x, n: x / n, lambda x, n: x // n,
    lambda x, n: x % n, lambda x, n: n - x, lambda x, n: n * x, lambda x, n: n / x, lambda x, n: x < n,
    lambda x, n: x == n,
]  # fmt: skip

Pair = tuple[Any, Any]


class Draw(random.Random):
    """Random inputs: the same tensor out of both torches."""

    def shape(self) -> tuple[int, ...]:
        return tuple(self.choice([1, 2, 3, 4]) for _ in range(self.randrange(4)))

    def tensors(self, real: Any, shape: tuple[int, ...]) -> Pair:
        values = np.random.default_rng(self.randrange(1 << 30)).standard_normal(shape)
        values = np.clip(values * self.choice([1, 5, 100, 1e-3]), -100, 100)
        name = self.choice(DTYPES)
        values = np.abs(values) if name == "uint8" else values
        return tuple(t.from_numpy(np.array(values)).to(getattr(t, name)) for t in (real, shim))  # type: ignore[return-value]

    def view(self, pair: Pair) -> Pair:
        for _ in range(self.randrange(4)):
            change = self.change(pair[0])
            pair = change(pair[0]), change(pair[1])
        return pair

    def change(self, tensor: Any) -> Callable[[Any], Any]:
        """One way to another view of a tensor."""
        axes = tensor.dim()
        kind = self.randrange(5)
        if kind == 0 and axes:
            first, second = self.randrange(axes), self.randrange(axes)
            return lambda x: x.transpose(first, second)
        if kind == 1 and axes:
            index = tuple(
                slice(self.choice([None, 0, 1, -2]), None, self.choice([None, 1, 2])) for _ in range(axes)
            )
            return lambda x: x[index]
        if kind == 2:
            at = self.randrange(axes + 1)
            return lambda x: x.unsqueeze(at)
        if kind == 3 and 1 in tensor.shape:
            lengths = [self.choice([1, 2, 3]) if length == 1 else length for length in tensor.shape]
            return lambda x: x.expand(lengths)
        order = list(range(axes))
        self.shuffle(order)
        return lambda x: x.permute(order)

    def index(self, shape: tuple[int, ...]) -> tuple[Any, ...]:
        entries: list[Any] = []
        for length in shape[: self.randrange(len(shape) + 1)]:
            choices = [
                [slice(None)],
                [slice(self.choice([None, 1]), None)],
                [None, slice(None)],
                [[bool(self.randrange(2)) for _ in range(length)]],
            ]
            if length:
                choices += [
                    [self.randrange(-length, length)],
                    [[self.randrange(-length, length) for _ in "ab"]],
                ]
            entries += self.choice(choices)
        return tuple(entries)

    def call(self, real: Any) -> tuple[str, Callable[[Any], Any], Callable[[Any], Any]]:
        """A description, and the same call for each torch."""
        pair = self.view(self.tensors(real, self.shape()))
        first = pair[0]
        kind = self.randrange(8)
        about = f"{first.dtype} {tuple(first.shape)} {first.stride()}"
        if kind == 0:
            shape = tuple(self.choice([length, 1]) for length in first.shape)[
                self.randrange(first.dim() + 1) :
            ]
            name, other = self.choice(BINARY), self.view(self.tensors(real, shape))
            about += f" {other[0].dtype} {tuple(other[0].shape)} {other[0].stride()}"
            return f"{name} {about}", *(lambda t, i=i: getattr(t, name)(pair[i], other[i]) for i in (0, 1))
        if kind == 1:
            at, number = self.randrange(len(WITH_NUMBER)), self.choice(NUMBERS)
            return f"{at} {number} {about}", *(
                lambda t, i=i: WITH_NUMBER[at](pair[i], number) for i in (0, 1)
            )
        if kind == 2:
            name = self.choice(UNARY)
            return f"{name} {about}", *(lambda t, i=i: getattr(pair[i], name)() for i in (0, 1))
        if kind == 3:
            name, keep = self.choice(REDUCTIONS), self.random() < 0.5
            dim = (self.randrange(first.dim()), keep) if first.dim() and self.random() < 0.7 else ()
            return f"{name} {dim} {about}", *(lambda t, i=i: getattr(pair[i], name)(*dim) for i in (0, 1))
        if kind == 4:
            index = self.index(tuple(first.shape))
            return f"{index} {about}", *(lambda t, i=i: pair[i][index].contiguous() for i in (0, 1))
        if kind == 5:
            name, shape = (
                self.choice(["view", "reshape"]),
                tuple(self.choice([1, 2, 3, 4, 6, -1]) for _ in range(2)),
            )
            return f"{name} {shape} {about}", *(lambda t, i=i: getattr(pair[i], name)(shape) for i in (0, 1))
        if kind == 6:
            name, other = self.choice(["cat", "stack"]), self.tensors(real, tuple(first.shape))
            about = f"{other[0].dtype} {about}"
            return f"{name} {about}", *(lambda t, i=i: getattr(t, name)([pair[i], other[i]]) for i in (0, 1))
        name = self.choice(TARGETS)
        return f"to {name} {about}", *(lambda t, i=i: pair[i].to(getattr(t, name)) for i in (0, 1))


def outcome(torch: Any, call: Callable[[Any], Any]) -> Any:
    """What `plain` says of the result, or the error's class; axes of length 1 have no steps that matter."""
    try:
        found = plain(torch, call(torch))
    except Exception as error:
        return type(error)
    if isinstance(found, dict) and found["strides"]:
        found["strides"] = [step for step, n in zip(found["strides"], found["shape"], strict=True) if n > 1]
    return found


@pytest.mark.parametrize("seed", range(10))
def test_random_calls(seed: int) -> None:
    real, draw = oracle("torch"), Draw(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(1000):
            about, of_torch, of_shim = draw.call(real)
            expected, found = outcome(real, of_torch), outcome(shim, of_shim)
            if isinstance(expected, type):
                assert isinstance(found, type), f"{about}\ntorch: {expected}\nshim:  {found}"
                assert issubclass(found, expected) or expected is IndexError, (
                    f"{about}: {found} for {expected}"
                )
            else:
                assert found == expected, f"{about}\ntorch: {expected}\nshim:  {found}"

"""torch's generator of random numbers on the CPU: the same numbers from the same seed, bit for bit.

The engine is mt19937, seeded with 32 bits; what is made of its draws follows ATen's DistributionsHelper.h,
TransformationHelper.h and native/cpu/DistributionTemplates.h.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wconv.torch.device import CPU, device, require_cpu

DEFAULT_SEED = 67280421310721
"""What torch starts with where nobody chose a seed."""

_LEAST, _GREATEST = -(1 << 63), (1 << 64) - 1


class Generator:
    """The state that random numbers are drawn from."""

    __module__ = "torch"

    def __init__(self, device: Any = "cpu") -> None:
        require_cpu(device)
        self.manual_seed(DEFAULT_SEED)

    @property
    def device(self) -> device:
        return CPU

    def manual_seed(self, seed: int) -> Generator:
        """Starts anew from a seed: a negative one counts back from 2**64.

        Raises:
            ValueError: the seed has more than 64 bits.
        """
        number = int(seed)
        if not _LEAST <= number <= _GREATEST:
            raise ValueError(f"Overflow when unpacking long: the seed {number} has more than 64 bits")
        self._seed = number % (1 << 64)
        self._engine: Any = None
        self.next_normal: float | None = None
        return self

    @property
    def _bits(self) -> Any:
        """The engine, made when it is first used: numpy.random takes time to import."""
        if self._engine is None:
            self._engine = np.random.MT19937()
            state: Any = np.random.RandomState(self._seed & 0xFFFFFFFF).get_state(legacy=False)
            self._engine.state = state
        return self._engine

    def seed(self) -> int:
        """Starts anew from a seed of the system's; returns it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        return self._seed

    def initial_seed(self) -> int:
        """The seed that was last given."""
        return self._seed

    def draw32(self, count: int) -> NDArray[np.uint32]:
        """The next `count` numbers of 32 bits."""
        return np.asarray(self._bits.random_raw(count)).astype(np.uint32)

    def draw64(self, count: int) -> NDArray[np.uint64]:
        """The next `count` numbers of 64 bits, of two draws each: the high half first."""
        pairs = np.asarray(self._bits.random_raw(2 * count)).astype(np.uint64).reshape(count, 2)
        return (pairs[:, 0] << np.uint64(32)) | pairs[:, 1]

    def unit32(self, count: int) -> NDArray[np.float32]:
        """Numbers in [0, 1) of 24 bits, as float32."""
        return (self.draw32(count) & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2**-24)

    def unit64(self, count: int) -> NDArray[np.float64]:
        """Numbers in [0, 1) of 53 bits, as float64."""
        return (self.draw64(count) & np.uint64((1 << 53) - 1)).astype(np.float64) * 2**-53


default_generator = Generator()
"""What the functions draw from that are given no generator."""


def manual_seed(seed: int) -> Generator:
    """Seeds torch's default generator; returns it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seeds the default generator from the system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()

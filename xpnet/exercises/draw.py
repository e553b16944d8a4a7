"""Small round numbers from a seed, the same on every platform: numbers with which one can calculate by hand."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np


class Draw:
    """Numbers from (seed, topic, attempt). Of the generator only the raw 64 bits are used, which NumPy promises to keep: the same seed is
    the same sheet also in years."""

    def __init__(self, seed: int, topic: str, attempt: int = 0):
        self.raw = np.random.PCG64(np.random.SeedSequence((seed, zlib.crc32(topic.encode()), attempt)))

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return low + int(self.raw.random_raw() % (high - low + 1))

    def of(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def number(self, low: float, high: float, step: float = 0.1) -> float:
        """A multiple of the step."""
        return round(self.integer(round(low / step), round(high / step)) * step, 10)

    def numbers(self, *shape: int, low: float = -0.9, high: float = 0.9, step: float = 0.1) -> np.ndarray:
        """Multiples of the step; none is 0, which would hide mistakes."""
        made: list[float] = []
        while len(made) < np.prod(shape, dtype=int):
            if value := self.number(low, high, step):
                made.append(value)
        return np.reshape(np.array(made, dtype=np.float64), shape)

    def integers(self, *shape: int, low: int = -3, high: int = 3) -> np.ndarray:
        """Whole numbers other than 0."""
        return self.numbers(*shape, low=low, high=high, step=1.0)

    def shuffled(self, items: Sequence[Any]) -> list[Any]:
        rest = list(items)
        return [rest.pop(self.integer(0, len(rest) - 1)) for _ in items]

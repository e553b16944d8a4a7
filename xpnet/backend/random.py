"""Random numbers as a pure function of (seed, step, call site, index): no generator state, the same bits on every backend.

Each number is a hash of its own index. Resuming a run needs the step's number and nothing else; a mask can be made again in
the backward pass; and NumPy, CuPy and every other backend draw the same bits.
"""

import math
from typing import Any

from .elementwise import elementwise
from .registry import kind

Array = Any
_MASK64 = (1 << 64) - 1


def _mix64(x: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea & Flood, 2014): makes keys of small integers, on the host."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


@elementwise(inplace=True)
def hash_rule(xp: Any, h: Array, key0: int, key1: int) -> None:
    """h ← hash of h: two rounds of a 32-bit xorshift-multiply finaliser (constants of C. Wellons, "lowbias32"), keyed."""
    h ^= key0
    h ^= h >> 16
    h *= 0x7FEB352D
    h ^= h >> 15
    h *= 0x846CA68B
    h ^= h >> 16
    h ^= key1
    h ^= h >> 16
    h *= 0x21F0AAAD
    h ^= h >> 15
    h *= 0x735A2D97
    h ^= h >> 15


@elementwise(inplace=True)
def hash_rule_int64(xp: Any, h: Array, key0: int, key1: int) -> None:
    """The same bits where the library has no arithmetic on uint32 (torch): int64, masked to 32 bits after each product.

    A 32 by 32 bit product may pass 2⁶³; int64 then wraps, and the low 32 bits are still those of the product.
    """
    h ^= key0
    h ^= h >> 16
    h *= 0x7FEB352D
    h &= 0xFFFFFFFF
    h ^= h >> 15
    h *= 0x846CA68B
    h &= 0xFFFFFFFF
    h ^= h >> 16
    h ^= key1
    h ^= h >> 16
    h *= 0x21F0AAAD
    h &= 0xFFFFFFFF
    h ^= h >> 15
    h *= 0x735A2D97
    h &= 0xFFFFFFFF
    h ^= h >> 15


class Random:
    """The random numbers of one forward pass. Each call is a call site of its own, numbered in the order of the calls."""

    __slots__ = ("seed", "site", "step")

    def __init__(self, seed: int = 0, step: int = 0, site: int = 0):
        self.seed, self.step, self.site = seed, step, site

    def bits(self, xp: Any, count: int, device: Any) -> Array:
        """(count,) integers, uniform on [0, 2³²), of a dtype that the library can shift and compare."""
        key = _mix64(_mix64(_mix64(self.seed & _MASK64) ^ self.step) ^ self.site)
        self.site += 1
        key0, key1 = key & 0xFFFFFFFF, key >> 32
        if kind(xp) == "torch":
            h = xp.arange(count, dtype=xp.int64, device=device)
            hash_rule_int64(xp, h, key0, key1)
            return h
        if kind(xp) == "cupy":
            import numpy as np

            # A Python int above 2³¹ would be int64 to a fused kernel.
            h = xp.arange(count, dtype=xp.uint32)
            hash_rule(xp, h, np.uint32(key0), np.uint32(key1))
            return h
        h = xp.arange(count, dtype=xp.uint32, device=device)
        hash_rule(xp, h, key0, key1)
        return h

    def uniform(self, xp: Any, shape: tuple[int, ...], dtype: Any, device: Any) -> Array:
        """Uniform on [0, 1): the upper 24 bits over 2²⁴, exact in float32, so the same numbers in every dtype; rounded in float16."""
        if dtype == getattr(xp, "float16", None):         # 2²⁴ is beyond its largest number
            return xp.astype(self.uniform(xp, shape, xp.float32, device), dtype)
        u = xp.astype(self.bits(xp, math.prod(shape), device) >> 8, dtype)
        u *= 2.0 ** -24
        return xp.reshape(u, shape)

    def normal(self, xp: Any, shape: tuple[int, ...], dtype: Any, device: Any) -> Array:
        """Standard normal by Box & Muller (1958): √(-2 ln u₁) cos(2π u₂); agrees between backends to rounding."""
        if dtype == getattr(xp, "float16", None):
            return xp.astype(self.normal(xp, shape, xp.float32, device), dtype)
        u1 = 1.0 - self.uniform(xp, shape, dtype, device)   # in (0, 1]: its logarithm is finite
        u2 = self.uniform(xp, shape, dtype, device)
        return xp.sqrt(-2.0 * xp.log(u1)) * xp.cos((2.0 * math.pi) * u2)


class DeviceRandom(Random):
    """Random whose step is a (1,) uint64 CuPy array, read on the device: the same bits as of a Random with that number.

    A recorded graph draws them anew each time that it is replayed (see xpnet/capture.py).
    """

    __slots__ = ()

    def bits(self, xp: Any, count: int, device: Any) -> Array:
        key0, key1 = self.keys_rule(xp, self.step, xp.uint64(_mix64(self.seed & _MASK64)), xp.uint64(self.site))
        self.site += 1
        h = xp.arange(count, dtype=xp.uint32)
        hash_rule(xp, h, key0, key1)
        return h

    @staticmethod
    @elementwise
    def keys_rule(xp: Any, step: Array, seed: Any, site: Any) -> tuple[Array, Array]:
        """The two halves of `Random.bits`' key, from the mixed seed."""
        key = _mix64_array(xp, _mix64_array(xp, seed ^ step) ^ site)
        return xp.astype(key & xp.uint64(0xFFFFFFFF), xp.uint32), xp.astype(key >> xp.uint64(32), xp.uint32)


def _mix64_array(xp: Any, x: Array) -> Array:
    """`_mix64` of uint64 arrays, whose arithmetic wraps by itself."""
    x = x + xp.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> xp.uint64(30))) * xp.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> xp.uint64(27))) * xp.uint64(0x94D049BB133111EB)
    return x ^ (x >> xp.uint64(31))

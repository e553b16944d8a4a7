"""Gradient clipping, without a host synchronisation: the norm stays on the device."""

from typing import Any

from ..backend import elementwise

Array = Any


class ClipValue:
    """gᵢ ← min(max(gᵢ, -c), c)"""

    def __init__(self, limit: float):
        if not limit > 0:
            raise ValueError(f"ClipValue takes a positive limit, got {limit!r}")
        self.limit = float(limit)

    def __call__(self, xp: Any, g: Array) -> None:
        clip_value_rule(xp, g, -self.limit, self.limit)


class ClipNorm:
    """g ← g · min(1, c / ‖g‖), ‖g‖ the norm of the whole network's gradient

    The direction stays. Pascanu, Mikolov & Bengio (2013), algorithm 1.
    """

    def __init__(self, max_norm: float):
        if not max_norm > 0:
            raise ValueError(f"ClipNorm takes a positive norm, got {max_norm!r}")
        self.max_norm = float(max_norm)

    def __call__(self, xp: Any, g: Array) -> None:
        clip_norm_rule(xp, g, xp.linalg.vector_norm(g), self.max_norm)


@elementwise(inplace=True)
def clip_value_rule(xp: Any, g: Array, low: float, high: float) -> None:
    g[...] = xp.minimum(xp.maximum(g, low), high)         # two numbers, since a fused kernel rounds its own -limit to float16


@elementwise(inplace=True)
def clip_norm_rule(xp: Any, g: Array, norm: Array, max_norm: float) -> None:
    g *= max_norm / xp.maximum(norm, max_norm)            # the same as min(1, c/‖g‖), and 1 for ‖g‖ = 0

"""Dropout: noise in training, the identity in inference."""

import math
from typing import Any

from ..backend import elementwise
from ..layer import Backward, Context, Layer

Array = Any


class Dropout(Layer):
    """y = x ⊙ m / (1 - p), with mᵢ = 0 with probability p and 1 otherwise;  ∂L/∂x = ∂L/∂y ⊙ m / (1 - p).

    The division keeps E[y] = x ("inverted" dropout), so inference is y = x.
    p: probability of dropping, in [0, 1)
    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014).
    """

    keeps_features = True

    def __init__(self, p: float = 0.5):
        if not 0.0 <= p < 1.0:
            raise ValueError(f"Dropout: p is a probability in [0, 1), got {p!r}")
        self.p = float(p)

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        if not ctx.training or self.p == 0.0:
            return x, lambda dy, input_grad=True: (dy if input_grad else None, {})
        xp = ctx.xp
        bits = xp.reshape(ctx.random.bits(xp, math.prod(x.shape), x.device), x.shape)
        y, m = dropout_rule(xp, x, bits, math.ceil(self.p * 2 ** 24), 1.0 / (1.0 - self.p))

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return (dy * m if input_grad else None), {}

        return y, backward

    def __repr__(self) -> str:
        return f"Dropout({self.p:g})"


@elementwise
def dropout_rule(xp: Any, x: Array, bits: Array, least: int, scale: float) -> tuple[Array, Array]:
    """y and m / (1 - p), with m = [u ≥ p] decided on the upper 24 bits of u: the same units in every dtype."""
    m = xp.astype((bits >> 8) >= least, x.dtype) * scale
    return x * m, m

"""Layers that move no numbers: they only say how the same numbers are to be read."""

import math
from typing import Any

from ..layer import Backward, Context, Layer, takes

Array = Any


class Reshape(Layer):
    """y = x with each sample's axes read as `shape`;  ∂L/∂x = ∂L/∂y read as x's shape.

    x: (n, ...)    y: (n, *shape)
    """

    def __init__(self, *shape: int):
        self.shape = tuple(shape)
        if self.shape.count(-1) > 1 or any(not isinstance(s, int) or s == 0 or s < -1 for s in self.shape):
            raise ValueError(f"Reshape takes positive sizes, one of which may be -1, got {self.shape}")
        self.out_features = self.shape[-1] if self.shape and self.shape[-1] > 0 else None

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, shape = ctx.xp, x.shape
        known = math.prod(s for s in self.shape if s != -1)
        size = math.prod(shape[1:])
        if len(shape) < 1 or (size % known if -1 in self.shape else size != known):
            raise takes(f"(batch, ...) with {'a multiple of ' if -1 in self.shape else ''}{known} numbers a sample", x)
        y = xp.reshape(x, (shape[0], *(size // known if s == -1 else s for s in self.shape)))

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return (xp.reshape(dy, shape) if input_grad else None), {}

        return y, backward

    def __repr__(self) -> str:
        return f"Reshape{self.shape}"


class Flatten(Layer):
    """y = each sample as one row;  ∂L/∂x = ∂L/∂y read as x's shape.

    x: (n, ...)    y: (n, d), d the product of the other axes
    """

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        if len(x.shape) < 1:
            raise takes("(batch, ...)", x)
        xp, shape = ctx.xp, x.shape

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return (xp.reshape(dy, shape) if input_grad else None), {}

        return xp.reshape(x, (shape[0], math.prod(shape[1:]))), backward

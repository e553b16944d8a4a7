"""Dropout: noise in training, the identity in inference."""

from typing import Any

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
        u = ctx.random.uniform(xp, x.shape, x.dtype, x.device)
        m = xp.astype(u >= self.p, x.dtype)
        m *= 1.0 / (1.0 - self.p)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return (dy * m if input_grad else None), {}

        return x * m, backward

    def __repr__(self) -> str:
        return f"Dropout({self.p:g})"

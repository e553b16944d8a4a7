"""The fully connected layer: the derivation of every other layer starts here."""

from typing import Any

from ..backend import sum_of, sum_outer, times_transposed
from ..errors import LayerError, whole
from ..layer import Backward, Context, Layer, Param, takes
from .activations import Activation, get_activation

Array = Any


class Dense(Layer):
    """Affine map  z = xW + b,  and with an activation  y = f(z).

        ∂L/∂z = ∂L/∂y ⊙ f'(z)
        ∂L/∂x = ∂L/∂z Wᵀ        ∂L/∂W = xᵀ ∂L/∂z        ∂L/∂b = Σₙ ∂L/∂zₙ

    x: (n, d)    W: (d, k)    b: (k,)    z: (n, k)
    Rows are samples, so this is the transpose of the textbook's z = Wx + b. b is added to every row (a broadcast), so its
    gradient is the sum over the rows. x may have any number of leading axes; they count as rows.

    in_features, out_features  d and k
    activation  None, an activation such as ReLU(), or its name: the two layers in one, equal to them to rounding
    init        initialiser of W, its name or an array of shape (d, k)
    bias        False leaves b out
    Raises LayerError for an x whose last axis is not d, or whose dtype is not that of W.
    Rumelhart, Hinton & Williams (1986), "Learning representations by back-propagating errors".
    """

    def __init__(self, in_features: int, out_features: int, activation: Any = None, *, init: Any = "glorot_uniform",
                 bias: bool = True, bias_init: Any = "zeros"):
        self.in_features = in_features = whole("Dense: in_features", in_features, 1)
        self.out_features = out_features = whole("Dense: out_features", out_features, 1)
        self.activation = get_activation(activation)
        self.W = Param((in_features, out_features), init)
        self.b = Param((out_features,), bias_init, bias=True) if bias else None

    def params(self) -> dict[str, Param]:
        return {"W": self.W} if self.b is None else {"W": self.W, "b": self.b}

    def children(self) -> dict[str, Layer]:
        return {} if self.activation is None else {"activation": self.activation}

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, W = ctx.xp, params["W"]
        if x.shape[-1:] != W.shape[:1]:
            raise takes(f"(batch, {self.in_features})", x)
        if x.dtype != W.dtype:
            raise LayerError(f"has parameters of dtype {W.dtype}, got x of dtype {x.dtype}; convert x first")
        rows = x if x.ndim == 2 else xp.reshape(x, (-1, self.in_features))   # leading axes are rows
        z = rows @ W
        f = self.activation
        back: Any = None
        if isinstance(f, Activation) and self.b is not None:
            y, back = f.run(xp, z, ctx.training, params["b"])
        else:
            if self.b is not None:
                z += params["b"]                          # in place: z was made here
            y = z
            if f is not None:
                y, back = ctx.forward("activation", f, params, z)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dy = dy if x.ndim == 2 else xp.reshape(dy, (-1, self.out_features))
            dz, inner = (dy, {}) if back is None else back(dy)
            grads = {"activation": inner}
            grads["W"] = sum_outer(xp, rows, dz, W)
            if self.b is not None:
                grads["b"] = sum_of(xp, dz, axis=0)
            if not input_grad:
                return None, grads
            dx = times_transposed(xp, dz, W)
            return (dx if x.ndim == 2 else xp.reshape(dx, x.shape)), grads

        return (y if x.ndim == 2 else xp.reshape(y, (*x.shape[:-1], self.out_features))), backward

    def __repr__(self) -> str:
        f = "" if self.activation is None else f", {self.activation!r}"
        return f"Dense({self.in_features}, {self.out_features}{f}{'' if self.b is not None else ', bias=False'})"

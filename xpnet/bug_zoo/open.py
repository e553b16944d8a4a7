"""Right, and in the open: layers, losses and Adam with their formulas in lines that a subclass can get wrong one at a time."""

import math
from typing import Any

from ..layer import Backward, Context, Layer, takes
from ..layers import Dense, Dropout, Softmax
from ..losses import MeanSquaredError, SoftmaxCrossEntropy, one_hot
from ..optim import Adam

Array = Any


class OpenDense(Dense):
    """Dense with its backward pass in the open: z = xW + b, a = f(z), and `pull` in the letters of the derivation."""

    def pull(self, xp: Any, x: Array, W: Array, dz: Array, da: Array) -> tuple[Array, Array, Array]:
        dW = x.T @ dz
        db = xp.sum(dz, axis=0)
        dx = dz @ W.T
        return dx, dW, db

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, W, f = ctx.xp, params["W"], self.activation
        if x.shape[-1:] != W.shape[:1]:
            raise takes(f"(batch, {self.in_features})", x)
        rows = xp.reshape(x, (-1, self.in_features))
        z = rows @ W
        if self.b is not None:
            z = z + params["b"]
        a, back = (z, None) if f is None else ctx.forward("activation", f, params, z)

        def backward(da: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            da = xp.reshape(da, (-1, self.out_features))
            dz, inner = (da, {}) if back is None else back(da)
            dx, dW, db = self.pull(xp, rows, W, dz, da)
            grads = {"activation": inner, "W": dW, **({"b": db} if self.b is not None else {})}
            return (xp.reshape(dx, x.shape) if input_grad else None), grads

        return xp.reshape(a, (*x.shape[:-1], self.out_features)), backward


class OpenDropout(Dropout):
    """Dropout with its lines in the open."""

    def mask(self, x: Array, ctx: Context) -> Array:
        """m: 0 with probability p, and 1 otherwise; another one at each call."""
        return ctx.xp.astype(ctx.random.uniform(ctx.xp, x.shape, x.dtype, x.device) >= self.p, x.dtype)


class Twice(Layer):
    """y = f(f(x)): one layer, `cell`, used twice, the smallest recurrent network. Its parameters get two gradients, which add."""

    keeps_features = True

    def __init__(self, cell: Layer):
        self.cell = cell

    def children(self) -> dict[str, Layer]:
        return {"cell": self.cell}

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        h, first = ctx.forward("cell", self.cell, params, x)
        y, second = ctx.forward("cell", self.cell, params, h)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dh, of_second = second(dy)
            dx, of_first = first(dh, input_grad)
            return dx, {"cell": self.collect(of_first, of_second)}

        return y, backward

    def collect(self, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
        return added(first, second)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.cell!r})"


def added(a: Any, b: Any) -> Any:
    """a + b of nested dictionaries of arrays."""
    return {name: added(a[name], b[name]) for name in a} if isinstance(a, dict) else a + b


class OpenSquaredError(MeanSquaredError):
    """L = Σ s r², ∂L/∂y = 2 s r, with r = y - t; s holds the 1/n of the reduction."""

    def residual(self, xp: Any, y: Array, t: Array) -> Array:
        return y - t

    def gradient(self, xp: Any, r: Array, s: Any) -> Array:
        return 2.0 * s * r

    def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        s = self.scale(xp, y.shape[0], math.prod(y.shape[1:]), weights)
        if weights is not None:
            s = xp.reshape(s, (-1,) + (1,) * (y.ndim - 1))
        r = self.residual(xp, y, t)
        return xp.sum(r * r * s), self.gradient(xp, r, s)


class OpenCrossEntropy(SoftmaxCrossEntropy):
    """ℓ = -Σₖ qₖ ln pₖ with p = softmax(z), in the open; q: the targets as probabilities."""

    def log_softmax(self, xp: Any, z: Array) -> Array:
        z = z - xp.max(z, axis=-1, keepdims=True)
        return z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))

    def gradient(self, xp: Any, p: Array, q: Array, s: Any) -> Array:
        return s * (p - q)

    def value_and_grad(self, xp: Any, z: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        q, s = one_hot(xp, t, z) if t.ndim < z.ndim else t, self.rows(xp, z, weights)
        log_p = self.log_softmax(xp, z)
        p, _ = Softmax().forward({}, z, Context(xp))
        return xp.sum(-q * log_p * s), self.gradient(xp, p, q, s)


class OpenAdam(Adam):
    """Adam in the letters of the paper."""

    def corrected(self, m: Array, v: Array, t: int) -> tuple[Array, Array]:
        return m / (1.0 - self.beta1 ** t), v / (1.0 - self.beta2 ** t)

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        m, v = self.state["m"], self.state["v"]
        m += (1.0 - self.beta1) * (g - m)
        v += (1.0 - self.beta2) * (g * g - v)
        m_hat, v_hat = self.corrected(m, v, t)
        p -= self._rate(lr) * m_hat / (xp.sqrt(v_hat) + self.eps)

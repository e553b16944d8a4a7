"""Tables of vectors: tokens, positions, and the table used once more at the output. Sorted by increasing complexity."""

import math
from typing import Any

from ..backend import index_add, index_add_plain, sum_of, sum_outer
from ..errors import LayerError, whole
from ..initializers import normal
from ..layer import Backward, Context, Layer, Param, takes

Array = Any


class Embedding(Layer):
    """y = W[t], row t of a table

        ∂L/∂W[v] = Σ over the places where t = v of ∂L/∂y

    A token that comes twice gets both gradients, which add: the adjoint of a gather is a scatter-*add*. It is the product with the one-hot
    matrix of t, W[t] = onehot(t) W, whose gradient is onehot(t)ᵀ ∂L/∂y.

    t: (n, ...) integers in [0, tokens)    W: (tokens, d)    y: (n, ..., d)
    init           initialiser of W; the normal distribution with standard deviation 0.02 by default, as in GPT-2 (Radford et al., 2019)
    deterministic  True adds by the product with the one-hot matrix. On CuPy the scatter-add is atomic: fast, but the order of the
                   additions, and with it the last bits, vary from run to run
    The range of t is checked on the host, where data enters (`fit`): on a device a token out of range is not seen.
    Raises LayerError for an x that is not integers.
    """

    def __init__(self, tokens: int, features: int, init: Any = None, deterministic: bool = False):
        self.tokens, self.out_features = whole("Embedding: tokens", tokens, 1), whole("Embedding: features", features, 1)
        self.deterministic = deterministic
        self.W = Param((self.tokens, self.out_features), normal(0.02) if init is None else init)

    def params(self) -> dict[str, Param]:
        return {"W": self.W}

    def check_values(self, x: Any, name: str = "x") -> None:
        if not isinstance(x, tuple) and x.size and (x.min() < 0 or x.max() >= self.tokens):
            raise ValueError(f"{name} holds tokens from 0 to {self.tokens - 1} for {self!r}, got values from {x.min()} to {x.max()}")

    def forward(self, params: dict[str, Any], t: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, W = ctx.xp, params["W"]
        if not xp.isdtype(t.dtype, "integral"):
            raise LayerError(f"takes integers, the rows of its table, got x of dtype {t.dtype}")
        flat = xp.reshape(t, (-1,))
        y = xp.reshape(xp.take(W, flat, axis=0), (*t.shape, W.shape[1]))
        add = index_add_plain if self.deterministic else index_add

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return None, {"W": add(xp, W.shape[0], flat, xp.reshape(dy, (-1, W.shape[1])))}

        return y, backward

    def __repr__(self) -> str:
        return f"Embedding({self.tokens}, {self.out_features}{', deterministic=True' if self.deterministic else ''})"


class Unembedding(Layer):
    """z = x Wᵀ with the table W of an Embedding: the logit of a token is the product with its own vector

        ∂L/∂x = ∂L/∂z W        ∂L/∂W = Σₙ (∂L/∂z)ᵀ x, which adds to what the embedding itself gives

    x: (n, ..., d)    W: (tokens, d)    z: (n, ..., tokens)
    Press & Wolf (2017), "Using the output embedding to improve language models".
    """

    def __init__(self, embedding: Embedding):
        if not isinstance(embedding, Embedding):
            raise TypeError(f"Unembedding takes the Embedding whose table it shares, got {embedding!r}")
        self.W = embedding.W
        self.out_features, self.in_features = self.W.shape

    def params(self) -> dict[str, Param]:
        return {"W": self.W}

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, W = ctx.xp, params["W"]
        if x.shape[-1:] != W.shape[1:]:
            raise takes(f"(batch, ..., {W.shape[1]})", x)
        rows = xp.reshape(x, (-1, W.shape[1]))
        z = xp.reshape(rows @ W.T, (*x.shape[:-1], W.shape[0]))

        def backward(dz: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dz = xp.reshape(dz, (-1, W.shape[0]))
            return (xp.reshape(dz @ W, x.shape) if input_grad else None), {"W": sum_outer(xp, dz, rows, W)}

        return z, backward

    def __repr__(self) -> str:
        return f"Unembedding({self.in_features}, {self.out_features})"


class LearnedPositions(Layer):
    """y = x + P[:time]        ∂L/∂P[:time] = Σₙ ∂L/∂y, and 0 for positions that did not come; ∂L/∂x = ∂L/∂y

    x: (n, time, d), time ≤ length    P: (length, d)
    Gehring et al. (2017); Vaswani et al. (2017), table 3, row E.
    """

    keeps_features = True

    def __init__(self, length: int, features: int, init: Any = None):
        self.length, self.in_features = whole("LearnedPositions: length", length, 1), whole("LearnedPositions: features", features, 1)
        self.out_features = self.in_features
        self.P = Param((self.length, self.in_features), normal(0.02) if init is None else init)

    def params(self) -> dict[str, Param]:
        return {"P": self.P}

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, P = ctx.xp, params["P"]
        if x.ndim != 3 or x.shape[2] != P.shape[1] or x.shape[1] > P.shape[0]:
            raise takes(f"(batch, time, {P.shape[1]}) with time up to {P.shape[0]}", x)
        time = x.shape[1]

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dP = sum_of(xp, dy, axis=0)
            if time < P.shape[0]:
                dP = xp.concat([dP, xp.zeros((P.shape[0] - time, P.shape[1]), dtype=dy.dtype, device=dy.device)], axis=0)
            return (dy if input_grad else None), {"P": dP}

        return x + P[:time, :], backward

    def __repr__(self) -> str:
        return f"LearnedPositions({self.length}, {self.in_features})"


class SinusoidalPositions(Layer):
    """y = x + P,  P[p, 2i] = sin(p / 10000^(2i/d)),  P[p, 2i+1] = cos(p / 10000^(2i/d));  ∂L/∂x = ∂L/∂y

    Nothing is trained. P[p + k] is a rotation of P[p] that depends on k only.
    x: (n, time, d), d even
    Vaswani et al. (2017), section 3.5.
    """

    keeps_features = True

    def __init__(self, features: int, base: float = 10_000.0):
        self.in_features = self.out_features = whole("SinusoidalPositions: features", features, 1)
        if features % 2:
            raise ValueError(f"SinusoidalPositions: features is even, got {features}")
        self.base = float(base)

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp = ctx.xp
        if x.ndim != 3 or x.shape[2] != self.in_features:
            raise takes(f"(batch, time, {self.in_features})", x)
        cos, sin = turns(xp, x, 0, self.base)
        table = xp.reshape(xp.stack([sin, cos], axis=-1), x.shape[1:])
        return x + table, lambda dy, input_grad=True: (dy if input_grad else None, {})

    def __repr__(self) -> str:
        return f"SinusoidalPositions({self.in_features})"


class RotaryPositions(Layer):
    """(y₂ᵢ, y₂ᵢ₊₁) = R(p θᵢ) (x₂ᵢ, x₂ᵢ₊₁),  θᵢ = 10000^(-2i/d), R(α) the rotation by α: each pair turns with the position p

        ∂L/∂x: the pairs of ∂L/∂y turned back, since R(α)ᵀ = R(-α)

    The product of a query at p with a key at s then depends on p - s only: ⟨R(pθ)q, R(sθ)k⟩ = ⟨q, R((s-p)θ)k⟩.
    x: (..., time, d), d even
    start: the position of the first
    Su et al. (2021), "RoFormer", eq. 15 (pairs of neighbours, as there; others pair i with i + d/2).
    """

    keeps_features = True

    def __init__(self, features: int, base: float = 10_000.0, start: int = 0):
        self.in_features = self.out_features = whole("RotaryPositions: features", features, 1)
        if features % 2:
            raise ValueError(f"RotaryPositions: features is even, got {features}")
        self.base, self.start = float(base), whole("RotaryPositions: start", start, 0)

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp = ctx.xp
        if x.ndim < 2 or x.shape[-1] != self.in_features:
            raise takes(f"(..., time, {self.in_features})", x)
        cos, sin = turns(xp, x, self.start, self.base)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return (rotated(xp, dy, cos, -sin) if input_grad else None), {}

        return rotated(xp, x, cos, sin), backward

    def __repr__(self) -> str:
        return f"RotaryPositions({self.in_features})"


def turns(xp: Any, x: Array, start: int, base: float) -> tuple[Array, Array]:
    """cos and sin of p θᵢ, each (time, d/2), for x (..., time, d) whose first position is `start`.

    Computed in at least float32: in float16 a position of 500 has no digit behind the point.
    """
    time, d = x.shape[-2:]
    wide = xp.float32 if x.dtype == getattr(xp, "float16", None) else x.dtype
    p = xp.astype(xp.arange(start, start + time, device=x.device), wide)
    i = xp.astype(xp.arange(d // 2, device=x.device), wide)
    angles = p[:, None] * xp.exp(i * (-2.0 * math.log(base) / d))[None, :]
    return xp.astype(xp.cos(angles), x.dtype), xp.astype(xp.sin(angles), x.dtype)


def rotated(xp: Any, x: Array, cos: Array, sin: Array) -> Array:
    """Each pair of neighbours on the last axis, turned."""
    a, b = x[..., 0::2], x[..., 1::2]
    return xp.reshape(xp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1), x.shape)

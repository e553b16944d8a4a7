"""Attention: every position asks all others, and takes a mean of their answers. Sorted by increasing complexity."""

import math
from typing import Any

from ..backend import max_of, sum_of, sum_outer
from ..errors import LayerError, whole
from ..initializers import get_initializer
from ..layer import Backward, Context, Layer, Param, takes
from .dropout import dropout_rule
from .embedding import rotated, turns

Array = Any


def attend(xp: Any, q: Array, k: Array, v: Array, bias: Array | None = None, keep: Array | None = None,
           drop: Any = None) -> tuple[Array, Any]:
    """Scaled dot-product attention:  P = softmax(q kᵀ/√d + bias),  o = P v

        ∂L/∂v = Pᵀ ∂L/∂o        ∂L/∂P = ∂L/∂o vᵀ        ∂L/∂S = P ⊙ (∂L/∂P - D),  D = Σₖ P ∂L/∂P = Σ_d o ∂L/∂o
        ∂L/∂q = ∂L/∂S k/√d      ∂L/∂k = (∂L/∂S)ᵀ q/√d

    q: (..., t, d)    k: (..., s, d)    v: (..., s, e)    o: (..., t, e)    bias: broadcast to (..., t, s)
    keep: 0 where a key is hidden by a mask, else 1: in a row that sees hidden keys only, P does not depend on q and k
    drop: None, or what makes (P ⊙ m, m) of P: the gradient of P then goes through m, and D stays what it is
    1/√d: with entries of variance 1 a product of d of them has variance d, and a softmax of large numbers is saturated. D needs no array
    of P's size: Σₛ Pₜₛ ∂L/∂Pₜₛ = Σₑ ∂L/∂oₜₑ Σₛ Pₜₛ vₛₑ (Dao et al., 2022). `backward(do)` gives (∂L/∂q, ∂L/∂k, ∂L/∂v).
    Vaswani et al. (2017), eq. 1.
    """
    scale = 1.0 / math.sqrt(q.shape[-1])
    p = (q * scale) @ xp.matrix_transpose(k)
    if bias is not None:
        p += bias
    p -= max_of(xp, p, axis=-1, keepdims=True)            # in place: p was made here
    p = xp.exp(p)
    p /= sum_of(xp, p, axis=-1, keepdims=True)
    dropped, m = (p, None) if drop is None else drop(p)
    o = dropped @ v

    def backward(do: Array) -> tuple[Array, Array, Array]:
        dv = xp.matrix_transpose(dropped) @ do
        ds = do @ xp.matrix_transpose(v)
        if m is not None:
            ds *= m
        ds -= sum_of(xp, do * o, axis=-1, keepdims=True)
        ds *= p
        if keep is not None:
            ds *= keep
        ds *= scale
        return ds @ k, xp.matrix_transpose(ds) @ q, dv

    return o, backward


class MultiHeadAttention(Layer):
    """h attentions side by side, each on its own d/h features:  y = [o₁, …, o_h] Wo + bo,  oᵢ = attend(qᵢ, kᵢ, vᵢ)

        q = x Wq + bq        k = m Wk + bk        v = m Wv + bv,    m = x, or a memory that is given

    With δ = ∂L/∂y:  ∂L/∂Wo = oᵀ δ,  ∂L/∂o = δ Woᵀ;  through `attend` to ∂L/∂q, ∂L/∂k, ∂L/∂v; from there as in Dense. Where m = x the three
    gradients of x add.

    x: (n, t, d), or a tuple of arrays in this order, of which those that are named in the constructor are always there:
        memory  (n, s, m)   what keys and values are made of (cross=True); the gradient goes to it too
        mask    (n, s)      integers, 0 where a key is padding and nobody may look at it (masked=True)
        cache   (2, n, g, past, d/h)  keys and values of the positions before; may be left out. y is then (y, the longer cache)
    d, features  size of x's and y's last axis
    heads        h, a divisor of d
    kv_heads     g, a divisor of h: keys and values of g heads, each for h/g queries (grouped-query; 1 is multi-query). h by default
    causal       position t looks at positions up to t only
    rotary       queries and keys are turned by their positions (RotaryPositions)
    dropout      probability of dropping an entry of P, in training
    Masked scores get a large negative number, not -∞: a row whose keys are all padding is then a plain mean, and not NaN.
    Vaswani et al. (2017), section 3.2.2; grouped-query: Ainslie et al. (2023).
    """

    def __init__(self, features: int, heads: int, *, kv_heads: int | None = None, causal: bool = False, cross: bool = False,
                 masked: bool = False, memory_features: int | None = None, rotary: bool = False, dropout: float = 0.0, bias: bool = True,
                 init: Any = "glorot_uniform"):
        self.features, self.heads = whole("MultiHeadAttention: features", features, 1), whole("MultiHeadAttention: heads", heads, 1)
        self.kv_heads = heads if kv_heads is None else whole("MultiHeadAttention: kv_heads", kv_heads, 1)
        if features % heads or heads % self.kv_heads:
            raise ValueError(f"MultiHeadAttention: heads divide the features, and kv_heads the heads; got {features}, {heads} and "
                             f"{self.kv_heads}")
        self.head_features = features // heads
        if rotary and self.head_features % 2:
            raise ValueError(f"MultiHeadAttention: rotary takes heads of an even size, got {self.head_features}")
        if cross and (causal or rotary):
            raise ValueError("MultiHeadAttention: causal and rotary are for positions of one sequence, cross looks at another")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"MultiHeadAttention: dropout is a probability in [0, 1), got {dropout!r}")
        self.causal, self.cross, self.masked, self.rotary, self.dropout = causal, cross, masked, rotary, float(dropout)
        self.in_features = self.out_features = features
        self.takes_tuples = True
        kv = self.kv_heads * self.head_features
        m = features if memory_features is None else whole("MultiHeadAttention: memory_features", memory_features, 1)
        if memory_features is not None and not cross:
            raise ValueError("MultiHeadAttention: memory_features is for cross=True")
        shapes = {"q": (features, features), "k": (m, kv), "v": (m, kv), "o": (features, features)}
        self.weights = {f"W{name}": Param(shape, get_initializer(init, shape)) for name, shape in shapes.items()}
        self.biases = {f"b{name}": Param(shape[1:], "zeros", bias=True) for name, shape in shapes.items()} if bias else {}

    def params(self) -> dict[str, Param]:
        return {**self.weights, **self.biases}

    # The arrays of x, and of its gradient.

    def _given(self, xp: Any, x: Any) -> tuple[Array, Array, Array | None, Array | None]:
        """x, memory, mask, cache"""
        xs = list(x) if isinstance(x, tuple) else [x]
        names = ["x", *(["memory"] if self.cross else []), *(["mask"] if self.masked else [])]
        cached = not self.cross and len(xs) == len(names) + 1
        if len(xs) != len(names) and not cached:
            raise LayerError(f"takes {'a tuple of ' if len(names) > 1 else ''}{', '.join(names)}"
                             f"{'' if self.cross else ', and a cache where there is one'}, got {len(xs)} array{'s' if len(xs) > 1 else ''}")
        x = xs.pop(0)
        if x.ndim != 3 or x.shape[2] != self.features:
            raise takes(f"(batch, time, {self.features})", x)
        memory = xs.pop(0) if self.cross else x
        m = self.weights["Wk"].shape[0]
        if self.cross and (memory.ndim != 3 or memory.shape[0] != x.shape[0] or memory.shape[2] != m):
            raise LayerError(f"takes a memory of shape ({x.shape[0]}, time, {m}), got {tuple(memory.shape)}")
        mask = xs.pop(0) if self.masked else None
        cache = xs.pop(0) if cached else None
        shape = (2, x.shape[0], self.kv_heads, self.head_features)
        if cache is not None and (cache.ndim != 5 or (*cache.shape[:3], cache.shape[4]) != shape):
            raise LayerError(f"takes a cache of shape (2, {x.shape[0]}, {self.kv_heads}, past, {self.head_features}), "
                             f"got {tuple(cache.shape)}")
        keys = memory.shape[1] + (0 if cache is None else cache.shape[3])
        if mask is not None and (tuple(mask.shape) != (x.shape[0], keys) or xp.isdtype(mask.dtype, "real floating")):
            raise LayerError(f"takes a mask of integers of shape ({x.shape[0]}, {keys}), got {tuple(mask.shape)} of dtype {mask.dtype}")
        return x, memory, mask, cache

    def _bias(self, xp: Any, x: Array, keep: Array | None, past: int, keys: int) -> Array | None:
        """What is added to the scores (n, g, h/g · t, s): 0, or a large negative number where a query may not look at a key. That of a
        later position is the larger: where every key up to t is padding, t looks at these, and still not ahead.
        """
        least = -0.25 * float(xp.finfo(x.dtype).max)      # so large that a score beside it is lost to rounding
        bias = None
        if self.causal and x.shape[1] > 1:
            t = xp.arange(past, past + x.shape[1], device=x.device)
            later = xp.astype(xp.arange(keys, device=x.device)[None, :] > t[:, None], x.dtype)
            bias = xp.tile(later * (2.0 * least), (self.heads // self.kv_heads, 1))
        if keep is not None:
            hidden = (1.0 - keep) * least
            bias = hidden if bias is None else hidden + bias
        return bias

    def _heads(self, xp: Any, a: Array, groups: int) -> Array:
        """(n, t, h·d) as (n, g, h/g · t, d): the queries that share a key's head are rows below each other."""
        n, t, f = a.shape
        r = f // (groups * self.head_features)
        a = xp.permute_dims(xp.reshape(a, (n, t, groups, r, self.head_features)), (0, 2, 3, 1, 4))
        return xp.reshape(a, (n, groups, r * t, self.head_features))

    def _joined(self, xp: Any, a: Array, t: int) -> Array:
        """The adjoint, which is the inverse, of `_heads`."""
        n, groups, rows, d = a.shape
        a = xp.permute_dims(xp.reshape(a, (n, groups, rows // t, t, d)), (0, 3, 1, 2, 4))
        return xp.reshape(a, (n, t, groups * (rows // t) * d))

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        xp, many = ctx.xp, isinstance(x, tuple)
        x, memory, mask, cache = self._given(xp, x)
        (n, t, f), s = x.shape, memory.shape[1]
        past = 0 if cache is None else cache.shape[3]
        rows, memory_rows = xp.reshape(x, (-1, f)), xp.reshape(memory, (-1, memory.shape[2]))

        def project(name: str, of: Array, time: int) -> Array:
            z = of @ params[f"W{name}"]
            if self.biases:
                z += params[f"b{name}"]                   # in place: z was made here
            return xp.reshape(z, (n, time, -1))

        q = self._heads(xp, project("q", rows, t), self.kv_heads)
        k, v = (self._heads(xp, project(name, memory_rows, s), self.kv_heads) for name in "kv")
        cos: Any = None
        sin: Any = None
        if self.rotary:
            cos, sin = turns(xp, k, past, 10_000.0)
            k = rotated(xp, k, cos, sin)
            r = self.heads // self.kv_heads
            q = xp.reshape(rotated(xp, xp.reshape(q, (n, self.kv_heads, r, t, self.head_features)), cos, sin), q.shape)
        if cache is not None:
            k, v = xp.concat([cache[0, ...], k], axis=2), xp.concat([cache[1, ...], v], axis=2)
        keep = None if mask is None else xp.astype(mask != 0, x.dtype)[:, None, None, :]
        o, back = attend(xp, q, k, v, self._bias(xp, x, keep, past, past + s), keep, self._drop(xp, ctx))
        joined = xp.reshape(self._joined(xp, o, t), (-1, f))
        y = project("o", joined, t)

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dcache: Any = None
            if cache is not None:
                dy, dcache = dy
            dy = xp.reshape(dy, (-1, f))
            grads = {"Wo": sum_outer(xp, joined, dy, params["Wo"])}
            if self.biases:
                grads["bo"] = sum_of(xp, dy, axis=0)
            dq, dk, dv = back(self._heads(xp, xp.reshape(dy @ params["Wo"].T, (n, t, f)), self.kv_heads))
            if cache is not None:
                dk, dv = dk + dcache[0, ...], dv + dcache[1, ...]
                dcache = xp.stack([dk[:, :, :past, :], dv[:, :, :past, :]])
                dk, dv = dk[:, :, past:, :], dv[:, :, past:, :]
            if self.rotary:
                dk = rotated(xp, dk, cos, -sin)
                dq = xp.reshape(rotated(xp, xp.reshape(dq, (n, self.kv_heads, -1, t, self.head_features)), cos, -sin), dq.shape)
            dx = dm = None
            for name, d, of, time in (("q", dq, rows, t), ("k", dk, memory_rows, s), ("v", dv, memory_rows, s)):
                d = xp.reshape(self._joined(xp, d, time), (n * time, -1))
                grads[f"W{name}"] = sum_outer(xp, of, d, params[f"W{name}"])
                if self.biases:
                    grads[f"b{name}"] = sum_of(xp, d, axis=0)
                if not input_grad:
                    continue
                back_to = d @ params[f"W{name}"].T
                if name == "q":
                    dx = back_to
                elif self.cross:
                    dm = back_to if dm is None else dm + back_to
                else:
                    dx = dx + back_to
            if not input_grad:
                return None, grads
            dxs = [xp.reshape(dx, x.shape), *([xp.reshape(dm, memory.shape)] if self.cross else []), *([None] if self.masked else []),
                   *([dcache] if cache is not None else [])]
            return (tuple(dxs) if many else dxs[0]), grads

        return (y if cache is None else (y, xp.stack([k, v]))), backward

    def _drop(self, xp: Any, ctx: Context) -> Any:
        """Dropout of P, where there is any."""
        if not ctx.training or self.dropout == 0.0:
            return None

        def drop(p: Array) -> tuple[Array, Array]:
            bits = xp.reshape(ctx.random.bits(xp, math.prod(p.shape), p.device), p.shape)
            return dropout_rule(xp, p, bits, math.ceil(self.dropout * 2 ** 24), 1.0 / (1.0 - self.dropout))

        return drop

    def __repr__(self) -> str:
        options = [f"kv_heads={self.kv_heads}"] if self.kv_heads != self.heads else []
        options += [f"{name}=True" for name in ("causal", "cross", "masked", "rotary") if getattr(self, name)]
        if self.cross and self.weights["Wk"].shape[0] != self.features:
            options.append(f"memory_features={self.weights['Wk'].shape[0]}")
        options += [f"dropout={self.dropout:g}"] if self.dropout else []
        options += [] if self.biases else ["bias=False"]
        return f"MultiHeadAttention({', '.join([str(self.features), str(self.heads), *options])})"

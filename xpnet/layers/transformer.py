"""Transformer blocks, pre-norm: attention and a two-layer network, each on a normalised copy beside a skip path."""

from typing import Any

from ..errors import LayerError, whole
from ..layer import Backward, Context, Layer
from .activations import get_activation
from .attention import MultiHeadAttention
from .containers import Container, Sequential
from .dense import Dense
from .dropout import Dropout
from .normalization import LayerNorm

Array = Any


class TransformerBlock(Layer):
    """a = x + attention(norm(x))        y = a + mlp(norm(a)),  mlp = Dense(d, hidden, f), Dense(hidden, d)

        ∂L/∂a = ∂L/∂y + (∂mlp∘norm/∂a)ᵀ ∂L/∂y        ∂L/∂x = ∂L/∂a + (∂attention∘norm/∂x)ᵀ ∂L/∂a

    Between the two, with cross=True:  a ← a + cross(norm(a), memory). The skip path carries the gradient past every block unchanged.

    x: (n, t, d), or a tuple (x[, memory][, mask][, cache]) as MultiHeadAttention takes it; memory for the cross attention, mask for the
    self-attention; with a cache y is (y, the longer cache)
    d, features, heads, kv_heads, causal, rotary, masked   as in MultiHeadAttention
    hidden      units of the mlp, 4 d by default
    dropout     of P, and of what each branch adds
    activation  GELU by default
    Vaswani et al. (2017), figure 1; the norm within the branch: Xiong et al. (2020), "On layer normalization in the transformer
    architecture".
    """

    keeps_features = True
    takes_tuples = True

    def __init__(self, features: int, heads: int, hidden: int | None = None, *, kv_heads: int | None = None, causal: bool = False,
                 cross: bool = False, masked: bool = False, memory_features: int | None = None, rotary: bool = False, dropout: float = 0.0,
                 activation: Any = "gelu", norm: Any = LayerNorm):
        self.in_features = self.out_features = whole(f"{type(self).__name__}: features", features, 1)
        hidden = 4 * features if hidden is None else whole(f"{type(self).__name__}: hidden", hidden, 1)
        self.cross, self.masked = cross, masked
        drop = [Dropout(dropout)] if dropout else []
        self.parts: dict[str, Layer] = {
            "norm": norm(features),
            "attention": MultiHeadAttention(features, heads, kv_heads=kv_heads, causal=causal, masked=masked, rotary=rotary,
                                            dropout=dropout)}
        if cross:
            self.parts |= {"cross_norm": norm(features),
                           "cross": MultiHeadAttention(features, heads, cross=True, memory_features=memory_features, dropout=dropout)}
        self.parts |= {"mlp_norm": norm(features),
                       "mlp": Sequential(Dense(features, hidden, get_activation(activation)), Dense(hidden, features), *drop)}

    def children(self) -> dict[str, Layer]:
        return self.parts

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        many = isinstance(x, tuple)
        x, *more = x if many else (x,)
        if len(more) < self.cross + self.masked:
            raise LayerError(f"takes a tuple of x{', memory' if self.cross else ''}{', mask' if self.masked else ''}, "
                             f"got {1 + len(more)} array{'s' if more else ''}")
        memory = more.pop(0) if self.cross else None
        cached = len(more) > self.masked

        def run(name: str, of: Any) -> tuple[Any, Backward]:
            return ctx.forward(name, self.parts[name], params, of)

        h, norm_back = run("norm", x)
        h, attention_back = run("attention", (h, *more) if more else h)
        h, cache = h if cached else (h, None)
        a, cross_back, cross_norm_back = x + h, None, None
        if self.cross:
            h, cross_norm_back = run("cross_norm", a)
            h, cross_back = run("cross", (h, memory))
            a = a + h
        h, mlp_norm_back = run("mlp_norm", a)
        h, mlp_back = run("mlp", h)
        y = a + h

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            grads: dict[str, Any] = {}
            dy, dcache = dy if cached else (dy, None)
            dh, grads["mlp"] = mlp_back(dy)
            da, grads["mlp_norm"] = mlp_norm_back(dh)
            da = dy + da
            dmemory = None
            if cross_back is not None and cross_norm_back is not None:
                (dh, dmemory), grads["cross"] = cross_back(da)
                dh, grads["cross_norm"] = cross_norm_back(dh)
                da = da + dh
            dh, grads["attention"] = attention_back((da, dcache) if cached else da)
            dh, *dmore = dh if more else (dh,)
            dx, grads["norm"] = norm_back(dh, input_grad)
            if not input_grad:
                return None, grads
            dx = da + dx
            return ((dx, *([dmemory] if self.cross else []), *dmore) if many else dx), grads

        return ((y, cache) if cached else y), backward

    def __repr__(self) -> str:
        attention = repr(self.parts["attention"]).partition("(")[2]
        return f"{type(self).__name__}({attention[:-1]}{', cross=True' if self.cross else ''})"


class EncoderBlock(TransformerBlock):
    """A TransformerBlock in which every position looks at all others."""


class DecoderBlock(TransformerBlock):
    """A TransformerBlock in which a position looks at those before it and at itself: causal=True."""

    def __init__(self, features: int, heads: int, hidden: int | None = None, **options: Any):
        super().__init__(features, heads, hidden, **{"causal": True, **options})


class Decoder(Container):
    """Blocks in order, with one cache for all:  (x, cache) -> (y, the longer cache), cache: (blocks, 2, n, g, past, d/h)

    A text is generated token by token; keys and values of the tokens before do not change, so each block keeps them instead of computing
    them again: a step costs O(past), not O(past²). Without a cache (in training) it is Sequential. `empty_cache` is the one to start from.
    """

    keeps_features = True

    def __init__(self, *blocks: TransformerBlock):
        super().__init__(*blocks)
        for block in blocks:
            if not isinstance(block, TransformerBlock) or block.cross or block.masked:
                raise TypeError(f"Decoder takes transformer blocks without cross and masked, got {block!r}")
        if not blocks:
            raise ValueError("Decoder takes at least one block")
        self.in_features = self.out_features = blocks[0].in_features

    def empty_cache(self, xp: Any, x: Array) -> Array:
        """A cache of no positions, for x's batch size, dtype and device."""
        attention = self.layers[0].children()["attention"]
        assert isinstance(attention, MultiHeadAttention)
        shape = (len(self.layers), 2, x.shape[0], attention.kv_heads, 0, attention.head_features)
        return xp.zeros(shape, dtype=x.dtype, device=x.device)

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        xp, cached = ctx.xp, isinstance(x, tuple)
        if cached and (len(x) != 2 or x[1].ndim != 6 or x[1].shape[0] != len(self.layers)):
            raise LayerError(f"takes x, or (x, cache) with a cache of shape ({len(self.layers)}, 2, n, g, past, d/h)")
        x, cache = x if cached else (x, None)
        tape, caches = [], []
        for i, (name, block) in enumerate(self.named):
            x, back = ctx.forward(name, block, params, x if cache is None else (x, cache[i, ...]))
            if cached:
                x, longer = x
                caches.append(longer)
            tape.append(back)

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            grads: dict[str, Any] = {name: {} for name, _ in self.named}
            dcaches: list[Any] = []
            dcache: Any = None
            if cached:
                dy, dcache = dy
            for i in range(len(tape) - 1, -1, -1):
                dy, grads[self.named[i][0]] = tape[i]((dy, dcache[i, ...]) if cached else dy, input_grad or i > 0)
                if cached and dy is not None:
                    dy, d = dy
                    dcaches.insert(0, d)
            if not input_grad:
                return None, grads
            return ((dy, xp.stack(dcaches)) if cached else dy), grads

        return ((x, xp.stack(caches)) if cached else x), backward

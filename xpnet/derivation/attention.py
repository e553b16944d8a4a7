"""The formulas of embeddings, positions, attention and transformer blocks."""

import math
from typing import Any

from ..backend.registry import to_host
from ..layers import (
    Decoder,
    Embedding,
    LearnedPositions,
    MultiHeadAttention,
    RotaryPositions,
    SinusoidalPositions,
    TransformerBlock,
    Unembedding,
)
from ..layers.embedding import turns
from .formulas import Formulas, Lines, layer_formulas, number


@layer_formulas(Embedding)
def embedding(layer: Any, call: Any) -> Formulas:
    return Formulas([("y", "take(W, x)")], [("dW", f"rows(onehot(x, {layer.tokens})).T @ rows(dy)")],
                    notes={"dW": "a token that comes twice gets both gradients: they add"})


@layer_formulas(Unembedding)
def unembedding(layer: Any, call: Any) -> Formulas:
    to, back = (", ".join(map(str, a.shape)) for a in (call.y[0], call.x[0]))
    return Formulas([("X", "rows(x)"), ("Y", "X @ W.T"), ("y", f"reshape(Y, {to})")],
                    [("dY", "rows(dy)"), ("dW", "dY.T @ X"), ("dX", "dY @ W"), ("dx", f"reshape(dX, {back})")])


@layer_formulas(LearnedPositions)
def learned_positions(layer: Any, call: Any) -> Formulas:
    return Formulas([("y", f"x + first(P, {call.x[0].shape[1]})")], [("dP", f"padded(batchsum(dy), {layer.length})"), ("dx", "dy")])


@layer_formulas(SinusoidalPositions)
def sinusoidal_positions(layer: Any, call: Any) -> Formulas:
    return Formulas([("y", "x + P")], [("dx", "dy")], {"P": call.y[0][0] - call.x[0][0]},
                    {"y": "P is a table of sines and cosines of the position"})


@layer_formulas(RotaryPositions)
def rotary_positions(layer: Any, call: Any) -> Formulas:
    return Formulas([("y", "rotate(x, c, s)")], [("dx", "rotate(dy, c, -s)")], _turns(call, call.x[0].shape, layer.start, layer.base))


def _turns(call: Any, shape: tuple[int, ...], start: int, base: float) -> dict[str, Any]:
    xp, like = call.runner.backend.xp, call.runner.backend.zeros(shape, call.runner.backend.xp.float64)
    return dict(zip("cs", map(to_host, turns(xp, like, start, base))))


@layer_formulas(MultiHeadAttention)
def attention(layer: Any, call: Any) -> Formulas:
    g, d, bias = layer.kv_heads, layer.head_features, bool(layer.biases)
    many = call.call.many
    x, m = ("x0" if many else "x"), ("x1" if layer.cross else "x0" if many else "x")
    cache = f"x{len(call.x) - 1}" if call.call.y_many else ""
    past, t = (call.x[-1].shape[3] if cache else 0), call.x[0].shape[1]
    given: dict[str, Any] = {}

    def affine(of: str, name: str) -> str:
        return f"{of} @ W{name}" + (f" + b{name}" if bias else "")

    # Forward.
    lines: Lines = [(p, affine(x if p == "q" else m, p)) for p in "qkv"] + [(p.upper(), f"heads({p}, {g}, {d})") for p in "qkv"]
    Q, K, V = "Q", "K", "V"
    if layer.rotary:
        given |= _turns(call, (1, t, d), past, 10_000.0)
        lines += [("Qr", "rotate(Q, c, s)"), ("Kr", "rotate(K, c, s)")]
        Q, K = "Qr", "Kr"
    if cache:
        lines += [("Kc", f"behind(entry({cache}, 0), {K})"), ("Vc", f"behind(entry({cache}, 1), V)")]
        K, V = "Kc", "Vc"
    root, backend = number(math.sqrt(d)), call.runner.backend
    like = backend.zeros(call.x[0].shape, backend.xp.float64)
    mask = call.x[2 if layer.cross else 1] if layer.masked else None
    keep = None if mask is None else backend.asarray((mask != 0).astype("float64")[:, None, None, :])
    hidden = layer._bias(backend.xp, like, keep, past, past + (call.x[1] if layer.cross else call.x[0]).shape[1])
    if hidden is not None:
        given["B"] = to_host(hidden)
    lines += [("S", f"{Q} @ mT({K}) / {root}" + (" + B" if hidden is not None else "")), ("E", "exp(S - max_k(S))"), ("P", "E / sum_k(E)")]
    P, drop = "P", layer._drop(backend.xp, call.runner.context(call.call.site))
    if drop is not None:
        keys = call.x[1].shape[1] if layer.cross else past + t
        shape = (call.x[0].shape[0], g, layer.heads // g * t, keys)
        given["D"] = to_host(drop(backend.asarray(_ones(shape)))[1])
        lines.append(("Pd", "P * D"))
        P = "Pd"
    lines += [("O", f"{P} @ {V}"), ("o", f"joined(O, {t})"), ("y0" if cache else "y", affine("o", "o"))]
    if cache:
        lines.append(("y1", f"pair({K}, {V})"))

    # Backward.
    dy = "dy0" if cache else "dy"
    back: Lines = [("dWo", f"rows(o).T @ rows({dy})"), *([("dbo", f"sum_n({dy})")] if bias else []), ("do", f"{dy} @ Wo.T"),
                   ("dO", f"heads(do, {g}, {d})"), (f"d{V}", f"mT({P}) @ dO" + (" + entry(dy1, 1)" if cache else "")),
                   (f"d{P}", f"dO @ mT({V})"), *([("dP", "dPd * D")] if drop is not None else [])]
    if keep is not None:
        given["M"] = to_host(keep)
    back += [("dS", "P * (dP - sum_k(P * dP))" + (" * M" if keep is not None else "")), (f"d{Q}", f"dS @ {K} / {root}"),
             (f"d{K}", f"mT(dS) @ {Q} / {root}" + (" + entry(dy1, 0)" if cache else ""))]
    if cache:
        back += [(f"d{cache}", f"pair(before(dKc, {past}), before(dVc, {past}))"),
                 ("dKr" if layer.rotary else "dK", f"after(dKc, {past})"), ("dV", f"after(dVc, {past})")]
    if layer.rotary:
        back += [("dQ", "rotate(dQr, c, -s)"), ("dK", "rotate(dKr, c, -s)")]
    times = {"q": t, "k": call.x[1 if layer.cross else 0].shape[1]}
    times["v"] = times["k"]
    for p in "qkv":
        back += [(f"d{p}", f"joined(d{p.upper()}, {times[p]})"), (f"dW{p}", f"rows({x if p == 'q' else m}).T @ rows(d{p})")]
        back += [(f"db{p}", f"sum_n(d{p})")] if bias else []
    if layer.cross:
        back += [("dx0", "dq @ Wq.T"), ("dx1", "dk @ Wk.T + dv @ Wv.T")]
    else:
        back.append((f"d{x}", "dq @ Wq.T + dk @ Wk.T + dv @ Wv.T"))
    return Formulas(lines, back, given, {"S": "1/√d keeps the variance of the scores at 1", f"d{x}": "queries, keys and values are made of "
                                         "the same x: three gradients add" if not layer.cross else ""})


def _ones(shape: tuple[int, ...]) -> Any:
    from numpy import ones

    return ones(shape)


@layer_formulas(TransformerBlock)
def block(layer: Any, call: Any) -> Formulas:
    """f1 is what attention gave, f3 (f5) what the mlp gave; dxf0, dxf2 (dxf4) what the norms before them handed back."""
    many, cached = call.call.many, call.call.y_many
    x, y = ("x0" if many else "x"), ("y0" if cached else "y")
    branches = range(1, len(call.runs), 2)
    forward = [(y, " + ".join([x, *(f"f{i}" for i in branches)])), *([("y1", "f1_1")] if cached else [])]
    back: Lines = [(f"df{branches[-1]}", f"d{y}"), (f"d{x}", " + ".join([f"d{y}", *(f"dxf{i - 1}" for i in reversed(branches))]))]
    if layer.cross:
        back.append(("dx1", "dxf3_1"))
    if cached:
        back.append((f"dx{len(call.x) - 1}", f"dxf1_{len(call.runs[1].x) - 1}"))
    return Formulas(forward, back, notes={f"d{x}": "each branch hands back its part, and the skip path passes the gradient on unchanged"})


@layer_formulas(Decoder)
def decoder(layer: Any, call: Any) -> Formulas | None:
    return None if call.call.many else Formulas([], [])

"""The formulas of the normalising layers: x̂ = (x - μ)/s in rows of the numbers that are normalised together, then scale and shift."""

import math
from typing import Any

from .. import layers as xl
from .formulas import Formulas, Lines, layer_formulas, number

_ONE_MEAN = "each x̂ depends on all the x of its mean and variance: hence the two means that are taken out"


def _normalised(x: str, over: str, eps: float, centred: bool, keep: str = "xhat") -> tuple[Lines, str]:
    """From x to x̂, and the formula of ∂L/∂x from `g` = ∂L/∂x̂. over: "sum_k" for the m numbers of a row, "sum_n" for those of a column."""
    if not centred:
        return ([("s", f"sqrt({over}({x} ** 2) / m + {number(eps)})"), (keep, f"{x} / s")],
                f"(d{keep} - {keep} * {over}(d{keep} * {keep}) / m) / s")
    return ([("mu", f"{over}({x}) / m"), ("s", f"sqrt({over}(({x} - mu) ** 2) / m + {number(eps)})"), (keep, f"({x} - mu) / s")],
            f"(d{keep} - {over}(d{keep}) / m - {keep} * {over}(d{keep} * {keep}) / m) / s")


@layer_formulas(xl.LayerNorm)
@layer_formulas(xl.RMSNorm)
def over_features(layer: Any, call: Any) -> Formulas:
    """Over the last axis; over several they are first read as one."""
    m, several = math.prod(layer.shape), len(layer.shape) > 1
    rows, shape = f"{call.x[0].size // m}, {m}", ", ".join(map(str, call.x[0].shape))
    x, y, dy = ("X", "Y", "dY") if several else ("x", "y", "dy")
    gamma, beta = (f"reshape({p}, {m})" if several else p for p in ("gamma", "beta"))
    forward: Lines = [("X", f"reshape(x, {rows})")] if several else []
    backward: Lines = [("dY", f"reshape(dy, {rows})")] if several else []
    lines, slope = _normalised(x, "sum_k", layer.eps, layer.centred)
    forward += [*lines, (y, f"xhat * {gamma}" if "gamma" in call.params else "xhat")]
    if "beta" in call.params:
        forward[-1] = (y, f"xhat * {gamma} + {beta}")
    if "gamma" in call.params:
        backward += [("dgamma", _as(f"sum_n({dy} * xhat)", layer.shape)), ("dxhat", f"{dy} * {gamma}")]
    else:
        backward += [("dxhat", dy)]
    if "beta" in call.params:
        backward.insert(-1, ("dbeta", _as(f"sum_n({dy})", layer.shape)))
    if several:
        forward.append(("y", f"reshape(Y, {shape})"))
        backward += [("dX", slope), ("dx", f"reshape(dX, {shape})")]
    else:
        backward.append(("dx", slope))
    return Formulas(forward, backward, {"m": m}, {"dx": _ONE_MEAN})


def _as(text: str, shape: tuple[int, ...]) -> str:
    return text if len(shape) == 1 else f"reshape({text}, {', '.join(map(str, shape))})"


@layer_formulas(xl.GroupNorm)
def group_norm(layer: Any, call: Any) -> Formulas:
    """A row for each group of each sample."""
    x = call.x[0]
    m = x.size // (x.shape[0] * layer.groups)
    rows, shape = f"{x.shape[0] * layer.groups}, {m}", ", ".join(map(str, x.shape))
    lines, slope = _normalised("X", "sum_k", layer.eps, True, "Xhat")
    forward: Lines = [("X", f"reshape(x, {rows})"), *lines, ("xhat", f"reshape(Xhat, {shape})")]
    y, of_parameters, wide = _by_channel(x, "gamma" in call.params)
    return Formulas([*forward, ("y", y)], [*of_parameters, ("dxhat", f"dy{wide}"), ("dXhat", f"reshape(dxhat, {rows})"), ("dX", slope),
                                           ("dx", f"reshape(dX, {shape})")], {"m": m}, {"dX": _ONE_MEAN})


@layer_formulas(xl.BatchNorm)
def batch_norm(layer: Any, call: Any) -> Formulas:
    """A column for each feature; of images each position is a row of its own."""
    x, images = call.x[0], call.x[0].ndim > 2
    shape = ", ".join(map(str, x.shape))
    y, of_parameters, wide = _by_channel(x, "gamma" in call.params)
    given: dict[str, Any] = {"m": x.size // layer.features}
    X, Xhat = ("X", "Xhat") if images else ("x", "xhat")
    if call.training:
        lines, slope = _normalised(X, "sum_n", layer.eps, True, Xhat)
        notes = {f"d{X}": f"every sample is a path to every x̂ of its feature: hence the two means, over its {given['m']} numbers"}
    else:
        given = {"mu": call.buffer(layer.mean), "v": call.buffer(layer.var)}
        lines, slope = [("s", f"sqrt(v + {number(layer.eps)})"), (Xhat, f"({X} - mu) / s")], f"d{Xhat} / s"
        notes = {Xhat: "outside training μ and v are the running statistics, which no x changes"}
    forward: Lines = [*([("X", "channels(x)")] if images else []), *lines]
    backward: Lines = [*of_parameters, ("dxhat", f"dy{wide}")]
    if images:
        forward.append(("xhat", f"images(Xhat, {shape})"))
        backward += [("dXhat", "channels(dxhat)"), ("dX", slope), ("dx", f"images(dX, {shape})")]
    else:
        backward.append(("dx", slope))
    return Formulas([*forward, ("y", y)], backward, given, notes)


def _by_channel(x: Any, affine: bool) -> tuple[str, Lines, str]:
    """y of x̂, the gradients of γ and β, and what dy is multiplied with, where γ and β are by channel."""
    if not affine:
        return "xhat", [], ""
    if x.ndim == 2:
        return "xhat * gamma + beta", [("dgamma", "sum_n(dy * xhat)"), ("dbeta", "sum_n(dy)")], " * gamma"
    gamma, beta = (f"reshape({p}, {', '.join(map(str, (x.shape[1], *[1] * (x.ndim - 2))))})" for p in ("gamma", "beta"))
    return (f"xhat * {gamma} + {beta}", [("dgamma", "sum_n(channels(dy * xhat))"), ("dbeta", "sum_n(channels(dy))")], f" * {gamma}")


# The weight of the layer inside, Wbar, is made before that layer runs.

@layer_formulas(xl.WeightNorm)
def weight_norm(layer: Any, call: Any) -> Formulas:
    return Formulas([("s", "sqrt(sum_d(v ** 2))"), ("Wbar", "g * v / s")],
                    [("dg", "sum_d(dWbar * v / s)"), ("dv", "g / s * (dWbar - dg * v / s)")],
                    notes={"s": "the length of each output's weights", "dv": "without its part along v, which would change its length"},
                    before=True)


@layer_formulas(xl.SpectralNorm)
def spectral_norm(layer: Any, call: Any) -> Formulas:
    u, kernel = call.buffer(layer.u)[None, :], call.params["W"]
    W, outer = ("W", "v.T @ u") if kernel.ndim == 2 else ("rows(W)", f"reshape(v.T @ u, {', '.join(map(str, kernel.shape))})")
    return Formulas([("s", f"norm(u @ {W}.T)"), ("v", f"u @ {W}.T / s"), ("Wbar", "W / s")],
                    [("dW", f"(dWbar - total(dWbar * Wbar) * {outer}) / s")], {"u": u},
                    {"s": "u is the direction that the power method has come to; it is kept constant",
                     "dW": "∂s/∂W = vᵀu: what would only make W longer is taken out"}, before=True)

"""What each layer, loss and optimizer computes, as formulas that can be run (xpnet/derivation/expression.py).

A layer's formulas are written in its own letters: x, y, its parameters, and dv for ∂L/∂v. They are no second implementation that something
trains with: `explain` evaluates them beside the layer and says where the two differ. A layer without an entry here is explained by its
numbers alone. To add one of your own:

    @layer_formulas(Wave)
    def wave(layer, call):
        return Formulas([("y", "x * sin(w * x)")], [("dw", "sum_n(dy * x * x * cos(w * x))"), ("dx", "dy * (…)")])

Sorted as the layers are: activations, dense, dropout, shapes; then containers.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import layers as xl
from ..layer import Layer

Lines = list[tuple[str, str]]                             # (the name of the result, its formula; empty where it has none)


class Formulas(NamedTuple):
    """forward: from x to y. backward: from dy to the parameters' gradients and dx. given: arrays that are neither (a mask).
    notes: a sentence to a result. computed: of a result whose formula is empty, what computes it from the arrays by name.
    before: whether the forward lines come before those of the layers inside. hidden: results that are computed but not shown.
    """

    forward: Lines
    backward: Lines
    given: dict[str, Any] = {}
    notes: dict[str, str] = {}
    computed: dict[str, Callable[[dict[str, Any]], Any]] = {}
    before: bool = False
    hidden: frozenset[str] = frozenset()


_LAYERS: dict[type[Layer], Callable[[Any, Any], Formulas | None]] = {}


def layer_formulas(kind: type[Layer]) -> Callable[[Any], Any]:
    """A decorator: the function that gives the Formulas of a layer of this class, from the layer and its Call (its arrays)."""
    def register(f: Any) -> Any:
        _LAYERS[kind] = f
        return f
    return register


def formulas_of(layer: Layer, call: Any) -> Formulas | None:
    """The formulas of a layer, its class's or a base's; None where there are none."""
    for kind in type(layer).__mro__:
        if kind in _LAYERS:
            return _LAYERS[kind](layer, call)
    return None


def number(value: float) -> str:
    """A number as it stands in a formula."""
    return repr(int(value)) if float(value).is_integer() and abs(value) < 1e6 else repr(float(value))


# Activations: f(x), and f' in x or y. `{x}` and `{y}` stand for the two, which are z and y within a Dense.

def _alpha(f: Any) -> dict[str, str]:
    a = number(f.alpha)
    return {"a": a, "b": number(1.0 - f.alpha)}


_ACTIVATIONS: dict[type[Layer], tuple[str, str]] = {
    xl.Identity: ("{x}", ""),
    xl.ReLU: ("max({x}, 0)", "({y} > 0)"),
    xl.LeakyReLU: ("max({x}, 0) + {a} * min({x}, 0)", "({a} + {b} * ({x} > 0))"),
    xl.Sigmoid: ("sigma({x})", "{y} * (1 - {y})"),
    xl.Tanh: ("tanh({x})", "(1 - {y} ** 2)"),
    xl.Softplus: ("max({x}, 0) + log(1 + exp(-abs({x})))", "sigma({x})"),
    xl.ELU: ("max({x}, 0) + {a} * (exp(min({x}, 0)) - 1)", "(({x} > 0) + {a} * ({x} <= 0) * exp(min({x}, 0)))"),
    xl.SELU: ("{s} * (max({x}, 0) + {a} * (exp(min({x}, 0)) - 1))", "{s} * (({x} > 0) + {a} * ({x} <= 0) * exp(min({x}, 0)))"),
    xl.HardSigmoid: ("min(max({x} / 6 + 1 / 2, 0), 1)", "(abs({x}) < 3) / 6"),
    xl.HardSwish: ("{x} * min(max({x} / 6 + 1 / 2, 0), 1)", "((abs({x}) < 3) * ({x} / 3 + 1 / 2) + ({x} >= 3))"),
    xl.SiLU: ("{x} * sigma({x})", "sigma({x}) * (1 + {x} * (1 - sigma({x})))"),
    xl.GELU: ("{x} * Phi({x})", "(Phi({x}) + {x} * phi({x}))"),
}
_ROOT = number(math.sqrt(2.0 / math.pi))


def activation(f: Layer, x: str, y: str) -> tuple[Lines, Lines] | None:
    """y = f(x), and dx = dy ⊙ f'; None for what is not element by element."""
    kind = type(f)
    if kind is xl.GELU and f.approximate == "tanh":       # type: ignore[attr-defined]
        return ([("u", f"{_ROOT} * ({x} + 0.044715 * {x} ** 3)"), (y, f"{x} / 2 * (1 + tanh(u))")],
                [(f"d{x}", f"d{y} * ((1 + tanh(u)) / 2 + {x} / 2 * (1 - tanh(u) ** 2) * {_ROOT} * (1 + 0.134145 * {x} ** 2))")])
    if kind not in _ACTIVATIONS:
        return None
    value, slope = (text.format(x=x, y=y, s=number(getattr(f, "scale", 1.0)), **(_alpha(f) if hasattr(f, "alpha") else {}))
                    for text in _ACTIVATIONS[kind])
    return [(y, value)], [(f"d{x}", f"d{y} * {slope}" if slope else f"d{y}")]


def _elementwise(layer: Layer, call: Any) -> Formulas | None:
    lines = activation(layer, "x", "y")
    return lines and Formulas(*lines)


for _kind in _ACTIVATIONS:
    _LAYERS[_kind] = _elementwise


@layer_formulas(xl.PReLU)
def prelu(layer: Any, call: Any) -> Formulas:
    per_feature = "sum_n" if layer.features is not None else "total"
    return Formulas([("y", "max(x, 0) + a * min(x, 0)")],
                    [("da", f"{per_feature}(dy * min(x, 0))"), ("dx", "dy * ((x > 0) + a * (x <= 0))")])


@layer_formulas(xl.Softmax)
def softmax(layer: Any, call: Any) -> Formulas:
    return Formulas([("e", "exp(x - max_k(x))"), ("y", "e / sum_k(e)")], [("dx", "y * (dy - sum_k(y * dy))")],
                    notes={"e": "the largest is subtracted first: it cancels, and no exponential overflows"})


@layer_formulas(xl.LogSoftmax)
def log_softmax(layer: Any, call: Any) -> Formulas:
    return Formulas([("c", "x - max_k(x)"), ("y", "c - log(sum_k(exp(c)))")], [("dx", "dy - exp(y) * sum_k(dy)")])


# Layers with parameters.

@layer_formulas(xl.Dense)
def dense(layer: Any, call: Any) -> Formulas:
    f, many = layer.activation, call.x[0].ndim > 2
    forward, backward, x, y, notes = [], [], "x", "y", {}
    inner = ([], []) if f is None else _dense_activation(f)
    z, computed = ("y" if f is None else "z"), {}
    if inner is None:                                     # an activation without formulas: its numbers alone
        inner = [("y", "")], [("dz", "")]
        computed = {"y": lambda env: call.inner_layer("activation", env["z"])[0],
                    "dz": lambda env: call.inner_layer("activation", env["z"], env["dy"])[1]}
    if many:                                              # leading axes are rows
        shape = ", ".join(map(str, call.y[0].shape))
        forward.append(("X", "rows(x)"))
        forward.append((z.upper(), "X @ W" + (" + b" if layer.b is not None else "")))
        forward.append((z, f"reshape({z.upper()}, {shape})"))
        x, y = "X", z.upper()
    else:
        forward.append((z, "x @ W" + (" + b" if layer.b is not None else "")))
        y = z
    forward += inner[0]
    backward += inner[1]
    if many:
        backward.append((f"d{y}", f"rows(d{z})"))
    backward.append(("dW", f"{x}.T @ d{y}"))
    if layer.b is not None:
        backward.append(("db", f"sum_n(d{y})"))
        notes["db"] = "b is added to every sample, so its gradient is the sum over the samples"
    if many:
        backward += [("dX", f"d{y} @ W.T"), ("dx", f"reshape(dX, {', '.join(map(str, call.x[0].shape))})")]
    else:
        backward.append(("dx", f"d{y} @ W.T"))
    return Formulas(forward, backward, {}, notes, computed)


def _dense_activation(f: Layer) -> tuple[Lines, Lines] | None:
    if isinstance(f, xl.Softmax):
        return [("e", "exp(z - max_k(z))"), ("y", "e / sum_k(e)")], [("dz", "y * (dy - sum_k(y * dy))")]
    if isinstance(f, xl.LogSoftmax):
        return [("c", "z - max_k(z)"), ("y", "c - log(sum_k(exp(c)))")], [("dz", "dy - exp(y) * sum_k(dy)")]
    if isinstance(f, xl.PReLU):
        sum_over = "sum_n" if f.features is not None else "total"
        return ([("y", "max(z, 0) + a * min(z, 0)")],
                [("da", f"{sum_over}(dy * min(z, 0))"), ("dz", "dy * ((z > 0) + a * (z <= 0))")])
    return activation(f, "z", "y")


@layer_formulas(xl.Dropout)
def dropout(layer: Any, call: Any) -> Formulas:
    keep = call.mask() if layer.p and call.training else None
    if keep is None:
        return Formulas([("y", "x")], [("dx", "dy")], notes={"y": "outside training dropout is the identity"})
    q = number(1.0 - layer.p)
    return Formulas([("y", f"x * m / {q}")], [("dx", f"dy * m / {q}")], {"m": np.round(keep * (1.0 - layer.p))},
                    {"y": f"m is 0 with probability {layer.p:g}; the division keeps the expected value"})


# Layers that move no numbers.

def _reshaping(layer: Any, call: Any) -> Formulas:
    to, back = (", ".join(map(str, a.shape)) for a in (call.y[0], call.x[0]))
    return Formulas([("y", f"reshape(x, {to})")], [("dx", f"reshape(dy, {back})")])


_LAYERS[xl.Flatten] = _LAYERS[xl.Reshape] = _reshaping


# Containers: what they do beside running their layers. `f0`, `f1`, … are what the layers inside gave, `dxf0`, … the gradients that they
# handed back.

@layer_formulas(xl.Sequential)
def sequential(layer: Any, call: Any) -> Formulas:
    return Formulas([], [])


@layer_formulas(xl.Residual)
def residual(layer: Any, call: Any) -> Formulas:
    if not layer.layers:
        return Formulas([("y", "x + x")], [("dx", "dy + dy")])
    return Formulas([("y", "x + f0")], [("df0", "dy"), ("dx", "dy + dxf0")],
                    notes={"dx": "x goes two ways, and the gradients of the two add"})


@layer_formulas(xl.Parallel)
def parallel(layer: Any, call: Any) -> Formulas | None:
    if layer.split:
        return Formulas([], [])
    return Formulas([], [("dx", " + ".join(f"dxf{i}" for i in range(len(layer.layers))))],
                    notes={"dx": "a value used more than once gets a gradient from each use, and they add"})


@layer_formulas(xl.Concat)
def concat(layer: Any, call: Any) -> Formulas | None:
    if layer.axis not in (-1, call.y[0].ndim - 1):
        return None
    parts, start = [], 0
    for i, child in enumerate(call.runs):
        stop = start + child.y[0].shape[-1]
        parts.append((f"df{i}", f"part(dy, {start}, {stop})"))
        start = stop
    n = range(len(layer.layers))
    return Formulas([("y", f"concat({', '.join(f'f{i}' for i in n)})")], [*parts, ("dx", " + ".join(f"dxf{i}" for i in n))],
                    notes={"dx": "a value used more than once gets a gradient from each use, and they add"})

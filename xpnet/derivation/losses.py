"""The formulas of the losses: from the prediction y and the target t to L and ∂L/∂y."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import losses as xls
from .formulas import Formulas, Lines, number

_LOSSES: dict[type, Callable[[Any, Any, Any, Any], Formulas]] = {}


def loss_formulas(kind: type) -> Callable[[Any], Any]:
    """A decorator: the function that gives the Formulas of a loss of this class, from the loss, y, t and sample weights or None."""
    def register(f: Any) -> Any:
        _LOSSES[kind] = f
        return f
    return register


def formulas_of_loss(loss: Any, y: Any, t: np.ndarray, weights: np.ndarray | None) -> Formulas | None:
    found = _LOSSES.get(type(loss))
    return found and found(loss, y, t, weights)


def _scale(loss: Any, over_outputs: bool, weighted: bool) -> str:
    """What each sample's loss is multiplied with, as a formula in n and k (and w): empty for 1."""
    kind = loss.reduction.removeprefix("half_")
    below = ["2"] if loss.reduction.startswith("half_") else []
    if kind != "sum":
        below += ["total(w)" if weighted else "n", *(["k"] if kind == "mean" and over_outputs else [])]
    one = "w" if weighted else "1"
    if not below:
        return "w * " if weighted else ""
    return f"{one} / {_times(below)} * "


def _times(factors: list[str]) -> str:
    return factors[0] if len(factors) == 1 else f"({' * '.join(factors)})"


def per_sample(text: str) -> str:
    """A gradient without the 1/n of the mean: that of each sample's own loss."""
    for old, new in (("-1 / n * ", "-"), ("1 / n * ", ""), ("(2 * n)", "2"), ("(n * k)", "k"), ("(2 * n * k)", "(2 * k)")):
        if old in text:
            return text.replace(old, new, 1)
    return text


def _given(y: np.ndarray, weights: np.ndarray | None, over_outputs: bool, loss: Any) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if not loss.reduction.endswith("sum"):
        if weights is None:
            given["n"] = y.shape[0]
        if over_outputs and not loss.reduction.endswith("batch_mean"):
            given["k"] = math.prod(y.shape[1:])
    if weights is not None:
        given["w"] = np.reshape(weights, (-1,) + (1,) * (y.ndim - 1))
    return given


def _entrywise(before: Callable[[Any], Lines], value: Callable[[Any], str], slope: Callable[[Any], str]) -> Callable[..., Formulas]:
    """Formulas of a loss that is a sum over entries: lines that come first, ℓ, and ∂ℓ/∂y."""
    def formulas(loss: Any, y: np.ndarray, t: np.ndarray, weights: np.ndarray | None) -> Formulas:
        over = y.ndim > 1
        s = _scale(loss, over, weights is not None)
        inner = value(loss)
        total = f"total({s}({inner}))" if weights is not None else f"{s}total({inner})"
        return Formulas([*before(loss), ("L", total)], [("dy", _product(s, slope(loss)))], _given(y, weights, over, loss))
    return formulas


def _product(s: str, slope: str) -> str:
    """s · slope, where ½ · 2 is 1."""
    if slope.startswith("2 * ") and "/ 2 * " in s:
        s, slope = ("" if s == "1 / 2 * " else s.replace(" / 2", "")), slope.removeprefix("2 * ")
    elif slope.startswith("2 * ") and "(2 * " in s:
        inner = s.partition("(2 * ")[2].partition(")")[0] if "total" not in s else s.partition("(2 * ")[2].rpartition(")")[0]
        s, slope = f"{s.partition(' / ')[0]} / {_times(inner.split(' * '))} * ", slope.removeprefix("2 * ")
    return f"{s}{slope}"


def _residual(loss: Any) -> Lines:
    return [("r", "y - t")]


def _none(loss: Any) -> Lines:
    return []


def _delta(loss: Any) -> str:
    return number(loss.delta)


_LOSSES[xls.MeanSquaredError] = _entrywise(_residual, lambda _: "r ** 2", lambda _: "2 * r")
_LOSSES[xls.MeanAbsoluteError] = _entrywise(_residual, lambda _: "abs(r)", lambda _: "sign(r)")
_LOSSES[xls.Huber] = _entrywise(lambda f: [("r", "y - t"), ("c", f"min(max(r, -{_delta(f)}), {_delta(f)})")],
                                lambda _: "c * (r - c / 2)", lambda _: "c")
_LOSSES[xls.LogCosh] = _entrywise(_residual, lambda _: "abs(r) + log(1 + (exp(-2 * abs(r)) - 1) / 2)", lambda _: "tanh(r)")
_LOSSES[xls.Poisson] = _entrywise(_none, lambda _: "exp(y) - t * y", lambda _: "(exp(y) - t)")
_LOSSES[xls.Hinge] = _entrywise(lambda _: [("c", "1 - t * y")], lambda _: "max(c, 0)", lambda _: "(-t * (c > 0))")


@loss_formulas(xls.BinaryCrossEntropy)
def binary_cross_entropy(loss: Any, y: np.ndarray, t: np.ndarray, weights: np.ndarray | None) -> Formulas:
    p = number(loss.pos_weight)
    if loss.pos_weight == 1.0:
        value, slope, more = "max(y, 0) - t * y + log(1 + exp(-abs(y)))", "(p - t)", [("p", "sigma(y)")]
    else:
        value = f"{p} * t * softplus(-y) + (1 - t) * softplus(y)"
        slope, more = f"((1 - t) * sigma(y) - {p} * t * sigma(-y))", []
    made = _entrywise(lambda _: more, lambda _: value, lambda _: slope)(loss, y, t, weights)
    note = "the gradient is with respect to the logit, not to the probability p"
    return made._replace(notes={"dy": note} if more else {})


def _rows(loss: Any, y: np.ndarray, weights: np.ndarray | None) -> tuple[str, dict[str, Any]]:
    """The scale of a loss over classes: "mean" is over the samples, and any axes between."""
    between = math.prod(y.shape[1:-1])
    return _scale(loss, between > 1, weights is not None), {
        name: between if name == "k" else v for name, v in _given(y, weights, between > 1, loss).items()}


@loss_formulas(xls.KLDivergence)
def kl_divergence(loss: Any, y: np.ndarray, t: np.ndarray, weights: np.ndarray | None) -> Formulas:
    s, given = _rows(loss, y, weights)
    return Formulas([("L", f"total({s}(xlogx(t) - t * y))" if weights is not None else f"{s}total(xlogx(t) - t * y)")],
                    [("dy", f"-{s}t" if s else "-t")], given)


@loss_formulas(xls.MulticlassHinge)
def multiclass_hinge(loss: Any, y: np.ndarray, t: np.ndarray, weights: np.ndarray | None) -> Formulas:
    s, given = _rows(loss, y, weights)
    total = f"total({s}max(c, 0))" if weights is not None else f"{s}total(max(c, 0))"
    return Formulas([("q", f"onehot(t, {y.shape[-1]})"), ("c", "(1 - q) * (y - sum_k(q * y) + 1)"), ("L", total)],
                    [("dy", f"{s}((c > 0) - q * sum_k(c > 0))")], given, {"q": "q picks the target class"})


@loss_formulas(xls.SoftmaxCrossEntropy)
def softmax_cross_entropy(loss: Any, y: np.ndarray, t: np.ndarray, weights: np.ndarray | None) -> Formulas:
    s, given = _rows(loss, y, weights)
    k, eps = y.shape[-1], loss.label_smoothing
    forward: Lines = [("c", "y - max_k(y)"), ("p", "exp(c) / sum_k(exp(c))")]
    notes = {"c": "the largest is subtracted first: it cancels, and no exponential overflows",
             "L": "ln Σ eᶜ - c is -ln p, also where p rounds to 0",
             "dy": "the gradient is with respect to the logits: softmax and cross-entropy together give p - q"}
    classes = t.ndim < y.ndim
    q = f"onehot(t, {k})" if classes else "t"
    if classes or eps:
        forward.append(("q", q if not eps else f"{number(1.0 - eps)} * {q} + {number(eps)} / {k}"))
    target = "q" if classes or eps else "t"
    slope = f"(p - {target})"
    ignores = classes and loss.ignore_index is not None
    if loss.class_weights is not None or ignores:
        factors = []
        if ignores:
            given["g"] = np.asarray(t != loss.ignore_index, dtype=np.float64)[..., None]
            factors.append("g")
            notes["a"] = "g is 0 where the target is to be ignored"
        if loss.class_weights is not None:
            given["v"] = np.asarray(loss.class_weights, dtype=np.float64)
            factors.append("v")
        forward.append(("a", f"{' * '.join(factors)} * {target}"))
        target, slope = "a", "(sum_k(a) * p - a)"
        if classes and not loss.reduction.endswith("sum"):
            counted = ["w"] * (weights is not None) + factors + [f"onehot(t, {k})"] * (loss.class_weights is not None)
            forward.append(("M", f"total({' * '.join(counted)})"))
            notes["M"] = "the mean divides by the weights of the samples' own classes" if loss.class_weights is not None else \
                "the mean counts what is not ignored"
            given.pop("n", None)
            between = 1 if loss.reduction.endswith("batch_mean") else given.pop("k", 1)
            times = math.prod(y.shape[1:-1]) // between
            above = ["w"] * (weights is not None) + [str(times)] * (times > 1) or ["1"]
            s = f"{_times(above)} / {_times(['2'] * loss.reduction.startswith('half_') + ['M'])} * "
    inner = f"{target} * (log(sum_k(exp(c))) - c)"
    total = f"total({s}({inner}))" if weights is not None else f"{s}total({inner})"
    return Formulas([*forward, ("L", total)], [("dy", f"{s}{slope}")], given, notes)

"""The formulas of the losses that take a distribution, several arrays or a sequence; and of the sample from a distribution."""

import ast
import math
from typing import Any

import numpy as np

from .. import layers as xl
from .. import losses as xls
from .expression import parse, rename
from .formulas import Formulas, Lines, layer_formulas, number
from .losses import _given, _scale, formulas_of_loss, loss_formulas


def _scaled(loss: Any, n: int, k: int, weights: Any, ndim: int) -> tuple[str, dict[str, Any]]:
    """The scale of a loss over n samples with k outputs each, and the letters in it."""
    given = _given(np.empty((n, *[1] * (ndim - 1))), weights, k > 1, loss)
    return _scale(loss, k > 1, weights is not None), {name: k if name == "k" else v for name, v in given.items()}


def _total(s: str, inner: str, weights: Any) -> str:
    return f"total({s}({inner}))" if weights is not None else f"{s}total({inner})"


def _halves(y: str, k: int) -> Lines:
    return [("mu", f"part({y}, 0, {k})"), ("s", f"part({y}, {k}, {2 * k})")]


_IN_LOGARITHMS = {"s": "s = ln σ², the logarithm of the variance"}


@layer_formulas(xl.Reparametrize)
def reparametrize(layer: Any, call: Any) -> Formulas:
    k = layer.out_features
    if not call.training:
        return Formulas([("y", f"part(x, 0, {k})")], [("dx", f"concat(dy, 0 * part(x, {k}, {2 * k}))")],
                        notes={"y": "outside training the mean is taken"})
    return Formulas([*_halves("x", k), ("y", "mu + exp(s / 2) * e")], [("dx", "concat(dy, dy * exp(s / 2) * e / 2)")],
                    {"e": call.noise()}, {**_IN_LOGARITHMS, "y": "e is drawn from N(0, 1)"})


@loss_formulas(xls.NormalKL)
def normal_kl(loss: Any, y: np.ndarray, t: np.ndarray, weights: Any) -> Formulas:
    k = y.shape[-1] // 2
    scale, given = _scaled(loss, len(y), k, weights, y.ndim)
    return Formulas([*_halves("y", k), ("L", _total(scale, "(mu ** 2 + exp(s) - s - 1) / 2", weights))],
                    [("dy", f"{scale}concat(mu, (exp(s) - 1) / 2)")], given, _IN_LOGARITHMS)


@loss_formulas(xls.GaussianNLL)
def gaussian_nll(loss: Any, y: np.ndarray, t: np.ndarray, weights: Any) -> Formulas:
    k = y.shape[-1] // 2
    scale, given = _scaled(loss, len(y), math.prod(t.shape[1:]), weights, y.ndim)
    inner = f"(r ** 2 * exp(-s) + s + {number(math.log(2.0 * math.pi))}) / 2"
    return Formulas([*_halves("y", k), ("r", "mu - t"), ("L", _total(scale, inner, weights))],
                    [("dy", f"{scale}concat(r * exp(-s), (1 - r ** 2 * exp(-s)) / 2)")], given, _IN_LOGARITHMS)


@loss_formulas(xls.ELBO)
def elbo(loss: Any, y: Any, t: np.ndarray, weights: Any) -> Formulas | None:
    """The reconstruction's own formulas, with R for its L, and the divergence's, with K."""
    inner = formulas_of_loss(loss.reconstruction, y[0], t, weights)
    if inner is None:
        return None
    kl, beta = normal_kl(loss.kl, y[1], t, weights), "" if loss.beta == 1.0 else f"{number(loss.beta)} * "
    new = {"y": "y0", "L": "R", "s": "s0", "mu": "mu0"}
    forward, backward = ([(new.get(result, f"{result}0" if result == "dy" else result), ast.unparse(rename(parse(text), new)))
                          for result, text in lines] for lines in (inner.forward, inner.backward))
    new = {"y": "y1", "L": "K"}
    more, back = ([(new.get(result, f"{result}1" if result == "dy" else result), ast.unparse(rename(parse(text), new)))
                   for result, text in lines] for lines in (kl.forward, kl.backward))
    return Formulas([*forward, *more, ("L", f"R + {beta}K")], [*backward, (back[0][0], f"{beta}{back[0][1]}")], {**inner.given, **kl.given},
                    {**_IN_LOGARITHMS, "R": "R, the reconstruction", "K": "K, the divergence from N(0, 1)"})


@loss_formulas(xls.Contrastive)
def contrastive(loss: Any, y: Any, t: np.ndarray, weights: Any) -> Formulas:
    scale, given = _scaled(loss, len(t), 1, weights, 2)
    return Formulas([("r", "y0 - y1"), ("D", "sqrt(sum_k(r ** 2))"), ("c", f"max({number(loss.margin)} - D, 0)"),
                     ("L", _total(scale, "t * D ** 2 + (1 - t) * c ** 2", weights))],
                    [("dy0", f"{scale}(2 * (t - (1 - t) * c / D) * r)"), ("dy1", "-dy0")], {**given, "t": t[:, None]},
                    {"D": "the distance of each pair", "c": "how much is missing to the margin"})


@loss_formulas(xls.Triplet)
def triplet(loss: Any, y: Any, t: np.ndarray, weights: Any) -> Formulas:
    scale, given = _scaled(loss, len(t), 1, weights, 2)
    slope = f"{scale}2 * (c > 0) * " if scale else "2 * (c > 0) * "
    return Formulas([("c", f"sum_k((y0 - y1) ** 2) - sum_k((y0 - y2) ** 2) + {number(loss.margin)}"),
                     ("L", _total(scale, "max(c, 0)", weights))],
                    [("dy0", f"{slope}(y2 - y1)"), ("dy1", f"{slope}(y1 - y0)"), ("dy2", f"{slope}(y0 - y2)")], given,
                    {"c": "how much nearer the other kind is than it may be"})


@loss_formulas(xls.CTC)
def ctc(loss: Any, y: Any, t: np.ndarray, weights: Any) -> Formulas:
    """P and q are given: the sum over paths, in probabilities."""
    z, lengths = y if isinstance(y, tuple) else (y, np.full(len(y), y.shape[1]))
    name = "y0" if isinstance(y, tuple) else "y"
    scale, given = _scaled(loss, len(z), 1, weights, 3)
    P, q = paths(z, t, lengths, loss.blank)
    given |= {"P": P[:, None, None], "q": q, "g": np.asarray(np.arange(z.shape[1]) < np.asarray(lengths)[:, None], np.float64)[..., None]}
    notes = {"L": "P is the sum over all paths that read as the target, of the product of their probabilities",
             f"d{name}": "q is the probability of each class in each frame, given that the path reads as the target; g is 0 after the end"}
    backward = [(f"d{name}", f"{scale}(g * (p - q))")] + ([("dy1", "")] if isinstance(y, tuple) else [])
    return Formulas([("c", f"{name} - max_k({name})"), ("p", "exp(c) / sum_k(exp(c))"), ("L", _total(scale, "-log(P)", weights))], backward,
                    given, notes)


def paths(z: np.ndarray, t: np.ndarray, lengths: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """p(t|z) of each sample, and the probability of each class in each frame given t: sample by sample, in probabilities."""
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    P, q = np.zeros(len(z)), np.zeros_like(p)
    for i, (labels, frames) in enumerate(zip(t, lengths)):
        states = [blank]
        for label in labels[labels != blank]:
            states += [int(label), blank]
        goes = np.array([[1.0 if s in (r, r + 1) or (s == r + 2 and states[s] not in (blank, states[r])) else 0.0
                          for s in range(len(states))] for r in range(len(states))])
        emit = p[i][:, states]
        alpha, beta = np.zeros((frames, len(states))), np.zeros((frames, len(states)))
        alpha[0, :2], beta[-1, -2:] = emit[0, :2], 1.0
        for frame in range(1, frames):
            alpha[frame] = emit[frame] * (alpha[frame - 1] @ goes)
        for frame in range(frames - 2, -1, -1):
            beta[frame] = goes @ (emit[frame + 1] * beta[frame + 1])
        P[i] = np.sum(alpha[-1] * beta[-1])
        for s, c in enumerate(states):
            q[i, :frames, c] += alpha[:, s] * beta[:, s] / P[i]
    return P, q

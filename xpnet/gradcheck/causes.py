"""The cause, guessed: a is compared with what common mistakes would make of it."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..layer import flatten
from ..layers.activations import Activation
from .arrays import host, largest, near, replaced
from .calls import Call, Runner
from .differences import Place, places

Suspect = tuple[Any, Any, str]                            # (left, right, words): where left = right, the words are the guess


def misfit(place: Place) -> tuple[str, str]:
    """What is wrong with a gradient that cannot be compared, and why perhaps; empty where it can."""
    a, name, shape = place.gradient, place.name, place.value.shape
    if a is None:
        note = f"there is no gradient of {name}"
        return note, note
    if a.shape == shape and np.all(np.isfinite(a)):
        return "", ""
    if a.shape == shape:
        return f"∂L/∂{name} is not finite", "guess: an overflow, or a division by zero"
    note = f"∂L/∂{name} has shape {a.shape}, {name} has {shape}"
    if len(shape) > 1 and a.shape == shape[::-1]:
        return note, "guess: transposed"
    if a.ndim > len(shape) and a.shape[a.ndim - len(shape):] == shape:
        return note, "guess: the sum over the batch is missing"
    return note, note


@np.errstate(all="ignore")
def guess(runner: Runner, place: Place, call: Call | None, index: np.ndarray) -> str:
    """What would make a equal to n at the entries `index`; empty where nothing fits."""
    terms = np.stack([np.concatenate([np.reshape(e, (-1,)) for e, _ in place.terms(*place.unit(i))]) for i in index])
    a, n = np.reshape(np.asarray(place.gradient), (-1,))[index], np.sum(terms, axis=1)
    suspects = [*_by_value(place, index, a, n)]
    suspects += _by_loss(place, index, a, n) if call is None else _by_layer(runner, place, call, index, a, n)
    suspects += _by_part(place, index, terms, a, n)
    words = next((words for left, right, words in suspects if near(left, right)), "")
    return f"guess: {words}" if words and not near(a, n) else ""


def _by_value(place: Place, index: np.ndarray, a: np.ndarray, n: np.ndarray) -> Iterator[Suspect]:
    """Mistakes that the numbers themselves show."""
    full, dy = np.asarray(place.gradient), place.dy[0]
    yield a - n, a, "it should be 0, since the output does not depend on it"
    yield a, 0.0 * a, "it is 0: the term is missing"
    c = float(np.dot(a, n) / np.dot(n, n)) if np.any(n) else 1.0
    words = _factor(c, dy.shape if dy.ndim else place.value.shape)
    if words or np.sum(np.abs(n) > 1e-6 * largest(n)) > 2:   # one or two numbers are always in some proportion
        yield a, c * n, words or f"off by a factor of {c:.4g}"
    if full.ndim == 2:
        yield np.reshape(full.T, (-1,))[index], n, "it is transposed"
    if dy.shape == full.shape:
        d = np.reshape(dy, (-1,))[index]
        yield a, d, "it is dy itself: the factor f' is missing"
        yield a + d, n, "it lacks a term dy: the skip path is missing"
        yield a - d, n, "it has dy once too often"


def _factor(c: float, shape: tuple[int, ...]) -> str:
    """A factor in words, where it is one that a common mistake makes. shape: (n, ...), of the outputs."""
    if near(c, -1.0):
        return "the sign is wrong"
    n, k = (shape[0] if shape else 1), math.prod(shape[1:])
    sizes = {"the batch size": n, "the number of outputs": k, "the number of all outputs": n * k}
    for size, way, why in ((abs(c), "large", "a division by it is missing"),
                           (1.0 / abs(c) if c else 0.0, "small", "it is divided by twice, or a mean stands where a sum belongs")):
        names = [name for name, s in sizes.items() if s > 1 and near(size, s)]
        if names or near(size, 2.0):
            return (f"{'the sign is wrong, and it is ' if c < 0 else ''}exactly {round(size)} times too {way}"
                    f"{f', {names[0]}: {why}' if names else ''}")
    return ""


def _by_loss(place: Place, index: np.ndarray, a: np.ndarray, n: np.ndarray) -> Iterator[Suspect]:
    """The gradient with respect to a probability, of a loss that is given a logit z: what is missing is the link's derivative."""
    z, full = place.value, np.asarray(place.gradient)
    p = 1.0 / (1.0 + np.exp(-z))
    yield a * np.reshape(p * (1.0 - p), (-1,))[index], n, "it is the gradient with respect to σ(z), not to the logit z"
    if z.ndim > 1:
        p = np.exp(z - np.max(z, axis=-1, keepdims=True))
        p /= np.sum(p, axis=-1, keepdims=True)
        dz = p * (full - np.sum(p * full, axis=-1, keepdims=True))
        yield np.reshape(dz, (-1,))[index], n, "it is the gradient with respect to softmax(z), not to the logits z"


def _by_layer(runner: Runner, place: Place, call: Call, index: np.ndarray, a: np.ndarray, n: np.ndarray) -> Iterator[Suspect]:
    """Mistakes that the layer and what it holds show."""
    if isinstance(call.layer, Activation):
        was, other, s = ("input", "output", call.y) if call.layer.saves == "input" else ("output", "input", call.x)
        df = host(call.layer.df(runner.backend.xp, runner.array(call.dy[0]), runner.array(s[0])))
        yield np.reshape(df, (-1,))[index], n, f"df is written in the {other} but is given the {was}: it needs saves = {other!r}"
    for name, p in flatten(call.params, host).items():
        if place.leaf and name != place.name and p.ndim == 2 and p.shape[0] == p.shape[1]:
            turned = copy.copy(call)
            turned.params = replaced(call.params, name, runner.array(p.T))
            there = next(other for other in places(runner, turned) if other.name == place.name)
            n_turned = np.array([there.slope(*there.unit(i))[0] for i in index])
            yield a, n_turned, f"{name} stands where {name}ᵀ belongs: transposed"
    uses = [g for inner in call.walk() if inner is not call and inner.dy for g in _gradients_for(place.name, inner, call)]
    for g in uses if len(uses) > 1 else ():
        if g is not None and g.shape == place.value.shape:
            yield a, np.reshape(g, (-1,))[index], "it is the gradient of one use only: of a value used more than once, gradients add"


def _gradients_for(name: str, inner: Call, outer: Call) -> list[Any]:
    """What an inner layer gave as the gradient of the outer one's array `name`: of that parameter, or of any input."""
    owner, _, parameter = name.rpartition(".")
    if parameter not in inner.grads:
        return inner.dx if name.startswith("x") else []
    return [inner.grads[parameter]] if inner.path[len(outer.path):].lstrip(".") == owner else []


def _by_part(place: Place, index: np.ndarray, terms: np.ndarray, a: np.ndarray, n: np.ndarray) -> Iterator[Suspect]:
    """Mistakes that leave out a part of n = Σ dy ⊙ ∂y/∂xᵢ, or move it."""
    shape, dy = place.value.shape, place.dy[0]
    if len(place.dy) == 1 and dy.shape == shape:
        yield a, terms[np.arange(len(index)), index], ("it has only the diagonal of the Jacobian: each output also depends on the "
                                                       "other inputs, as in softmax")
    if len(place.dy) == 1 and dy.ndim and dy.shape[0] > 1:
        samples = np.sum(np.reshape(terms, (len(index), dy.shape[0], -1)), axis=2)
        for row, which in ((samples[:, 0], "first"), (samples[:, -1], "last")):
            yield a, row, f"it is the gradient of the {which} sample only: the sum over the batch is missing"
    if len(index) == place.value.size:
        missing = np.reshape(n - a, shape)
        for axis, words in ((-1, "the last axis"), (0, "the batch")):
            if len(shape) > 1 and shape[axis] > 1:
                yield missing, np.mean(missing, axis=axis, keepdims=True) + 0.0 * missing, (
                    f"it lacks the same amount all along {words}: the path through a mean or a sum over {words}")
        if len(index) > 2:
            yield np.sort(a), np.sort(n), "the right numbers in another order: flipped, or parts swapped"
    differ = (a == 0.0) != (np.abs(n) <= 1e-9 * largest(n))
    both = (a != 0.0) & ~differ
    if np.any(differ):
        c = float(np.dot(a[both], n[both]) / max(np.dot(n[both], n[both]), 1e-300))
        yield a[both], c * n[both], f"it is 0 at other entries than it should be ({np.sum(differ)} of {len(index)}): another mask"

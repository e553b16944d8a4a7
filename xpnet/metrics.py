"""Metrics: what a trained network is judged by, `metric(y, t) -> number`, over all predictions at once.

y is the network's output as it is: scores or logits, no softmax or sigmoid needed. Every metric is computed where y
lies and returns an array of the same device (0-d, or one entry a class), without waiting for it.

A classification metric takes

| y | shape | the prediction | t |
|---|---|---|---|
| scores of k ≥ 2 classes | floating (n, …, k) | the largest, of equals the first | labels (n, …) or one-hot (n, …, k) |
| logits of a yes-or-no question | floating (n,) or (n, 1) | y > 0 | 0 or 1, or -1 or 1; floating: above ½ or not |
| predicted labels | integer (n, …) | y | labels (n, …) |

Several yes-or-no outputs (n, k) look like scores and would be taken for them: judge them one by one, as y[:, j].
Sorted by increasing complexity: regression, then how many are right, then which.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import index_add, namespace
from .data import check_labels, mean_of_rows
from .errors import unknown

Array = Any
Metric = Callable[[Array, Array], Array]

# Regression: y and t of the same shape.


def mse(y: Array, t: Array) -> Array:
    """1/N Σ (y - t)², over all samples and outputs"""
    xp, r = _residual(y, t)
    return xp.mean(r * r)


def rmse(y: Array, t: Array) -> Array:
    """√(1/N Σ (y - t)²), in the units of t"""
    return namespace(y).sqrt(mse(y, t))


def mae(y: Array, t: Array) -> Array:
    """1/N Σ |y - t|, in the units of t"""
    xp, r = _residual(y, t)
    return xp.mean(xp.abs(r))


def r2(y: Array, t: Array) -> Array:
    """R² = 1 - Σₙ (tₙ - yₙ)² / Σₙ (tₙ - t̄)², the mean over the outputs

    1 is perfect, 0 as good as the mean of t, and there is no lower bound. For a constant target, where the quotient
    says nothing, it is 1 if every prediction is exact, else 0, as in scikit-learn. Takes at least two samples.
    """
    xp, r = _residual(y, t)
    n = r.shape[0]
    if n < 2:
        raise ValueError(f"r2 takes at least two samples, got y of shape {tuple(y.shape)}")
    t, r = (xp.reshape(xp.astype(a, r.dtype), (n, -1)) for a in (t, r))
    error = mean_of_rows(xp, r * r)
    variance = mean_of_rows(xp, (t - mean_of_rows(xp, t)) ** 2)
    varies = xp.max(t, axis=0) > xp.min(t, axis=0)        # a constant's variance may round to more than 0
    quotient = error / xp.where(varies, variance, xp.ones_like(variance))
    return xp.mean(xp.where(varies, 1.0 - quotient, xp.astype(error == 0, error.dtype)))


def _residual(y: Array, t: Array) -> tuple[Any, Array]:
    """y - t in y's dtype. Shapes have to be equal: (n, 1) - (n,) would broadcast to (n, n)."""
    xp = _namespace(y, t)
    if not xp.isdtype(y.dtype, "real floating"):
        raise TypeError(f"a regression metric takes floating predictions, got {y.dtype}")
    if y.shape != t.shape:
        hint = f"; reshape t to {tuple(y.shape)}" if math.prod(y.shape) == math.prod(t.shape) else ""
        raise ValueError("a regression metric takes y and t of the same shape, "
                         f"got y {tuple(y.shape)} and t {tuple(t.shape)}{hint}")
    return xp, y - xp.astype(t, y.dtype)


# Classification: how many are right.


def accuracy(y: Array, t: Array) -> Array:
    """1/n Σₙ [predicted labelₙ = tₙ]"""
    xp, predicted, true, _ = _labels(y, t)
    return xp.mean(xp.astype(predicted == true, _real(xp, y)))


def top_k(y: Array, t: Array, k: int = 5) -> Array:
    """1/n Σₙ [the class tₙ is among the k of largest scores]

    y: (n, …, classes) floating. Of equal scores the lower class comes first, as in argmax, so k = 1 is the accuracy.
    """
    xp, _, true, classes = _labels(y, t)
    if classes is None or y.ndim < 2 or y.shape[-1] < 2:
        raise ValueError(f"top_k takes scores of shape (n, classes), got {y.dtype} y of shape {tuple(y.shape)}")
    if not isinstance(k, int) or not 1 <= k <= classes:
        raise ValueError(f"top_k: k is from 1 to the number of classes, {classes}, got {k!r}")
    y = xp.reshape(y, (-1, classes))
    score = xp.take_along_axis(y, true[:, None], axis=1)
    number = xp.arange(classes, dtype=true.dtype, device=true.device)
    behind = (y < score) | ((y == score) & (number > true[:, None]))
    # Counting those behind, not those before: a score that is NaN is behind nothing, and nothing is behind it.
    count = xp.sum(xp.astype(behind, xp.int64), axis=1)
    return xp.mean(xp.astype(count >= classes - k, y.dtype))


# Classification: which are right.


def confusion_matrix(y: Array, t: Array, classes: int | None = None) -> Array:
    """C[i, j] = Σₙ [tₙ = i] [predicted labelₙ = j]: (classes, classes) int64; the diagonal is right

    classes: needed where y are labels on a device, since finding the largest would wait for it.
    Raises ValueError for host labels out of range; on a device labels are not read.
    """
    xp, predicted, true, found = _labels(y, t)
    k = _class_count(predicted, true, found, classes)
    one = xp.ones((true.shape[0], 1), dtype=xp.int32, device=true.device)
    return xp.astype(xp.reshape(index_add(xp, k * k, true * k + predicted, one), (k, k)), xp.int64)


def precision(y: Array, t: Array, average: str | None = "macro", classes: int | None = None) -> Array:
    """Pⱼ = C[j, j] / Σᵢ C[i, j]: of those predicted to be j, the part that is

    average  "macro": the mean over all classes, each counting alike; "micro": Σ of the numerators / Σ of the
             denominators, which is the accuracy; None: an array with one entry a class
    A class without a denominator counts 0, as in scikit-learn with zero_division=0 and all labels given.
    """
    return _of_classes(y, t, average, classes, lambda hits, predicted, true: (hits, predicted))


def recall(y: Array, t: Array, average: str | None = "macro", classes: int | None = None) -> Array:
    """Rᵢ = C[i, i] / Σⱼ C[i, j]: of those that are i, the part predicted to be. `average` as in `precision`."""
    return _of_classes(y, t, average, classes, lambda hits, predicted, true: (hits, true))


def f1(y: Array, t: Array, average: str | None = "macro", classes: int | None = None) -> Array:
    """Fᵢ = 2 Pᵢ Rᵢ / (Pᵢ + Rᵢ) = 2 C[i, i] / (Σⱼ C[i, j] + Σⱼ C[j, i]). `average` as in `precision`."""
    return _of_classes(y, t, average, classes, lambda hits, predicted, true: (2.0 * hits, predicted + true))


def _of_classes(y: Array, t: Array, average: str | None, classes: int | None, quotient: Any) -> Array:
    if average not in ("macro", "micro", None):
        raise unknown("average", average, ("macro", "micro", "None"))
    xp = namespace(y)
    c = xp.astype(confusion_matrix(y, t, classes), _real(xp, y))
    above, below = quotient(xp.linalg.diagonal(c), xp.sum(c, axis=0), xp.sum(c, axis=1))
    if average == "micro":
        above, below = xp.sum(above), xp.sum(below)
    each = above / xp.maximum(below, 1.0)                 # counts: where below is 0, so is above
    return xp.mean(each) if average == "macro" else each


def _labels(y: Array, t: Array) -> tuple[Any, Array, Array, int | None]:
    """The namespace, predicted and true labels as two int64 vectors, and the number of classes where y tells it."""
    xp = _namespace(y, t)
    shapes = f"got y {tuple(y.shape)} and t {tuple(t.shape)}"
    soft = xp.isdtype(t.dtype, "real floating")
    t = xp.astype(t, xp.int64) if xp.isdtype(t.dtype, "bool") else t
    classes = None
    if xp.isdtype(y.dtype, "integral"):                   # labels
        if t.shape != y.shape:
            raise ValueError(f"predicted labels take true labels of the same shape, {shapes}")
    elif not xp.isdtype(y.dtype, "real floating"):
        raise TypeError(f"a classification metric takes floating scores or integer labels as y, got {y.dtype}")
    elif y.ndim == 1 or y.shape[-1] == 1:                 # logits
        if t.shape not in (y.shape, (*y.shape, 1), y.shape[:-1]):
            raise ValueError(f"logits of a yes-or-no question take one target each, {shapes}")
        classes, soft = 2, False
        y, t = y > 0, t > (0.5 if xp.isdtype(t.dtype, "real floating") else 0)
    else:                                                 # scores
        classes = y.shape[-1]
        if t.shape == y.shape:
            t, soft = xp.argmax(t, axis=-1), False
        elif t.shape != y.shape[:-1]:
            hint = "; drop t's last axis" if t.shape == (*y.shape[:-1], 1) else ""
            raise ValueError(f"scores of {classes} classes take labels of shape {tuple(y.shape[:-1])} "
                             f"or one-hot targets of shape {tuple(y.shape)}, {shapes}{hint}")
        y = xp.argmax(y, axis=-1)
    if soft:
        raise TypeError(f"a classification metric takes integer labels as t, got {t.dtype}; convert them first")
    return xp, xp.astype(xp.reshape(y, (-1,)), xp.int64), xp.astype(xp.reshape(t, (-1,)), xp.int64), classes


def _class_count(predicted: Array, true: Array, found: int | None, given: int | None) -> int:
    """How many classes there are; labels on the host are held against it."""
    if found is not None and given not in (None, found):
        raise ValueError(f"classes={given}, but y tells of {found} classes")
    host = isinstance(true, np.ndarray)
    count = found or given
    if count is None:
        if not host:
            raise ValueError("labels on a device take classes=, the number of classes: finding it would wait for them")
        count = max(int(predicted.max()), int(true.max())) + 1
    if host:
        for labels in (predicted, true):
            check_labels(labels, count, one_class=True)
    return count


def _namespace(y: Array, t: Array) -> Any:
    xp = namespace(y)
    if namespace(t) is not xp:
        raise TypeError(f"a metric takes arrays of one library, got y of {type(y).__module__} and t of "
                        f"{type(t).__module__}")
    if y.ndim < 1 or y.shape[0] < 1:
        raise ValueError(f"a metric takes at least one sample, got y of shape {tuple(y.shape)}")
    return xp


def _real(xp: Any, y: Array) -> Any:
    """The dtype of a metric: y's, or for integer labels float32, in which counts up to 2²⁴ are exact."""
    return y.dtype if xp.isdtype(y.dtype, "real floating") else xp.float32


NAMES: dict[str, Metric] = {f.__name__: f for f in (mse, rmse, mae, r2, accuracy, top_k, precision, recall, f1)}


def get_metric(metric: Any) -> Metric:
    """A metric from its name; any function `(y, t) -> number` is one already, such as `lambda y, t: top_k(y, t, 3)`."""
    if callable(metric):
        return metric
    if metric not in NAMES:
        raise unknown("metric", metric, NAMES)
    return NAMES[metric]


RESERVED = ("epoch", "loss", "lr", "time")                # the history's own columns


def named_metrics(metrics: Any) -> dict[str, Metric]:
    """{name: metric} of one metric, a sequence of metrics, or such a dictionary.

    Raises ValueError where two have the same name, as two lambdas do, or one has the name of a column that the history has anyway.
    """
    if isinstance(metrics, dict):
        pairs = list(metrics.items())
    else:
        chosen = [metrics] if isinstance(metrics, str) or callable(metrics) else metrics
        pairs = [(m if isinstance(m, str) else getattr(m, "__name__", repr(m)), m) for m in chosen]
    named: dict[str, Metric] = {}
    for name, metric in pairs:
        if name in named or name in RESERVED or name.startswith("val_"):
            why = "two metrics have it" if name in named else "columns of the history are named so"
            raise ValueError(f"{name!r} cannot be the name of a metric: {why}; name it yourself: metrics={{'my_name': function}}")
        named[name] = get_metric(metric)
    return named

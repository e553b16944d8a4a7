"""Where a classifier draws its lines, for two features."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.registry import to_host
from ..errors import whole
from ..model import Model
from .style import COLOURS, MARKERS, Array, Axes, colour, host, legend, numbers, one_axes

FADE = 0.55                                               # how much of a class's colour its region has; the points have all


class Answer(NamedTuple):
    """What a classifier says of points: scores (m, k), of which the largest is its choice; whether they are probabilities; the classes."""

    scores: np.ndarray
    probabilities: np.ndarray | None
    classes: np.ndarray


def decision_boundary(classifier: Any, x: Array, t: Array | None = None, ax: Axes = None, resolution: int = 200,
                      labels: Sequence[Any] | None = None, threshold: float | None = None, margin: float = 0.1) -> Axes:
    """The plane in the colours of the classes, mixed by their probabilities where there are any; lines where the choice changes; the data.

    classifier  a Model: softmax or sigmoid by its link; else the largest output, or the sign of a single one.
                An object with `predict_proba` or `predict`, as scikit-learn's.
                A function of points (m, 2): labels (m,) of an integer type, probabilities or scores (m, k) of k ≥ 2 classes, or one
                floating score (m,) of two
    x, t        (n, 2): the picture covers them;  labels (n,), one-hot (n, k), or None for no points
    resolution  points along each side
    labels      the names of the classes, for the legend
    threshold   above which a single score means the second class: by default 1/2 for probabilities of a Model with link "sigmoid", else 0
    margin      how far the picture reaches beyond the data, as a share of their extent
    """
    x = numbers(x, "x")
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"decision_boundary takes x of shape (n, 2), two features to draw along, got {x.shape}; of more, choose two or "
                         "project onto two, and let a function put the others back")
    resolution = whole("resolution", resolution, 2)
    t = None if t is None else _labels(t, len(x))
    low, high = x.min(axis=0), x.max(axis=0)
    reach = margin * np.where(high > low, high - low, 1.0)
    low, high = low - reach, high + reach
    steps = (np.arange(resolution) + 0.5) / resolution    # the middles of pixels
    across, up = (low[i] + steps * (high[i] - low[i]) for i in (0, 1))
    points = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    answer = _ask(classifier, points, t, threshold)
    k = len(answer.classes)
    t_index = None if t is None else _index(t, answer.classes)
    names = [f"class {c}" for c in answer.classes] if labels is None else [str(name) for name in labels]
    if len(names) != k:
        raise ValueError(f"labels are the names of {k} classes, got {len(names)}")

    ax = one_axes(ax, (4.6, 4.0))
    share = np.eye(k)[answer.scores.argmax(axis=1)] if answer.probabilities is None else answer.probabilities
    mixed = share @ _rgb(k)
    image = np.clip(1.0 - FADE * (1.0 - mixed), 0.0, 1.0).reshape(resolution, resolution, 3)
    ax.imshow(image, extent=(low[0], high[0], low[1], high[1]), origin="lower", aspect="auto", interpolation="bilinear")
    for j in range(k if k > 2 else k - 1):                # one class alone has no boundary
        lead = (answer.scores[:, j] - np.delete(answer.scores, j, axis=1).max(axis=1)).reshape(resolution, resolution)
        if lead.min() < 0.0 < lead.max():                 # else there is no line, of which matplotlib would warn
            ax.contour(across, up, lead, levels=[0.0], colors="black", linewidths=0.8)
    if t_index is not None:
        for j in range(k):
            ax.scatter(*x[t_index == j].T, s=18, color=colour(j), marker=MARKERS[j % len(MARKERS)], edgecolors="white", linewidths=0.4,
                       label=names[j])
        legend(ax, k, most=5)
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="$x_1$", ylabel="$x_2$")
    return ax


def _rgb(k: int) -> np.ndarray:
    return np.array([[int(c[i:i + 2], 16) / 255.0 for i in (1, 3, 5)] for c in (COLOURS[j % len(COLOURS)] for j in range(k))])


def _labels(t: Array, n: int) -> np.ndarray:
    t = host(t, "t")
    if t.ndim == 2:
        t = t[:, 0] if t.shape[1] == 1 else t.argmax(axis=1)
    if t.shape != (n,):
        raise ValueError(f"t holds labels (n,) or one-hot rows (n, k) for {n} points, got {t.shape}")
    return t


def _index(t: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Which class each label is."""
    hit = t[:, None] == classes[None, :]
    if not hit.any(axis=1).all():
        strange = sorted(set(t[~hit.any(axis=1)].tolist()))
        raise ValueError(f"t holds the labels {strange[:5]}, which are not among the classifier's classes {classes.tolist()}")
    return hit.argmax(axis=1)


def _ask(classifier: Any, points: np.ndarray, t: np.ndarray | None, threshold: float | None) -> Answer:
    if isinstance(classifier, Model):
        return _ask_model(classifier, points, t, threshold)
    classes = getattr(classifier, "classes_", None)
    classes = None if classes is None else np.asarray(classes)
    if hasattr(classifier, "predict_proba"):
        return _many(_answer(classifier.predict_proba, points), classes, threshold)
    if hasattr(classifier, "predict"):
        return _chosen(_answer(classifier.predict, points), classes, t)
    if not callable(classifier):
        raise TypeError("classifier is a Model, an object with predict_proba or predict, or a function of points (m, 2), got "
                        f"{type(classifier).__name__}")
    values = _answer(classifier, points)
    if values.ndim == 2 and values.shape[1] > 1:
        return _many(values, None, threshold)
    values = values.reshape(-1)
    return _single(values, t, threshold) if values.dtype.kind == "f" else _chosen(values, None, t)


def _ask_model(model: Model, points: np.ndarray, t: np.ndarray | None, threshold: float | None) -> Answer:
    if model.link == "exp":
        raise ValueError("the model predicts a rate (its link is 'exp'), not classes; give a function of points (m, 2) that decides")
    values = _answer(model.predict, points) if model.link in ("identity", "sign") else _answer(model.predict_proba, points)
    if values.ndim != 2:
        raise ValueError(f"the model gives an output of shape {values.shape} for {len(points)} points, where (m, 1) or (m, k) was expected")
    if values.shape[1] > 1:
        if model.link == "sigmoid":
            raise ValueError(f"the model gives {values.shape[1]} separate yes-or-no answers; give a function that chooses one: "
                             "lambda p: model.predict_proba(p)[:, j]")
        return _many(values, None, threshold)
    score = values[:, 0]
    if model.link == "sigmoid":
        scores = _against(score, 0.5 if threshold is None else threshold)
        return Answer(scores, np.stack([1.0 - score, score], axis=1), np.array([0, 1]))
    if model.link == "sign":
        return Answer(_against(score, threshold or 0.0), None, np.array([-1, 1]))
    return _single(score, t, threshold)


def _answer(f: Callable[[np.ndarray], Any], points: np.ndarray) -> np.ndarray:
    values = to_host(f(points))
    if values.ndim < 1 or values.ndim > 2 or len(values) != len(points):
        raise ValueError(f"the classifier's answer has shape {values.shape} for {len(points)} points, where (m,) or (m, k) was expected")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("the classifier's answers are not all finite")
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def _many(values: np.ndarray, classes: np.ndarray | None, threshold: float | None) -> Answer:
    """One column a class."""
    if threshold is not None:
        raise ValueError(f"threshold is for a single score; the classifier gives {values.shape[1]}, and the largest counts")
    classes = np.arange(values.shape[1]) if classes is None else classes
    if values.ndim != 2 or values.shape[1] != len(classes):
        raise ValueError(f"the classifier gives probabilities of shape {values.shape} for {len(classes)} classes")
    values = values.astype(np.float64)
    proper = values.min() >= -1e-6 and np.allclose(values.sum(axis=1), 1.0, atol=1e-3)
    return Answer(values, np.clip(values, 0.0, 1.0) if proper else None, classes)


def _chosen(values: np.ndarray, classes: np.ndarray | None, t: np.ndarray | None) -> Answer:
    """Labels: no score says how sure they are."""
    values = values.reshape(-1)
    if classes is None:
        classes = np.unique(values if t is None else np.concatenate([values, t]))
    return Answer((values[:, None] == classes[None, :]).astype(np.float64), None, classes)


def _single(score: np.ndarray, t: np.ndarray | None, threshold: float | None) -> Answer:
    """One score of two classes, which are those of t."""
    classes = np.array([0, 1]) if t is None else np.unique(t)
    if len(classes) == 1:
        classes = np.array([-1, 1]) if classes[0] == -1 else np.array([0, 1])
    if len(classes) != 2:
        raise ValueError("the classifier gives one score a point, which parts two classes, and t holds "
                         f"{len(classes)}: {classes.tolist()[:10]}")
    return Answer(_against(score, threshold or 0.0), None, classes)


def _against(score: np.ndarray, threshold: float) -> np.ndarray:
    return np.stack([threshold - score, score - threshold], axis=1)

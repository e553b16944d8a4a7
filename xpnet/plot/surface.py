"""The loss over two directions in parameter space."""

from typing import Any

import numpy as np

from ..errors import whole
from ..losses import Loss
from ..model import Model
from ..train import prepare
from .style import COLOURS, SEQUENTIAL, Array, Axes, numbers, one_axes

LEVELS = 25                                               # of the loss


def loss_surface(model: Model, loss: Loss, data: Any, ax: Axes = None, directions: Any = None, span: float = 1.0, resolution: int = 25,
                 seed: int = 0) -> Axes:
    """L(θ + α d₁ + β d₂) over a square of α and β; the cross is the network as it is. The parameters are afterwards what they were.

    data        (x, t) or (x, t, sample weights)
    directions  two vectors of model.params' size, such as θ_other - θ; by default two random ones, filter-normalised: each unit's weights
                in d have the length that they have in θ, and parameters that are vectors, such as biases, are held fixed
    span        α and β run from -span to span
    resolution  values along each side: resolution² evaluations of the loss over all of data
    seed        of the random directions: the same on every backend
    Li, Xu, Taylor, Studer & Goldstein (2018), "Visualizing the loss landscape of neural nets".
    """
    if not isinstance(model, Model) or not isinstance(loss, Loss):
        raise TypeError(f"loss_surface takes a Model and a Loss, got {type(model).__name__} and {type(loss).__name__}")
    if not 0.0 < span < float("inf"):
        raise ValueError(f"span is a positive number, got {span!r}")
    theta = numbers(model.params, "model.params")
    d1, d2 = filter_normalised(model, theta, seed) if directions is None else _given(directions, theta)
    steps = np.linspace(-span, span, whole("resolution", resolution, 2))
    surface = _evaluate(model, loss, data, ((theta + a * d1 + b * d2 for a in steps) for b in steps))

    ax = one_axes(ax, (4.9, 3.9))
    from matplotlib.ticker import MaxNLocator

    finite = surface[np.isfinite(surface)]
    log = finite.size > 0 and finite.min() > 0.0 and finite.max() > 30.0 * finite.min()
    drawn = np.ma.masked_invalid(np.log10(surface) if log else surface)
    if finite.size == 0 or drawn.min() == drawn.max():
        raise ValueError("the loss is the same at every point of the surface" if finite.size else
                         "the loss is nowhere finite; choose a smaller span")
    levels = np.linspace(drawn.min(), drawn.max(), LEVELS)
    filled = ax.contourf(steps, steps, drawn, levels=levels, cmap=SEQUENTIAL)
    ax.contour(steps, steps, drawn, levels=levels[::2], colors="white", linewidths=0.4, alpha=0.7, linestyles="solid")
    ax.plot(0.0, 0.0, marker="X", color=COLOURS[3], markeredgecolor="white", markersize=9, linestyle="none", label="the network")
    ax.set(xlabel="α, along the first direction", ylabel="β, along the second", aspect="equal")
    ax.legend(loc="upper right", fontsize="small")
    ticks = MaxNLocator(7).tick_values(drawn.min(), drawn.max())
    ticks = ticks[(ticks >= drawn.min()) & (ticks <= drawn.max())]
    bar = ax.figure.colorbar(filled, ax=ax, label="$L$, on a logarithmic scale" if log else "$L$", ticks=ticks)
    bar.set_ticklabels([f"{10.0 ** v if log else v:.3g}" for v in ticks])
    return ax


def filter_normalised(model: Model, theta: np.ndarray, seed: int) -> list[np.ndarray]:
    """Two random directions d: ‖d_j‖ = ‖w_j‖ for the weights w_j of each unit j, and 0 for parameters that are vectors."""
    rng = np.random.default_rng(whole("seed", seed, 0))
    directions = []
    for _ in range(2):
        d = rng.standard_normal(theta.size)
        for slot in model.layout.slots:
            part, shape = slice(slot.start, slot.stop), slot.param.shape
            if len(shape) < 2:
                d[part] = 0.0
                continue
            # A unit's weights are a column of W (in, out), and a filter is the first axis of a kernel (out, ...).
            axes = 0 if len(shape) == 2 else tuple(range(1, len(shape)))
            w, v = theta[part].reshape(shape), d[part].reshape(shape)
            length = np.sqrt(np.sum(v * v, axis=axes, keepdims=True))
            d[part] = (v / length * np.sqrt(np.sum(w * w, axis=axes, keepdims=True))).ravel()
        directions.append(d)
    return directions


def _given(directions: Any, theta: np.ndarray) -> list[np.ndarray]:
    if not isinstance(directions, (tuple, list)) or len(directions) != 2:
        raise TypeError(f"directions are two vectors of the parameters' size ({theta.size},), got {type(directions).__name__}")
    vectors = [numbers(d, "a direction") for d in directions]
    for d in vectors:
        if d.shape != theta.shape:
            raise ValueError(f"a direction has the shape of model.params, {theta.shape}, got {d.shape}")
    return vectors


def _evaluate(model: Model, loss: Loss, data: Any, points: Any) -> np.ndarray:
    """L at each vector of parameters, in inference mode."""
    with model.backend, np.errstate(over="ignore", invalid="ignore"):
        x, t, *w = prepare(model, loss, data, "data", one_class=True)
        x = tuple(model.asarray(e) for e in x) if isinstance(x, tuple) else model.asarray(x)
        t, w = model.asarray(t), [model.asarray(v) for v in w]
        kept, version = model.xp.asarray(model.params, copy=True), model.version

        def at(theta: Array) -> float:
            model.params = theta
            return float(loss(model.predict(x), t, *w)[0])

        try:
            return np.array([[at(theta) for theta in row] for row in points])
        finally:
            model.params = kept
            model.version = version                       # the parameters are the same: a backward pass in hand is still theirs

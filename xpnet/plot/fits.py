"""Regression: what was predicted beside what is true."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..model import Model
from .style import COLOURS, GREY, Array, Axes, colour, numbers, one_axes, same_samples

POINTS = 400                                              # of a curve


def residuals(y: Array, t: Array, ax: Axes = None) -> Axes:
    """y - t against y, for predictions y and targets t: (n,) or (n, k).

    The sign is that of the squared error's gradient, ∂ℓ/∂y = 2(y - t): above 0 the prediction is too large. A good fit leaves no pattern.
    """
    y, t = _outputs(y, t)
    ax = one_axes(ax)
    for j in range(y.shape[1]):
        ax.scatter(y[:, j], y[:, j] - t[:, j], s=12, color=colour(j), alpha=0.7, linewidths=0, label=f"output {j}")
    ax.axhline(0.0, color=GREY, linewidth=1, zorder=0)
    ax.set(xlabel="prediction y", ylabel="residual y - t")
    if y.shape[1] > 1:
        ax.legend()
    return ax


def regression_fit(predict: Any, x: Array, t: Array, ax: Axes = None) -> Axes:
    """The data with the fitted curve for one input, else the predictions against the targets.

    predict  a Model, an object with `predict`, or a function: inputs (m, d) -> outputs (m,) or (m, k)
    x, t     (n,) or (n, d);  (n,) or (n, k). A function is called with inputs (m,) where x is (n,)
    """
    f = _function(predict)
    inputs = numbers(x, "x")
    one = inputs.ndim == 1 or inputs.shape[1:] == (1,)
    if inputs.ndim == 1 and f is not predict:
        inputs = inputs[:, None]                          # what models take
    if not one:
        y, targets = _outputs(f(inputs), t)
        same_samples(x=inputs, t=targets)
        return _predicted_against_true(y, targets, one_axes(ax, (4.2, 4.0)))
    grid = np.linspace(inputs.min(), inputs.max(), POINTS)
    curve, targets = numbers(f(grid.reshape(-1, *inputs.shape[1:])), "the prediction"), numbers(t, "t")
    same_samples(x=inputs, t=targets)
    curve, targets = curve.reshape(len(curve), -1), targets.reshape(len(targets), -1)
    if curve.shape != (POINTS, targets.shape[1]):
        raise ValueError(f"the prediction has shape {curve.shape} for {POINTS} inputs, and t {targets.shape} for {len(targets)}")
    ax = one_axes(ax)
    outputs = targets.shape[1]
    for j in range(outputs):
        name = f" {j}" if outputs > 1 else ""
        ax.scatter(inputs.ravel(), targets[:, j], s=12, color=colour(2 * j), alpha=0.6, linewidths=0, label=f"data{name}")
        ax.plot(grid, curve[:, j], color=colour(2 * j + 3 if outputs == 1 else 2 * j), label=f"fit{name}")
    ax.set(xlabel="x", ylabel="t, y(x)")
    ax.legend()
    return ax


def _predicted_against_true(y: np.ndarray, t: np.ndarray, ax: Axes) -> Axes:
    ends = [min(y.min(), t.min()), max(y.max(), t.max())]
    ax.plot(ends, ends, color=GREY, linewidth=1, label="y = t", zorder=0)
    for j in range(y.shape[1]):
        ax.scatter(t[:, j], y[:, j], s=12, color=COLOURS[j % len(COLOURS)], alpha=0.7, linewidths=0,
                   label=f"output {j}" if y.shape[1] > 1 else "samples")
    ax.set(xlabel="target t", ylabel="prediction y")
    ax.legend()
    return ax


def _function(predict: Any) -> Callable[[np.ndarray], Any]:
    if isinstance(predict, Model) or hasattr(predict, "predict"):
        return predict.predict
    if not callable(predict):
        raise TypeError(f"predict is a Model, an object with predict, or a function of inputs (m, d), got {type(predict).__name__}")
    return predict


def _outputs(y: Array, t: Array) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets as (n, k). Only equal sizes are welcome: (n, 1) - (n,) would broadcast to (n, n)."""
    y, t = numbers(y, "y"), numbers(t, "t")
    same_samples(y=y, t=t)
    if y.size != t.size:
        raise ValueError(f"predictions and targets have the same shape, got y {y.shape} and t {t.shape}")
    return y.reshape(len(y), -1), t.reshape(len(t), -1)

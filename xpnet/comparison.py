"""Parity: one training run made on several backends side by side, and how far they are apart after each step."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .data import batches
from .losses import Loss
from .model import Model
from .optim import Optimizer
from .train import prepare

WHAT = ("loss", "gradient", "parameters")
# What rounding may make of a run: steps amplify it, the more the coarser the dtype. A wrong formula is far above these.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "mixed": 1e-1}


class Difference(NamedTuple):
    """The largest difference between the first backend and another.

    relative  absolute, over the largest |loss|, or entry of the whole vector of gradients or parameters, that the first backend has had so
              far: a gradient that is 0 but for rounding does not count as a difference of 100 %
    absolute  max |a - b|
    step      1 after the first update
    what      "loss", "gradient" or "parameters"
    path      the parameter's, as in `0.W`; empty for the loss
    backend   which of the others it is
    A value that is infinite or NaN on one side only is an infinite difference; on both, it is none.
    """

    relative: float
    absolute: float
    step: int
    what: str
    path: str
    backend: str

    def __str__(self) -> str:
        return f"{self.relative:.1e}" + (f" {self.path}" if self.path else "")


class Row(NamedTuple):
    """One training step: its loss on each backend, and the largest differences after it. The gradient is that of the step, the parameters
    are those it led to."""

    step: int
    losses: dict[str, float]
    loss: Difference
    gradient: Difference
    parameters: Difference


class Parity:
    """What `parity` found. Prints as a table: the first, the worst and the last steps, the worst of each layer, and a verdict.

    rows      a Row for each step
    layers    {parameter path: {"gradient": Difference, "parameters": Difference}}, the worst of all steps
    worst     {"loss": Difference, "gradient": …, "parameters": …}, the worst of all steps and layers
    first     at the first step that has a Difference above the tolerance, the largest that has a path; None where no step has
    """

    def __init__(self, title: str, backends: list[str], dtype: str):
        self.title, self.backends, self.dtype = title, backends, dtype
        self.tolerance = TOLERANCE[dtype]
        self.rows: list[Row] = []
        self.layers: dict[str, dict[str, Difference]] = {}
        self.first: Difference | None = None

    def add(self, step: int, losses: dict[str, float], found: list[Difference]) -> None:
        """Take in all differences of a step."""
        self.rows.append(Row(step, losses, *(_largest(d for d in found if d.what == what) for what in WHAT)))
        for d in found:
            if d.path:
                of_layer = self.layers.setdefault(d.path, {})
                of_layer[d.what] = _largest((of_layer.get(d.what, d), d))
        beyond = [d for d in found if d.relative > self.tolerance]
        if beyond and self.first is None:
            self.first = _largest([d for d in beyond if d.path] or beyond)

    @property
    def worst(self) -> dict[str, Difference]:
        return {what: _largest(getattr(row, what) for row in self.rows) for what in WHAT}

    @property
    def verdict(self) -> str:
        """One sentence: whether the backends agree, and if not, where they first part."""
        if self.first is None:
            largest = _largest(self.worst.values())
            return (f"The backends agree: in {len(self.rows)} steps nothing differs by more than {largest.relative:.1e} "
                    f"({self.dtype}: up to {self.tolerance:g} is rounding).")
        d = self.first
        return (f"The backends differ: {self.backends[0]} and {d.backend} part at step {d.step} in the {d.what}"
                f"{f' of {d.path}' if d.path else ''}, by {d.relative:.1e} ({self.dtype}: up to {self.tolerance:g} is rounding).")

    def __str__(self) -> str:
        picked = {1, len(self.rows), *(d.step for d in self.worst.values())}
        steps: list[tuple[str, ...]] = [("step", *(f"loss on {name}" for name in self.backends), "Δ loss", "Δ gradient", "Δ parameters")]
        steps += [(str(r.step), *(f"{r.losses[name]:.9g}" for name in self.backends), str(r.loss), str(r.gradient), str(r.parameters))
                  for r in self.rows if r.step in picked]
        layers: list[tuple[str, ...]] = [("worst of", "Δ gradient", "at step", "Δ parameters", "at step")]
        layers += [(path, *(v for what in WHAT[1:] for v in (f"{of[what].relative:.1e}", str(of[what].step))))
                   for path, of in self.layers.items()]
        return "\n".join([self.title, "", *_table(steps), "", *_table(layers), "", self.verdict])

    __repr__ = __str__


def parity(model: Model, loss: Loss, optimizer: Optimizer, data: Any, backends: Sequence[Any] = ("numpy", "cupy"), steps: int = 100,
           batch_size: int | None = 32, seed: int | None = None) -> Parity:
    """Train the same network from one seed on each backend, side by side, dropout included; compare after every step.

    model       its network, dtype and seed are used: each backend has a model of its own, and this one is left as it is
    optimizer   a fresh one; each backend has a copy
    data        (x, t) or (x, t, sample weights), host arrays
    backends    two or more, as for Model; the others are compared with the first
    steps       training steps; the data are gone through as often as needed
    batch_size  as for `fit`, and so is seed, of the order of the samples: the model's by default

    Reading a loss, a gradient and parameters at every step waits for the device: this is an instrument, not a way to train.
    Raises BackendError where a backend cannot be used here, ValueError for fewer than two, or an optimizer that has made steps.
    """
    if len(backends) < 2:
        raise ValueError(f"parity compares two or more backends, got {list(backends)}")
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps is a positive integer, got {steps!r}")
    if not isinstance(data, tuple):
        raise TypeError(f"parity takes (x, t) or (x, t, sample weights), got {type(data).__name__}")
    if optimizer.t:
        raise ValueError(f"parity starts from step 1, but this {type(optimizer).__name__} has made {optimizer.t} steps; give a new one")
    if not model.layout.slots:
        raise ValueError("parity compares training, but this network has no parameters")
    models = [Model(model.net, backend, model.precision, model.seed) for backend in backends]
    names = [m.backend.name for m in models]
    if len(set(names)) < len(names):
        raise ValueError(f"parity compares different backends, got {names}")

    order = model.seed if seed is None else seed
    sides = [_train(m, loss, copy.deepcopy(optimizer), data, batch_size, order) for m in models]
    report = Parity(f"{' and '.join(names)}: {model.net!r}, {loss!r}, {optimizer!r}, {model.precision}, {steps} steps", names,
                    model.precision)
    slots = model.layout.slots
    paths, starts = [s.paths[0] for s in slots], [s.start for s in slots]
    scale = dict.fromkeys(WHAT, 0.0)
    for step, states in zip(range(1, steps + 1), zip(*sides)):
        found = []
        for what, ours, *theirs in zip(WHAT, *states):
            scale[what] = max(scale[what], float(np.max(np.abs(ours), where=np.isfinite(ours), initial=0.0)))
            for name, other in zip(names[1:], theirs):
                apart = _distance(ours, other)
                by_path = [("", apart)] if what == "loss" else zip(paths, np.maximum.reduceat(apart, starts))
                found += [_difference(float(d), scale[what], step, what, path, name) for path, d in by_path]
        report.add(step, {name: state[0] for name, state in zip(names, states)}, found)
    return report


def _train(model: Model, loss: Loss, optimizer: Optimizer, data: Any, batch_size: int | None, seed: int) -> Iterator[tuple[Any, ...]]:
    """Training without end; after each step the loss, the gradients and the parameters, on the host."""
    train = batches(prepare(model, loss, data, "data"), batch_size, seed=seed, backend=model.backend)
    while True:
        for x, t, *w in train:
            with model.backend:
                y, backward = model.forward(x)
                value, dy = loss(y, t, *w)
                grads = backward(dy)
                optimizer.step(model, grads)
            yield float(value), model.backend.to_host(grads), model.backend.to_host(model.params)


def _distance(a: Any, b: Any) -> Any:
    """|a - b|, 0 where both are the same infinity or NaN, and ∞ where only one of them is."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        d = np.abs(a - b)
    return np.where((a == b) | np.isnan(a) & np.isnan(b), 0.0, np.where(np.isnan(d), np.inf, d))


def _difference(absolute: float, scale: float, *where: Any) -> Difference:
    relative = 0.0 if absolute == 0.0 else absolute / scale if scale else np.inf
    return Difference(relative, absolute, *where)


def _largest(differences: Any) -> Difference:
    """The one with the largest relative difference; the first of equals."""
    return max(differences, key=lambda d: d.relative)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]

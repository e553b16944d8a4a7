"""Finite differences of whatever depends on one array."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..layer import Layer, flatten
from .arrays import host, largest, replaced, swapped
from .calls import Call, Runner, Step

EPS = 2.0 ** -52
STEP = EPS ** (1.0 / 3.0)
SHRINK = 64.0                                             # how much smaller the second step is
ROUNDING = 4.0                                            # an output's rounding error is taken to be below this times ε
RIGHT = 1e-7


class Place(NamedTuple):
    """An array that is varied, the outputs that depend on it, the dy that weighs them, and the gradient that backward gave."""

    name: str
    value: np.ndarray
    gradient: np.ndarray | None
    dy: list[np.ndarray]
    vary: Callable[[np.ndarray], tuple[Any, ...]]         # another value -> what the layer or the loss is then given
    outputs: Callable[..., list[np.ndarray]]              # of what it is given
    steps: Callable[..., list[Step]]                      # the same, with what led to them
    leaf: bool                                            # whether the outputs are those of one innermost layer
    by_entry: bool                                        # or by directions first
    size: float = 0.0                                     # ⟨|y|, |dy|⟩ of numbers inside that are larger than the outputs

    def at(self, v: np.ndarray, h: float) -> list[np.ndarray]:
        """The outputs, h along v."""
        return self.outputs(*self.vary(self.value + h * v))

    def unit(self, i: int) -> tuple[np.ndarray, float]:
        """The direction of entry i, and its step."""
        v = np.zeros(self.value.size)
        v[i] = 1.0
        return np.reshape(v, self.value.shape), step(abs(float(self.value.flat[i])))

    def terms(self, v: np.ndarray, h: float) -> list[tuple[np.ndarray, float]]:
        """dy ⊙ ∂y/∂v by a central difference, and the rounding error of their sum, for each output array. The subtraction comes
        first: outputs that v does not reach cancel exactly. One that does not change may hide a change in its last bit.
        """
        return [((p - m) * d / (2.0 * h), EPS * largest(p) * float(np.linalg.norm(d * np.where(p == m, 1.0, ROUNDING))) / h)
                for p, m, d in zip(self.at(v, h), self.at(v, -h), self.dy)]

    def slope(self, v: np.ndarray, h: float) -> tuple[float, float]:
        """n along v, and its rounding error."""
        terms = self.terms(v, h)
        return sum(float(np.sum(e)) for e, _ in terms), math.hypot(EPS * ROUNDING * self.size / h, *(r for _, r in terms))

    def hull(self, v: np.ndarray, h: float) -> tuple[float, float]:
        """The least and the most that n along v can be, where each output takes either of its one-sided slopes."""
        sides = [((y - m) * d / h, (p - y) * d / h) for p, y, m, d in zip(self.at(v, h), self.at(v, 0.0), self.at(v, -h), self.dy)]
        return (sum(float(np.sum(np.minimum(*both))) for both in sides), sum(float(np.sum(np.maximum(*both))) for both in sides))

    def kink(self, v: np.ndarray, h: float) -> str:
        """In words, the first layer with an output that bends here, along v: its one-sided slopes stay apart as h shrinks."""
        small = h / SHRINK
        at = {s: self.steps(*self.vary(self.value + s * v)) for s in (0.0, h, -h, small, -small)}
        for i, (path, layer, outputs) in enumerate(at[0.0]):
            for j, y in enumerate(outputs):
                wide, narrow = (np.abs(at[s][i][2][j] - 2.0 * y + at[-s][i][2][j]) / s for s in (h, small))
                bends = (narrow > 2.0 * wide / SHRINK) & (narrow > 16.0 * ROUNDING * EPS * largest(y) / small)
                if np.any(bends):
                    unit = tuple(int(k[0]) for k in np.nonzero(np.atleast_1d(bends)))
                    return _kink_words(path, layer, unit if y.ndim else ())
        return ""

    def compare(self, v: np.ndarray, h: float, a: float) -> tuple[float, str]:
        """The relative error of a along v; or, in words, the kink that x sits on."""
        n, rounding = self.slope(v, h)
        if _error(a, n, rounding) < RIGHT:
            return _error(a, n, rounding), ""
        small = h / SHRINK
        low, high = self.hull(v, small)
        if (kink := self.kink(v, h)) and not self.leaf:   # many units may bend at once, and each layer was judged by itself
            return math.nan, kink
        finer, rounding_finer = self.slope(v, small)
        slack = rounding_finer + 1e-6 * max(abs(low), abs(high))
        if kink and low - slack <= a <= high + slack:
            return math.nan, kink
        # Where the two steps differ there is a kink between them, or a large third derivative: the smaller step is right.
        if abs(finer - n) > rounding_finer:
            n, rounding, h = finer, rounding_finer, small
        # Where f' is 0, at the minimum of a loss, two more errors count, by f'' = (high - low)/h: x ± h is rounded, by up to ε|x|,
        # and the h² f'''/6 that is left out is of the order of h² f''.
        curvature = (high - low) / small
        return _error(a, n, rounding + curvature * (EPS * largest(self.value) + h * h)), ""


def step(size: float) -> float:
    """The step for numbers of this size."""
    return STEP * math.sqrt(max(1.0, size))


def _error(a: float, n: float, rounding: float) -> float:
    return 0.0 if a == n else abs(a - n) / max(abs(a) + abs(n), rounding / RIGHT)


def _kink_words(path: str, layer: Any, unit: tuple[int, ...]) -> str:
    children = layer.children().values() if isinstance(layer, Layer) else ()
    declared = next((a for a in (layer, *children) if getattr(a, "kinks", ())), None)
    found = f"this point sits on a kink of {declared!r}" if declared else f"probably a kink or a jump of {layer!r}"
    return found + (f" in layer {path}" if path else "") + (f", unit {unit}" if unit else "")


def places(runner: Runner, call: Call) -> Iterator[Place]:
    """A layer's parameters, its own and those of its children, and its inputs."""
    leaf = not call.holds

    def outputs(params: dict[str, Any], xs: list[np.ndarray]) -> list[np.ndarray]:
        return runner.forward(call, params, xs)

    def steps(params: dict[str, Any], xs: list[np.ndarray]) -> list[Step]:
        return runner.retrace(call, params, xs)[0]

    def at_param(name: str) -> Callable[[np.ndarray], tuple[Any, ...]]:
        return lambda v: (replaced(call.params, name, runner.array(v)), call.x)

    for name, p in flatten(call.params, host).items():
        yield Place(name, p, call.grads.get(name), call.dy, at_param(name), outputs, steps, leaf, by_entry=leaf or "." not in name)
    if call.input_grad:
        for i, x in inputs(call):
            yield Place(call.x_name(i), x, call.dx[i] if i < len(call.dx) else None, call.dy, at_input(call, i), outputs, steps,
                        leaf, by_entry=leaf)


def inputs(call: Call) -> list[tuple[int, np.ndarray]]:
    """The inputs that are differentiated, numbered: those of floating numbers."""
    return [(i, x) for i, x in enumerate(call.x) if x.dtype.kind == "f"]


def at_input(call: Call, i: int) -> Callable[[np.ndarray], tuple[Any, ...]]:
    """What the layer is given where input i has another value."""
    return lambda v: (call.params, swapped(call.x, i, v))

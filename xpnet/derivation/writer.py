"""Lines, written in either notation, with the finite difference beside a gradient."""

import ast
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..gradcheck.differences import Place
from .explanation import Check, Line
from .expression import columns, parse, transposed
from .symbols import Symbol
from .values import Value

CHECKED = 64                                              # entries up to which all of a gradient are compared
SOME = 8                                                  # of a larger one so many, the largest


class Writer:
    """notation     "rows" or "columns"
    most         how many numbers an array may have that is shown whole
    checks       whether gradients are compared with finite differences
    per_sample   n, where gradients of activations are shown as those of each sample's own loss (columns, and a mean over n), else 1
    parameters   the letters of the network's parameters, whose gradients stay those of L
    """

    def __init__(self, notation: str, most: int, checks: bool, per_sample: int, parameters: Iterable[str]):
        self.notation, self.most, self.checks, self.per_sample = notation, most, checks, per_sample
        self.parameters = set(parameters)

    def line(self, result: str, text: str, symbols: dict[str, Symbol], inputs: dict[str, Any], value: Any, own: bool = False,
             apart: float = 0.0, note: str = "", check: Check | None = None) -> Line:
        """A Line from the arrays of the rows notation, in the notation asked for."""
        if self.notation == "columns":
            if text:
                text, inputs, symbols = self.turned(result, text, inputs, symbols)
            inputs = {name: self.turn(a, symbols[name]) for name, a in inputs.items()}
            value = self.turn(value, symbols[result])
            symbols = {name: s._replace(grad="ℓ") if self.is_delta(s) and self.per_sample > 1 else s for name, s in symbols.items()}
        return Line(result, text, symbols, {name: Value.of(a, self.most) for name, a in inputs.items()}, Value.of(value, self.most), own,
                    apart, check, note)

    def turned(self, result: str, text: str, inputs: dict[str, Any],
               symbols: dict[str, Symbol]) -> tuple[str, dict[str, Any], dict[str, Symbol]]:
        """The formula in columns: the transpose; and where it goes from the samples' own losses to their mean, 1/n."""
        tree = transposed(parse(text), {name: np.ndim(a) for name, a in inputs.items()})
        text = ast.unparse(ast.fix_missing_locations(tree))
        s = symbols[result]
        if self.per_sample > 1 and s.grad and not self.is_delta(s) and any(self.is_delta(symbols[name]) for name in inputs):
            is_sum = isinstance(tree, ast.BinOp) and isinstance(tree.op, (ast.Add, ast.Sub))
            return f"1 / n * {f'({text})' if is_sum else text}", {"n": self.per_sample, **inputs}, {"n": Symbol("n"), **symbols}
        return text, inputs, symbols

    def turn(self, a: Any, symbol: Symbol) -> np.ndarray:
        return columns(np.asarray(a) * self.per_sample if self.is_delta(symbol) and self.per_sample > 1 else a)

    def is_delta(self, symbol: Symbol) -> bool:
        """Is it the gradient of an activation, not of a parameter?"""
        return bool(symbol.grad) and symbol.letter not in self.parameters

    def check(self, place: Place, symbol: Symbol) -> Check | None:
        """The finite differences of a gradient, entry by entry; of a large one the largest entries only."""
        a = place.gradient
        if not self.checks or a is None or a.shape != place.value.shape or not np.all(np.isfinite(a)):
            return None
        order = np.arange(a.size) if a.size <= CHECKED else np.sort(np.argsort(-np.abs(np.reshape(a, (-1,))))[:SOME])
        numeric, errors, note = np.full(a.size, np.nan), [], ""
        for i in map(int, order):
            v, h = place.unit(i)
            numeric[i] = place.slope(v, h)[0]
            error, kink = place.compare(v, h, float(a.flat[i]))
            note = note or kink
            if not kink:
                errors.append(error)
        whole = len(order) == a.size <= self.most
        numeric = np.reshape(numeric, a.shape)
        shown = Value.of(self.turn(numeric, symbol) if self.notation == "columns" else numeric, self.most) if whole else None
        return Check(shown, max(errors, default=0.0), len(errors), note)


def apart(a: np.ndarray, b: np.ndarray, inputs: Iterable[Any] = ()) -> float:
    """The largest difference, relative to the largest number, or to a thousandth of the largest that went into the layer: where terms
    cancel, only rounding is left. 0 where NaN and infinities agree.
    """
    if a.shape != b.shape:
        return float("inf")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if np.all(same):
        return 0.0
    with np.errstate(all="ignore"):
        d = np.max(np.abs(np.where(same, 0.0, a - b)))
        size = max((1e-3 * _largest(i) for i in inputs), default=0.0)
        return float(d / max(_largest(b), size, 1e-300)) if np.isfinite(d) else float("inf")


def _largest(a: Any) -> float:
    a = np.asarray(a, dtype=np.float64)
    return float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))

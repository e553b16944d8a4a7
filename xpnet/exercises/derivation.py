"""Worked solutions: what `explain` derives of a network, and plain chains of formulas, evaluated by the same means."""

import ast
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..derivation import Explanation, Formulas, Line, Step, explain, loss_formulas
from ..derivation.display import Node, display
from ..derivation.expression import evaluate, names, parse
from ..derivation.symbols import Symbol
from ..derivation.values import Value
from ..layer import Layer, Param
from ..layers import Identity
from ..losses import Loss
from ..model import Model

MOST = 100                                                # numbers of an array that is shown


def symbol(name: str) -> Symbol:
    """W_0 is W⁽⁰⁾, of layer 0; dW is ∂L/∂W, and dz is δ."""
    if name.startswith("d") and len(name) > 1 and not name[1].isdigit():
        return symbol(name[1:]).gradient()
    letter, _, path = name.rpartition("_")
    return Symbol(letter, path) if letter and path.isdigit() else Symbol(name)


class Derivation:
    """Formulas, one after the other: Derivation({"x": -2, "y": 5, "z": -4}, "q = x + y", "f = q * z")["f"] is -12.

    notes: a sentence to a result
    """

    def __init__(self, given: Mapping[str, Any], *formulas: str, notes: Mapping[str, str] | None = None, title: str = ""):
        self.values = {name: np.asarray(v) for name, v in given.items()}
        self.title, self.lines = title, []
        for formula in formulas:
            result, _, text = formula.partition(" = ")
            tree = parse(text)
            value = np.asarray(evaluate(tree, self.values))
            inputs = {n: Value.of(self.values[n], MOST) for n in names(tree)}
            symbols = {n: symbol(n) for n in (result, *inputs)}
            self.lines.append(Line(result, text, symbols, inputs, Value.of(value, MOST), note=(notes or {}).get(result, "")))
            self.values[result] = value

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    @property
    def steps(self) -> list[Step]:
        return [Step("", "", "", self.title, self.lines)]


def formula_node(text: str) -> Node:
    """A formula as it is seen in a question: `z = x @ W + b`; sides are parted by = or ←. A letter of Greek is one number, any other
    lower-case letter in a product an array."""
    parts = re.split(r" (=|←|,) ", text)
    row: list[Node] = []
    for i, part in enumerate(parts):
        row.append(("op", part) if i % 2 else display(ast.parse(part, mode="eval").body, lambda name: ("sym", symbol(name)), _NUMBERS))
    return ("row", row) if len(row) > 1 else row[0]


_NUMBERS: Mapping[str, int] = dict.fromkeys(
    ("η", "λ", "β", "β1", "β2", "μ", "γ", "ε", "n", "k", "d", "h", "c", "p", "T", "L", "lr", "lam", "N"), 0)


# What comes back from above is given: the loss is the linear one that has just this gradient.

class Upstream(Loss):
    """L = Σ t ⊙ y, so that ∂L/∂y = t: the gradient that comes from the layers behind, given by itself."""

    def value_and_grad(self, xp: Any, y: Any, t: Any, weights: Any) -> tuple[Any, Any]:
        return xp.sum(y * t), xp.asarray(t, copy=True)


@loss_formulas(Upstream)
def _upstream(loss: Any, y: Any, t: Any, weights: Any) -> Formulas:
    return Formulas([("L", "total(t * y)")], [("dy", "t")])


class Parameters(Layer):
    """A layer that is nothing but its parameter w: y = w + x. With x = 0 and Upstream the gradient of w is what is given."""

    def __init__(self, w: np.ndarray):
        self.w = Param(w.shape, w)

    def params(self) -> dict[str, Param]:
        return {"w": self.w}

    def forward(self, params: dict[str, Any], x: Any, ctx: Any) -> tuple[Any, Any]:
        return params["w"] + x, lambda dy, input_grad=True: (dy if input_grad else None, {"w": 1.0 * dy})


def model_of(net: Layer, seed: int = 0) -> Model:
    """On NumPy and in float64, whatever the default: a sheet is the same everywhere."""
    return Model(net, "numpy", "float64", seed)


class Worked:
    """What `explain` derives, and its numbers by the symbol of the result: Worked(e)["∂L/∂W⁽⁰⁾"].

    letters  other letters for the network's input x and output a
    """

    def __init__(self, e: Explanation, **letters: str):
        self.explanation, self.steps, self.loss = e, e.steps, e.loss
        for line in e.lines():
            line.names = {name: _renamed(s, letters) for name, s in line.names.items()}

    def __getitem__(self, symbol: str) -> np.ndarray:
        """The number of the first line with this result."""
        return _array(self.explanation.find(symbol).value)

    def new(self, symbol: str) -> np.ndarray:
        """What the update makes of it; of several lines the last."""
        return _array([line for line in self.explanation.lines("update") if line.symbol.text == symbol][-1].value)

    def read(self, symbol: str, name: str, phase: str | None = None) -> np.ndarray:
        """A number that the line of this result reads, by its local name."""
        return _array(self.explanation.find(symbol, phase).inputs[name])

    def shape(self, symbol: str) -> tuple[int, ...]:
        return self.explanation.find(symbol).value.shape


def _renamed(s: Symbol, letters: Mapping[str, str]) -> Symbol:
    if s.path == "w":                                     # a lone parameter needs no superscript
        return s._replace(path="")
    return s if s.path else s._replace(letter=letters.get(s.letter, s.letter))


def _array(v: Value) -> np.ndarray:
    assert v.array is not None
    return v.array


def explained(net: Layer | Model, x: Any, dy: Any, letter: str = "y", **options: Any) -> Worked:
    """The derivation of a layer with ∂L/∂output given. The output of a layer that is no affine map is called y, or `letter`."""
    return Worked(explain(net if isinstance(net, Model) else model_of(net), Upstream(), x, dy, **options), a=letter)


def loss_explained(loss: Loss, y: Any, t: Any, letter: str = "y") -> Worked:
    """The derivation of a loss alone; the prediction is called `letter`."""
    return Worked(explain(model_of(Identity()), loss, y, t), a=letter)


def update_of(model: Model, g: np.ndarray, optimizer: Any) -> Worked:
    """The derivation of one step of the optimizer on a model of Parameters with the gradient g; then the step itself is made."""
    x = np.zeros_like(g)
    e = explained(model, x, g, optimizer=optimizer, checks=False)
    _, backward = model.forward(x)
    optimizer.step(model, backward(g))
    return e

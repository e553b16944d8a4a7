"""What an explanation is made of: steps of lines, each a formula with its numbers. Plain data, which JSON holds without loss."""

import ast
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from .boxes import box
from .display import Node, display
from .expression import evaluate, parse
from .latex import latex
from .mathml import mathml
from .symbols import Symbol
from .values import Value
from .written import Written

FORMAT = 1
FILLED = 36                                               # more numbers than this are not written into a formula


@dataclass
class Check:
    """The finite difference beside a gradient.

    value    (f(x + h) - f(x - h)) / 2h for every entry; None where only some were compared
    error    the largest relative error
    entries  how many entries were compared
    note     of entries that were left out, since the function has a kink there
    """

    value: Value | None
    error: float
    entries: int
    note: str = ""

    @property
    def words(self) -> str:
        if not self.entries:
            return f"no finite difference: {self.note}" if self.note else "nothing to compare"
        verdict = "agrees" if self.error < 1e-7 else "close" if self.error < 1e-4 else "DIFFERS"
        some = "" if self.value is not None else f" in {self.entries} entries"
        return f"finite difference {verdict}{some}, relative error {self.error:.0e}" + (f"; {self.note}" if self.note else "")


@dataclass
class Line:
    """result = formula, with the numbers.

    result, expression  a name and a formula (xpnet/derivation/expression.py) in the local names; expression is empty where a layer has none
    names               what the local names stand for
    inputs              the numbers that the formula reads, by local name
    value               the result: the layer's own where the layer gives it
    own                 whether it is the layer's own; then `apart` is how far the formula is from it, relative
    check               the finite difference beside a gradient
    """

    result: str
    expression: str
    names: dict[str, Symbol]
    inputs: dict[str, Value]
    value: Value
    own: bool = False
    apart: float = 0.0
    check: Check | None = None
    note: str = ""

    @property
    def symbol(self) -> Symbol:
        return self.names[self.result]

    @property
    def tree(self) -> ast.expr:
        return parse(self.expression)

    @property
    def _ndim(self) -> dict[str, int]:
        return {name: v.ndim for name, v in self.inputs.items()}

    @property
    def sign(self) -> str:
        """←, where a name is given a new value, else =."""
        return "←" if self.result in self.inputs else "="

    def formula(self) -> Node:
        """result = formula, in symbols."""
        right: Node
        if not self.expression:
            read: list[Node] = [("sym", self.names[name]) for name in self.inputs]
            if not read:
                right = _number(self.value)
            elif self.symbol.grad and not read[0][1].grad:   # of a loss, whose formula is not known
                right = ("fn", "f′", read)
            elif self.symbol.grad:                        # ∂L/∂v = (∂y/∂v)ᵀ ∂L/∂y
                above = ("row", [("op", "∂"), ("sym", read[0][1]._replace(grad="", via=None))])
                below = ("row", [("op", "∂"), ("sym", self.symbol._replace(grad="", via=None))])
                right = ("row", [("T", ("fence", "(", ("frac", above, below))), ("op", " "), read[0]])
            else:
                right = ("fn", "f", read)
        else:
            right = display(self.tree, lambda name: ("sym", self.names[name]), self._ndim)
        return ("row", [("sym", self.symbol), ("op", self.sign), right])

    def filled(self) -> Node | None:
        """The formula with the numbers in the places of the symbols, = the result; None where they are too many."""
        values = [*self.inputs.values(), self.value]
        if not self.expression or any(v.array is None or v.ndim > 2 for v in values) or sum(_size(v) for v in values) > FILLED:
            return None
        right = display(self.tree, lambda name: _number(self.inputs[name]), self._ndim)
        return ("row", [right, ("op", "="), _number(self.value)])

    def evaluate(self, notation: str = "rows") -> Any:
        """The formula once more, from the numbers that are shown."""
        return evaluate(self.tree, {name: v.array for name, v in self.inputs.items()}, notation)


def _size(v: Value) -> int:
    return int(np.prod(v.shape))


def _number(v: Value) -> Node:
    return ("num", v.array.item()) if v.ndim == 0 and v.array is not None else ("mat", v.array)


@dataclass
class Step:
    """One layer's part, forward or backward; the loss; a parameter's update; what came of it.

    phase  "forward", "loss", "backward", "update" or "after"
    path   of the layer, or of the parameter
    layer  as it is written
    title  in words
    """

    phase: str
    path: str
    layer: str
    title: str
    lines: list[Line] = field(default_factory=list)
    note: str = ""


@dataclass
class Explanation(Written):
    """One training step, derived with its numbers.

    str(e), e.text(digits)   text in two dimensions        e.print(digits)     the same with colours, where rich is installed
    e.markdown(digits)       Markdown with LaTeX           e.html(digits)      a page of its own, with a stepper
    e.json(), Explanation.from_json(text)                  e.save("step.html") any of the four, by the ending

    notation     "rows" or "columns"
    steps        in the order of the computation
    loss         L before the step; `after` is L after it, `sequential` what L would be with the famous mistake: each layer updated before
                 the gradient has passed through it. None where that is not defined
    """

    network: str
    loss_fn: str
    optimizer: str
    notation: str
    steps: list[Step]
    loss: float
    after: float | None = None
    sequential: float | None = None
    notes: list[str] = field(default_factory=list)

    forms: ClassVar[dict[str, str]] = {**Written.forms, ".json": "json"}

    def lines(self, phase: str | None = None) -> list[Line]:
        return [line for step in self.steps if phase in (None, step.phase) for line in step.lines]

    def find(self, symbol: str, phase: str | None = None) -> Line:
        """The line of a result, by its symbol in text, such as "δ⁽⁰⁾" or "∂L/∂W⁽⁰⁾"."""
        for line in self.lines(phase):
            if line.symbol.text == symbol:
                return line
        from ..errors import unknown

        raise unknown("symbol", symbol, {line.symbol.text for line in self.lines(phase)})

    def __getitem__(self, symbol: str) -> np.ndarray | None:
        """The value of a result, by its symbol in text."""
        return self.find(symbol).value.array

    # As text, Markdown, JSON and a page.

    def text(self, digits: int = 6) -> str:
        from .text import text

        return text(self, digits)

    def print(self, digits: int = 6) -> None:
        from .text import print_rich

        print_rich(self, digits)

    def markdown(self, digits: int = 6) -> str:
        from .markdown import markdown

        return markdown(self, digits)

    def html(self, digits: int = 6) -> str:
        from .page import page

        return page(self, digits)

    def json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def __repr__(self) -> str:
        return f"<Explanation of {self.network}: {len(self.steps)} steps, L = {self.loss:.6g}>"

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "network": self.network, "loss_fn": self.loss_fn, "optimizer": self.optimizer, "notation": self.notation,
                "loss": _float(self.loss), "after": _float(self.after), "sequential": _float(self.sequential), "notes": self.notes,
                "steps": [_step(s) for s in self.steps]}

    @classmethod
    def from_json(cls, text: str) -> "Explanation":
        """The explanation that `json` wrote; ValueError for any other text."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}")
            after, sequential = (None if data[n] is None else float(data[n]) for n in ("after", "sequential"))
            return cls(data["network"], data["loss_fn"], data["optimizer"], data["notation"], [_to_step(s) for s in data["steps"]],
                       float(data["loss"]), after, sequential, data["notes"])
        except (ValueError, KeyError, TypeError) as e:
            raise ValueError(f"not an explanation in format {FORMAT} of Explanation.json ({type(e).__name__}: {e})") from None


def _float(value: float | None) -> Any:
    return value if value is None or np.isfinite(value) else str(value)


def _step(step: Step) -> dict[str, Any]:
    return {"phase": step.phase, "path": step.path, "layer": step.layer, "title": step.title, "note": step.note,
            "lines": [_line(line) for line in step.lines]}


def _line(line: Line) -> dict[str, Any]:
    check = line.check and {"value": line.check.value and line.check.value.to_json(), "error": _float(line.check.error),
                            "entries": line.check.entries, "note": line.check.note}
    return {"result": line.result, "expression": line.expression, "names": {name: list(s) for name, s in line.names.items()},
            "inputs": {name: v.to_json() for name, v in line.inputs.items()}, "value": line.value.to_json(), "own": line.own,
            "apart": _float(line.apart), "check": check, "note": line.note}


def _to_step(data: dict[str, Any]) -> Step:
    return Step(data["phase"], data["path"], data["layer"], data["title"], [_to_line(line) for line in data["lines"]], data["note"])


def _to_line(data: dict[str, Any]) -> Line:
    c = data["check"]
    check = c and Check(c["value"] and Value.from_json(c["value"]), float(c["error"]), c["entries"], c["note"])
    return Line(data["result"], data["expression"], {name: Symbol(*s) for name, s in data["names"].items()},
                {name: Value.from_json(v) for name, v in data["inputs"].items()}, Value.from_json(data["value"]), data["own"],
                float(data["apart"]), check, data["note"])


__all__ = ["Check", "Explanation", "Line", "Step", "box", "latex", "mathml"]

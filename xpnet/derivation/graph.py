"""The network as it is drawn: units in columns, the arrays that give each its numbers, and how a gradient comes from unit to unit.

It is read off an explanation's own lines, so it holds no numbers but the slopes: where one is shown, a reference says where it stands,
[step, line, name of an input] or [step, line, null] for the result.
"""

import ast
from typing import Any

import numpy as np

from .display import display
from .explanation import Explanation, Line
from .expression import evaluate
from .mathml import mathml
from .symbols import Symbol

UNITS = 10                                                # of a layer with more, the first SHOWN are drawn
SHOWN = 3
Ref = list[Any]


def graph(e: Explanation, digits: int = 6) -> dict[str, Any]:
    """What the page draws: nodes (one a layer's part in the forward pass), links between them, slopes and formulas of single entries."""
    return _Graph(e, digits).made()


class _Graph:
    def __init__(self, e: Explanation, digits: int):
        self.e, self.digits, self.columns = e, digits, e.notation == "columns"
        self.nodes: list[dict[str, Any]] = []
        self.links: list[dict[str, Any]] = []
        self.by_symbol: dict[tuple[str, str], int] = {}   # the node that gives an array
        self.samples = 1

    def made(self) -> dict[str, Any]:
        for i, step in enumerate(self.e.steps):
            if step.phase == "forward" and step.lines:
                self.layer(i)
        if self.nodes:
            self.samples = max((self.size(self.array(n["value"]).shape)[0] for n in self.nodes), default=1)
        self.loss()
        shown = self.samples if self.whole() else min(self.samples, SHOWN)
        return {"columns": self.columns, "samples": self.samples, "shown": shown, "perSample": self.per_sample(), "nodes": self.nodes,
                "links": self.links, "slopes": self.slopes(), "entries": self.entries()}

    # References.

    def array(self, ref: Ref) -> Any:
        line = self.e.steps[ref[0]].lines[ref[1]]
        return line.value if ref[2] is None else line.inputs[ref[2]]

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(samples, units); no units where it is not a matrix."""
        if len(shape) != 2:
            return (shape[0] if shape and not self.columns else 1), 0
        return (shape[1], shape[0]) if self.columns else (shape[0], shape[1])

    def whole(self) -> bool:
        """Is every sample of every array kept?"""
        return all(self.array(n["value"]).array is not None for n in self.nodes if n["units"])

    def per_sample(self) -> int:
        """n where δ is of each sample's own loss ℓ, and the mean over the n samples is taken at the parameters' gradients, else 1."""
        return self.samples if any(s.grad == "ℓ" for line in self.e.lines() for s in line.names.values()) else 1

    def results(self, phases: tuple[str, ...]) -> Any:
        """(reference, line) of each result."""
        return ((([i, j, None]), line) for i, step in enumerate(self.e.steps) if step.phase in phases for j, line in enumerate(step.lines))

    def result(self, phases: tuple[str, ...], symbol: Symbol, path: str | None = None) -> Ref | None:
        """Where the gradient of a symbol stands, of a step of this path where one is given."""
        for ref, line in self.results(phases):
            s = line.symbol
            if (s.letter, s.path, bool(s.grad), s.via) == (symbol.letter, symbol.path, bool(symbol.grad), symbol.via) \
                    and path in (None, self.e.steps[ref[0]].path):
                return ref
        return None

    def gradient(self, s: Symbol) -> Ref | None:
        return self.result(("loss", "backward"), s.gradient())

    # Nodes and links.

    def node(self, kind: str, step: int, label: str, value: Ref, symbol: Symbol, depth: int, **more: Any) -> int:
        _, units = self.size(self.array(value).shape)
        self.nodes.append({"kind": kind, "step": step, "label": label, "value": value, "symbol": list(symbol), "depth": depth,
                           "units": units, "drawn": units if units <= UNITS else SHOWN, "shape": list(self.array(value).shape),
                           "gradient": self.gradient(symbol), "path": self.e.steps[step].path, **more})
        self.by_symbol[symbol.letter, symbol.path] = len(self.nodes) - 1
        return len(self.nodes) - 1

    def layer(self, i: int) -> None:
        step = self.e.steps[i]
        inside = {(line.symbol.letter, line.symbol.path) for line in step.lines}
        sources: dict[int, Ref] = {}                      # the nodes that it reads, and where
        affine = None
        for j, line in enumerate(step.lines):
            found = _affine(line) if affine is None else None
            for name in line.inputs:
                s = line.names[name]
                key = (s.letter, s.path)
                if key in inside:
                    continue
                if key not in self.by_symbol and s.letter.rstrip("0123456789") == "x" and not s.path:
                    self.node("input", i, s.text, [i, j, name], s, 0, inputOf=i)
                if key in self.by_symbol:
                    sources.setdefault(self.by_symbol[key], [i, j, name])
            if found and any(line.names[name].path == step.path and (line.names[name].letter, step.path) not in inside for name in found):
                affine = j, found
        depth = 1 + max((self.nodes[s]["depth"] for s in sources), default=max((n["depth"] for n in self.nodes), default=-1))
        last = step.lines[-1]
        mixes = any(f"{name}(" in line.expression for line in step.lines for name in ("sum_k", "max_k", "norm"))
        kind = "dense" if affine else "box"
        more: dict[str, Any] = {}
        if affine:
            line = step.lines[affine[0]]
            if line is not last:
                more = {"z": [i, affine[0], None], "zSymbol": list(line.symbol), "zGradient": self.gradient(line.symbol)}
        me = self.node(kind, i, step.layer.partition("(")[0], [i, len(step.lines) - 1, None], last.symbol, depth, mixes=mixes, **more)
        if not sources and me:
            self.links.append({"from": me - 1, "to": me, "kind": "all"})
        offset = 0
        for source in sources:
            self.links.append(self.link(source, me, step.lines, affine, sources[source], offset))
            offset += self.nodes[source]["units"]

    def link(self, source: int, me: int, lines: list[Line], affine: Any, read: Ref, offset: int) -> dict[str, Any]:
        a, b = self.nodes[source], self.nodes[me]
        made: dict[str, Any] = {"from": source, "to": me, "kind": "all"}
        if affine and read[1] == affine[0] and a["units"] and b["units"]:
            made |= {"kind": "dense", "path": b["path"], "x": read, **self.weights(read[0], affine, read[2])}
        elif "concat(" in lines[-1].expression and a["units"] and b["units"]:
            made |= {"kind": "units", "offset": offset}
        elif a["units"] and a["units"] == b["units"]:
            made |= {"kind": "units", "offset": 0}
        return made

    def weights(self, i: int, affine: Any, x: str) -> dict[str, Any]:
        """Everything that following one weight needs of its layer."""
        j, pair = affine
        line, path = self.e.steps[i].lines[j], self.e.steps[i].path
        W = pair[0] if pair[1] == x else pair[1]
        b = next((n for n in line.inputs if n not in (W, x)), None)
        made: dict[str, Any] = {"W": [i, j, W], "z": [i, j, None], "b": None if b is None else [i, j, b]}
        for name, local in (("dW", W), ("db", b)):
            ref = local and self.result(("backward",), line.names[local].gradient(), path)
            made[name] = ref
            if ref:
                deltas = [s for s in _gradients(self.e.steps[ref[0]].lines[ref[1]]) if s.path == line.symbol.path]
                made["delta"] = next((s.text for s in deltas), None)
            made[name.replace("d", "new")] = local and self.update(line.names[local])
        return made

    def update(self, parameter: Symbol) -> int | None:
        """The step that updates a parameter, which may be known there by the path of another of its uses."""
        for i, step in enumerate(self.e.steps):
            if step.phase == "update" and any((s.letter, s.path) == (parameter.letter, parameter.path)
                                              for line in step.lines for s in line.names.values()):
                return i
        return None

    def loss(self) -> None:
        steps = [i for i, s in enumerate(self.e.steps) if s.phase == "loss"]
        if not steps or not self.nodes:
            return
        i = steps[0]
        step = self.e.steps[i]
        value = next(([i, j, None] for j, line in enumerate(step.lines) if line.symbol.letter == "L" and not line.symbol.grad), None)
        if value is None:
            return
        target = next(([i, j, name] for j, line in enumerate(step.lines) for name in line.inputs if line.names[name].letter == "t"), None)
        last = len(self.nodes) - 1
        depth = 1 + max(n["depth"] for n in self.nodes)
        self.nodes.append({"kind": "loss", "step": i, "label": step.layer.partition("(")[0], "value": value, "symbol": list(Symbol("L")),
                           "depth": depth, "units": 0, "drawn": 0, "shape": [], "gradient": None, "path": "", "target": target})
        self.links.append({"from": last, "to": last + 1, "kind": "all"})

    # How gradients come from unit to unit.

    def slopes(self) -> list[dict[str, Any]]:
        """For each gradient of an array: the gradients that it comes from, and by how much each of their units moves each of its own.

        A backward rule is linear in the gradient that comes in, so its slope is the rule at a gradient that is 1 at one unit, else 0.
        """
        made = []
        for ref, line in self.results(("loss", "backward")):
            samples, units = self.size(line.value.shape)
            s = line.symbol
            if not s.grad or not units or samples != self.samples or self.is_parameter(s):
                continue
            read = [n for n in line.inputs if line.names[n].grad]
            row: dict[str, Any] = {"key": s.text, "symbol": list(s), "value": ref,
                                   "entrywise": bool(line.expression) and _entrywise(line), "from": []}
            if self.e.steps[ref[0]].phase == "backward":
                slopes = self.slope(line, read)
                row["from"] = [{"key": line.names[n].text, "slope": slopes and slopes[n], "read": line.inputs[n]} for n in read]
            made.append(row)
        known = {row["key"]: self.array(row["value"]) for row in made}
        for source in (source for row in made for source in row["from"]):
            if source.pop("read") != known.get(source["key"]):
                source["slope"] = None                    # of another array of this name, or of one that is no matrix of samples
        return made

    def is_parameter(self, s: Symbol) -> bool:
        """A gradient of a parameter: nothing gave the array in the forward pass."""
        key = (s.letter, s.path)
        inner = {(line.symbol.letter, line.symbol.path) for line in self.e.lines("forward")}
        return key not in self.by_symbol and key not in inner

    def slope(self, line: Line, read: list[str]) -> dict[str, Any] | None:
        """By name: [sample][unit of the gradient that is read][unit of the result]. None where that is not to be had."""
        arrays = {n: v.array for n, v in line.inputs.items() if v.array is not None}
        if not line.expression or line.value.array is None or len(arrays) < len(line.inputs) \
                or any(self.size(np.shape(arrays[n])) not in [(self.samples, k + 1) for k in range(UNITS)] for n in read):
            return None
        made, total = {}, 0.0
        for name in read:
            given = np.asarray(arrays[name], dtype=np.float64)
            rows = []
            for k in range(self.size(given.shape)[1]):
                one = np.zeros_like(given)
                one[(k, slice(None)) if self.columns else (slice(None), k)] = 1.0
                out = evaluate(line.tree, {**arrays, **{n: np.zeros_like(arrays[n]) for n in read}, name: one}, self.e.notation)
                rows.append(self.by_rows(np.broadcast_to(out, line.value.shape)))
            slopes = np.stack(rows, axis=1)               # (sample, unit read, unit of the result)
            total = total + np.einsum("sk,skj->sj", self.by_rows(given), slopes)
            made[name] = slopes.tolist()
        with np.errstate(all="ignore"):
            return made if np.allclose(total, self.by_rows(line.value.array), rtol=1e-9, atol=1e-15) else None

    def by_rows(self, a: np.ndarray) -> np.ndarray:
        return a.T if self.columns else a

    def entries(self) -> dict[str, str]:
        """The formulas that hold entry by entry, as MathML with ⟦name⟧ where the number of one entry goes."""
        made = {}
        for ref, line in self.results(("forward", "backward", "update")):
            if line.expression and line.inputs and _entrywise(line):
                holes = {n: 2 if v.ndim else 0 for n, v in line.inputs.items()}
                made[f"{ref[0]},{ref[1]}"] = mathml(display(line.tree, lambda name: ("sym", Symbol(f"⟦{name}⟧")), holes), self.digits) \
                    .replace("<mo>⊙</mo>", "<mo>⋅</mo>").replace('<mspace width="0.2em"/>', "<mo>⋅</mo>")
        return made


def _affine(line: Line) -> tuple[str, str] | None:
    """The two names of the matrix product in a formula such as x @ W + b."""
    if not line.expression:
        return None
    for node in ast.walk(line.tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            left, right = node.left, node.right
            if isinstance(left, ast.Name) and isinstance(right, ast.Name):
                return left.id, right.id
    return None


def _gradients(line: Line) -> list[Symbol]:
    return [line.names[n] for n in line.inputs if line.names[n].grad]


_ACROSS = {"sum_n", "sum_k", "max_k", "total", "norm", "onehot", "rows", "reshape", "concat", "part"}


def _entrywise(line: Line) -> bool:
    """Does each entry of the result come from the same entry of every array that is read?"""
    for node in ast.walk(line.tree):
        if isinstance(node, (ast.Attribute, ast.MatMult)) or (isinstance(node, ast.Name) and node.id in _ACROSS):
            return False
    return all(v.ndim == 0 or v.shape == line.value.shape for v in line.inputs.values())

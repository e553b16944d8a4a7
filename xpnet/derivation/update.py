"""The parameters' update, formula by formula, and the loss that comes of it: of the right order, and of the famous mistake's."""

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import layers as xl
from ..gradcheck.arrays import host
from ..gradcheck.calls import Call, Runner
from ..gradcheck.differences import Place
from ..layout import Slot
from ..model import Model
from ..optim import Optimizer
from .explanation import Line, Step
from .expression import evaluate, names, parse, rename
from .naming import Naming, inside
from .optimizers import formulas_of_optimizer, global_norm
from .symbols import Symbol, parameter
from .writer import Writer, apart

SEQUENTIAL = 20_000                                       # parameters up to which the sequential update is computed too


class Update:
    """θ, its gradient, and an optimizer: everything in float64 and on copies. loss_at: L as a function of the vector θ."""

    def __init__(self, model: Model, runner: Runner, optimizer: Optimizer, theta: np.ndarray, gradient: np.ndarray,
                 loss_at: Callable[[np.ndarray], float], writer: Writer):
        self.model, self.runner, self.optimizer, self.layout = model, runner, optimizer, model.layout
        self.theta, self.gradient, self.loss_at, self.writer = theta, gradient, loss_at, writer
        self.new = self.stepped(gradient)

    def double(self) -> tuple[Model, Optimizer]:
        """A model with these parameters in float64, and the optimizer with its state for it."""
        model = Model(self.model.net, self.runner.backend, "float64", self.model.seed)
        model.params = self.theta
        optimizer = copy.copy(self.optimizer)
        if optimizer._for is not None and optimizer._for is not self.model and optimizer.t:
            raise ValueError(f"this {type(optimizer).__name__} has the state of another model after {optimizer.t} steps; make one "
                             "optimizer a model")
        state = self.optimizer.state_dict() if self.optimizer._for is self.model else {"t": 0}
        optimizer._for, optimizer.state = None, {}
        if state["t"]:
            optimizer.load_state_dict(model, {name: v if name == "t" else host(v) for name, v in state.items()})
        else:
            optimizer.start(model)
        return model, optimizer

    def stepped(self, gradient: np.ndarray) -> np.ndarray:
        """θ after the optimizer's own step with this gradient."""
        model, optimizer = self.double()
        optimizer.step(model, self.runner.array(gradient))
        return host(model.params)

    def steps(self, naming: Naming) -> Iterator[Step]:
        """A Step for each parameter."""
        _, optimizer = self.double()
        before = {name: host(v) for name, v in optimizer.state.items()}
        scale = np.ones_like(self.theta) if optimizer._scale is None else host(optimizer._scale)
        norm = global_norm(self.gradient, None if optimizer._trained is None else host(optimizer._trained))
        for slot in self.layout.slots:
            decays = optimizer.decay_biases or not slot.param.bias
            formulas = formulas_of_optimizer(optimizer, optimizer.t + 1, norm, float(scale[slot.start]), decays)
            step = Step("update", slot.paths[0], repr(self.optimizer), f"update of {' = '.join(slot.paths)}: {self.optimizer!r}")
            step.lines = list(self.lines(slot, formulas, before, naming))
            yield step

    def part(self, vector: np.ndarray, slot: Slot) -> np.ndarray:
        return np.reshape(vector[slot.start:slot.stop], slot.param.shape)

    def lines(self, slot: Slot, formulas: Any, before: dict[str, np.ndarray], naming: Naming) -> Iterator[Line]:
        path = slot.paths[0]
        symbol = _symbol(path)
        symbols = {"p": symbol, "g": symbol.gradient(), **{name: Symbol(name, path) for name in before}}
        env: dict[str, Any] = {"p": self.part(self.theta, slot), "g": self.part(self.gradient, slot)}
        env |= {name: self.part(v, slot) for name, v in before.items()}
        new = self.part(self.new, slot)
        if len(slot.paths) > 1:
            yield self.shared(slot, symbols["g"], naming)
        if formulas is None:                              # an optimizer without formulas: its numbers alone
            yield self.writer.line("p", "", {n: symbols[n] for n in ("p", "g")}, {n: env[n] for n in ("p", "g")}, new, True)
            return
        lines, given, notes = formulas
        env |= {name: np.asarray(v) for name, v in given.items()}
        symbols |= {name: Symbol(name) for name in given}
        last = max(i for i, (result, _) in enumerate(lines) if result == "p")
        for i, (result, text) in enumerate(lines):
            tree = parse(text)
            inputs = {name: env[name] for name in names(tree)}
            value = np.asarray(evaluate(tree, env))
            reads = {name: symbols[name] for name in inputs}
            if result == "g":                             # what the optimizer makes of ∂L/∂W is no longer ∂L/∂W
                symbols["g"] = Symbol("g", path)
            shown = {**reads, result: symbols.setdefault(result, Symbol(result, path))}
            if result == "g":                             # so the one that is read keeps its symbol, under another name
                text = ast.unparse(rename(tree, {"g": "g0"}))
                inputs = {"g0" if n == "g" else n: a for n, a in inputs.items()}
                shown["g0"] = reads["g"]
            env[result] = new if i == last else value
            yield self.writer.line(result, text, shown, inputs, env[result], i == last, apart(value, new) if i == last else 0.0,
                                   notes.get(result, ""))

    def shared(self, slot: Slot, total: Symbol, naming: Naming) -> Line:
        """∂L/∂W of a parameter with several uses: the sum of those of the uses."""
        inputs: dict[str, Any] = {}
        symbols = {"g": total}
        for path in slot.paths:
            for named in naming.calls.values():
                for local, full in named.run.full.items():
                    if path == (f"{named.call.path}.{full}" if named.call.path else full) and named.call.dy:
                        name = f"g{len(inputs)}"
                        inputs[name] = np.asarray(named.call.grads[full])
                        symbols[name] = parameter(local, named.call.path).gradient(via=named.call.path)

        def outputs(v: np.ndarray) -> list[np.ndarray]:
            moved = np.concatenate([self.theta[:slot.start], np.reshape(v, (-1,)), self.theta[slot.stop:]])
            return [np.asarray(self.loss_at(moved))]

        g = self.part(self.gradient, slot)
        place = Place("g", self.part(self.theta, slot), g, [np.ones(())], lambda v: (v,), outputs,
                      lambda v: [("", self.model.net, outputs(v))], leaf=False, by_entry=True)
        return self.writer.line("g", " + ".join(inputs), symbols, inputs, g, True, apart(np.asarray(sum(inputs.values())), g),
                                "one parameter used more than once: the gradients of its uses add", self.writer.check(place, total))

    # What came of it.

    def after(self, before: float, mistake: float | None) -> tuple[Step, float]:
        """L before and after the step, and with the famous mistake."""
        def line(letter: str, value: float, note: str = "") -> Line:
            return self.writer.line("L", "", {"L": Symbol(letter)}, {}, np.asarray(value), True, note=note)

        after = self.loss_at(self.new)
        lines = [line("L", before), line("L_after", after)]
        if mistake is not None:
            lines.append(line("L_mistake", mistake, "the famous mistake: each layer is updated before the gradient passes through it, so "
                              "that the layers before it get their δ from new weights. All gradients come before any update"))
        return Step("after", "", "", "the loss before and after the step", lines), after

    def sequential(self, root: Call, naming: Naming, dy: np.ndarray) -> float | None:
        """L after the step with the famous mistake; None where the network is no chain of two or more layers with formulas that move."""
        calls = [naming.calls[id(c)] for c in root.walk() if id(c) in naming.calls]
        chain = [named for named in calls if not inside(named.call)]
        scale = self.double()[1]._scale                   # 0 where a parameter is frozen
        moves = np.ones_like(self.theta) if scale is None else host(scale)
        moving = {slot.paths[0].rpartition(".")[0] for slot in self.layout.slots if np.any(moves[slot.start:slot.stop])}
        if (len(moving) < 2 or self.layout.size > SEQUENTIAL
                or any(len(slot.paths) > 1 for slot in self.layout.slots)
                or any(type(named.call.layer) not in (xl.Sequential, xl.Checkpoint) for named in calls if inside(named.call))
                or any(named.formulas is None or not all(text for _, text in named.formulas.backward) for named in chain)):
            return None
        gradient, theta = self.gradient.copy(), self.theta.copy()
        for named in reversed(chain):
            assert named.formulas is not None
            env: dict[str, Any] = {**named.env, "dy": dy}
            lines = named.formulas.backward
            last = max((i for i, (result, _) in enumerate(lines, 1) if result[1:] in named.run.full), default=0)
            to_params, to_x = lines[:last], lines[last:]
            for result, text in to_params:
                env[result] = np.asarray(evaluate(parse(text), env))
            for local, full in named.run.full.items():
                slot = self.layout.slot(f"{named.call.path}.{full}" if named.call.path else full)
                gradient[slot.start:slot.stop] = np.reshape(env[f"d{local}"], (-1,))
                theta[slot.start:slot.stop] = self.stepped(gradient)[slot.start:slot.stop]
                env[local] = self.part(theta, slot)       # the mistake: from here on the gradient sees the new weights
            for result, text in to_x:
                env[result] = np.asarray(evaluate(parse(text), env))
            dy = env["dx"]
        return self.loss_at(theta)


def _symbol(path: str) -> Symbol:
    """The symbol of a parameter's path; that of a Dense's activation belongs to the Dense."""
    layer, _, name = path.rpartition(".")
    return parameter(name, layer.removesuffix("activation").removesuffix("."))

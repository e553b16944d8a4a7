"""explain: one training step, run by the network itself, and written down formula by formula."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..backend import Random, get_backend
from ..errors import unknown, whole
from ..gradcheck.arrays import host, hosts
from ..gradcheck.calls import Call, Runner
from ..gradcheck.check import _has_float64
from ..gradcheck.differences import Place, places
from ..layer import walk_layers
from ..layers.normalization import WithWeight
from ..losses import Loss
from ..model import Model
from ..optim import SGD, Optimizer
from .explanation import Explanation, Line, Step
from .expression import NOTATIONS, evaluate, names, parse
from .formulas import Formulas, Lines
from .losses import formulas_of_loss, per_sample
from .naming import Named, Naming
from .symbols import Symbol, parameter
from .update import Update
from .writer import Writer, apart


def explain(model: Model, loss: Any, x: Any, t: Any, *, weights: Any = None, optimizer: Optimizer | None = None, notation: str = "rows",
            training: bool = True, max_entries: int = 100, checks: bool = True) -> Explanation:
    """The derivation of one training step, with the numbers filled in.

        print(explain(model, SoftmaxCrossEntropy(), x, t, optimizer=SGD(0.5)))

    Per layer: the forward formula, its inputs and result; the incoming gradient, the rule, the result; shapes; and a finite difference
    beside each gradient. Then the update of each parameter, and the loss after it.

    x, t, weights  a batch, a few samples at best; host arrays or the model's
    optimizer      whose update is shown, SGD(0.1) by default; its state and the model are left as they are
    notation       "rows": samples are rows, z = xW + b. "columns": samples are columns, z = Wx + b, and δ is of each sample's own loss, so
                   that the 1/n of a mean enters at the gradients of W and b
    training       whether dropout drops
    max_entries    arrays with more numbers are shown as statistics, and their formulas in symbols only
    checks         False leaves the finite differences out

    The network, the loss and the optimizer compute every number themselves, in float64, on the model's backend (on NumPy where that has no
    float64); the formulas are evaluated beside them, and where the two differ, the line says so.
    Returns an Explanation: text, Markdown, JSON or a page. Raises TypeError or ValueError for what cannot be explained.
    """
    if not isinstance(model, Model):
        raise TypeError(f"explain takes a Model, got {model!r}; a lone layer goes into one: Model(layer)")
    if not isinstance(loss, Loss):
        raise TypeError(f"explain takes a loss such as MeanSquaredError(), got {loss!r}")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"explain takes an optimizer such as SGD(0.1), got {optimizer!r}")
    if notation not in NOTATIONS:
        raise unknown("notation", notation, NOTATIONS)
    max_entries = whole("explain: max_entries", max_entries, 1)
    backend = model.backend if _has_float64(model.backend) else get_backend("numpy")
    with backend:
        runner = Runner(backend, training, Random(model.seed, model.step), model.state, np.random.default_rng(0))
        return _Derivation(model, runner, loss, x, t, weights, optimizer or SGD(0.1)).explanation(notation, max_entries, checks)


class _Derivation:
    """The training step as it ran, and how it is written down."""

    def __init__(self, model: Model, runner: Runner, loss: Loss, x: Any, t: Any, weights: Any, optimizer: Optimizer):
        self.model, self.runner, self.loss, self.optimizer = model, runner, loss, optimizer
        self.theta, self.xs = host(model.params), hosts(x)
        self.root, backward, _ = runner.trace("", model.net, self.views(self.theta), self.xs, isinstance(x, tuple))
        if len(self.root.y) not in loss.predictions:
            raise ValueError(f"{loss!r} takes {' or '.join(map(str, loss.predictions))} outputs, {model.net!r} gives {len(self.root.y)}")
        self.t, self.weights = host(t), None if weights is None else host(weights).astype(np.float64)
        self.y = tuple(self.root.y) if self.root.y_many else self.root.y[0]
        if not loss.takes_classes(self.y, self.t):
            self.t = self.t.astype(np.float64)
        self.loss_of = runner.evaluator(loss, self.root, self.t, self.weights)
        value, dy, _ = self.loss_of(self.root.y)
        self.value, self.dy = float(value), dy
        _, grads = backward(runner.arrays(dy, self.root.y_many), True)
        collected = runner.array(np.zeros_like(self.theta))
        model.layout.writer(model.layout.parts(runner.backend.xp, collected))(grads)
        self.gradient = host(collected)
        self.naming = Naming(self.root, runner)

    def views(self, theta: np.ndarray) -> dict[str, Any]:
        return self.model.layout.views(self.runner.backend.xp, self.runner.array(theta))

    def loss_at(self, theta: np.ndarray) -> float:
        """L as a function of the parameters."""
        return float(self.loss_of(self.runner.forward(self.root, self.views(theta), self.xs))[0])

    def explanation(self, notation: str, max_entries: int, checks: bool) -> Explanation:
        n = self.samples_in_the_mean() if notation == "columns" else 1
        letters = [parameter(path.rpartition(".")[2], "").letter for path in self.model.layout.by_path]
        letters += [layer.weight for _, layer in walk_layers(self.model.net) if isinstance(layer, WithWeight)]
        self.writer = Writer(notation, max_entries, checks, n, letters)
        notes = ["ℓ is each sample's own loss and L their mean: δ = ∂ℓ/∂z, the gradients of activations are those of ℓ, and 1/n enters at "
                 "the gradients of parameters"] if n > 1 else []
        update = Update(self.model, self.runner, self.optimizer, self.theta, self.gradient, self.loss_at, self.writer)
        steps = [*self.forward(self.root), self.loss_step(), *self.backward(self.root), *update.steps(self.naming)]
        mistake = None if self.root.y_many else update.sequential(self.root, self.naming, self.dy[0])
        last, after = update.after(self.value, mistake)
        return Explanation(repr(self.model.net), repr(self.loss), repr(self.optimizer), notation, [*steps, last], self.value, after,
                           mistake, notes)

    def samples_in_the_mean(self) -> int:
        """n, where the loss is a mean over the samples, else 1. Raises ValueError for arrays that have no columns."""
        for call in self.root.walk():
            for a in (*call.x, *call.y):
                if a.ndim != 2:
                    raise ValueError(f"notation='columns' is for arrays (batch, features); {call!r} has one of shape {a.shape}. Use 'rows'")
        formulas = formulas_of_loss(self.loss, self.y, self.t, self.weights)
        means = formulas is not None and per_sample(formulas.backward[-1][1]) != formulas.backward[-1][1]
        return self.root.y[0].shape[0] if means else 1

    # Forward.

    def forward(self, call: Call) -> Iterator[Step]:
        named = self.naming[call]
        before = named.formulas is not None and named.formulas.before
        if before:
            yield from self.own_forward(named, call)
        for child in named.run.runs:
            yield from self.forward(child)
        if not before:
            yield from self.own_forward(named, call)

    def own_forward(self, named: Named, call: Call) -> Iterator[Step]:
        """What a layer does beside running others."""
        formulas = named.formulas
        if formulas is None:
            reads = [name for name in named.env if name.startswith("x")] + list(named.run.params)
            lines = [self.line(named, local, "", reads) for local in named.own if local.startswith("y")]
            yield Step("forward", call.path, repr(call.layer), _title(call), lines, _first_words(call.layer))
            return
        named.env |= {name: np.asarray(a, dtype=np.float64) for name, a in formulas.given.items()}
        made = [(result, self.line(named, result, text, note=formulas.notes.get(result, ""))) for result, text in formulas.forward]
        if shown := [line for result, line in made if result not in formulas.hidden]:
            yield Step("forward", call.path, repr(call.layer), _title(call), shown)

    def line(self, named: Named, result: str, text: str, reads: Any = (), note: str = "", places: dict[str, Place] | None = None) -> Line:
        """One formula of a layer, evaluated, and held against what the layer gave; others may then read the result."""
        computed = {} if named.formulas is None else named.formulas.computed
        if text:
            tree = parse(text)
            reads = names(tree)
            value = np.asarray(evaluate(tree, named.env))
        elif result in computed:
            value, reads = computed[result](named.env), ["dy" if result.startswith("d") else "z"]
        else:                                             # no formula: the layer's number alone
            value = named.own[result]
        inputs = {name: named.env[name] for name in reads}
        own, far = named.own.get(result), 0.0
        if own is not None:
            value = np.reshape(value, own.shape) if value.size == own.size else value
            far, value = apart(value, own, (*named.call.x, *named.call.dy)), own
        symbols = {name: named.symbol(name) for name in (result, *reads)}
        named.env[result] = value
        note = note or (f"the part that comes through layer {symbols[result].via}" if symbols[result].via else "")
        check = None
        if places is not None and (place := self.place(named, result[1:], places)) is not None:
            check = self.writer.check(place, symbols[result])
        return self.writer.line(result, text, symbols, inputs, value, own is not None, far, note, check)

    # The loss.

    def loss_step(self) -> Step:
        formulas = formulas_of_loss(self.loss, self.y, self.t, self.weights)
        ys = [f"y{i}" for i in range(len(self.root.y))] if self.root.y_many else ["y"]
        own = {"L": np.asarray(self.value), **{f"d{y}": dy for y, dy in zip(ys, self.dy)}}
        env: dict[str, Any] = {**dict(zip(ys, self.root.y)), "t": self.t}
        symbols = dict(zip(ys, self.naming.ys)) | {f"d{y}": symbol.gradient() for y, symbol in zip(ys, self.naming.ys)}
        note = ""
        if formulas is None:
            formulas, note = Formulas([("L", "")], [(f"d{y}", "") for y in ys]), _first_words(self.loss)
        env |= {name: np.asarray(a) for name, a in formulas.given.items()}
        lines = []
        for result, text in (*formulas.forward, *formulas.backward):
            computed = np.asarray(evaluate(parse(text), env)) if text else own[result]
            far = apart(np.reshape(computed, own[result].shape), own[result]) if result in own else 0.0
            env[result] = own.get(result, computed)
            of = ys.index(result[1:]) if result[1:] in ys else None
            if of is not None and self.writer.per_sample > 1:
                text = per_sample(text)
            reads = names(parse(text)) if text else [*ys, "t"]
            check = self.writer.check(self.loss_place(of), symbols[result]) if of is not None else None
            shown = {name: symbols.get(name, Symbol(name)) for name in (result, *reads)}
            lines.append(self.writer.line(result, text, shown, {name: env[name] for name in reads}, env[result], result in own, far,
                                          formulas.notes.get(result, ""), check))
        return Step("loss", "", repr(self.loss), f"loss: {self.loss!r}", lines, note)

    def loss_place(self, i: int) -> Place:
        """The finite difference of L, of the i-th of the network's outputs."""
        def outputs(y: np.ndarray) -> list[np.ndarray]:
            return [np.reshape(self.loss_of([*self.root.y[:i], y, *self.root.y[i + 1:]])[0], ())]

        return Place("y", self.root.y[i], self.dy[i], [np.ones(())], lambda v: (v,), outputs, lambda y: [("", self.loss, outputs(y))],
                     leaf=True, by_entry=True)

    # Backward.

    def backward(self, call: Call) -> Iterator[Step]:
        if not call.dy:                                   # no gradient came here
            return
        named = self.naming[call]
        by_name = {place.name: place for place in places(self.runner, call)} if self.writer.checks else {}
        step = Step("backward", call.path, repr(call.layer), _title(call))
        formulas = named.formulas
        if formulas is None:
            for child in reversed(named.run.runs):
                yield from self.backward(child)
            reads = [name for name in named.env if name.startswith("dy")]
            of = [*named.run.params, *(name for name in named.env if name.startswith("x"))]
            step.lines = [self.line(named, f"d{name}", "", reads, "", by_name) for name in of if f"d{name}" in named.own]
            yield step
            return
        into = [line for line in formulas.backward if named.run.runs and line[0].startswith("df")]
        if into:
            yield Step("backward", call.path, repr(call.layer), f"{_title(call)}, into it", self.back(named, into, formulas, by_name))
        for child in reversed(named.run.runs):
            yield from self.backward(child)
        step.lines = self.back(named, [line for line in formulas.backward if line not in into], formulas, by_name)
        if step.lines:
            yield step

    def back(self, named: Named, lines: Lines, formulas: Formulas, by_name: dict[str, Place]) -> list[Line]:
        no_dx = not named.call.dx or named.call.dx[0] is None   # an x of integers has no gradient
        made = [(result, self.line(named, result, text, (), formulas.notes.get(result, ""), None if result in formulas.hidden else by_name))
                for result, text in lines if not (no_dx and result == "dx")]
        return [line for result, line in made if result not in formulas.hidden]

    def place(self, named: Named, variable: str, by_name: dict[str, Place]) -> Place | None:
        """Where the finite difference of ∂L/∂variable is taken: at an input or parameter of the layer, or at an array within it."""
        many = named.call.many and variable.startswith("x")
        found = by_name.get(named.run.full.get(variable, f"x[{variable[1:]}]" if many else variable))
        formulas, call = named.formulas, named.call
        if found is not None or not self.writer.checks or formulas is None or variable not in named.env:
            return found
        start = next((i + 1 for i, (result, _) in enumerate(formulas.forward) if result == variable), 0)

        def outputs(v: np.ndarray) -> list[np.ndarray]:
            """y, by the formulas that come after the variable."""
            env = {**named.env, variable: v}
            for result, text in formulas.forward[start:]:
                env[result] = np.asarray(evaluate(parse(text), env)) if text else formulas.computed[result](env)
            return [env[f"y{i}" if call.y_many else "y"] for i in range(len(call.y))]

        return Place(variable, named.env[variable], named.env[f"d{variable}"], call.dy, lambda v: (v,), outputs,
                     lambda v: [("", call.layer, outputs(v))], leaf=True, by_entry=True)


def _title(call: Call) -> str:
    return f"layer {call.path}: {call.layer!r}" if call.path else repr(call.layer)


def _first_words(thing: Any) -> str:
    """The first line of its docstring, which says the formula."""
    return (type(thing).__doc__ or "").strip().split("\n")[0]

"""The gradient check: is every backward pass the derivative of its forward pass, and if not, which is the first that is not?

What `backward` says, a, is compared in float64 with the central difference

    n = (f(x + h) - f(x - h)) / 2h        h = ∛ε max(1, |x|) = 6.1·10⁻⁶ max(1, |x|)        |a - n| / max(|a| + |n|, floor)

Its truncation error is h² f'''/6 and its rounding error about ε|f|/h; their sum is least near h = ∛ε (Press, Teukolsky, Vetterling &
Flannery, Numerical Recipes, section 5.7). The floor is rounding error / 10⁻⁷, so that an a which agrees to rounding is right.

Each layer is checked by itself: f(x) = ⟨y(x), dy⟩, with the x, the parameters and the dy it has in the network. A layer behind a wrong
one is then not blamed for it, and the first wrong one in the order of the backward pass is the culprit. A container is checked the same
way once what it holds is right, and at last the whole, end to end. In a large array some entries are checked, and random directions v:
⟨dy, J v⟩ = ⟨Jᵀ dy, v⟩.

Bands, from the notes of Stanford's CS231n ("Gradient checks"): below 10⁻⁷ is right; up to 10⁻⁴ is what a kink or a loss of precision
may do, but not a smooth layer in float64: suspicious; above is wrong. (The notes allow deep networks up to 10⁻²; one layer at a time
needs no such allowance.)

Kinks: where f has no derivative, n is the mean of the two one-sided slopes, and a is one of them. An entry that disagrees is looked
at with a step 64 times smaller. A smooth f's one-sided slopes then come 64 times closer; at a kink they keep their distance.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .backend import Backend, Random, backend_of, get_backend
from .layer import Backward, Context, Layer, walk_buffers
from .layers.activations import Activation
from .layout import Layout
from .model import Model

Array = Any
EPS = 2.0 ** -52
STEP = EPS ** (1.0 / 3.0)
SHRINK = 64.0                                             # how much smaller the second step is
ROUNDING = 16.0                                           # ε times this is taken as the rounding error of an output
RIGHT, WRONG = 1e-7, 1e-4
DIRECTIONS = 2


@dataclass(frozen=True)
class Row:
    """One gradient: that of `parameter` ("W", "x", "x[1]"; "y" for a loss) of the layer at `path`.

    error    the largest relative error; nan where there is none, since a shape is wrong or a law of layers is broken
    band     "right", "suspicious", "wrong", or "unchecked" where every entry sits on a kink or the layer holds a wrong one
    checked  entries and directions compared; `kinks` more were left out
    note     what was seen; cause: for a wrong gradient, what may have caused it, and "guess: " before what is only a guess
    """

    path: str
    layer: str
    parameter: str
    shape: tuple[int, ...] = ()
    error: float = math.nan
    band: str = "right"
    checked: int = 0
    kinks: int = 0
    note: str = ""
    cause: str = ""

    @property
    def where(self) -> str:
        return f"{self.path} ({self.layer})" if self.path else self.layer


@dataclass(frozen=True, repr=False)
class Report:
    """What a gradient check found: a row a gradient, in the order of the backward pass. True where no row is wrong."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.first_wrong is None

    @property
    def first_wrong(self) -> Row | None:
        """The row to look at first: its `path`, `layer` and `parameter`."""
        return next((row for row in self.rows if row.band == "wrong"), None)

    @property
    def cause(self) -> str:
        """What may have caused the first wrong gradient; empty where nothing is wrong or nothing fits."""
        return self.first_wrong.cause if self.first_wrong else ""

    def raise_if_wrong(self) -> "Report":
        """Raises AssertionError with the table where a gradient is wrong; returns the report otherwise."""
        if not self.ok:
            raise AssertionError(str(self))
        return self

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        head = ("layer", "of", "shape", "checked", "kinks", "error", "band", "")
        table = [head] + [(row.where, row.parameter, str(row.shape) if row.shape else "", str(row.checked), str(row.kinks or ""),
                           "" if math.isnan(row.error) else f"{row.error:.1e}", row.band,
                           row.note or row.cause) for row in self.rows]
        table = [tuple(c if len(c) <= 40 or i == 7 else c[:39] + "…" for i, c in enumerate(line)) for line in table]
        widths = [max(len(line[i]) for line in table) for i in range(7)]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(line, widths)), line[7]]).rstrip() for line in table]
        return "\n".join([self.verdict(), *self.notes, "", *lines])

    def verdict(self) -> str:
        """One sentence, or two."""
        wrong = self.first_wrong
        if wrong is not None:
            error = "" if math.isnan(wrong.error) else f" is wrong: relative error {wrong.error:.1e}"
            what = f"∂L/∂{wrong.parameter} of {wrong.where}{error or f' is wrong: {wrong.note}'}."
            return f"{what} {wrong.cause[:1].upper()}{wrong.cause[1:]}." if wrong.cause else what
        worst = max((row.error for row in self.rows if not math.isnan(row.error)), default=0.0)
        text = f"Right: all {len(self.rows)} gradients agree with finite differences, to {worst:.1e}."
        odd = [row for row in self.rows if row.band == "suspicious"]
        if odd:
            text = (f"Not wrong, but suspicious: ∂L/∂{odd[0].parameter} of {odd[0].where} differs by {odd[0].error:.1e}, "
                    "more than rounding explains.")
        kinks = [row for row in self.rows if row.kinks]
        if kinks:
            text += f" {sum(row.kinks for row in kinks)} entries could not be judged: {kinks[0].note}."
        unchecked = [row for row in self.rows if row.band == "unchecked"]
        if unchecked:
            text += f" Nothing of ∂L/∂{unchecked[0].parameter} of {unchecked[0].where} was checked: try another x."
        return text


def gradient_check(model_or_layer: Model | Layer, x: Any, loss: Any = None, t: Any = None, *, weights: Any = None,
                   training: bool = True, seed: int = 0, max_entries: int = 64, tolerance: float = WRONG) -> Report:
    """Compare every gradient of a network, a layer and a loss with finite differences, and name the first that is wrong.

        assert gradient_check(model, x, SoftmaxCrossEntropy(), t).ok
        print(gradient_check(MyLayer(), x))

    model_or_layer  a Model, at its parameters; or a layer, at its initial ones plus normal noise of 0.1 (a bias of 0 hides mistakes)
    x               an array or a tuple of arrays; integers (tokens) are not differentiated
    loss, t         a loss and its target; without them L = ⟨y, r⟩ with fixed normal numbers r
    weights         sample weights of the loss
    training        whether dropout drops: it does so with the same random numbers in every forward pass
    seed            of r, of a lone layer's parameters, and of the choice of entries and directions
    max_entries     how many entries of an array are checked one by one; in a larger one, the largest and random others
    tolerance       the relative error above which a gradient is wrong

    Runs in float64 whatever the model's dtype, on the backend of the model or of x, and changes nothing of them. A backend without
    float64 is replaced by NumPy, with a note: the formulas are the same text there.
    Returns a Report: `.ok`, `.first_wrong`, `.cause`, `.rows`; it prints as a table. Raises ValueError for an x or an output that is not
    finite, and TypeError for what is not a layer, a loss or a backward of the contract (xpnet/layer.py).
    """
    if not isinstance(model_or_layer, (Model, Layer)):
        raise TypeError(f"gradient_check takes a Model or a layer such as ReLU(), got {model_or_layer!r}")
    if isinstance(loss, type) or (loss is not None and not callable(loss)):
        raise TypeError(f"gradient_check takes a loss such as MeanSquaredError(), got {loss!r}")
    if (loss is None) != (t is None):
        raise ValueError("gradient_check takes a loss and its target t together, or neither")
    if max_entries < 1 or not tolerance > 0:
        raise ValueError(f"max_entries is from 1 on and tolerance positive, got {max_entries!r} and {tolerance!r}")
    model = model_or_layer if isinstance(model_or_layer, Model) else None
    backend = model.backend if model else backend_of(x[0] if isinstance(x, tuple) else x)
    notes = []
    if not _has_float64(backend):
        notes.append(f"Backend {backend.name!r} has no float64: checked with NumPy on the host.")
        backend = get_backend("numpy")

    rng = np.random.default_rng(seed)
    net = model.net if model else model_or_layer
    layout = Layout(net)
    if model:
        flat, state, random = _host(model.params), model.state, Random(model.seed, model.step)
    else:
        flat = layout.initial_vector(seed)
        flat += 0.1 * rng.standard_normal(flat.shape)
        state, random = {b: b.init(np.random.default_rng(seed), b.shape) for _, b in walk_buffers(net)}, Random(seed)
    with backend:
        check = _Check(backend, training, random, rng, max_entries, tolerance)
        check.state = {b: check.array(a) for b, a in state.items()}
        rows = check.all(net, layout, flat, x, loss, t, weights)
    return Report(rows, notes)


# What happened: a network is run once, and every layer in it leaves a Call.

class _Call:
    """One run of one layer: what it was given, what it gave. Arrays are copies on the host, made before anyone can change them."""

    def __init__(self, path: str, layer: Layer, params: dict[str, Any], x: Any, site: int):
        self.path, self.layer, self.params, self.site = path, layer, params, site
        self.x, self.many = _hosts(x), isinstance(x, tuple)
        self.inner: list[_Call] = []                      # the layers that it ran, in order
        self.changed: list[str] = []                      # what it wrote into that was not its own
        self.wrong = False
        self.input_grad = True
        self.dy: list[np.ndarray] | None = None           # None: its backward was not called
        self.y: list[np.ndarray]
        self.dx: list[Any]
        self.grads: dict[str, Any]
        self.backward: Backward

    def walk(self) -> Iterator["_Call"]:
        """This call and those inside it, in forward order."""
        yield self
        for call in self.inner:
            yield from call.walk()

    @property
    def holds(self) -> list["_Call"]:
        """The calls inside that took part in the backward pass."""
        return [call for call in self.inner if call.dy is not None]

    @property
    def where(self) -> str:
        return f"layer {self.path} ({self.layer!r})" if self.path else repr(self.layer)


class _Trace(Context):
    """A context that listens where containers run their children, forward and backward."""

    __slots__ = ("check", "done", "stack")

    def start(self, check: "_Check", stack: list[_Call], done: list[_Call]) -> "_Trace":
        self.check, self.stack, self.done = check, stack, done
        return self

    def replay(self, site: int) -> Context:
        """Within a backward pass (Checkpoint): what is run again belongs to the layer whose backward is running."""
        again = super().replay(site)
        assert isinstance(again, _Trace)
        return again.start(self.check, list(self.stack), self.done)

    def forward(self, name: str, layer: Layer, params: dict[str, Any], x: Any) -> tuple[Any, Backward]:
        outer = self.stack[-1]
        call = _Call(f"{outer.path}.{name}" if outer.path else name, layer, params[name], x, self.random.site)
        outer.inner.append(call)
        return self.listen(call, x, lambda: super(_Trace, self).forward(name, layer, params, x))

    def listen(self, call: _Call, x: Any, run: Callable[[], tuple[Any, Backward]]) -> tuple[Any, Backward]:
        before = _flatten(call.params, _host)
        self.stack.append(call)
        try:
            y, back = run()
        finally:
            self.stack.pop()
        call.y = _hosts(y)
        if not _same(call.x, _hosts(x)):
            call.changed.append("forward changes its input x (law 1)")
        try:
            inspect.signature(back).bind(y, True)
        except TypeError:
            raise TypeError(f"the backward of {call.where} is called as backward(dy, input_grad=True), "
                            f"but it takes {inspect.signature(back)}") from None

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            given = _hosts(dy)
            self.stack.append(call)
            try:
                dx, grads = _pair(call, back(dy, input_grad))
            except Exception as e:
                e.add_note(f"in the backward of {call.where}")
                raise
            finally:
                self.stack.pop()
            if call.dy is None:
                call.dy, call.dx, call.grads, call.input_grad = given, _hosts(dx), _flatten(grads, _host), input_grad
                call.backward = backward
                if not _same(given, _hosts(dy)):
                    call.changed.append("backward changes dy (law 1)")
                if not _same(call.x, _hosts(x)):
                    call.changed.append("the input x has changed after backward (law 1)")
                if not _same(list(before.values()), list(_flatten(call.params, _host).values())):
                    call.changed.append("the parameters are changed (law 1)")
                self.done.append(call)
            return (self.check.fit(dx, call) if input_grad else dx), grads

        return y, backward


def _pair(call: _Call, result: Any) -> tuple[Any, dict[str, Any]]:
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError(f"the backward of {call.where} returns (dx, grads) with grads a dictionary, got {type(result).__name__}")
    return result


# Finite differences of whatever depends on one array.

@dataclass
class _Place:
    """An array that is varied, the outputs that depend on it, the dy that weighs them, and the gradient that backward gave."""

    name: str
    value: np.ndarray
    gradient: np.ndarray | None
    dy: list[np.ndarray]
    outputs: Callable[[np.ndarray], list[np.ndarray]]     # the outputs at another value
    steps: Callable[[np.ndarray], list[tuple[str, Any, list[np.ndarray]]]]   # the innermost layers' outputs, with path and layer
    entries: bool                                         # whether entries are checked, or directions first
    leaf: bool                                            # whether the outputs are those of one innermost layer
    size: float = 0.0                                     # of numbers that go into the outputs and are larger than they

    def slope(self, v: np.ndarray, h: float) -> tuple[float, float]:
        """d⟨y, dy⟩ along v by a central difference, and its rounding error. What v does not reach cancels before it is summed."""
        plus, minus = self.outputs(self.value + h * v), self.outputs(self.value - h * v)
        n, squares = 0.0, self.size ** 2
        for p, m, d in zip(plus, minus, self.dy):
            n += float(np.sum((p - m) * d))
            squares += (_largest(p) * float(np.linalg.norm(d * (p != m)))) ** 2
        return n / (2.0 * h), ROUNDING * EPS * math.sqrt(squares) / h

    def hull(self, v: np.ndarray, h: float) -> tuple[float, float]:
        """The least and the largest that d⟨y, dy⟩ along v can be, each output taking either of its one-sided slopes."""
        plus, here, minus = (self.outputs(self.value + s * v) for s in (h, 0.0, -h))
        low = high = 0.0
        for p, y, m, d in zip(plus, here, minus, self.dy):
            right, left = (p - y) * d / h, (y - m) * d / h
            low += float(np.sum(np.minimum(left, right)))
            high += float(np.sum(np.maximum(left, right)))
        return low, high

    def kink(self, v: np.ndarray, h: float) -> str:
        """The first layer with an output that bends at a point, along v: how far its one-sided slopes are apart does not fall with h."""
        at = {s: self.steps(self.value + s * v) for s in (h, -h, 0.0, h / SHRINK, -h / SHRINK)}
        for i, (path, layer, here) in enumerate(at[0.0]):
            for j, y in enumerate(here):
                wide, narrow = (np.abs(at[s][i][2][j] - 2.0 * y + at[-s][i][2][j]) / s for s in (h, h / SHRINK))
                kinked = (narrow > 2.0 * wide / SHRINK) & (narrow > 4.0 * ROUNDING * EPS * _largest(y) * SHRINK / h)
                if np.any(kinked):
                    unit = tuple(int(k[0]) for k in np.nonzero(np.atleast_1d(kinked)))
                    return _kink_words(path, layer, unit if y.ndim else ())
        return ""


def _kink_words(path: str, layer: Any, unit: tuple[int, ...]) -> str:
    declared = [a for a in (layer, *getattr(layer, "children", dict)().values()) if getattr(a, "kinks", ())]
    at = f", unit {unit}" if unit else ""
    inside = f" of {path}" if path else ""
    return f"this point sits on a kink of {declared[0]!r}{inside}{at}" if declared else f"probably a kink of {layer!r}{inside}{at}"


def _error(a: float, n: float, rounding: float) -> float:
    if a == n:
        return 0.0
    return abs(a - n) / max(abs(a) + abs(n), rounding / RIGHT)


class _Check:
    """One gradient check: where it runs, and how it goes through a network."""

    def __init__(self, backend: Backend, training: bool, random: Random, rng: np.random.Generator, max_entries: int, tolerance: float):
        self.backend, self.training, self.random = backend, training, random
        self.rng, self.max_entries, self.tolerance = rng, max_entries, tolerance
        self.state: dict[Any, Array] = {}

    def array(self, host: Any) -> Array:
        """A new array on the backend: floating numbers in float64, integers as they are."""
        return self.backend.asarray(_host(host))

    def arrays(self, hosts: list[np.ndarray], many: bool) -> Any:
        made = tuple(self.array(a) for a in hosts)
        return made if many else made[0]

    def fit(self, dx: Any, call: _Call) -> Any:
        """dx where it has x's shape; else random numbers that do, so that the layers before a wrong one can still be checked."""
        floating = any(a.dtype.kind == "f" for a in call.x)
        if not floating or [getattr(d, "shape", None) for d in _hosts(dx)] == [a.shape for a in call.x]:
            return dx
        if isinstance(dx, tuple) and [d is None or d.shape == a.shape for d, a in zip(dx, call.x)] == [True] * len(call.x):
            return dx
        return self.arrays([self.rng.standard_normal(a.shape) for a in call.x], call.many)

    # The order of the whole: the loss, the layers from the last to the first, containers after what they hold, end to end.

    def all(self, net: Layer, layout: Layout, flat: np.ndarray, x: Any, loss: Any, t: Any, weights: Any) -> list[Row]:
        xp = self.backend.xp
        xs, many = [_host(a) for a in (x if isinstance(x, tuple) else (x,))], isinstance(x, tuple)
        for a in xs:
            if not a.size or not np.all(np.isfinite(a)):
                raise ValueError("gradient_check takes an x with at least one entry, all of them finite")
        params = layout.views(xp, self.array(flat))
        root, done = self.run(net, params, self.arrays(xs, many))
        for call in root.walk():
            if not call.inner and not all(np.all(np.isfinite(y)) for y in call.y):
                raise ValueError(f"the output of {call.where} is not finite here; gradients are checked where it is")

        target = () if loss is None else tuple(self.array(a) for a in ((t,) if weights is None else (t, weights)))
        rows: list[Row] = []
        if loss is None:
            dy = [self.rng.standard_normal(y.shape) for y in root.y]
        else:
            dy, rows = self.loss(loss, root.y, target)
        root.backward(self.arrays(dy, len(dy) > 1), True)
        for call in done:
            rows += self.call(call)
        if not any(row.band == "wrong" for row in rows):
            rows += self.end_to_end(layout, flat, root, loss, target, dy)
        return rows

    def run(self, layer: Layer, params: dict[str, Any], x: Any, path: str = "", site: int = 0) -> tuple[_Call, list[_Call]]:
        """Run a layer under the trace: its call, ready for `backward`, and a list that the calls enter as their backward is done."""
        trace = _Trace(self.backend.xp, self.training, self.random_at(site), self.state).start(self, [], [])
        call = _Call(path, layer, params, x, site)
        y, call.backward = trace.listen(call, x, lambda: layer.forward(params, x, trace))
        return call, trace.done

    def random_at(self, site: int) -> Random:
        return Random(self.random.seed, self.random.step, site)

    def loss(self, loss: Any, y: list[np.ndarray], target: tuple[Array, ...]) -> tuple[list[np.ndarray], list[Row]]:
        """∂L/∂y and its row."""
        before, given = _hosts(target), self.arrays(y, len(y) > 1)
        value, dy = loss(given, *target)
        again = _hosts(loss(self.arrays(y, len(y) > 1), *target)[1])
        broken = []
        if _host(value).size != 1:
            broken.append(f"L is one number, got shape {_host(value).shape}")
        if not _same(y, _hosts(given)) or not _same(before, _hosts(target)):
            broken.append("the loss changes what it is given")
        dys = _hosts(dy)
        if not _same(dys, again):
            broken.append("the loss gives another gradient when it is called again")
        rows = [_law("loss", loss, "y", b) for b in broken]
        for i, yi in enumerate(y):
            def outputs(v: np.ndarray, i: int = i) -> list[np.ndarray]:
                return [_host(loss(self.arrays([*y[:i], v, *y[i + 1:]], len(y) > 1), *target)[0])]

            place = _Place(f"y[{i}]" if len(y) > 1 else "y", yi, dys[i] if i < len(dys) else None, [np.ones(())], outputs,
                           lambda v, f=outputs: [("", loss, f(v))], entries=True, leaf=True)
            rows += [] if broken else [self.place("loss", repr(loss), place, None)]
        if [getattr(d, "shape", None) for d in dys] != [a.shape for a in y]:
            dys = [self.rng.standard_normal(a.shape) for a in y]
        return dys, rows

    def call(self, call: _Call) -> list[Row]:
        """The rows of a layer, at the point and with the dy that it had in the network."""
        if any(inner.wrong for inner in call.holds):
            call.wrong = True
            return [Row(call.path, repr(call.layer), "all", band="unchecked", note="it holds a wrong layer")]
        rows = [_law(call.path, call.layer, "dy" if "dy" in b else "x", b) for b in call.changed]
        rows += [_law(call.path, call.layer, what, b) for what, b in self.laws(call)]
        # Numbers say nothing of a forward pass that is not a function.
        places = [] if any("forward" in row.note for row in rows) else list(self.places(call))
        checked = [self.place(call.path, repr(call.layer), place, call) for place in places]
        call.wrong = any(row.band == "wrong" for row in (*rows, *checked))
        if call.wrong:
            rows = self.hidden(call) + rows
        elif call.holds and not call.layer.params():
            return rows + [_together(call.path, repr(call.layer), checked)]
        if call.holds:
            checked = [row for row in checked if row.band == "wrong" or "." not in row.parameter]
        return rows + checked

    def hidden(self, call: _Call) -> list[Row]:
        """The children that a wrong layer runs inside a rule of its own (Dense's activation), by themselves, on normal numbers."""
        seen = {inner.path.rpartition(".")[2] for inner in call.inner}
        rows: list[Row] = []
        for name, child in call.layer.children().items():
            if name not in seen and len(call.y) == 1:
                z = self.array(self.rng.standard_normal(call.y[0].shape))
                path = f"{call.path}.{name}" if call.path else name
                root, done = self.run(child, call.params.get(name, {}), z, path)
                root.backward(self.arrays([self.rng.standard_normal(y.shape) for y in root.y], len(root.y) > 1), True)
                rows += [row for inner in done for row in self.call(inner) if row.band == "wrong"]
        return rows

    def places(self, call: _Call) -> Iterator[_Place]:
        """A layer's parameters and inputs, each as a place to vary."""
        assert call.dy is not None
        leaf = not call.holds

        def place(name: str, value: np.ndarray, gradient: Any, vary: Callable[[np.ndarray], tuple[Any, Any]], own: bool) -> _Place:
            def outputs(v: np.ndarray) -> list[np.ndarray]:
                ctx = Context(self.backend.xp, self.training, self.random_at(call.site), self.state)
                return _hosts(call.layer.forward(*vary(v), ctx)[0])

            def steps(v: np.ndarray) -> list[tuple[str, Any, list[np.ndarray]]]:
                root, _ = self.run(call.layer, *vary(v), call.path, call.site)
                return [(c.path, c.layer, c.y) for c in root.walk() if not c.inner]

            return _Place(name, value, gradient, call.dy or [], outputs, steps, entries=leaf or own, leaf=leaf)

        for name, p in _flatten(call.params, _host).items():
            yield place(name, p, call.grads.get(name), lambda v, name=name: (
                _replaced(call.params, name, self.array(v)), self.arrays(call.x, call.many)), own="." not in name)
        for i, xi in enumerate(call.x):
            if xi.dtype.kind == "f" and call.input_grad:
                yield place(f"x[{i}]" if call.many else "x", xi, call.dx[i] if i < len(call.dx) else None, lambda v, i=i: (
                    call.params, self.arrays([*call.x[:i], v, *call.x[i + 1:]], call.many)), own=False)

    def end_to_end(self, layout: Layout, flat: np.ndarray, root: _Call, loss: Any, target: tuple[Array, ...],
                   dy: list[np.ndarray]) -> list[Row]:
        """The whole: ∂L/∂θ as the layout collects it, a shared parameter moved in all its places at once, and ∂L/∂x."""
        xp = self.backend.xp
        grads = self.array(np.zeros_like(flat))
        layout.writer(xp, grads)(_unflatten({name: self.array(g) for name, g in root.grads.items()}, root.params))
        gradient = _host(grads)

        def run(flat: np.ndarray, xs: list[np.ndarray]) -> list[tuple[str, Any, list[np.ndarray]]]:
            made, _ = self.run(root.layer, layout.views(xp, self.array(flat)), self.arrays(xs, root.many))
            steps: list[tuple[str, Any, list[np.ndarray]]] = [(c.path, c.layer, c.y) for c in made.walk() if not c.inner]
            if loss is None:
                return [*steps, ("", root.layer, made.y)]
            return [*steps, ("", loss, [_host(loss(self.arrays(made.y, len(made.y) > 1), *target)[0])])]

        def place(name: str, value: np.ndarray, gradient: Any, vary: Callable[[np.ndarray], tuple[Any, Any]]) -> _Place:
            size = 0.0 if loss is None else sum(_largest(y) * float(np.linalg.norm(d)) for y, d in zip(root.y, dy))
            return _Place(name, value, gradient, dy if loss is None else [np.ones(())], lambda v: run(*vary(v))[-1][2],
                          lambda v: run(*vary(v)), entries=False, leaf=False, size=size)

        def moved(start: int, stop: int) -> Callable[[np.ndarray], tuple[Any, Any]]:
            return lambda v: (np.concatenate([flat[:start], np.reshape(v, (-1,)), flat[stop:]]), root.x)

        places = [place(slot.paths[0], np.reshape(flat[slot.start:slot.stop], slot.param.shape),
                        np.reshape(gradient[slot.start:slot.stop], slot.param.shape), moved(slot.start, slot.stop))
                  for slot in layout.slots]
        places += [place(f"x[{i}]" if root.many else "x", xi, root.dx[i],
                         lambda v, i=i: (flat, [*root.x[:i], v, *root.x[i + 1:]]))
                   for i, xi in enumerate(root.x) if xi.dtype.kind == "f"]
        rows = [self.place("", "end to end", p, root) for p in places]
        wrong = [row for row in rows if row.band == "wrong"]
        return wrong or [_together("", "end to end", rows)]

    # One gradient.

    def place(self, path: str, layer: str, place: _Place, call: _Call | None) -> Row:
        """The row of one array."""
        a = place.gradient
        mismatch = _mismatch(place)
        if mismatch or a is None:
            note, cause = mismatch
            return Row(path, layer, place.name, place.value.shape, band="wrong", note=note, cause=cause)
        index = self.entries(a)
        seen = _Seen()
        if len(index) < a.size or not place.entries:
            for _ in range(DIRECTIONS):
                v = self.rng.standard_normal(a.shape)
                seen.add(None, *self.compare(place, v, STEP * max(1.0, float(np.sqrt(np.mean(place.value ** 2)))), float(np.sum(a * v))))
        if place.entries or seen.kinks or not seen.error <= self.tolerance:
            for i in index:
                v = np.zeros(a.size)
                v[i] = 1.0
                seen.add(i, *self.compare(place, np.reshape(v, a.shape), STEP * max(1.0, abs(float(place.value.flat[i]))),
                                          float(a.flat[i])))
        band = "unchecked" if not seen.checked else _band(seen.error, self.tolerance)
        cause = ""
        if band == "wrong":
            cause = _guess(self, place, call, np.array(seen.index, dtype=np.int64))
        return Row(path, layer, place.name, a.shape, seen.error, band, seen.checked, seen.kinks, seen.note, cause)

    def entries(self, a: np.ndarray) -> np.ndarray:
        """Which entries are compared: all of a small array, else the largest and random others."""
        if a.size <= self.max_entries:
            return np.arange(a.size)
        order = np.argsort(-np.abs(np.reshape(a, (-1,))))
        half = self.max_entries // 2
        return np.sort(np.concatenate([order[:half], self.rng.choice(order[half:], self.max_entries - half, replace=False)]))

    def compare(self, place: _Place, v: np.ndarray, h: float, a: float) -> tuple[float, str]:
        """The relative error of a along v, or in words the kink that x sits on."""
        n, rounding = place.slope(v, h)
        error = _error(a, n, rounding)
        if error < RIGHT:
            return error, ""
        kink, h = place.kink(v, h), h / SHRINK
        finer, rounding = place.slope(v, h)
        if kink:
            low, high = place.hull(v, h) if place.leaf else (-math.inf, math.inf)
            slack = rounding + 1e-6 * max(abs(low), abs(high)) if place.leaf else 0.0
            if low - slack <= a <= high + slack:
                return math.nan, kink
        # A kink that lies between the two steps, or a steep third derivative: the smaller step is the better one.
        return (_error(a, finer, rounding) if abs(finer - n) > rounding else error), ""

    # The laws that a gradient alone does not show.

    def laws(self, call: _Call) -> Iterator[tuple[str, str]]:
        assert call.dy is not None
        ctx = Context(self.backend.xp, self.training, self.random_at(call.site), self.state)
        y, _ = call.layer.forward(call.params, self.arrays(call.x, call.many), ctx)
        if not _same(call.y, _hosts(y)):
            yield "y", "forward gives another y when it is called again: random numbers come from ctx.random, state from ctx.state"
            return
        for e in y if isinstance(y, tuple) else (y,):
            if self.backend.xp.isdtype(e.dtype, "real floating") and e.dtype != self.backend.xp.float64:
                yield "y", f"y is {e.dtype} for an x of float64 (law 6)"

        extra = sorted(set(call.grads) - set(_flatten(call.params)))
        if extra:
            yield extra[0], f"grads has {extra[0]!r}, which is no parameter (parameters: {', '.join(_flatten(call.params)) or 'none'})"

        def again(input_grad: bool = True) -> list[Any]:
            dx, grads = call.backward(self.arrays(call.dy or [], len(call.dy or []) > 1), input_grad)
            found = _flatten(grads, _host)
            return [*(_hosts(dx) if input_grad else ()), *(found[name] for name in sorted(found))]

        first = [*call.dx, *(call.grads[name] for name in sorted(call.grads))]
        if call.input_grad and all(d is None or d.shape == a.shape for d, a in zip(call.dx, call.x)):
            if not _alike(first, again()):
                yield "x" if not call.params else next(iter(_flatten(call.params))), (
                    "backward is not repeatable: called again with the same dy it gives another answer, so it accumulates or "
                    "changes what it closed over (law 2)")
                return
            other = [0.5 * a if a.dtype.kind == "f" else np.flip(a, axis=0) for a in call.x]
            ctx = Context(self.backend.xp, self.training, self.random_at(call.site), self.state)
            call.layer.forward(call.params, self.arrays(other, call.many), ctx)
            if not _alike(first, again()):
                yield "x", ("backward gives another answer after another forward pass: forward keeps on self what belongs in the "
                            "closure (law 3)")
                return
            if not _alike(first[len(call.dx):], again(input_grad=False)):
                yield "x", "backward(dy, input_grad=False) gives other gradients of the parameters (law 9)"


class _Seen:
    """What comparisons have shown: the largest error, how many, and those on a kink."""

    def __init__(self) -> None:
        self.error, self.checked, self.kinks, self.note = math.nan, 0, 0, ""
        self.index: list[int] = []                        # the entries that were judged

    def add(self, index: int | None, error: float, kink: str) -> None:
        if kink:
            self.kinks += 1
            self.note = self.note or kink
            return
        self.checked += 1
        error = error if error == error else math.inf     # not a number: not right either
        self.error = error if math.isnan(self.error) else max(self.error, error)
        if index is not None:
            self.index.append(int(index))


def _band(error: float, tolerance: float) -> str:
    if not error <= tolerance:
        return "wrong"
    return "right" if error < RIGHT else "suspicious"


def _law(path: str, layer: Any, parameter: str, broken: str) -> Row:
    return Row(path, repr(layer), parameter, band="wrong", note=broken, cause=broken)


def _together(path: str, layer: str, rows: list[Row]) -> Row:
    """One row for the gradients of a container, none of which is wrong."""
    if not rows:
        return Row(path, layer, "all", error=0.0)
    worst = max(rows, key=lambda row: row.error if row.error == row.error else -1.0)
    note = next((row.note for row in rows if row.note), "")
    return Row(path, layer, "all", (), worst.error, worst.band, sum(row.checked for row in rows), sum(row.kinks for row in rows), note)


# The cause, guessed: a is compared with what common mistakes would give.

def _mismatch(place: _Place) -> tuple[str, str]:
    """For a gradient that is missing or of another shape: that, and a guess why. Empty where the shape is right."""
    a, name, shape = place.gradient, place.name, place.value.shape
    if a is None:
        return f"backward returns no gradient of {name}", "the gradient is missing"
    if a.shape == shape:
        return "", ""
    note = f"∂L/∂{name} has shape {a.shape}, {name} has {shape}"
    if len(shape) > 1 and a.shape == shape[::-1]:
        return note, f"{note}; guess: transposed"
    if len(a.shape) > len(shape) and a.shape[len(a.shape) - len(shape):] == shape:
        return note, f"{note}; guess: the sum over the batch is missing ({name} is broadcast in forward)"
    return note, note


def _guess(check: _Check, place: _Place, call: _Call | None, index: np.ndarray) -> str:
    """What would make a equal to n, at the entries `index`; empty where nothing fits."""
    if not len(index):
        return ""
    n = _columns(place, index)
    found = next((words for left, right, words in _suspects(check, place, call, index, n) if _near(left, right)), "")
    return f"guess: {found}" if found else ""


def _columns(place: _Place, index: np.ndarray) -> np.ndarray:
    """dy ⊙ ∂y/∂xᵢ for each entry i, one a row: n is the sum of a row, and its parts say more."""
    rows = []
    for i in index:
        h = STEP * max(1.0, abs(float(place.value.flat[i])))
        v = np.zeros(place.value.size)
        v[i] = h
        v = np.reshape(v, place.value.shape)
        plus, minus = place.outputs(place.value + v), place.outputs(place.value - v)
        rows.append(np.concatenate([np.reshape((p - m) * d / (2.0 * h), (-1,)) for p, m, d in zip(plus, minus, place.dy)]))
    return np.stack(rows)


def _suspects(check: _Check, place: _Place, call: _Call | None, index: np.ndarray,
              columns: np.ndarray) -> Iterator[tuple[Any, Any, str]]:
    """(left, right, words): where the two are equal, the words are the guess. The plainest first."""
    full, a_full, n = len(index) == place.value.size, place.gradient, np.sum(columns, axis=1)
    assert a_full is not None
    a, zero = np.reshape(a_full, (-1,))[index], np.zeros(len(index))
    dy = place.dy[0]
    if not np.all(np.isfinite(a)):
        yield 0.0, 0.0, "an overflow or a division by zero: it is not finite"
        return
    yield n, zero, "it should be 0: the output does not depend on it"
    yield a, zero, "it is 0: the term is missing"
    c = float(np.dot(a, n) / np.dot(n, n)) if np.any(n) else 1.0
    words = _factor(c, dy.shape if dy.ndim else place.value.shape)
    if words or np.sum(np.abs(n) > 1e-6 * _largest(n)) > 2:
        yield a, c * n, words or f"off by a factor of {c:.4g}"

    if a_full.ndim == 2:
        yield np.reshape(np.reshape(a_full.T, a_full.shape), (-1,))[index], n, "transposed"
    if dy.shape == place.value.shape:
        d = np.reshape(dy, (-1,))[index]
        yield a, d, "it is dy itself: the factor f' is missing"
        yield a + d, n, "it lacks a term dy: the skip path is missing"
        yield a - d, n, "it has dy once too often"
    if call is not None:
        yield from _suspects_of_layer(check, place, call, index, a, n)
    if columns.shape[1] == place.value.size and dy.shape == place.value.shape:
        yield a, columns[np.arange(len(index)), index], ("only the diagonal of the Jacobian is there: an output also depends on "
                                                         "the other inputs, as in softmax")
    if dy.ndim and dy.shape[0] > 1 and columns.shape[1] == dy.size:
        samples = np.sum(np.reshape(columns, (len(index), dy.shape[0], -1)), axis=2)
        yield a, samples[:, 0], "it is the gradient of the first sample only: the sum over the batch is missing"
        yield a, samples[:, -1], "it is the gradient of the last sample only: the sum over the batch is missing"
    if call is None:
        yield from _suspects_of_loss(place, index, n)
    if full:
        missing = np.reshape(a - n, place.value.shape)
        for axis, words in ((-1, "the last axis"), (0, "the batch")):
            if place.value.ndim > 1 and place.value.shape[axis] > 1:
                yield missing, np.mean(missing, axis=axis, keepdims=True) + 0.0 * missing, (
                    f"it is off by the same amount along {words}: the path through a mean or a sum over {words} is missing")
        if len(index) > 2:
            yield np.sort(a), np.sort(n), "the right numbers in another order: transposed, flipped, or parts swapped"
    either = (a == 0.0) != (np.abs(n) < 1e-9 * _largest(n))
    if np.any(either) and np.any(n[~either]):
        c = float(np.dot(a[~either], n[~either]) / np.dot(n[~either], n[~either]))
        yield a[~either], c * n[~either], f"zero at other entries than it should be ({np.sum(either)} of {len(index)}): another mask"


def _suspects_of_layer(check: _Check, place: _Place, call: _Call, index: np.ndarray, a: np.ndarray,
                       n: np.ndarray) -> Iterator[tuple[Any, Any, str]]:
    """The mistakes that need the layer to be recognised."""
    layer = call.layer
    if isinstance(layer, Activation) and call.dy is not None:
        wrong, right, s = ("input", "output", call.y) if layer.saves == "input" else ("output", "input", call.x)
        df = _host(layer.df(check.backend.xp, check.array(call.dy[0]), check.array(s[0])))
        yield np.reshape(df, (-1,))[index], n, f"df is given the {wrong} but is written in the {right}: saves = {right!r} is missing"
    for name, p in _flatten(call.params, _host).items():
        if p.ndim == 2 and p.shape[0] == p.shape[1] and place.name.startswith("x") and place.leaf:
            ctx = Context(check.backend.xp, check.training, check.random_at(call.site), check.state)
            turned = _replaced(call.params, name, check.array(p.T))
            _, back = call.layer.forward(turned, check.arrays(call.x, call.many), ctx)
            i = 0 if not call.many else int(place.name[2:-1])
            other = _turned_slope(check, call, turned, i, index)
            yield a, other, f"{name} is transposed: {name} stands where {name}ᵀ belongs, or the reverse"
    uses: dict[str, list[np.ndarray]] = {}
    for inner in call.walk():
        if inner is not call and inner.dy is not None:
            prefix = inner.path[len(call.path):].lstrip(".")
            for name, g in inner.grads.items():
                if "." not in name:
                    uses.setdefault(f"{prefix}.{name}", []).append(g)
            for d in inner.dx:
                uses.setdefault("x", []).append(d)
    for g in uses.get(place.name, []):
        if g is not None and g.shape == place.value.shape and len(uses[place.name]) > 1:
            yield a, np.reshape(g, (-1,))[index], "it is the gradient of one use only: where a value is used more than once, gradients add"

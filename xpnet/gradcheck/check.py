"""The check: its way through the network, and the rows that it leaves."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend import Backend, Random, backend_of, get_backend
from ..layer import Layer, walk_buffers
from ..layout import Layout, Slot
from ..model import Model
from .arrays import host, hosts, largest, swapped
from .calls import Call, Runner, Step
from .causes import guess, misfit
from .differences import RIGHT, Place, at_input, inputs, places, step
from .laws import broken_laws
from .report import Report, Row, law, together

WRONG = 1e-4
DIRECTIONS = 2


def gradient_check(model_or_layer: Model | Layer, x: Any, loss: Any = None, t: Any = None, *, weights: Any = None,
                   training: bool = True, seed: int = 0, max_entries: int = 64, tolerance: float = WRONG) -> Report:
    """Compare every gradient of a network or layer, and of a loss, with finite differences; name the first that is wrong.

        assert gradient_check(model, x, SoftmaxCrossEntropy(), t).ok
        print(gradient_check(MyLayer(), x))

    model_or_layer  a Model, at its parameters; or a layer, at its initial ones plus normal noise of 0.1 (a bias of 0 hides mistakes)
    x               an array or a tuple of arrays; integers (tokens) are not differentiated
    loss, t         a loss and its target; without them L = ⟨y, r⟩ with fixed normal numbers r
    weights         sample weights of the loss
    training        whether dropout drops; if so, the same units in every forward pass
    seed            of r, of a lone layer's parameters, and of the choice of entries and directions
    max_entries     how many entries of an array are compared one by one: of a larger one, the largest and random others
    tolerance       the relative error above which a gradient is wrong

    Runs in float64 whatever the model's dtype, on the backend of the model or of x, and changes nothing of them. Where the backend
    has no float64 it runs in NumPy, and says so: the formulas there are the same text.
    Returns a Report: `.ok`, `.first_wrong`, `.cause`, `.rows`; it prints as a table. Raises ValueError for an x or an output that
    is not finite, TypeError for what is not a layer, a loss, or a backward as xpnet/layer.py describes it.
    """
    if not isinstance(model_or_layer, (Model, Layer)):
        raise TypeError(f"gradient_check takes a Model or a layer such as ReLU(), got {model_or_layer!r}")
    if isinstance(loss, type) or (loss is not None and not callable(loss)):
        raise TypeError(f"gradient_check takes a loss such as MeanSquaredError(), got {loss!r}")
    if (loss is None) != (t is None):
        raise ValueError("gradient_check takes a loss and its target t together, or neither")
    if max_entries < 1 or not tolerance > 0:
        raise ValueError(f"max_entries is from 1 on and tolerance positive, got {max_entries!r} and {tolerance!r}")
    rng = np.random.default_rng((seed, 0x6772))            # not default_rng(seed), which may have drawn x: r would be x
    if isinstance(model_or_layer, Model):
        model, net, layout = model_or_layer, model_or_layer.net, model_or_layer.layout
        backend, random, state = model.backend, Random(model.seed, model.step), model.state
        theta = host(model.params)
    else:
        net, layout = model_or_layer, Layout(model_or_layer)
        backend, random = backend_of(x[0] if isinstance(x, tuple) else x), Random(seed)
        state = {b: b.init(np.random.default_rng(seed), b.shape) for _, b in walk_buffers(net)}
        theta = layout.initial_vector(seed) + 0.1 * rng.standard_normal(layout.size)
    notes = []
    if not _has_float64(backend):
        notes.append(f"Backend {backend.name!r} has no float64: checked with NumPy on the host.")
        backend = get_backend("numpy")
    with backend:
        check = _Check(Runner(backend, training, random, state, rng), max_entries, tolerance)
        return Report(check.everything(net, layout, theta, x, loss, t, weights), notes)


def _has_float64(backend: Backend) -> bool:
    try:
        backend.zeros((1,), backend.xp.float64)
        return True
    except (AttributeError, TypeError, ValueError):
        return False


class _Check:
    """One gradient check: the loss, the layers from the last to the first with each container after what it holds, end to end."""

    def __init__(self, runner: Runner, max_entries: int, tolerance: float):
        self.runner, self.max_entries, self.tolerance = runner, max_entries, tolerance

    def everything(self, net: Layer, layout: Layout, theta: np.ndarray, x: Any, loss: Any, t: Any, weights: Any) -> list[Row]:
        runner, xs, many = self.runner, hosts(x), isinstance(x, tuple)
        for a in xs:
            if not a.size or not np.all(np.isfinite(a)):
                raise ValueError("gradient_check takes an x with at least one entry, and finite numbers only")
        root, backward, done = runner.trace("", net, layout.views(runner.backend.xp, runner.array(theta)), xs, many)
        for call in root.innermost:
            if not all(np.all(np.isfinite(y)) for y in call.y):
                raise ValueError(f"the output of {call!r} is not finite here; choose an x and parameters where it is")

        rows: list[Row] = []
        if loss is None:
            evaluate, dy = None, runner.normal(root.y)
        else:
            evaluate = runner.evaluator(loss, root, t, weights)
            dy, rows = self.loss(loss, evaluate, root)
        dx, grads = backward(runner.arrays(dy, root.y_many), True)
        for call in done:
            rows += self.call(call)
        if not any(row.band == "wrong" for row in rows):
            rows += self.end_to_end(layout, theta, root, hosts(dx), grads, loss, evaluate, dy)
        return rows

    def loss(self, loss: Any, evaluate: Callable[..., Any], root: Call) -> tuple[list[np.ndarray], list[Row]]:
        """∂L/∂y, and its rows."""
        y = root.y
        value, dy, kept = evaluate(y)
        if value.size != 1:
            raise ValueError(f"the loss {loss!r} returns one number and ∂L/∂y, got an L of shape {value.shape}")

        def outputs(given: list[np.ndarray]) -> list[np.ndarray]:
            return [np.reshape(evaluate(given)[0], ())]

        def at(i: int) -> Callable[[np.ndarray], tuple[Any, ...]]:
            return lambda v: (swapped(y, i, v),)

        rows = [] if kept else [law("loss", repr(loss), "y", "the loss changes the y that it is given")]
        rows += [self.place("loss", repr(loss), None, Place(
            f"y[{i}]" if root.y_many else "y", yi, dy[i] if i < len(dy) else None, [np.ones(())], at(i), outputs,
            lambda given: [("", loss, outputs(given))], leaf=True, by_entry=True)) for i, yi in enumerate(y) if yi.dtype.kind == "f"]
        fits = [getattr(d, "shape", None) for d in dy] == [a.shape for a in y]
        return (dy if fits else self.runner.normal(y)), rows

    def call(self, call: Call) -> list[Row]:
        """The rows of a layer, at the point and with the dy that it has in the network."""
        name = repr(call.layer)
        if any(inner.wrong for inner in call.holds):
            call.wrong = True
            return [Row(call.path, name, "all", band="unchecked", note="it holds a wrong layer")]
        if not any(np.any(d) for d in call.dy):           # a gradient of 0 is right whatever backward does: ask it another one
            call.dy = self.runner.normal(call.y)
            call.take(*self.runner.backward(call, call.input_grad))
        rows = [law(call.path, name, what, broken) for what, broken in broken_laws(self.runner, call)]
        rows += [self.place(call.path, name, call, place) for place in places(self.runner, call)]
        call.wrong = any(row.band == "wrong" for row in rows)
        if call.wrong:
            return [*self.hidden(call), *rows]
        return together(call.path, name, rows, own=call.layer.params()) if call.holds else rows

    def hidden(self, call: Call) -> Iterator[Row]:
        """What is wrong with the children that a wrong layer runs within a rule of its own, as Dense does its activation: they are
        checked by themselves, on normal numbers of y's shape.
        """
        runner = self.runner
        seen = {inner.path.rpartition(".")[2] for inner in call.inner}
        for name, child in call.layer.children().items():
            if name not in seen and child.keeps_features and child.in_features in (None, *call.y[0].shape[-1:]):
                path = f"{call.path}.{name}" if call.path else name
                alone, backward, done = runner.trace(path, child, call.params.get(name, {}), runner.normal(call.y), call.y_many)
                backward(runner.arrays(runner.normal(alone.y), alone.y_many), True)
                yield from (row for inner in done for row in self.call(inner) if row.band == "wrong")

    def end_to_end(self, layout: Layout, theta: np.ndarray, root: Call, dx: list[Any], grads: dict[str, Any], loss: Any,
                   evaluate: Callable[..., Any] | None, dy: list[np.ndarray]) -> list[Row]:
        """The whole: ∂L/∂θ as the layout collects it, a shared parameter moved in all its places at once, and ∂L/∂x."""
        runner, xp = self.runner, self.runner.backend.xp
        collected = runner.array(np.zeros_like(theta))
        layout.writer(layout.parts(xp, collected))(grads)
        gradient = host(collected)
        weigh = dy if evaluate is None else [np.ones(())]
        size = sum(largest(y) * float(np.linalg.norm(d)) for y, d in zip(root.y, dy))

        def head(y: list[np.ndarray]) -> list[np.ndarray]:
            return y if evaluate is None else [np.reshape(evaluate(y)[0], ())]

        def outputs(params: dict[str, Any], xs: list[np.ndarray]) -> list[np.ndarray]:
            return head(runner.forward(root, params, xs))

        def steps(params: dict[str, Any], xs: list[np.ndarray]) -> list[Step]:
            inside, y = runner.retrace(root, params, xs)
            return [*inside, ("", loss, head(y))]

        def compared(path: str, name: str, value: np.ndarray, gradient: Any, vary: Callable[[np.ndarray], tuple[Any, ...]]) -> Row:
            return self.place(path, "end to end", None, Place(name, value, gradient, weigh, vary, outputs, steps, leaf=False,
                                                              by_entry=False, size=size))

        def at_slot(slot: Slot) -> Callable[[np.ndarray], tuple[Any, ...]]:
            def vary(v: np.ndarray) -> tuple[Any, ...]:
                moved = np.concatenate([theta[:slot.start], np.reshape(v, (-1,)), theta[slot.stop:]])
                return layout.views(xp, runner.array(moved)), root.x
            return vary

        rows = []
        for slot in layout.slots:
            path, _, name = slot.paths[0].rpartition(".")
            value, g = (np.reshape(a[slot.start:slot.stop], slot.param.shape) for a in (theta, gradient))
            found = compared(path, name, value, g, at_slot(slot))
            shared = f"guess: {' and '.join(slot.paths)} are one parameter, and its gradients do not add"
            rows.append(found._replace(cause=shared) if found.band == "wrong" and len(slot.paths) > 1 else found)
        rows += [compared("", root.x_name(i), x, dx[i], at_input(root, i)) for i, x in inputs(root)]
        return [row for row in rows if row.band == "wrong"] or together("", "end to end", rows)

    # One gradient.

    def place(self, path: str, layer: str, call: Call | None, place: Place) -> Row:
        """The row of one array."""
        a = place.gradient
        note, cause = misfit(place)
        if note or a is None:
            return Row(path, layer, place.name, place.value.shape, band="wrong", note=note, cause=cause)
        index = self.choose(a)
        seen = _Seen()
        if len(index) < a.size or not place.by_entry:
            h = step(float(np.sqrt(np.mean(place.value ** 2))))
            for v in self.runner.rng.standard_normal((DIRECTIONS, *a.shape)):
                seen.add(*place.compare(v, h, float(np.sum(a * v))))
        if place.by_entry or seen.kinks or not seen.error <= self.tolerance:
            for i in index:
                if seen.add(*place.compare(*place.unit(i), float(a.flat[i]))):
                    seen.index.append(int(i))
        band = "unchecked" if not seen.checked else "wrong" if not seen.error <= self.tolerance else \
            "right" if seen.error < RIGHT else "suspicious"
        if band == "wrong" and seen.index:
            cause = guess(self.runner, place, call, np.array(seen.index))
        return Row(path, layer, place.name, a.shape, seen.error, band, seen.checked, seen.kinks, seen.note, cause)

    def choose(self, a: np.ndarray) -> np.ndarray:
        """The entries to compare: all of a small array, else the largest and random others."""
        if a.size <= self.max_entries:
            return np.arange(a.size)
        order = np.argsort(-np.abs(np.reshape(a, (-1,))))
        half = self.max_entries // 2
        others = self.runner.rng.choice(order[half:], self.max_entries - half, replace=False)
        return np.sort(np.concatenate([order[:half], others]))


class _Seen:
    """What the comparisons have shown: the largest error, how many were made, and those on a kink."""

    def __init__(self) -> None:
        self.error, self.checked, self.kinks, self.note = math.nan, 0, 0, ""
        self.index: list[int] = []                        # the entries that could be judged

    def add(self, error: float, kink: str) -> bool:
        if kink:
            self.kinks, self.note = self.kinks + 1, self.note or kink
            return False
        self.checked += 1
        error = math.inf if math.isnan(error) else error  # an output that is not a number near x
        self.error = error if math.isnan(self.error) else max(self.error, error)
        return True

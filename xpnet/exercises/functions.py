"""Grading a student's own function: it is run on fresh random arrays of many shapes, on any backend, and compared with the library and
with finite differences.

A function is called by name: what its signature names, of what the question says there is. These are the kinds:

    backward(dy, x, y, W, b)     -> dx, dW, db              the gradients, in the order of the question or as a dictionary
    layer(x, W, b)               -> y, backward             where backward(dy) gives the gradients
    loss(y, t)                   -> L, dy
    step(w, g, state, t, lr)     -> w                       state: a dictionary, empty at first, for what is kept between steps; t = 1, 2, …
    f(x)                         -> y                       a plain function
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend import Backend, Random, get_backend
from ..backend.registry import to_host
from ..gradcheck import Report, gradient_check
from ..layer import Context, Layer, Param, flatten
from ..layers import Identity
from ..losses import Loss
from ..model import Model
from .derivation import Parameters
from .grading import Verdict

Array = Any


class Wrong(Exception):
    """What is wrong with a function, in words."""


class Bench:
    """A backend, and the widest floating numbers that it has."""

    def __init__(self, backend: Any):
        self.backend: Backend = get_backend(backend)
        try:
            self.backend.zeros((1,), self.backend.xp.float64)
            self.dtype = "float64"
        except (AttributeError, TypeError, ValueError):
            self.dtype = "float32"
        self.tolerance = 1e-7 if self.dtype == "float64" else 1e-3

    def array(self, a: Any) -> Array:
        """A fresh array; floating numbers in the widest dtype, integers as they are."""
        host = np.array(to_host(a))
        return self.backend.asarray(host.astype(self.dtype) if host.dtype.kind == "f" else host)

    def compare(self, name: str, got: Any, expected: np.ndarray, where: str) -> None:
        """Raises Wrong where an array of the student's is not the library's."""
        try:
            a = np.asarray(to_host(got), dtype=np.float64)
        except (TypeError, ValueError):
            raise Wrong(f"{name} is a {type(got).__name__}, an array of shape {expected.shape} is expected{where}") from None
        if a.shape != expected.shape:
            raise Wrong(f"{name} has shape {a.shape}, {expected.shape} is expected{_shape_hint(a, expected)}{where}")
        if not np.all(np.isfinite(a)):
            raise Wrong(f"{name} is not finite{where}")
        if a.size and np.max(np.abs(a - expected)) > self.tolerance * max(1.0, float(np.max(np.abs(expected)))):
            raise Wrong(f"{name} is wrong{_value_hint(a, expected)}{where}")

    def unchanged(self, name: str, now: Array, before: np.ndarray) -> None:
        """Raises Wrong where the function has changed an array of the caller's."""
        if not np.array_equal(to_host(now), before.astype(self.dtype) if before.dtype.kind == "f" else before):
            raise Wrong(f"it changes {name}, which belongs to the caller")


def _shape_hint(a: np.ndarray, e: np.ndarray) -> str:
    if a.ndim == 2 and a.shape == e.shape[::-1]:
        return ": transposed"
    return ": the sum over the samples is missing" if a.ndim == e.ndim + 1 and a.shape[1:] == e.shape else ""


def _value_hint(a: np.ndarray, e: np.ndarray) -> str:
    def equal(b: np.ndarray) -> bool:
        return b.shape == a.shape and bool(np.allclose(a, b, rtol=1e-5, atol=1e-9))

    if not np.any(a):
        return ": it is 0"
    if equal(-e):
        return ": the sign is wrong"
    if a.ndim == 2 and equal(e.T):
        return ": it is transposed"
    c = float(np.sum(a * e) / max(np.sum(e * e), 1e-300))
    if c and equal(c * e):
        return f": it is {c:.3g} times as large as it should be"
    return ""


def call(function: Callable[..., Any], offered: Mapping[str, Any]) -> Any:
    """The function, given by name what its signature asks for. Raises Wrong where that is something else, or where it fails."""
    names = ", ".join(offered)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise Wrong(f"its signature cannot be read; write def f({names})") from None
    kinds = inspect.Parameter
    given = {}
    for p in parameters:
        if p.kind is kinds.VAR_KEYWORD:
            given = dict(offered)
        elif p.kind is kinds.VAR_POSITIONAL:
            raise Wrong(f"it takes *{p.name}; name what it is given: {names}")
    for p in parameters:
        if p.kind is kinds.VAR_KEYWORD:
            continue
        if p.kind is kinds.POSITIONAL_ONLY or (p.name not in offered and p.default is kinds.empty):
            raise Wrong(f"it takes {p.name!r}; it is called by name, with what it asks for of {names}")
        if p.name in offered:
            given[p.name] = offered[p.name]
    try:
        with np.errstate(all="ignore"):
            return function(**given)
    except (Exception, SystemExit) as e:
        raise Wrong(f"it raises {type(e).__name__}: {_first_line(e)}") from None


def _first_line(e: BaseException) -> str:
    return (str(e).splitlines() or [""])[0][:200]


def takes(function: Callable[..., Any], name: str) -> bool:
    """Is there a parameter of this name (or **anything)?"""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


class Task:
    """What a student's function is compared with. Subclasses write `check`, which raises Wrong.

    what   the signature and what is returned, as it stands in the question
    """

    what: str

    def check(self, function: Callable[..., Any], bench: Bench, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def grade(self, function: Callable[..., Any], backend: Any = "numpy", seed: int = 0) -> Verdict:
        """Run the function; whatever it does, the answer is a Verdict."""
        bench = Bench(backend)
        try:
            with bench.backend, np.errstate(all="ignore"):
                self.check(function, bench, np.random.default_rng(seed))
        except Wrong as e:
            return Verdict(False, str(e))
        except (Exception, SystemExit) as e:              # in the function, run from within the gradient check
            return Verdict(False, f"{type(e).__name__}: {_first_line(e)}")
        return Verdict(True)


# Layers.


@dataclass
class Probe:
    """A layer, the input that it gets, and what the function is offered beside x, y and the parameters."""

    layer: Layer
    x: np.ndarray
    extra: Mapping[str, Any] = field(default_factory=dict)
    training: bool = True


@dataclass
class LayerTask(Task):
    """A layer or its backward pass.

    probes  the layers and inputs it is run on
    params  {the student's name: the path in the layer}
    output  the student's name for y, of which dy is the gradient
    """

    what: str
    probes: Callable[[np.random.Generator], Iterator[Probe]]
    params: Mapping[str, str] = field(default_factory=dict)
    output: str = "y"

    @property
    def gradients(self) -> list[str]:
        return ["dx", *(f"d{name}" for name in self.params)]

    def check(self, function: Callable[..., Any], bench: Bench, rng: np.random.Generator) -> None:
        for probe in self.probes(rng):
            self.compare(Student(self, function, probe), bench, rng)
        for probe in self.probes(rng):                    # and finite differences; and whether it can be called twice, and changes nothing
            model = Model(Student(self, function, probe), bench.backend, bench.dtype, seed=1)
            model.params = rng.standard_normal(model.layout.size)
            report = gradient_check(model, bench.array(probe.x), training=probe.training)
            if not report.ok:
                raise Wrong(report.verdict())

    def compare(self, student: "Student", bench: Bench, rng: np.random.Generator) -> None:
        """y and the gradients, against the library's."""
        probe, xp = student.probe, bench.backend.xp
        values = {name: rng.standard_normal(p.shape) for name, p in student.params().items()}

        def fresh() -> dict[str, Array]:
            return {name: bench.array(v) for name, v in values.items()}

        y, back = student.library(fresh(), bench.array(probe.x), xp)
        dy = rng.standard_normal(tuple(y.shape))
        dx, grads = back(bench.array(dy), True)
        grads = flatten(grads)
        expected = dict(zip(self.gradients, (to_host(g) for g in (dx, *(grads[path] for path in self.params.values())))))
        where = f" (x of shape {tuple(probe.x.shape)})"
        own_y, own_back = student.run(fresh(), bench.array(probe.x), xp)
        bench.compare(self.output, own_y, np.asarray(to_host(y), dtype=np.float64), where)
        gradients = student.read(own_back(bench.array(dy)))
        for name, e in expected.items():
            bench.compare(name, gradients[name], np.asarray(e, dtype=np.float64), where)


class Student(Layer):
    """A student's function as a layer, so that the gradient check can judge it."""

    def __init__(self, task: LayerTask, function: Callable[..., Any], probe: Probe):
        self.task, self.function, self.probe = task, function, probe
        self.is_backward = takes(function, f"d{task.output}")
        shapes = {path: p.shape for path, p in _params(probe.layer).items()}
        self.declared = {name: Param(shapes[path], "zeros") for name, path in task.params.items()}

    def params(self) -> dict[str, Param]:
        return self.declared

    def library(self, params: Mapping[str, Any], x: Array, xp: Any) -> tuple[Any, Callable[..., Any]]:
        """The library's layer, with always the same random numbers."""
        nested: dict[str, Any] = _tree(self.probe.layer)
        for name, path in self.task.params.items():
            *containers, last = path.split(".")
            inner = nested
            for c in containers:
                inner = inner[c]
            inner[last] = params[name]
        return self.probe.layer.forward(nested, x, Context(xp, self.probe.training, Random(1)))

    def run(self, params: Mapping[str, Any], x: Array, xp: Any) -> tuple[Any, Callable[..., Any]]:
        """y, and the function's backward."""
        y, _ = self.library(params, x, xp)
        offered = {"x": x, **params, **{n: v(x, xp) if callable(v) else v for n, v in self.probe.extra.items()}}
        if self.is_backward:
            offered = {"x": x, self.task.output: y, **offered}
            return y, lambda dy: call(self.function, {f"d{self.task.output}": dy, **offered})
        made = call(self.function, offered)
        if not (isinstance(made, (tuple, list)) and len(made) == 2 and callable(made[1])):
            raise Wrong(f"it returns {self.task.output}, backward; got {_kind(made)}")
        y, backward = made
        return y, lambda dy: _positional(backward, dy)

    def read(self, made: Any) -> dict[str, Any]:
        """The gradients by name."""
        names = self.task.gradients
        if isinstance(made, Mapping):
            for name in names:
                if name not in made:
                    raise Wrong(f"there is no {name!r} in what it returns")
            return dict(made)
        if isinstance(made, (tuple, list)):
            if len(made) != len(names):
                raise Wrong(f"it returns {', '.join(names)}: {len(names)} arrays, got {len(made)}")
            return dict(zip(names, made))
        if len(names) > 1:
            raise Wrong(f"it returns {', '.join(names)}, got {_kind(made)}")
        return {names[0]: made}

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Any]:
        y, back = self.run(params, x, ctx.xp)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            made = self.read(back(dy))
            return (made["dx"] if input_grad else None), {name: made[f"d{name}"] for name in self.declared}

        return y, backward

    def __repr__(self) -> str:
        return "your function"


def _params(layer: Layer, path: str = "") -> dict[str, Param]:
    own = {f"{path}{name}": p for name, p in layer.params().items()}
    return own | {k: v for name, child in layer.children().items() for k, v in _params(child, f"{path}{name}.").items()}


def _tree(layer: Layer) -> dict[str, Any]:
    return dict.fromkeys(layer.params()) | {name: _tree(child) for name, child in layer.children().items()}


def _positional(backward: Callable[..., Any], dy: Array) -> Any:
    try:
        return backward(dy)
    except Wrong:
        raise
    except (Exception, SystemExit) as e:
        raise Wrong(f"its backward raises {type(e).__name__}: {_first_line(e)}") from None


def _kind(made: Any) -> str:
    return f"{len(made)} things" if isinstance(made, (tuple, list)) else type(made).__name__


# Losses.


@dataclass
class LossTask(Task):
    """A loss of (y, t), or (z, t): `names` are what the student calls the two.

    probes  (the library's loss, y, t, what else is offered by name, whether finite differences make sense)
    """

    what: str
    probes: Callable[[np.random.Generator], Iterator[tuple[Loss, np.ndarray, np.ndarray, dict[str, Any], bool]]]
    names: tuple[str, str] = ("y", "t")

    def check(self, function: Callable[..., Any], bench: Bench, rng: np.random.Generator) -> None:
        for loss, y, t, extra, differentiable in self.probes(rng):
            L, dy = loss(bench.array(y), bench.array(t))
            given = bench.array(y), bench.array(t)
            own, own_dy = self.run(function, *given, extra)
            where = f" ({self.names[0]} of shape {y.shape}{', with large numbers' if not differentiable else ''}{_words(extra)})"
            bench.compare("L", own, np.asarray(to_host(L), dtype=np.float64), where)
            try:
                bench.compare(f"d{self.names[0]}", own_dy, np.asarray(to_host(dy), dtype=np.float64), where)
            except Wrong as e:
                raise Wrong(f"{e}{self.cause(function, bench, y, t, extra)}") from None
            for name, now, before in zip(self.names, given, (y, t)):
                bench.unchanged(name, now, before)
            if differentiable:
                report = self.report(function, bench, y, t, extra)
                if not report.ok:
                    raise Wrong(report.verdict())

    def report(self, function: Callable[..., Any], bench: Bench, y: np.ndarray, t: np.ndarray, extra: dict[str, Any]) -> Report:
        model = Model(Identity(), bench.backend, bench.dtype)
        return gradient_check(model, bench.array(y), self.loss(function, extra), bench.array(t))

    def cause(self, function: Callable[..., Any], bench: Bench, y: np.ndarray, t: np.ndarray, extra: dict[str, Any]) -> str:
        """What the gradient check guesses, where it has a guess."""
        try:
            cause = self.report(function, bench, y, t, extra).cause
        except Exception:
            return ""
        return f"; {cause}" if cause else ""

    def run(self, function: Callable[..., Any], y: Array, t: Array, extra: dict[str, Any]) -> tuple[Any, Any]:
        made = call(function, {self.names[0]: y, self.names[1]: t, **extra})
        if not (isinstance(made, (tuple, list)) and len(made) == 2):
            raise Wrong(f"it returns L, d{self.names[0]}; got {_kind(made)}")
        return made[0], made[1]

    def loss(self, function: Callable[..., Any], extra: dict[str, Any]) -> Loss:
        task = self

        class Own(Loss):
            def __call__(self, y: Array, t: Array, weights: Any = None) -> tuple[Any, Any]:
                L, dy = task.run(function, y, t, extra)
                return np.asarray(to_host(L)), dy

            def takes_classes(self, y: Array, t: Array) -> bool:
                return t.dtype.kind in "iu" if isinstance(t, np.ndarray) else "int" in str(t.dtype)

            def __repr__(self) -> str:
                return "your function"

        return Own()


def _words(extra: Mapping[str, Any]) -> str:
    return "".join(f", {name} = {v!r}" for name, v in extra.items())


# Optimizers.


@dataclass
class OptimizerTask(Task):
    """One step of an optimizer: step(w, g, state, t, lr, …) -> w.

    probes  (the library's optimizer, what the function is offered beside w, g, state and t)
    """

    what: str
    probes: Callable[[np.random.Generator], Iterator[tuple[Any, dict[str, Any]]]]
    steps: int = 5

    def check(self, function: Callable[..., Any], bench: Bench, rng: np.random.Generator) -> None:
        for size in (1, 3, 6):
            for optimizer, extra in self.probes(rng):
                w = rng.standard_normal(size)
                model = Model(Parameters(w), bench.backend, bench.dtype)
                own, state = bench.array(w), dict[str, Any]()
                for t in range(1, self.steps + 1):
                    g = rng.standard_normal(size) * 10.0 ** rng.integers(-1, 2)
                    optimizer.step(model, bench.array(g))
                    given = bench.array(g)
                    own = call(function, {"w": own, "g": given, "state": state, "t": t, **extra})
                    where = f" after step {t}{self.seen(t)}{_words(extra)}"
                    bench.compare("w", own, np.asarray(to_host(model.params), dtype=np.float64), where)
                    bench.unchanged("g", given, g)
                    own = bench.array(own)

    def seen(self, t: int) -> str:
        return "" if t == 1 else ", the steps before were right: what is kept between steps?"


# Plain functions.


@dataclass
class FunctionTask(Task):
    """A plain function.

    result  what it returns, by name
    probes  (what it is offered by name, what it should give), on the host
    """

    what: str
    result: str
    probes: Callable[[np.random.Generator], Iterator[tuple[dict[str, Any], np.ndarray]]]

    def check(self, function: Callable[..., Any], bench: Bench, rng: np.random.Generator) -> None:
        for offered, expected in self.probes(rng):
            given = {name: bench.array(v) if isinstance(v, np.ndarray) else v for name, v in offered.items()}
            made = call(function, given)
            big = any(isinstance(v, np.ndarray) and v.size and np.max(np.abs(v)) > 500 for v in offered.values())
            bench.compare(self.result, made, expected, " for large numbers" if big else "")
            for name, v in offered.items():
                if isinstance(v, np.ndarray):
                    bench.unchanged(name, given[name], v)


__all__ = ["FunctionTask", "LayerTask", "LossTask", "OptimizerTask", "Probe", "Task"]

"""What happened: the network is run once, and every layer in it leaves a Call."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend import Backend, Random
from ..data import check_labels
from ..layer import Backward, Context, Layer, flatten
from ..losses import Loss
from .arrays import host, hosts, same

Array = Any
Step = tuple[str, Any, list[np.ndarray]]                  # the path of an innermost layer, the layer, its outputs


class Call:
    """One run of one layer: what it was given and what it gave, as copies on the host, made before anything could change them."""

    def __init__(self, path: str, layer: Layer, params: dict[str, Any], x: Any, site: int):
        self.path, self.layer, self.params, self.site = path, layer, params, site
        self.x, self.many = hosts(x), isinstance(x, tuple)
        self.inner: list[Call] = []                       # the layers that it ran, in order
        self.changed: list[tuple[str, str]] = []          # what it wrote into that was not its own, and when
        self.wrong = False
        self.input_grad = True
        self.y: list[np.ndarray]
        self.y_many = False                               # whether y is a tuple
        self.dy: list[np.ndarray] = []                    # empty: its backward was not called
        self.dx: list[Any]
        self.grads: dict[str, np.ndarray]                 # by name, such as "W", or "0.W" for a container
        self.backward: Backward                           # the layer's own

    def walk(self) -> Iterator["Call"]:
        """This call and those inside it, in forward order."""
        yield self
        for call in self.inner:
            yield from call.walk()

    @property
    def innermost(self) -> list["Call"]:
        return [call for call in self.walk() if not call.inner]

    @property
    def holds(self) -> list["Call"]:
        """The calls inside that took part in the backward pass."""
        return [call for call in self.inner if call.dy]

    def take(self, dx: Any, grads: dict[str, Any]) -> None:
        self.dx, self.grads = hosts(dx), flatten(grads, host)

    def x_name(self, i: int) -> str:
        return f"x[{i}]" if self.many else "x"

    def watch(self, when: str, given: dict[str, Any], run: Callable[[], Any]) -> Any:
        """Run, and note what of the given arrays has changed."""
        before = {name: flatten(value, hosts) for name, value in given.items()}
        result = run()
        for name, value in given.items():
            after = flatten(value, hosts)
            if any(not same(a, after[key]) for key, a in before[name].items()):
                self.changed.append((name, when))
        return result

    def __repr__(self) -> str:
        return f"layer {self.path} ({self.layer!r})" if self.path else repr(self.layer)


class Runner:
    """Where layers are run, always in float64 and with the same random numbers and buffers."""

    def __init__(self, backend: Backend, training: bool, random: Random, state: dict[Any, Any], rng: Any):
        self.backend, self.training, self.random, self.rng = backend, training, random, rng
        self.state = {b: self.array(a) for b, a in state.items()}

    def array(self, value: Any) -> Array:
        """A new array on the backend: floating numbers in float64, integers as they are."""
        return self.backend.asarray(host(value))

    def arrays(self, values: list[np.ndarray], many: bool) -> Any:
        return tuple(self.array(a) for a in values) if many else self.array(values[0])

    def double(self, y: Any) -> Any:
        """y in float64, should a layer have lost it: the others can still be checked."""
        return tuple(self.double(e) for e in y) if isinstance(y, tuple) else self.backend.asarray(
            y, "float64" if self.backend.xp.isdtype(y.dtype, "real floating") else None)

    def normal(self, like: list[np.ndarray]) -> list[np.ndarray]:
        return [self.rng.standard_normal(a.shape) for a in like]

    def fit(self, dx: Any, call: Call) -> Any:
        """dx where it is finite and of x's shape, else random numbers: the layers before a wrong one can still be checked."""
        ds = dx if isinstance(dx, tuple) else (dx,)
        fits = isinstance(dx, tuple) == call.many and len(ds) == len(call.x) and all(
            a.dtype.kind != "f" or (d is not None and tuple(d.shape) == a.shape and np.all(np.isfinite(host(d))))
            for d, a in zip(ds, call.x))
        return dx if fits else self.arrays(self.normal(call.x), call.many)

    def context(self, site: int) -> Context:
        """A context with the random numbers from call site `site` on."""
        return Context(self.backend.xp, self.training, Random(self.random.seed, self.random.step, site), self.state)

    def forward(self, call: Call, params: dict[str, Any], xs: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs of a call's layer for other arrays."""
        return hosts(call.layer.forward(params, self.arrays(xs, call.many), self.context(call.site))[0])

    def backward(self, call: Call, input_grad: bool) -> tuple[Any, dict[str, Any]]:
        """What the backward of a call's layer says, once more."""
        return call.backward(self.arrays(call.dy, call.y_many), input_grad)

    def evaluator(self, loss: Any, root: Call, t: Any, weights: Any) -> Callable[[list[np.ndarray]], tuple[Any, Any, bool]]:
        """(L, ∂L/∂y, whether y is still the same) as a function of y. An integer t becomes floating numbers where it is not classes."""
        if isinstance(loss, Loss):
            if loss.takes_classes(root.y[0], host(t)):
                check_labels(loss.labels(host(t)), root.y[0].shape[-1], one_class=True)
            else:
                t = host(t).astype(np.float64)
                loss.check_values(t, "t")
        target = [host(a) for a in ((t,) if weights is None else (t, weights))]

        def evaluate(y: list[np.ndarray]) -> tuple[Any, Any, bool]:
            given = self.arrays(y, root.y_many)
            value, dy = loss(given, *(self.array(a) for a in target))
            return host(value), hosts(dy), same(y, hosts(given))

        return evaluate

    def trace(self, path: str, layer: Layer, params: dict[str, Any], xs: list[np.ndarray], many: bool,
              site: int = 0) -> tuple[Call, Backward, list[Call]]:
        """Run a layer and listen: its call, its backward, and a list that each call enters when its backward is done."""
        ctx = self.context(site)
        trace = _Trace(ctx.xp, ctx.training, ctx.random, ctx.state).start(self, [], [])
        x = self.arrays(xs, many)
        call = Call(path, layer, params, x, site)
        _, backward = trace.listen(call, x, lambda: layer.forward(params, x, trace))
        return call, backward, trace.done

    def retrace(self, call: Call, params: dict[str, Any], xs: list[np.ndarray]) -> tuple[list[Step], list[np.ndarray]]:
        """The outputs of a call's layer for other arrays, after what led to them."""
        traced, _, _ = self.trace(call.path, call.layer, params, xs, call.many, call.site)
        return [(c.path, c.layer, c.y) for c in traced.innermost], traced.y


class _Trace(Context):
    """A context that listens where containers run their children, forward and backward."""

    __slots__ = ("done", "runner", "stack")

    def start(self, runner: Runner, stack: list[Call], done: list[Call]) -> "_Trace":
        self.runner, self.stack, self.done = runner, stack, done
        return self

    def replay(self, site: int) -> Context:
        """What is run again within a backward pass (Checkpoint) belongs to the layer whose backward that is."""
        if not self.stack or self.stack[-1].dy:           # that backward pass itself is a second one
            return self.runner.context(site)
        again = super().replay(site)
        assert isinstance(again, _Trace)
        return again.start(self.runner, list(self.stack), self.done)

    def forward(self, name: str, layer: Layer, params: dict[str, Any], x: Any) -> tuple[Any, Backward]:
        outer = self.stack[-1]
        call = Call(f"{outer.path}.{name}" if outer.path else name, layer, params[name], x, self.random.site)
        outer.inner.append(call)
        return self.listen(call, x, lambda: super(_Trace, self).forward(name, layer, params, x))

    def listen(self, call: Call, x: Any, run: Callable[[], tuple[Any, Backward]]) -> tuple[Any, Backward]:
        self.stack.append(call)
        try:
            y, back = call.watch("forward", {"x": x, "params": call.params}, run)
        finally:
            self.stack.pop()
        call.y, call.y_many, call.backward = hosts(y), isinstance(y, tuple), back
        _takes_input_grad(call)

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            first, given = not call.dy, hosts(dy)
            self.stack.append(call)
            try:
                result = call.watch("backward", {"dy": dy, "x": x, "params": call.params}, lambda: back(dy, input_grad))
            except Exception as e:
                if not getattr(e, "__notes__", ()):
                    e.add_note(f"in the backward of {call!r}")
                raise
            finally:
                self.stack.pop()
            if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
                raise TypeError(f"the backward of {call!r} returns (dx, grads), grads a dictionary; got {type(result).__name__}")
            dx, grads = result
            if first:
                call.dy, call.input_grad = given, input_grad
                call.take(dx, grads)
                self.done.append(call)
            return (self.runner.fit(dx, call) if input_grad else dx), grads

        return self.runner.double(y), backward


def _takes_input_grad(call: Call) -> None:
    # Imported here, since it is slow to import.
    from inspect import signature

    written = signature(call.backward)
    try:
        written.bind(call.y, True)
    except TypeError:
        raise TypeError(f"the backward of {call!r} is called as backward(dy, input_grad=True), "
                        f"but is written as backward{written}") from None

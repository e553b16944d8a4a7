"""Who is called what: every array of a training step gets its symbol, and every layer its formulas and numbers."""

from typing import Any

import numpy as np

from .. import layers as xl
from ..gradcheck.arrays import host
from ..gradcheck.calls import Call, Runner
from ..layer import Buffer, flatten
from ..layers.convolution import Convolution
from ..layers.normalization import WithWeight
from .formulas import Formulas, formulas_of
from .symbols import Symbol, parameter


class Run:
    """A call as its formulas see it: its arrays on the host, its parameters by their own names."""

    def __init__(self, call: Call, runner: Runner):
        self.call, self.runner = call, runner
        self.x, self.y, self.dy, self.dx, self.layer = call.x, call.y, call.dy, call.dx, call.layer
        self.training = runner.training
        self.runs = inside(call)
        own = [name for name in flatten(call.params) if not self.runs or "." not in name]
        self.full = {name.rpartition(".")[2]: name for name in own}
        params = flatten(call.params, host)
        self.params = {local: params[name] for local, name in self.full.items()}

    def mask(self) -> np.ndarray:
        """What a layer multiplies its input with, entry by entry."""
        dx, _ = self.call.backward(self.runner.array(np.ones_like(self.y[0])), True)
        return host(dx)

    def inner_layer(self, name: str, x: np.ndarray, dy: np.ndarray | None = None) -> tuple[np.ndarray, Any]:
        """y, and with dy dx, of a layer that this one runs within a rule of its own."""
        child = self.layer.children()[name]
        y, back = child.forward(self.call.params.get(name, {}), self.runner.array(x), self.runner.context(self.call.site))
        return host(y), None if dy is None else host(back(self.runner.array(dy))[0])

    def noise(self) -> np.ndarray:
        """The normal numbers that a layer draws, of the shape of y."""
        like = self.runner.array(self.y[0])
        ctx = self.runner.context(self.call.site)
        return host(ctx.random.normal(ctx.xp, like.shape, like.dtype, like.device))

    def buffer(self, buffer: Buffer) -> np.ndarray:
        """What the step began with."""
        return host(self.runner.state[buffer])


def inside(call: Call) -> list[Call]:
    """The layers that a call ran, where they are explained by themselves. (A Dense explains its activation, as does a convolution.)"""
    return [] if isinstance(call.layer, (xl.Dense, Convolution)) else call.holds or call.inner


class Named:
    """A call's symbols and numbers, by local name: x, y, its parameters, f0, f1, … for what the layers inside gave; dv for ∂L/∂v.

    env  what its formulas may read; own  what the layer itself gave, for the formulas' results to be held against
    """

    def __init__(self, call: Call, run: Run, xs: list[Symbol], dxs: list[Symbol], ys: list[Symbol]):
        self.call, self.run = call, run
        self.formulas: Formulas | None = formulas_of(call.layer, run)
        self.names: dict[str, Symbol] = {}
        self.env: dict[str, np.ndarray] = {}
        self.own: dict[str, np.ndarray] = {}
        for i, (symbol, gradient, a) in enumerate(zip(xs, dxs, call.x)):
            local = f"x{i}" if call.many else "x"
            self.add(local, symbol, gradient, call.dx[i] if call.dy and i < len(call.dx) else None)
            self.env[local] = a
        for i, (symbol, a, d) in enumerate(zip(ys, call.y, call.dy or call.y)):
            local = f"y{i}" if call.y_many else "y"
            self.add(local, symbol, symbol.gradient(), None)
            self.own[local], self.env[f"d{local}"] = a, d
        for local, a in run.params.items():
            symbol = parameter(local, call.path)
            self.add(local, symbol, symbol.gradient(), call.grads.get(run.full[local]) if call.dy else None)
            self.env[local] = a

    def add(self, local: str, symbol: Symbol, gradient: Symbol, slope: Any) -> None:
        self.names |= {local: symbol, f"d{local}": gradient}
        if slope is not None:
            self.own[f"d{local}"] = slope

    def add_inner(self, i: int, symbol: Symbol, output: Call, back: Symbol, handed: Call) -> None:
        """f: what came out of layers inside; dxf: the gradient of x that they handed back."""
        if output.dy and handed.dx and handed.dx[0] is not None:
            self.names |= {f"f{i}": symbol, f"df{i}": symbol.gradient(), f"dxf{i}": back}
            self.env |= {f"f{i}": output.y[0], f"dxf{i}": handed.dx[0]}
            self.own[f"df{i}"] = output.dy[0]
        for j, a in enumerate(output.y[1:], 1):           # of what gives or takes several arrays, the others
            self.names[f"f{i}_{j}"] = symbol._replace(letter=f"{symbol.letter.rstrip('0')}{j}")
            self.env[f"f{i}_{j}"] = a
        for j, a in enumerate(handed.dx[1:] if output.dy else (), 1):
            if a is not None:
                self.names[f"dxf{i}_{j}"] = back._replace(letter=f"{back.letter.rstrip('0')}{j}")
                self.env[f"dxf{i}_{j}"] = a

    def add_weight(self, weight: str, child: Call) -> None:
        """Wbar: the weight that a layer inside is given, and the gradient that it hands back."""
        symbol = Symbol(weight, child.path)
        self.names |= {"Wbar": symbol, "dWbar": symbol.gradient()}
        self.own["Wbar"] = host(child.params[weight])
        if child.dy:
            self.env["dWbar"] = child.grads[weight]

    def symbol(self, local: str) -> Symbol:
        """The symbol of a local name; an array that only the formulas have, such as z, gets one of the layer's path."""
        if local not in self.names:
            of = local[1:] if local.startswith("d") and len(local) > 1 else ""
            self.names[local] = self.symbol(of).gradient() if of else Symbol(local, self.call.path)
        return self.names[local]


class Naming:
    """The symbols of a whole network, call by call; `y` is that of its output."""

    def __init__(self, root: Call, runner: Runner):
        self.runner = runner
        self.calls: dict[int, Named] = {}
        xs = [Symbol(f"x{i}") for i in range(len(root.x))] if root.many else [Symbol("x")]
        self.ys = self.name(root, xs, [s.gradient() for s in xs])

    def __getitem__(self, call: Call) -> Named:
        return self.calls[id(call)]

    def name(self, call: Call, xs: list[Symbol], dxs: list[Symbol]) -> list[Symbol]:
        """Name a call's arrays and those of the calls inside it, given the symbols of its inputs; returns those of its outputs."""
        run, layer = Run(call, self.runner), call.layer
        inner: list[tuple[Symbol, Call, Symbol, Call]] = []
        if isinstance(layer, xl.Residual) and run.runs:
            through = [s.gradient(via=run.runs[0].path) for s in xs]
            last = self.chain(run.runs, xs, through)
            inner, ys = [(last[0], run.runs[-1], through[0], run.runs[0])], [Symbol("a", call.path)]
        elif isinstance(layer, (xl.Sequential, WithWeight, xl.Decoder)) and not (call.many and isinstance(layer, (xl.Decoder, xl.Stacked))):
            ys = self.chain(run.runs, xs, dxs)
        elif isinstance(layer, (xl.Parallel, xl.Concat)):
            ys = []
            for i, child in enumerate(run.runs):
                split = getattr(layer, "split", False)
                of, d = ([xs[i]], [dxs[i]]) if split else (xs, [s.gradient(via=child.path) for s in xs])
                outputs = self.name(child, of, d)
                inner.append((outputs[0], child, d[0], child))
                ys += outputs
            if isinstance(layer, xl.Concat):
                ys = [Symbol("a", call.path)]
        else:
            for child in run.runs:                        # a container of another kind: its layers are explained one by one
                given = [Symbol(f"x{i}" if child.many else "x", child.path) for i in range(len(child.x))]
                outputs = self.name(child, given, [s.gradient() for s in given])
                inner.append((outputs[0], child, given[0].gradient(), child))
            letter = "z" if isinstance(layer, (xl.Dense, Convolution)) and layer.activation is None else "a"
            ys = [Symbol(letter if len(call.y) == 1 else f"{letter}{i}", call.path) for i in range(len(call.y))]
        named = self.calls[id(call)] = Named(call, run, xs, dxs, ys)
        for i, (symbol, output, back, handed) in enumerate(inner):
            named.add_inner(i, symbol, output, back, handed)
        if isinstance(layer, WithWeight):
            named.add_weight(layer.weight, run.runs[0])
        return ys

    def chain(self, runs: list[Call], xs: list[Symbol], dxs: list[Symbol]) -> list[Symbol]:
        for child in runs:
            xs = self.name(child, xs, dxs)
            dxs = [s.gradient() for s in xs]
        return xs

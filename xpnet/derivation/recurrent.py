"""The formulas of recurrent layers: a line for each step of each gate, forward in time and then back.

Of a long sequence the first two steps and the last are written down; the others are computed and hold the same formulas.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..layers.recurrent import GRU, LSTM, RNN, Bidirectional, Stacked, Unrolled
from .formulas import Formulas, Lines, layer_formulas

SHOWN = 3                                                 # steps up to which all are written down


class Unrolling:
    """The names of a layer's arrays, step by step: what all recurrent layers have in common.

    x, h0, c0  names of the input and of the states before step 1; T  steps
    """

    def __init__(self, layer: Unrolled, call: Any):
        self.layer, self.call = layer, call
        self.k, self.T = layer.out_features, call.x[0].shape[1]
        self.many = call.call.many
        has_lengths = self.many and call.x[-1].dtype.kind in "iu"
        self.carries = len(call.x) - 1 - has_lengths > 0
        self.x, self.y = ("x0" if self.many else "x"), ("y0" if self.carries else "y")
        self.lengths = call.x[-1] if has_lengths else None
        self.given: dict[str, Any] = {}
        self.notes: dict[str, str] = {}
        if self.lengths is not None:                      # columns of 0 and 1
            for t in range(self.T + 1):
                self.given[f"e{t}"] = (self.lengths == t).astype(float)[:, None]
                self.given[f"m{t}"] = (self.lengths >= t).astype(float)[:, None]

    def bias(self) -> str:
        return "" if self.layer.b is None else " + b"

    def x_t(self, t: int) -> str:
        return f"step({self.x}, {t})"

    def begin(self, letters: str) -> Lines:
        """The states before step 1: those that were carried in, or 0."""
        if self.carries:
            return [(f"{s}0", f"x{i + 1}") for i, s in enumerate(letters)]
        self.given |= {f"{s}0": np.zeros((self.call.x[0].shape[0], self.k)) for s in letters}
        return []

    def last(self, s: str) -> str:
        """The state after each sequence's own last step."""
        if self.lengths is None:
            return f"{s}{self.T}"
        return " + ".join(f"e{t} * {s}{t}" for t in range(self.T + 1))

    def all_steps(self, values: Iterable[str]) -> str:
        return f"steps({', '.join(values)})"

    def ends(self, letters: str) -> Lines:
        """y, and the states that are carried out."""
        masked = self.lengths is not None
        y = self.last("h") if self.layer.last else self.all_steps(f"m{t} * h{t}" if masked else f"h{t}" for t in range(1, self.T + 1))
        lines = [(self.y, y)] + ([(f"y{i + 1}", self.last(s)) for i, s in enumerate(letters)] if self.carries else [])
        if masked:
            self.notes[self.y] = "e is 1 at each sequence's own last step, m up to it, and 0 elsewhere"
        return lines

    def arriving(self, s: str, number: int, t: int) -> list[str]:
        """What comes to the state s of step t from outside the recurrence: from y, and from the state that is carried out."""
        outputs = [f"d{self.y}"] if s == "h" and self.layer.last else []
        outputs += [f"dy{number + 1}"] if self.carries else []
        if self.lengths is not None:
            found = [f"e{t} * {d}" for d in outputs]
        else:
            found = outputs if t == self.T else []
        if s == "h" and not self.layer.last and t:
            found = [f"m{t} * step(d{self.y}, {t})" if self.lengths is not None else f"step(d{self.y}, {t})", *found]
        return found

    def formulas(self, forward: Lines, backward: Lines, sums: dict[str, tuple[str, str]], starts: Lines) -> Formulas:
        """The whole. sums: for each parameter what it is multiplied with, "x", "h" or "" (a bias), and the letter of what that goes into,
        whose gradient is summed over the steps. starts: the gradients of the states carried in.
        """
        steps, T, hidden = range(1, self.T + 1), self.T, set()
        if T <= SHOWN:
            for name, (of, v) in sums.items():
                left = {"x": "step({x}, {t}).T @ d{v}{t}", "h": "h{s}.T @ d{v}{t}", "": "sum_n(d{v}{t})"}[of]
                backward.append((f"d{name}", " + ".join(left.format(x=self.x, t=t, s=t - 1, v=v) for t in steps)))
                self.notes[f"d{name}"] = "the same parameters at each step: their gradients add" if T > 1 else ""
            backward.append((f"d{self.x}", self.all_steps(f"d{sums['W'][1]}{t} @ W.T" for t in steps)))
        else:                                             # step after step, side by side in time: S_z holds all z
            between = f"steps 3 to {T - 1} are alike and not shown" if T > 4 else "step 3 is alike and not shown"
            hidden = {f"{d}{name[0]}{t}" for name in _results(forward, 2) for t in range(3, T) for d in ("", "d")}
            self.notes |= {_results(forward, T)[0]: between, _results(backward, T)[0]: f"back from step {T}; {between}"}
            long = {result: f"S{result}" for result, text in forward if result[0] == "y" and " " in text}
            forward = [(long.get(result, result), text) for result, text in forward] + [("Sh", self.all_steps(f"h{t - 1}" for t in steps))]
            forward += list(long.items())
            stacks = dict.fromkeys(v for _, v in sums.values())
            backward += [(f"dS{v}", self.all_steps(f"d{v}{t}" for t in steps)) for v in stacks]
            hidden |= {"Sh", *long.values(), *(f"dS{v}" for v in stacks)}
            for name, (of, v) in sums.items():
                left = {"x": f"rows({self.x}).T @ rows(dS{v})", "h": f"rows(Sh).T @ rows(dS{v})", "": f"sum_n(dS{v})"}[of]
                backward.append((f"d{name}", left))
                self.notes[f"d{name}"] = f"the sum over all {T} steps" + (", with the states before each" if of == "h" else "")
            backward.append((f"d{self.x}", f"reshape(rows(dS{sums['W'][1]}) @ W.T, {', '.join(map(str, self.call.x[0].shape))})"))
        return Formulas(forward, backward + starts, self.given, self.notes, hidden=frozenset(hidden))


def _results(lines: Lines, t: int) -> list[str]:
    """The results of step t: h2, or dh2."""
    return [result for result, _ in lines if result.removeprefix("d")[1:] == str(t) and result.removeprefix("d")[0] not in "xy"]


def _joined(terms: Iterable[str]) -> str:
    return " + ".join(terms)


@layer_formulas(RNN)
def rnn(layer: Any, call: Any) -> Formulas:
    u = Unrolling(layer, call)
    forward, backward = u.begin("h"), []
    value, slope = ("tanh(z{t})", "(1 - h{t} ** 2)") if layer.activation == "tanh" else ("max(z{t}, 0)", "(h{t} > 0)")
    for t in range(1, u.T + 1):
        forward += [(f"z{t}", f"{u.x_t(t)} @ W + h{t - 1} @ U{u.bias()}"), (f"h{t}", value.format(t=t))]
    forward += u.ends("h")
    for t in range(u.T, 0, -1):
        handed = [f"dz{t + 1} @ U.T"] if t < u.T else []
        backward += [(f"dh{t}", _joined([*u.arriving("h", 0, t), *handed])), (f"dz{t}", f"dh{t} * {slope.format(t=t)}")]
    sums = {"W": ("x", "z"), "U": ("h", "z")} | ({} if layer.b is None else {"b": ("", "z")})
    starts = [("dx1", _joined([*u.arriving("h", 0, 0), "dz1 @ U.T"]))] if u.carries else []
    return u.formulas(forward, backward, sums, starts)


@layer_formulas(LSTM)
def lstm(layer: Any, call: Any) -> Formulas:
    u = Unrolling(layer, call)
    k = u.k
    forward, backward = u.begin("hc"), []
    for t in range(1, u.T + 1):
        forward.append((f"z{t}", f"{u.x_t(t)} @ W + h{t - 1} @ U{u.bias()}"))
        forward += [(f"{gate}{t}", f"{f}(part(z{t}, {j * k}, {(j + 1) * k}))")
                    for j, (gate, f) in enumerate(zip("ifgo", ("sigma", "sigma", "tanh", "sigma")))]
        forward += [(f"c{t}", f"f{t} * c{t - 1} + i{t} * g{t}"), (f"h{t}", f"o{t} * tanh(c{t})")]
    forward += u.ends("hc")
    u.notes |= {"z1": "the arguments of the four gates side by side", "i1": "what to write", "f1": "what to keep", "g1": "the candidate",
                "o1": "what to show", f"dc{u.T}": "the cell is added to: its gradient goes back through f alone, not through U"}
    for t in range(u.T, 0, -1):
        to_h, to_c = ([f"dz{t + 1} @ U.T"], [f"dc{t + 1} * f{t + 1}"]) if t < u.T else ([], [])
        backward += [
            (f"dh{t}", _joined([*u.arriving("h", 0, t), *to_h])),
            (f"dc{t}", _joined([f"dh{t} * o{t} * (1 - tanh(c{t}) ** 2)", *u.arriving("c", 1, t), *to_c])),
            (f"di{t}", f"dc{t} * g{t}"), (f"df{t}", f"dc{t} * c{t - 1}"), (f"dg{t}", f"dc{t} * i{t}"), (f"do{t}", f"dh{t} * tanh(c{t})"),
            (f"dz{t}", f"concat(di{t} * i{t} * (1 - i{t}), df{t} * f{t} * (1 - f{t}), dg{t} * (1 - g{t} ** 2), do{t} * o{t} * (1 - o{t}))")]
    sums = {"W": ("x", "z"), "U": ("h", "z")} | ({} if layer.b is None else {"b": ("", "z")})
    starts = [("dx1", _joined([*u.arriving("h", 0, 0), "dz1 @ U.T"])),
              ("dx2", _joined([*u.arriving("c", 1, 0), "dc1 * f1"]))] if u.carries else []
    return u.formulas(forward, backward, sums, starts)


@layer_formulas(GRU)
def gru(layer: Any, call: Any) -> Formulas:
    u = Unrolling(layer, call)
    k = u.k
    forward, backward = u.begin("h"), []
    for t in range(1, u.T + 1):
        r, z, g = ((f"part(a{t}, {j * k}, {(j + 1) * k})", f"part(u{t}, {j * k}, {(j + 1) * k})") for j in range(3))
        forward += [(f"a{t}", f"{u.x_t(t)} @ W{u.bias()}"), (f"u{t}", f"h{t - 1} @ U"),
                    (f"r{t}", f"sigma({r[0]} + {r[1]})"), (f"z{t}", f"sigma({z[0]} + {z[1]})"),
                    (f"q{t}", g[1] + ("" if layer.b is None else " + b_q")), (f"g{t}", f"tanh({g[0]} + r{t} * q{t})"),
                    (f"h{t}", f"(1 - z{t}) * g{t} + z{t} * h{t - 1}")]
    forward += u.ends("h")
    u.notes |= {"a1": "what x gives to r, z and g, side by side", "u1": "what the state gives", "r1": "how much of q the candidate sees",
                "z1": "how much of the state to keep", "g1": "the candidate"}
    for t in range(u.T, 0, -1):
        later = [f"dh{t + 1} * z{t + 1}", f"du{t + 1} @ U.T"] if t < u.T else []
        to_r, to_z, to_g = f"dr{t} * r{t} * (1 - r{t})", f"dz{t} * z{t} * (1 - z{t})", f"dg{t} * (1 - g{t} ** 2)"
        backward += [(f"dh{t}", _joined([*u.arriving("h", 0, t), *later])), (f"dg{t}", f"dh{t} * (1 - z{t})"),
                     (f"dz{t}", f"dh{t} * (h{t - 1} - g{t})"), (f"dq{t}", f"{to_g} * r{t}"), (f"dr{t}", f"{to_g} * q{t}"),
                     (f"du{t}", f"concat({to_r}, {to_z}, dq{t})"), (f"da{t}", f"concat({to_r}, {to_z}, {to_g})")]
    sums = {"W": ("x", "a"), "U": ("h", "u")} | ({} if layer.b is None else {"b": ("", "a"), "b_q": ("", "q")})
    starts = [("dx1", _joined([*u.arriving("h", 0, 0), "dh1 * z1", "du1 @ U.T"]))] if u.carries else []
    return u.formulas(forward, backward, sums, starts)


@layer_formulas(Bidirectional)
def bidirectional(layer: Any, call: Any) -> Formulas:
    """f0 is what the forward layer gave, f1 what the backward layer gave; dxf0, dxf1 what they handed back."""
    many, carries = call.call.many, call.call.y_many
    x, y, k = ("x0" if many else "x"), ("y0" if carries else "y"), call.runs[0].y[0].shape[-1]
    lengths = f", x{len(call.x) - 1}" if many and call.x[-1].dtype.kind in "iu" else ""
    last = call.y[0].ndim == 2

    def turned(a: str) -> str:
        return f"turned({a}{lengths})"

    dy_1 = f"part(d{y}, {k}, {call.y[0].shape[-1]})"
    forward = [(y, f"concat(f0, {'f1' if last else turned('f1')})")]
    back = [("df0", f"part(d{y}, 0, {k})"), ("df1", dy_1 if last else turned(dy_1)), (f"d{x}", f"dxf0 + {turned('dxf1')}")]
    states = [f"f{i}_{j}" for i, run in enumerate(call.runs) for j in range(1, len(run.y))]
    forward += [(f"y{j}", state) for j, state in enumerate(states, 1)]
    back += [(f"dx{j}", f"dx{state}") for j, state in enumerate(states, 1)]
    return Formulas(forward, back, notes={y: "the second layer reads x from its end: its steps are turned round again"})


@layer_formulas(Stacked)
def stacked(layer: Any, call: Any) -> Formulas | None:
    return None if call.call.many else Formulas([], [])

"""Recurrent layers: the same step at each time, on the input and the state that the step before left.

    h_t = f(x_t, h_{t-1}; θ)        ∂L/∂θ = Σₜ (∂L/∂θ of step t)

A step is a function like any other, so backpropagation through time is the delta recursion along the time axis: the gradient of h_t is
what comes from the output y_t plus what step t+1 hands back. Since all steps share θ, their gradients of θ add.
Werbos (1990), "Backpropagation through time: what it does and how to do it".

What each of these layers takes and gives, with sequences x (n, time, d) of n samples:

    x                    →  y            the initial state is 0
    (x, lengths)         →  y            sequences of different lengths, padded at the end; lengths (n,) integers from 0 to time
    (x, state)           →  (y, state)   the state that is carried in and out: h, and for an LSTM h and c, each (n, k)
    (x, state, lengths)  →  (y, state)

y is (n, time, k), all states h (many-to-many), or with last=True (n, k), the last one (many-to-one). With lengths the last step of a
sequence is its own: the state is the one after it, and y is 0 in the padding, whose values do not matter as long as they are finite.
Stacked hands state and lengths to each layer. A Sequential hands them to its first, and so refuses lengths where another comes later.
Values of lengths are checked where data enters `fit` or `predict`, and not here, which would wait for the device.

Truncated backpropagation through time (Williams & Peng, 1990) is: carry the state from one part of a sequence to the next, and give
0 as the gradient of the state that goes out.

Sorted by increasing complexity: RNN, LSTM, GRU; then Stacked and Bidirectional, which are made of them.
"""

import functools
from collections.abc import Callable
from typing import Any

from ..backend import HasRules, Rule, elementwise, namespace, sum_of
from ..backend.gates import block_products, contiguous
from ..errors import LayerError, unknown, whole
from ..initializers import constant, side_by_side, zeros
from ..layer import Backward, Context, Layer, Param, takes
from .activations import ReLU, Tanh
from .containers import Container, Sequential

Array = Any


class Recurrent(Layer):
    """What all recurrent layers share: their inputs and outputs. Subclasses write `run`."""

    takes_tuples = takes_lengths = True
    state_features: tuple[int, ...] = ()                  # k of each array of the state

    def initial_state(self, n: int, like: Array) -> tuple[Array, ...]:
        """The state before a sequence begins: zeros (n, k), of the backend, dtype and device of `like` (a model's params, say)."""
        xp = namespace(like)
        return tuple(xp.zeros((n, k), dtype=like.dtype, device=like.device) for k in self.state_features)

    def forward(self, params: dict[str, Any], x: Any, ctx: Context) -> tuple[Any, Backward]:
        x, state, lengths = self.parts(x, ctx.xp)
        y, end, back = self.run(params, x, state, lengths, ctx)
        carried = bool(state)

        def backward(dy: Any, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dy, dend = (dy[0], dy[1:]) if carried else (dy, ())
            dx, dstate, grads = back(dy, dend, input_grad)
            if not input_grad:
                return None, grads
            return ((dx, *dstate, *(() if lengths is None else (None,))) if carried or lengths is not None else dx), grads

        return ((y, *end) if carried else y), backward

    def check_values(self, x: Any, name: str = "x") -> None:
        if not isinstance(x, tuple) or x[0].ndim < 2 or x[-1].ndim != 1 or x[-1].dtype.kind not in "iu" or not x[-1].size:
            return
        if x[-1].min() < 0 or x[-1].max() > x[0].shape[1]:
            raise ValueError(f"{name} has lengths from 0 to {x[0].shape[1]}, the number of steps, got values from {x[-1].min()} to "
                             f"{x[-1].max()}")

    def run(self, params: dict[str, Any], x: Array, state: tuple[Array, ...], lengths: Any, ctx: Context) -> Any:
        """y, the state at the end, and `back`: (∂L/∂y, of the end state, input_grad) → (∂L/∂x, of the state, grads).

        Without a state (an empty tuple) there is none at the end, and no gradient of one.
        """
        raise NotImplementedError(f"{type(self).__name__} has no run")

    def parts(self, x: Any, xp: Any) -> tuple[Array, tuple[Array, ...], Any]:
        """x, the state (empty where none was given) and the lengths (or None)."""
        x, *state = x if isinstance(x, tuple) else (x,)
        lengths = state.pop() if state and xp.isdtype(state[-1].dtype, "integral") else None
        n = x.shape[0] if x.ndim else 0
        if state and len(state) != len(self.state_features):
            raise LayerError(f"carries a state of {len(self.state_features)} arrays, got {len(state)} beside x")
        for array, k in zip(state, self.state_features):
            if tuple(array.shape) != (n, k) or not xp.isdtype(array.dtype, "real floating"):
                raise LayerError(f"takes a state of {' and '.join(f'({n}, {k})' for k in self.state_features)} floating numbers, got "
                                 f"{', '.join(f'{tuple(a.shape)} of {a.dtype}' for a in state)}")
        if lengths is not None and tuple(lengths.shape) != (n,):
            raise LayerError(f"takes lengths of shape ({n},), one a sequence, got {tuple(lengths.shape)}")
        return x, tuple(state), lengths


class Unrolled(Recurrent):
    """A layer that takes its steps one after another. Subclasses write `steps`.

    The parameters of the gates lie side by side: W: (d, gates·k)    U: (k, gates·k)    b: (gates·k,)
    """

    gates = 1
    in_features: int
    out_features: int                                     # k

    def __init__(self, in_features: int, hidden_features: int, *, last: bool = False, bias: bool = True, init: Any = "glorot_uniform",
                 recurrent_init: Any = "orthogonal", bias_init: Any = "zeros"):
        name = type(self).__name__
        self.in_features = d = whole(f"{name}: in_features", in_features, 1)
        self.out_features = k = whole(f"{name}: hidden_features", hidden_features, 1)
        self.last = bool(last)
        self.W = Param((d, self.gates * k), side_by_side(*[init] * self.gates))
        self.U = Param((k, self.gates * k), side_by_side(*[recurrent_init] * self.gates))
        self.b = Param((self.gates * k,), side_by_side(*[bias_init] * self.gates), bias=True) if bias else None
        self.state_features = (k,)

    def params(self) -> dict[str, Param]:
        return {"W": self.W, "U": self.U} if self.b is None else {"W": self.W, "U": self.U, "b": self.b}

    def steps(self, params: dict[str, Any], X: Array, start: tuple[Array, ...], time: int, xp: Any) -> Any:
        """The arrays of the state, (time + 1, n, k) each: before step 1 and after each step. And `back`, from what arrives at each of them
        from outside, and whether ∂L/∂X and ∂L/∂start are wanted, to (∂L/∂X, ∂L/∂start, grads).

        X: (time·n, d), the samples of step 1 first.
        """
        raise NotImplementedError(f"{type(self).__name__} has no steps")

    def run(self, params: dict[str, Any], x: Array, state: tuple[Array, ...], lengths: Any, ctx: Context) -> Any:
        xp, W = ctx.xp, params["W"]
        if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] != self.in_features:
            raise takes(f"(batch, time, {self.in_features})", x)
        if x.dtype != W.dtype:
            raise LayerError(f"has parameters of dtype {W.dtype}, got x of dtype {x.dtype}; convert x first")
        for s in state:
            if s.dtype != W.dtype:
                raise LayerError(f"has parameters of dtype {W.dtype}, got a state of dtype {s.dtype}; convert it first")
        n, time, d = x.shape
        X = xp.reshape(xp.permute_dims(x, (1, 0, 2)), (time * n, d))
        states, back = self.steps(params, X, state or self.initial_state(n, x), time, xp)
        # What comes after a sequence's end cannot reach what is before it: all steps are taken, and the lengths say where to read.
        is_end: Any = None
        if lengths is None:
            end = tuple(s[time, ...] for s in states)
        else:
            lengths = xp.astype(lengths, xp.int64)
            count = xp.arange(time + 1, dtype=xp.int64, device=x.device)[:, None, None]
            is_end = xp.astype(count == lengths[None, :, None], x.dtype)
            is_inside = xp.astype(count[:time, ...] < lengths[None, :, None], x.dtype)
            rows = lengths * n + xp.arange(n, dtype=xp.int64, device=x.device)
            end = tuple(xp.take(xp.reshape(s, ((time + 1) * n, s.shape[2])), rows, axis=0) for s in states)
        if self.last:
            y = end[0]
        else:
            h = states[0][1:, ...] if lengths is None else states[0][1:, ...] * is_inside
            y = xp.permute_dims(h, (1, 0, 2))

        def backward(dy: Array, dend: tuple[Array, ...], input_grad: bool) -> Any:
            each, last = None, list(dend) or [None] * len(states)
            if self.last:
                last[0] = dy if last[0] is None else dy + last[0]
            else:
                each = xp.permute_dims(dy, (1, 0, 2))
                each = each if lengths is None else each * is_inside
            arriving = [at_steps(each if i == 0 else None, e, is_end, time) for i, e in enumerate(last)]
            dX, dstart, grads = back(arriving, input_grad, input_grad and bool(state))
            dx = xp.permute_dims(xp.reshape(dX, (time, n, d)), (1, 0, 2)) if input_grad else None
            return dx, dstart, grads

        return y, end, backward

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([str(self.in_features), str(self.out_features), *self.options()])})"

    def options(self) -> list[str]:
        return (["last=True"] if self.last else []) + (["bias=False"] if self.b is None else [])


class RNN(HasRules, Unrolled):
    """h_t = f(x_t W + h_{t-1} U + b), f = tanh or ReLU

        δ_t = ∂L/∂h_t ⊙ f'(z_t),    ∂L/∂h_t = (what comes from y_t) + δ_{t+1} Uᵀ
        ∂L/∂W = Σₜ x_tᵀ δ_t        ∂L/∂U = Σₜ h_{t-1}ᵀ δ_t        ∂L/∂b = Σₜ Σₙ δ_t
        ∂L/∂x_t = δ_t Wᵀ           ∂L/∂h_0 = δ_1 Uᵀ

    x: (n, time, d)    W: (d, k)    U: (k, k)    b: (k,)    y: (n, time, k), or (n, k) with last=True
    The state is h; lengths and state: see the top of this file.
    A step is a dense layer on [x_t, h_{t-1}]. δ_1 holds the product of as many factors Uᵀ as there are steps: gradients vanish or explode
    with its powers (Bengio, Simard & Frasconi, 1994), which an LSTM's cell avoids.

    in_features, hidden_features  d and k
    activation      "tanh" or "relu"
    last            only the state after the last step
    bias            False leaves b out
    init            initialiser of W, Glorot's by default; recurrent_init of U, orthogonal; bias_init of b, zeros
    Raises LayerError for an x that is not (n, time ≥ 1, d) of W's dtype, for a state or lengths that do not fit.
    Elman (1990), "Finding structure in time".
    """

    def __init__(self, in_features: int, hidden_features: int, activation: str = "tanh", **options: Any):
        super().__init__(in_features, hidden_features, **options)
        if activation not in ("tanh", "relu"):
            raise unknown("RNN activation", activation, ("tanh", "relu"))
        self.activation = activation
        self.f = Tanh() if activation == "tanh" else ReLU()   # both derivatives are written in y
        self.kinks = self.f.kinks

    @functools.cached_property
    def step(self) -> Rule:
        def rnn_step(xp: Any, z: Array, u: Array, h: Array) -> None:
            h[...] = self.f.f(xp, z + u)

        return Rule(rnn_step, inplace=True)

    @functools.cached_property
    def step_back(self) -> Rule:
        def rnn_step_back(xp: Any, h: Array, dz: Array, dh: Any, arriving: Any) -> None:
            dz[...] = self.f.df(xp, dh + arriving, h)

        return Rule(rnn_step_back, inplace=True)

    def steps(self, params: dict[str, Any], X: Array, start: tuple[Array, ...], time: int, xp: Any) -> Any:
        W, U = params["W"], params["U"]
        h = states_from(xp, start[0], time)
        Z = X @ W                                         # of all steps at once
        if self.b is not None:
            Z += params["b"]
        Z = xp.reshape(Z, (time, -1, self.out_features))
        for t in range(time):
            self.step(xp, Z[t, ...], h[t, ...] @ U, h[t + 1, ...])

        def back(arriving: list[Any], input_grad: bool, start_grad: bool) -> Any:
            U_T = contiguous(xp, U.T)
            dZ, dh = xp.empty_like(h[1:, ...]), 0.0
            for t in range(time - 1, -1, -1):
                self.step_back(xp, h[t + 1, ...], dZ[t, ...], dh, arriving[0][t + 1])
                if t or start_grad:
                    dh = dZ[t, ...] @ U_T
            dz = xp.reshape(dZ, (-1, self.out_features))
            grads = {"W": X.T @ dz, "U": before(xp, h, time).T @ dz}
            if self.b is not None:
                grads["b"] = sum_of(xp, dz, axis=0)
            return dz @ W.T if input_grad else None, (dh + arriving[0][0],) if start_grad else (), grads

        return (h,), back

    def options(self) -> list[str]:
        return ([] if self.activation == "tanh" else [f"'{self.activation}'"]) + super().options()


class LSTM(Unrolled):
    """Long short-term memory: the cell c is added to, not multiplied by a matrix, from step to step.

        i_t = σ(x_t W_i + h_{t-1} U_i + b_i)           what to write: the input gate
        f_t = σ(x_t W_f + h_{t-1} U_f + b_f)           what to keep: the forget gate
        g_t = tanh(x_t W_g + h_{t-1} U_g + b_g)        the candidate
        o_t = σ(x_t W_o + h_{t-1} U_o + b_o)           what to show: the output gate
        c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t                h_t = o_t ⊙ tanh c_t

    Backward, with dh_t = (what comes from y_t) + dz_{t+1} Uᵀ and z the four arguments side by side:

        dc_t = dc_{t+1} ⊙ f_{t+1} + dh_t ⊙ o_t ⊙ (1 - tanh² c_t)
        dz_i = dc_t ⊙ g_t ⊙ i_t (1 - i_t)              dz_f = dc_t ⊙ c_{t-1} ⊙ f_t (1 - f_t)
        dz_g = dc_t ⊙ i_t ⊙ (1 - g_t²)                 dz_o = dh_t ⊙ tanh c_t ⊙ o_t (1 - o_t)
        dW = Σₜ x_tᵀ dz_t     dU = Σₜ h_{t-1}ᵀ dz_t     db = Σₜ Σₙ dz_t     dx_t = dz_t Wᵀ

    x: (n, time, d)    W: (d, 4k)    U: (k, 4k)    b: (4k,)    h, c: (n, k)    y: (n, time, k), or (n, k) with last=True
    The gates lie side by side in the order i, f, g, o, which is PyTorch's: W = weight_ih_l0ᵀ, U = weight_hh_l0ᵀ,
    b = bias_ih_l0 + bias_hh_l0. The state is (h, c); lengths and state: see the top of this file.

    in_features, hidden_features  d and k
    last            only the state h after the last step
    bias            False leaves b out
    init            initialiser of each W_·, Glorot's by default; recurrent_init of each U_·, orthogonal
    forget_bias     what b_f starts at, 1: the cell then keeps at first (Gers, Schmidhuber & Cummins, 2000; Jozefowicz, Zaremba & Sutskever,
                    2015). The other biases start at 0; bias_init, for all of b, takes its place
    Raises LayerError for an x that is not (n, time ≥ 1, d) of W's dtype, for a state or lengths that do not fit.
    Hochreiter & Schmidhuber (1997), "Long short-term memory"; with the forget gate of Gers et al. (2000).
    """

    gates = 4

    def __init__(self, in_features: int, hidden_features: int, *, forget_bias: float = 1.0, bias_init: Any = None, **options: Any):
        super().__init__(in_features, hidden_features, bias_init="zeros" if bias_init is None else bias_init, **options)
        if self.b is not None and bias_init is None:
            self.b = Param(self.b.shape, side_by_side(zeros, constant(forget_bias), zeros, zeros), bias=True)
        self.state_features = (self.out_features, self.out_features)

    def steps(self, params: dict[str, Any], X: Array, start: tuple[Array, ...], time: int, xp: Any) -> Any:
        k, W, U = self.out_features, params["W"], params["U"]
        h, c = (states_from(xp, s, time) for s in start)
        tanh_c = xp.empty_like(c[1:, ...])
        gates = projected(xp, X, W, params.get("b"), 4, time)
        times_U = block_products(xp, U, 4)
        for t in range(time):
            lstm_step(xp, *(g[t, ...] for g in gates), *times_U(h[t, ...]), c[t, ...], c[t + 1, ...], tanh_c[t, ...], h[t + 1, ...])

        def back(arriving: list[Any], input_grad: bool, start_grad: bool) -> Any:
            U_T = contiguous(xp, U.T)
            dZ = xp.empty((*tanh_c.shape[:2], 4 * k), dtype=X.dtype, device=X.device)
            dh, dc = 0.0, xp.zeros_like(tanh_c[0, ...])
            for t in range(time - 1, -1, -1):
                lstm_step_back(xp, *(g[t, ...] for g in gates), c[t, ...], tanh_c[t, ...],
                               *(dZ[t, :, j * k:(j + 1) * k] for j in range(4)), dc, dh, arriving[0][t + 1], arriving[1][t + 1])
                if t or start_grad:
                    dh = dZ[t, ...] @ U_T
            dz = xp.reshape(dZ, (-1, 4 * k))
            grads = {"W": X.T @ dz, "U": before(xp, h, time).T @ dz}
            if self.b is not None:
                grads["b"] = sum_of(xp, dz, axis=0)
            return dz @ W.T if input_grad else None, (dh + arriving[0][0], dc + arriving[1][0]) if start_grad else (), grads

        return (h, c), back


@elementwise(inplace=True)
def lstm_step(xp: Any, i: Array, f: Array, g: Array, o: Array, ui: Array, uf: Array, ug: Array, uo: Array, c: Array, c_next: Array,
              tanh_c: Array, h: Array) -> None:
    """The gates in the place of what x_t gave, and the next state."""
    i[...] = sigma(xp, i + ui)
    f[...] = sigma(xp, f + uf)
    g[...] = xp.tanh(g + ug)
    o[...] = sigma(xp, o + uo)
    c_next[...] = f * c + i * g
    tanh_c[...] = xp.tanh(c_next)
    h[...] = o * tanh_c


@elementwise(inplace=True)
def lstm_step_back(xp: Any, i: Array, f: Array, g: Array, o: Array, c: Array, tanh_c: Array, dzi: Array, dzf: Array, dzg: Array,
                   dzo: Array, dc: Array, dh: Any, arriving_h: Any, arriving_c: Any) -> None:
    """∂L/∂z of a step, and in dc what goes to the cell before it."""
    dh = dh + arriving_h
    dzo[...] = dh * tanh_c * (o * (1.0 - o))
    dc += arriving_c + dh * o * (1.0 - tanh_c * tanh_c)
    dzi[...] = dc * g * (i * (1.0 - i))
    dzf[...] = dc * c * (f * (1.0 - f))
    dzg[...] = dc * i * (1.0 - g * g)
    dc *= f


class GRU(Unrolled):
    """Gated recurrent unit: the state itself is what is kept, in the share that one gate says.

        r_t = σ(x_t W_r + h_{t-1} U_r + b_r)                 what of the state the candidate sees: the reset gate
        z_t = σ(x_t W_z + h_{t-1} U_z + b_z)                 what to keep: the update gate
        q_t = h_{t-1} U_g + b_q
        g_t = tanh(x_t W_g + b_g + r_t ⊙ q_t)                the candidate
        h_t = (1 - z_t) ⊙ g_t + z_t ⊙ h_{t-1}

    r is applied to the product h U_g, as PyTorch and cuDNN do. In Cho et al. (2014) it is applied before, (r ⊙ h) U_g: another function.
    Backward, with dh_t = (what comes from y_t) + dh_{t+1} ⊙ z_{t+1} + [dr, dz, dq]_{t+1} Uᵀ, where dr, dz, dg are those of the arguments:

        dg_t = dh_t ⊙ (1 - z_t) ⊙ (1 - g_t²)           dz_t = dh_t ⊙ (h_{t-1} - g_t) ⊙ z_t (1 - z_t)
        dq_t = dg_t ⊙ r_t                              dr_t = dg_t ⊙ q_t ⊙ r_t (1 - r_t)
        dW = Σₜ x_tᵀ [dr, dz, dg]_t                    dU = Σₜ h_{t-1}ᵀ [dr, dz, dq]_t
        db = Σₜ Σₙ [dr, dz, dg]_t                      db_q = Σₜ Σₙ dq_t                    dx_t = [dr, dz, dg]_t Wᵀ

    x: (n, time, d)    W: (d, 3k)    U: (k, 3k)    b: (3k,)    b_q: (k,)    h: (n, k)    y: (n, time, k), or (n, k) with last=True
    The gates lie side by side in the order r, z, g, which is PyTorch's r, z, n: W = weight_ih_l0ᵀ, U = weight_hh_l0ᵀ, b_q is the last
    third of bias_hh_l0, and b is bias_ih_l0 plus the other two thirds. The state is h; lengths and state: see the top of this file.

    in_features, hidden_features  d and k
    last            only the state after the last step
    bias            False leaves b and b_q out
    init            initialiser of each W_·, Glorot's by default; recurrent_init of each U_·, orthogonal; bias_init of b, zeros
    Raises LayerError for an x that is not (n, time ≥ 1, d) of W's dtype, for a state or lengths that do not fit.
    Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder for statistical machine translation".
    """

    gates = 3

    def __init__(self, in_features: int, hidden_features: int, **options: Any):
        super().__init__(in_features, hidden_features, **options)
        self.b_q = None if self.b is None else Param((self.out_features,), "zeros", bias=True)

    def params(self) -> dict[str, Param]:
        return super().params() | ({} if self.b_q is None else {"b_q": self.b_q})

    def steps(self, params: dict[str, Any], X: Array, start: tuple[Array, ...], time: int, xp: Any) -> Any:
        k, W, U, b_q = self.out_features, params["W"], params["U"], params.get("b_q", 0.0)
        h = states_from(xp, start[0], time)
        q = xp.empty_like(h[1:, ...])
        gates = projected(xp, X, W, params.get("b"), 3, time)
        times_U = block_products(xp, U, 3)
        for t in range(time):
            gru_step(xp, *(g[t, ...] for g in gates), *times_U(h[t, ...]), b_q, h[t, ...], q[t, ...], h[t + 1, ...])

        def back(arriving: list[Any], input_grad: bool, start_grad: bool) -> Any:
            U_T = contiguous(xp, U.T)
            # Of the products with x: dr, dz, dg side by side. Of those with h: dr, dz, dq.
            dZ_x, dZ_h = (xp.empty((*q.shape[:2], 3 * k), dtype=X.dtype, device=X.device) for _ in range(2))
            dh, kept = 0.0, xp.zeros_like(q[0, ...])
            for t in range(time - 1, -1, -1):
                gru_step_back(xp, *(g[t, ...] for g in gates), q[t, ...], h[t, ...], *(dZ_x[t, :, j * k:(j + 1) * k] for j in range(3)),
                              *(dZ_h[t, :, j * k:(j + 1) * k] for j in range(3)), kept, dh, arriving[0][t + 1])
                if t or start_grad:
                    dh = dZ_h[t, ...] @ U_T
            dz_x, dz_h = (xp.reshape(d, (-1, 3 * k)) for d in (dZ_x, dZ_h))
            grads = {"W": X.T @ dz_x, "U": before(xp, h, time).T @ dz_h}
            if self.b is not None:
                grads |= {"b": sum_of(xp, dz_x, axis=0), "b_q": sum_of(xp, dz_h[:, 2 * k:], axis=0)}
            return dz_x @ W.T if input_grad else None, (dh + kept + arriving[0][0],) if start_grad else (), grads

        return (h,), back


@elementwise(inplace=True)
def gru_step(xp: Any, r: Array, z: Array, g: Array, ur: Array, uz: Array, ug: Array, b_q: Any, h: Array, q: Array, h_next: Array) -> None:
    """The gates in the place of what x_t gave, and the next state."""
    r[...] = sigma(xp, r + ur)
    z[...] = sigma(xp, z + uz)
    q[...] = ug + b_q
    g[...] = xp.tanh(g + r * q)
    h_next[...] = g + z * (h - g)


@elementwise(inplace=True)
def gru_step_back(xp: Any, r: Array, z: Array, g: Array, q: Array, h: Array, dr: Array, dz: Array, dg: Array, dr_h: Array, dz_h: Array,
                  dq: Array, kept: Array, dh: Any, arriving: Any) -> None:
    """∂L/∂ of the gates' arguments, and in `kept` what goes to the state before by z alone."""
    dh = dh + arriving + kept
    kept[...] = dh * z
    dz[...] = dh * (h - g) * (z * (1.0 - z))
    dg[...] = dh * (1.0 - z) * (1.0 - g * g)
    dq[...] = dg * r
    dr[...] = dg * q * (r * (1.0 - r))
    dr_h[...] = dr
    dz_h[...] = dz


class Stacked(Recurrent, Sequential):
    """Layers one above the other as in Sequential, y = f_L(… f₁(x)), where each recurrent layer has its own part of the state.

    Stacked(Embedding(96, 64), LSTM(64, 128), Dropout(0.1), GRU(128, 128), Dense(128, 96)) takes x, or (x, h, c, h) with the states of its
    recurrent layers in their order, and the lengths as the last entry if there are any. A recurrent layer is given its part of the state
    and the lengths, any other layer the first array alone. Without state and lengths this is Sequential.
    Raises LayerError for a state or lengths that do not fit.
    """

    def __init__(self, *layers: Layer):
        super().__init__(*layers)
        self.state_features = tuple(k for layer in layers if isinstance(layer, Recurrent) for k in layer.state_features)

    def check_values(self, x: Any, name: str = "x") -> None:
        super().check_values(x, name)
        if self.layers and not isinstance(self.layers[0], Recurrent):
            self.layers[0].check_values(x[0] if isinstance(x, tuple) else x, name)

    def run(self, params: dict[str, Any], x: Array, state: tuple[Array, ...], lengths: Any, ctx: Context) -> Any:
        tape, end = [], list[Array]()
        for name, layer in self.named:
            own: tuple[Array, ...] = ()
            if isinstance(layer, Recurrent):
                own = state[len(end):len(end) + len(layer.state_features)]
                y, back = ctx.forward(name, layer, params, bundled(x, own, lengths))
                x, after = opened(y)
                end += after
            else:
                x, back = ctx.forward(name, layer, params, x)
            tape.append((name, back, len(own)))

        def backward(dy: Array, dend: tuple[Array, ...], input_grad: bool) -> Any:
            grads: dict[str, Any] = {name: {} for name, _ in self.named}
            dstate: tuple[Array, ...] = ()
            last = 0 if input_grad else self.first_trained
            for i in range(len(tape) - 1, last - 1, -1):
                name, back, size = tape[i]
                cut = len(dend) - size
                dx, grads[name] = back(bundled(dy, dend[cut:]), input_grad or i > last)
                dy, dparts = opened(dx)
                dend, dstate = dend[:cut], (*dparts[:size], *dstate)
            return dy, dstate, grads

        return x, tuple(end), backward


class Bidirectional(Recurrent, Container):
    """y = [f(x), R b(R x)] side by side, R the reversal of time: each y_t sees what is before it and what is after it.

        ∂L/∂x = (∂f/∂x)ᵀ ∂L/∂y_f + R (∂b/∂x)ᵀ R ∂L/∂y_b

    R turns each sequence round within its own length and leaves the padding where it is: a permutation that is its own inverse, and so
    its own adjoint. Of layers with last=True the two states are put side by side, b's being the one that has read back to the first step.

    forward_layer, backward_layer   recurrent layers with the same inputs, that both give all states or both the last one
    The state is f's and then b's; lengths and state: see the top of this file.
    Raises ValueError for layers that do not fit each other, LayerError for a state or lengths that do not fit.
    Schuster & Paliwal (1997), "Bidirectional recurrent neural networks".
    """

    def __init__(self, forward_layer: Layer, backward_layer: Layer):
        super().__init__(forward_layer, backward_layer)
        f, b = forward_layer, backward_layer
        if not (isinstance(f, Recurrent) and isinstance(b, Recurrent)):
            raise TypeError(f"Bidirectional takes two recurrent layers, got {f!r} and {b!r}")
        self.forward_states = len(f.state_features)
        if f.in_features != b.in_features or getattr(f, "last", None) != getattr(b, "last", None):
            raise ValueError("Bidirectional takes layers with the same inputs that both give all states or both the last one, got "
                             f"{f!r} and {b!r}")
        self.in_features = f.in_features
        self.out_features = f.out_features + b.out_features if f.out_features and b.out_features else None
        self.state_features = f.state_features + b.state_features

    def run(self, params: dict[str, Any], x: Array, state: tuple[Array, ...], lengths: Any, ctx: Context) -> Any:
        xp = ctx.xp
        (name_f, f), (name_b, b) = self.named
        if x.ndim < 2:
            raise takes("(batch, time, ...)", x)
        cut = self.forward_states if state else 0
        turned = reversal(xp, x, lengths)
        of_f, back_f = ctx.forward(name_f, f, params, bundled(x, state[:cut], lengths))
        of_b, back_b = ctx.forward(name_b, b, params, bundled(turned(x), state[cut:], lengths))
        (y_f, end_f), (y_b, end_b) = opened(of_f), opened(of_b)
        last, k = y_f.ndim == 2, y_f.shape[-1]

        def backward(dy: Array, dend: tuple[Array, ...], input_grad: bool) -> Any:
            dy_b = dy[..., k:] if last else turned(dy[..., k:])
            dx_f, grads_f = back_f(bundled(dy[..., :k], dend[:cut]), input_grad)
            dx_b, grads_b = back_b(bundled(dy_b, dend[cut:]), input_grad)
            grads = {name_f: grads_f, name_b: grads_b}
            if not input_grad:
                return None, (), grads
            (dx, dparts_f), (dx_turned, dparts_b) = opened(dx_f), opened(dx_b)
            return dx + turned(dx_turned), (*dparts_f[:cut], *dparts_b[:len(state) - cut]), grads

        return xp.concat([y_f, y_b if last else turned(y_b)], axis=-1), end_f + end_b, backward


def bundled(x: Array, state: tuple[Array, ...], lengths: Any = None) -> Any:
    """The tuple of a recurrent layer's input or output; x itself where it is alone."""
    parts = (x, *state) if lengths is None else (x, *state, lengths)
    return parts if len(parts) > 1 else x


def opened(value: Any) -> tuple[Any, tuple[Any, ...]]:
    """The first array of such a tuple, and the others."""
    return (value[0], value[1:]) if isinstance(value, tuple) else (value, ())


def reversal(xp: Any, x: Array, lengths: Any) -> Callable[[Array], Array]:
    """R: time reversed within each sequence's length, of arrays (n, time, features)."""
    if lengths is None:
        return lambda a: xp.flip(a, axis=1)
    n, time = x.shape[:2]
    lengths = xp.astype(lengths, xp.int64)[:, None]
    steps, samples = (xp.arange(size, dtype=xp.int64, device=x.device) for size in (time, n))
    at = xp.where(steps[None, :] < lengths, lengths - 1 - steps[None, :], steps[None, :])
    rows = xp.reshape(samples[:, None] * time + at, (-1,))
    return lambda a: xp.reshape(xp.take(xp.reshape(a, (n * time, a.shape[2])), rows, axis=0), a.shape)


def at_steps(each: Any, last: Any, is_end: Any, time: int) -> list[Any]:
    """The gradient that comes to a state from outside the recurrence, before step 1 and after each step: arrays (n, k), or 0.0 for none.

    each  of the states after all steps, (time, n, k), or None
    last  of each sequence's last state (n, k), or None; where is_end (time + 1, n, 1) is 1, or after step `time`
    """
    steps = [0.0] * (time + 1) if each is None else [0.0, *(each[t, ...] for t in range(time))]
    if last is not None and is_end is None:
        steps[time] = last if each is None else steps[time] + last
    elif last is not None:
        ends = is_end * last
        steps = [s + ends[t, ...] for t, s in enumerate(steps)]
    return steps


def states_from(xp: Any, start: Array, time: int) -> Array:
    """Room for the states before step 1 and after each step, (time + 1, n, k), the first filled in."""
    states = xp.empty((time + 1, *start.shape), dtype=start.dtype, device=start.device)
    states[0, ...] = start
    return states


def before(xp: Any, states: Array, time: int) -> Array:
    """The states before each step as rows, (time·n, k)."""
    return xp.reshape(states[:time, ...], (-1, states.shape[2]))


def projected(xp: Any, X: Array, W: Array, b: Any, gates: int, time: int) -> list[Array]:
    """x_t W + b of all steps as one product: for each gate (time, n, k)."""
    P = block_products(xp, W, gates)(X)
    if b is not None:
        k = P[0].shape[1]
        for j, p in enumerate(P):
            p += b[j * k:(j + 1) * k]                     # in place: p was made here
    return [xp.reshape(p, (time, -1, p.shape[1])) for p in P]


def sigma(xp: Any, z: Array) -> Array:
    """σ(z) = ½ + ½ tanh(z/2), which cannot overflow."""
    return 0.5 + 0.5 * xp.tanh(0.5 * z)

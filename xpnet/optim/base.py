"""What all optimizers share. An optimizer is a rule on whole vectors: however many layers there are, a step is a few operations."""

import fnmatch
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..backend import elementwise
from ..errors import unknown

Array = Any
FLUSH_EVERY = 64                                          # steps between two sweeps for denormal numbers


class Optimizer:
    """θ ← θ - (step), element by element on the flat vector of all parameters.

    lr              learning rate η, or a schedule `schedule(step) -> η`
    weight_decay    λ. Coupled (L2): g ← g + λθ, the gradient of ½λ‖θ‖². Decoupled: θ ← θ - ηλθ, beside the gradient's step
    decoupled       which of the two; AdamW's default is decoupled, every other's coupled. Loshchilov & Hutter (2019)
    decay_biases    False leaves biases (and other additive terms) undecayed
    clip            ClipNorm(c) or ClipValue(c), applied to the gradient before anything else
    lr_scale        {path pattern: factor} for per-path learning rates, as in {"0.*": 0.1}; the last match counts
    freeze          path patterns that are not trained, as in ("0.*",)

    A subclass names its state vectors in `slots` and writes `update`. State is made at the first step, for one model.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, lr: float | Callable[[int], float], *, weight_decay: float = 0.0, decoupled: bool = False,
                 decay_biases: bool = True, clip: Any = None, lr_scale: Mapping[str, float] | None = None,
                 freeze: Sequence[str] = ()):
        if not callable(lr) and not (isinstance(lr, numbers.Real) and lr >= 0):
            raise ValueError(f"{type(self).__name__}: lr is a number from 0 on or a schedule, got {lr!r}")
        if weight_decay < 0:
            raise ValueError(f"{type(self).__name__}: weight_decay is from 0 on, got {weight_decay!r}")
        self.lr = lr
        self.weight_decay = float(weight_decay)
        self.decoupled = decoupled
        self.decay_biases = decay_biases
        self.clip = clip
        self.lr_scale = dict(lr_scale or {})
        self.freeze = (freeze,) if isinstance(freeze, str) else tuple(freeze)
        self.t = 0
        self.state: dict[str, Array] = {}
        self._for: Any = None

    def learning_rate(self) -> float:
        """η of the next step."""
        return float(self.lr(self.t) if callable(self.lr) else self.lr)   # a NumPy scalar would widen float32

    def start(self, model: Any) -> None:
        """Make the state for a model: vectors of the parameters' layout."""
        self._for = model
        self.t = 0
        with model.backend:
            self.state = {name: model.xp.zeros_like(model.params) for name in self.slots}
        self._arrange(model)

    def _options(self) -> tuple[Any, ...]:
        return self.weight_decay, self.decoupled, self.decay_biases, self.clip, tuple(self.lr_scale.items()), self.freeze

    def _arrange(self, model: Any) -> None:
        """The vectors that the options need, for as long as they are not changed."""
        xp = model.xp
        self._arranged = self._options()
        with model.backend:
            scale = self._scales(model)
            self._scale = self._vector(model, scale)
            self._trained = self._vector(model, (scale > 0) * 1.0) if self.freeze and self.clip else None
            decay = model.layout.mask(lambda paths, param: self.weight_decay if self.decay_biases or not param.bias else 0.0)
            self._decay = self.weight_decay if self.decay_biases else self._vector(model, decay)
            self._d: Any = xp.zeros_like(model.params) if self.clip or (self.weight_decay and not self.decoupled) else None

    def start_for(self, model: Any) -> None:
        """Start, unless the state is this model's already; the state of another model is not thrown away silently."""
        if self._for is model:
            return
        if self._for is not None and self.t:
            raise ValueError(f"this {type(self).__name__} has the state of another model after {self.t} steps; "
                             "make one optimizer a model")
        self.start(model)

    def _vector(self, model: Any, host: Any) -> Any:
        return None if host is None else model.asarray(host.astype(model.dtype))

    def _scales(self, model: Any) -> Any:
        if not self.lr_scale and not self.freeze:
            return None
        paths = model.paths()
        for pattern in (*self.lr_scale, *self.freeze):
            if not any(fnmatch.fnmatchcase(p, pattern) for p in paths):
                raise unknown("path or pattern", pattern, paths)

        def scale(of: list[str], param: Any) -> float:
            factor = 1.0
            for pattern, f in [*self.lr_scale.items(), *((p, 0.0) for p in self.freeze)]:
                if any(fnmatch.fnmatchcase(path, pattern) for path in of):
                    factor = f
            return factor

        return model.layout.mask(scale)

    def step(self, model: Any, grads: Array | None = None) -> None:
        """One update of model's parameters from the vector of gradients (`model.grads` when not given). No host synchronisation."""
        if self._for is not model:
            self.start_for(model)
        elif self._arranged != self._options():           # changed since, as by a callback
            self._arrange(model)
        xp, p = model.xp, model.params
        g = model.grads if grads is None else grads
        if g.shape != p.shape:
            raise ValueError(f"step takes the vector of gradients, of shape {tuple(p.shape)}, got {tuple(g.shape)}")
        lr = self.learning_rate()
        with model.backend:
            if self._d is not None:
                g = self._prepared(xp, p, g)
            self.t += 1
            before = [] if model.mixed is None else [(v, xp.asarray(v, copy=True)) for v in (p, *self.state.values())]
            if self.weight_decay and self.decoupled:
                decay_rule(xp, p, self._rate(lr) * self._decay)
            self.update(xp, p, g, lr, self.t)
            for v, old in before:                         # gradients that overflowed float16 make no step
                keep_rule(xp, v, old, model.mixed.finite)
            if self.t % FLUSH_EVERY == 0 and model.backend.kind != "cupy":
                self._flush(xp, p)
        model.version += 1

    def _prepared(self, xp: Any, p: Array, g: Array) -> Array:
        """The gradient as the update sees it, clipped and with the L2 term, in a vector of its own: `model.grads` stays ∂L/∂θ."""
        d = self._d
        d[...] = g
        if self._trained is not None:                     # what is frozen has no part in the norm
            d *= self._trained
        if self.clip is not None:
            self.clip(xp, d)
        if self.weight_decay and not self.decoupled:
            l2_rule(xp, d, p, self._decay)
        return d

    def _rate(self, rate: float) -> Any:
        """A step size as a number, or as a vector where paths differ in their learning rates."""
        return rate if self._scale is None else rate * self._scale

    def _flush(self, xp: Any, p: Array) -> None:
        """Moments of a unit that is dead decay into denormal numbers, on which CPUs may be up to 40 times slower, and so do its parameters
        under weight decay. Far below what can move a parameter they are set to 0.

        The limit is 2²⁷ times the smallest normal number, with which 64 steps at β₁ = 0.9 and a step size of 10⁻⁵ make no denormal number
        either. The root of that is 1.3 · 10⁻¹⁵ in float32: too much beside an ε smaller than usual, so that √v has to be below 2⁻²⁴ ε too.
        """
        smallest = float(xp.finfo(p.dtype).smallest_normal)
        tiny = min(smallest * 2.0 ** 27, (2.0 ** -24 * getattr(self, "eps", 1.0)) ** 2)
        tiny = max(tiny, smallest * 2.0 ** 10)            # 0.9⁶⁴ is 2^-9.7
        for v in self.state.values():
            self._flush_moment(xp, v, tiny)
        if self.weight_decay and not self.freeze:         # what is frozen is not touched
            flush_rule(xp, p, tiny)

    def _flush_moment(self, xp: Any, v: Array, tiny: float) -> None:
        flush_rule(xp, v, tiny)

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        """θ and the state in place, at step t = 1, 2, …"""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The step number and copies of the state vectors, to resume from."""
        if self._for is None:
            return {"t": 0}
        with self._for.backend:
            return {"t": self.t, **{name: self._for.xp.asarray(v, copy=True) for name, v in self.state.items()}}

    def load_state_dict(self, model: Any, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` was made."""
        self.start(model)
        self.t = int(state["t"])
        with model.backend:
            for name in self.slots:
                self.state[name][...] = model.asarray(state[name])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.lr if not callable(self.lr) else repr(self.lr)})"


@elementwise(inplace=True)
def l2_rule(xp: Any, d: Array, p: Array, decay: Any) -> None:
    """g ← g + λθ"""
    d += decay * p


@elementwise(inplace=True)
def decay_rule(xp: Any, p: Array, rate: Any) -> None:
    """θ ← θ - ηλθ"""
    p -= rate * p


@elementwise(inplace=True)
def keep_rule(xp: Any, v: Array, old: Array, keep: Array) -> None:
    """v where keep is 1, what it was where keep is 0."""
    v[...] = xp.where(keep > 0.0, v, old)


@elementwise(inplace=True)
def flush_rule(xp: Any, v: Array, tiny: float) -> None:
    """v ← 0 where |v| is at most tiny"""
    v *= xp.astype(xp.abs(v) > tiny, v.dtype)

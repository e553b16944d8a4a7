"""Mixed precision: float16 where numbers are many, float32 where they add up."""

from typing import Any

from .backend import Backend, elementwise
from .backend.accumulate import accumulating

Array = Any


class Mixed:
    """The policy of `Model(dtype="mixed")`, and its dynamic loss scale s. Layers know nothing of it.

    Activations, and the parameters that layers see, are float16; the parameters themselves, gradients, losses and sums float32.
    float16 ends at 6e-8 below, and many gradients are smaller: ∂L/∂y is multiplied by s before the backward pass, and the gradients
    divided by s after it. A step whose gradients overflow is not made, and halves s; after `interval` steps without overflow s doubles.
    All of it stays on the device: whether a step is made is a number, not a branch. (So an optimizer's t counts the steps that were not
    made too, and NumPy prints its overflow warning.)
    Micikevicius et al. (2018), "Mixed precision training", section 3.

    half      the parameters in float16, cast anew for each forward pass
    scale     s, (1,) float32
    finite    1 where the last gradients were finite, else 0, (1,) float32
    interval  steps between two doublings
    """

    def __init__(self, backend: Backend, size: int, start: float = 2.0 ** 16, interval: int = 2000):
        self.xp = backend.xp
        self.layers_xp = accumulating(backend.xp)
        self.half = backend.zeros((size,), backend.xp.float16)
        self.interval = float(interval)
        self.scale = backend.asarray([start], "float32")
        self.finite = backend.asarray([1.0], "float32")
        self.good = backend.asarray([0.0], "float32")     # steps since s last changed

    def narrow(self, x: Any) -> Any:
        """Floating numbers as float16, integers as they are."""
        return self._cast(x, self.xp.float16)

    def widen(self, y: Any) -> Any:
        """Floating numbers as float32, integers as they are."""
        return self._cast(y, self.xp.float32)

    def _cast(self, x: Any, dtype: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(self._cast(e, dtype) for e in x)
        return self.xp.astype(x, dtype) if self.xp.isdtype(x.dtype, "real floating") else x

    def lift(self, dy: Any) -> Any:
        """s ∂L/∂y, in float16."""
        return tuple(map(self.lift, dy)) if isinstance(dy, tuple) else self.narrow(dy * self.scale)

    def lower(self, dx: Any) -> Any:
        """The gradient of the input, without s, in float32."""
        if dx is None:                                    # of integers
            return None
        return tuple(map(self.lower, dx)) if isinstance(dx, tuple) else self.widen(dx) / self.scale

    def unscale(self, grads: Array) -> None:
        """grads ← grads / s, note whether all are finite, and move s."""
        xp = self.xp
        all_finite = xp.all(xp.isfinite(grads), keepdims=True)
        unscale_rule(xp, grads, 1.0 / self.scale)
        scale_rule(xp, self.scale, self.good, self.finite, all_finite, self.interval)


@elementwise(inplace=True)
def unscale_rule(xp: Any, g: Array, factor: Array) -> None:
    g *= factor


@elementwise(inplace=True)
def scale_rule(xp: Any, scale: Array, good: Array, finite: Array, all_finite: Array, interval: float) -> None:
    """good ← good + 1, or 0 after an overflow;  s ← 2s where good reaches the interval, s/2 after an overflow, within [1, 2²⁴]."""
    finite[...] = xp.astype(all_finite, finite.dtype)
    good += 1.0
    good *= finite
    grow = xp.astype(good >= interval, good.dtype)
    scale[...] = xp.minimum(xp.maximum(scale * (1.0 + grow) * (0.5 + 0.5 * finite), 1.0), 16777216.0)
    good *= 1.0 - grow

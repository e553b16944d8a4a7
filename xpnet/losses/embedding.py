"""Losses of distances: what an embedding should bring together and keep apart.

The prediction is a tuple, as the same layer gives it for two or three inputs: `Parallel(net, net, split=True)` shares its parameters.

Sorted by increasing complexity.
"""

from typing import Any

from ..backend import elementwise, sum_of
from .base import Loss, of_samples, one_each

Array = Any


class Contrastive(Loss):
    """ℓ = t D² + (1 - t) max(0, m - D)²,  D = ‖a - b‖        ∂ℓ/∂a = 2 t (a - b) - 2 (1 - t) max(0, m - D) (a - b)/D = -∂ℓ/∂b

    Pairs of the same kind (t = 1) are drawn together, others (t = 0) pushed apart as far as the margin m. Where D = 0 the second term has
    no derivative, and 0 is taken. Gradient with respect to y = (a, b): two arrays (n, d). t: (n,), 1 or 0.
    The paper's ½ is reduction="half_mean", and its Y is 1 - t. Hadsell, Chopra & LeCun (2006).
    """

    predictions = (2,)
    kinks = True

    def __init__(self, margin: float = 1.0, reduction: str = "mean"):
        super().__init__(reduction)
        self.margin = positive(self, margin)

    def check_values(self, t: Any, name: str = "t") -> None:
        if t.min() < 0 or t.max() > 1:
            raise ValueError(f"{name} holds 1 for pairs of the same kind and 0 for others for {self!r}, got values from {t.min():g} to "
                             f"{t.max():g}")

    def target_shape(self, y: Any) -> tuple[int, ...]:
        return tuple(y[0].shape[:1])

    def check(self, xp: Any, y: Any, t: Array) -> None:
        same_shapes(self, y)
        if tuple(t.shape) != tuple(y[0].shape[:1]):
            raise ValueError(f"Contrastive takes a target of shape ({y[0].shape[0]},), one a pair, got {tuple(t.shape)}")
        if t.dtype != y[0].dtype:
            raise TypeError(f"Contrastive takes a target of the prediction's dtype {y[0].dtype}, got {t.dtype}")

    def value_and_grad(self, xp: Any, y: Any, t: Array, weights: Array | None) -> tuple[Array, Any]:
        a, b = y
        r = a - b
        square = xp.sum(r * r, axis=-1, keepdims=True)
        loss, factor = _contrastive_rule(xp, square, t[:, None], self.margin, of_samples(self, xp, a, 1, weights))
        da = factor * r
        return sum_of(xp, loss), (da, -da)

    def __repr__(self) -> str:
        return f"Contrastive({self.margin:g}{_of(self)})"


class Triplet(Loss):
    """ℓ = max(0, ‖a - p‖² - ‖a - q‖² + m)        on the right side of 0, [ℓ > 0]:

        ∂ℓ/∂a = 2 (q - p)        ∂ℓ/∂p = 2 (p - a)        ∂ℓ/∂q = 2 (a - q)

    An anchor a is to be nearer to p, of its own kind, than to q, of another, by a margin m of the squared distances. Gradient with respect
    to y = (a, p, q): three arrays (n, d). Nothing else is compared: t is any array of n samples, the anchors' labels, say.
    Schroff, Kalenichenko & Philbin (2015); m = 0.2 there and here, for embeddings of length 1.
    """

    predictions = (3,)
    kinks = True

    def __init__(self, margin: float = 0.2, reduction: str = "mean"):
        super().__init__(reduction)
        self.margin = positive(self, margin)

    def target_shape(self, y: Any) -> tuple[int, ...]:
        return tuple(y[0].shape[:1])

    def check(self, xp: Any, y: Any, t: Array) -> None:
        same_shapes(self, y)
        one_each(self, y[0], t)

    def value_and_grad(self, xp: Any, y: Any, t: Array, weights: Array | None) -> tuple[Array, Any]:
        a, p, q = y
        to_p, to_q = a - p, a - q
        apart = xp.sum(to_p * to_p - to_q * to_q, axis=-1, keepdims=True)
        loss, factor = _triplet_rule(xp, apart, self.margin, of_samples(self, xp, a, 1, weights))
        return sum_of(xp, loss), ((q - p) * factor, -to_p * factor, to_q * factor)

    def __repr__(self) -> str:
        return f"Triplet({self.margin:g}{_of(self)})"


@elementwise
def _contrastive_rule(xp: Any, square: Array, t: Array, margin: float, scale: Any) -> tuple[Array, Array]:
    """ℓ, and the factor of a - b in its gradient."""
    smallest = float(xp.finfo(square.dtype).smallest_normal)
    distance = xp.sqrt(square)
    missing = xp.maximum(margin - distance, 0.0)
    there = xp.astype(square > 0.0, square.dtype)
    push = missing / xp.sqrt(xp.maximum(square, smallest)) * there
    return (t * square + (1.0 - t) * (missing * missing)) * scale, 2.0 * (t - (1.0 - t) * push) * scale


@elementwise
def _triplet_rule(xp: Any, apart: Array, margin: float, scale: Any) -> tuple[Array, Array]:
    violation = apart + margin
    return xp.maximum(violation, 0.0) * scale, 2.0 * xp.astype(violation > 0.0, apart.dtype) * scale


def same_shapes(loss: Loss, y: Any) -> None:
    shapes = [tuple(a.shape) for a in y]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise ValueError(f"{type(loss).__name__} takes embeddings of one shape (n, d), got {', '.join(map(str, shapes))}")


def positive(loss: Loss, margin: float) -> float:
    if isinstance(margin, (str, bool)) or not margin > 0:
        raise ValueError(f"{type(loss).__name__}: margin is a positive number, got {margin!r}")
    return float(margin)


def _of(loss: Loss) -> str:
    return "" if loss.reduction == "mean" else f", {loss.reduction!r}"

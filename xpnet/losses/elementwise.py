"""Losses that are a sum over entries: of every output by itself.

Sorted by increasing complexity.
"""

from typing import Any

from ..layers.activations import sigmoid, softplus
from .base import ElementwiseLoss

Array = Any


class MeanSquaredError(ElementwiseLoss):
    """ℓ = (y - t)²        ∂ℓ/∂y = 2 (y - t)

    Gradient with respect to the prediction y. With reduction="half_sum" it is the textbook's ½Σ(t - o)², whose gradient is y - t.
    """

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        r = y - t
        return r * r, 2.0 * r


class MeanAbsoluteError(ElementwiseLoss):
    """ℓ = |y - t|        ∂ℓ/∂y = sign(y - t), and 0 at 0

    Gradient with respect to the prediction y. The minimum is the conditional median.
    """

    kinks = True

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        r = y - t
        return xp.abs(r), xp.sign(r)


class Huber(ElementwiseLoss):
    """ℓ = ½ r² for |r| ≤ δ, else δ (|r| - ½ δ), with r = y - t        ∂ℓ/∂y = c, c = min(max(r, -δ), δ)

    In one formula, ℓ = c (r - ½ c). Gradient with respect to the prediction y. Huber (1964).
    """

    def __init__(self, delta: float = 1.0, reduction: str = "mean"):
        super().__init__(reduction)
        if isinstance(delta, str) or not delta > 0:
            raise ValueError(f"Huber: delta is a positive number, got {delta!r}")
        self.delta = float(delta)

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        r = y - t
        c = xp.minimum(xp.maximum(r, -self.delta), self.delta)
        return c * (r - 0.5 * c), c


class LogCosh(ElementwiseLoss):
    """ℓ = ln cosh r = |r| + ln(1 + ½(e^(-2|r|) - 1)), with r = y - t        ∂ℓ/∂y = tanh r

    In this form neither a large r overflows, nor a small one cancels against ln 2. Gradient with respect to the prediction y. About ½ r²
    near 0, and |r| - ln 2 far from it.
    """

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        r = y - t
        a = xp.abs(r)
        return a + xp.log1p(0.5 * xp.expm1(-2.0 * a)), xp.tanh(r)


class Poisson(ElementwiseLoss):
    """ℓ = eᶻ - t z        ∂ℓ/∂z = eᶻ - t

    The negative log-likelihood of a count t with rate λ = eᶻ, without the constant ln t!. Gradient with respect to the *log-rate* z.
    Unlike the other losses this one overflows for large predictions, as eᶻ does: in float32 from z = 88.7 on.
    """

    link = "exp"

    def check_values(self, t: Any, name: str = "t") -> None:
        if t.min() < 0:
            raise ValueError(f"{name} holds counts from 0 on for {self!r}, got values from {t.min():g}")

    def rule(self, xp: Any, z: Array, t: Array) -> tuple[Array, Array]:
        rate = xp.exp(z)
        return rate - t * z, rate - t


class Hinge(ElementwiseLoss):
    """ℓ = max(0, 1 - t y), t ∈ {-1, 1}        ∂ℓ/∂y = -t [t y < 1]

    Gradient with respect to the score y. Binary; Cortes & Vapnik (1995).
    """

    link = "sign"
    kinks = True

    def check_values(self, t: Any, name: str = "t") -> None:
        if (abs(t) != 1).any():
            raise ValueError(f"{name} holds -1 and 1 for {self!r}, got values from {t.min():g} to {t.max():g}; for 0 and 1 write 2 * t - 1")

    def rule(self, xp: Any, y: Array, t: Array) -> tuple[Array, Array]:
        margin = 1.0 - t * y
        return xp.maximum(margin, 0.0), -t * xp.astype(margin > 0.0, y.dtype)


class BinaryCrossEntropy(ElementwiseLoss):
    """ℓ = -t ln σ(z) - (1 - t) ln(1 - σ(z)) = max(z, 0) - t z + ln(1 + e⁻|ᶻ|)        ∂ℓ/∂z = σ(z) - t

    On logits: gradient with respect to the *logit* z, not the probability σ(z). Several outputs are several yes-or-no questions.
    t: probabilities in [0, 1], of z's shape
    pos_weight: a factor p of the positive term, ℓ = -p t ln σ(z) - (1 - t) ln(1 - σ(z)), for rare positives
    """

    link = "sigmoid"

    def __init__(self, reduction: str = "mean", pos_weight: float = 1.0):
        super().__init__(reduction)
        if not pos_weight > 0:
            raise ValueError(f"pos_weight is a positive number, got {pos_weight!r}")
        self.pos_weight = float(pos_weight)

    def check_values(self, t: Any, name: str = "t") -> None:
        if t.min() < 0 or t.max() > 1:
            raise ValueError(f"{name} holds probabilities in [0, 1] for {self!r}, got values from {t.min():g} to {t.max():g}")

    def rule(self, xp: Any, z: Array, t: Array) -> tuple[Array, Array]:
        if self.pos_weight == 1.0:
            return softplus(xp, z) - t * z, sigmoid(xp, z) - t
        p = self.pos_weight - 1.0
        # -p t ln σ(z) = p t softplus(-z), and softplus(z) = softplus(-z) + z
        return (softplus(xp, z) - t * z) + p * t * softplus(xp, -z), (sigmoid(xp, z) - t) - p * t * sigmoid(xp, -z)

"""Losses of normal distributions that a network gives the parameters of: y = [μ | s], means and log-variances s = ln σ² side by side.

In the logarithm the variance is positive whatever the network says. Sorted by increasing complexity.
"""

import math
from typing import Any

from ..backend import elementwise, sum_of
from .base import Loss, first, of_samples, one_each
from .elementwise import BinaryCrossEntropy

Array = Any


class NormalKL(Loss):
    """ℓ = KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σₖ (μₖ² + e^(sₖ) - sₖ - 1)        ∂ℓ/∂μ = μ        ∂ℓ/∂s = ½ (e^s - 1)

    For y = [μ | s]: (n, 2k), s = ln σ²; gradient with respect to y. There is nothing that it is compared with: t is any array of n samples.
    Kingma & Welling (2014), appendix B.
    """

    def target_shape(self, y: Array) -> tuple[int, ...]:
        return tuple(y.shape[:1])

    def check(self, xp: Any, y: Array, t: Array) -> None:
        halves(self, y)
        one_each(self, y, t)

    def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        k = y.shape[-1] // 2
        loss, d_mean, d_log_var = _kl_rule(xp, y[..., :k], y[..., k:], of_samples(self, xp, y, k, weights))
        return sum_of(xp, loss), xp.concat([d_mean, d_log_var], axis=-1)


class GaussianNLL(Loss):
    """ℓ = ½ ((t - μ)² e⁻ˢ + s + ln 2π)        ∂ℓ/∂μ = (μ - t) e⁻ˢ        ∂ℓ/∂s = ½ (1 - (t - μ)² e⁻ˢ)

    The negative log-likelihood of t under N(μ, e^s), for y = [μ | s]: (n, ..., 2k), s = ln σ²; gradient with respect to y. t: (n, ..., k).
    With a constant s = 0 it is half the squared error, and a constant. Nix & Weigend (1994).
    """

    def target_shape(self, y: Array) -> tuple[int, ...]:
        return (*y.shape[:-1], y.shape[-1] // 2)

    def check(self, xp: Any, y: Array, t: Array) -> None:
        k = halves(self, y)
        if tuple(t.shape) != (*y.shape[:-1], k):
            raise ValueError(f"GaussianNLL takes a target of shape {(*y.shape[:-1], k)} for means and log-variances of shape "
                             f"{tuple(y.shape)}, got {tuple(t.shape)}")
        if t.dtype != y.dtype:
            raise TypeError(f"GaussianNLL takes a target of the prediction's dtype {y.dtype}, got {t.dtype}; "
                            "model.asarray(t) casts floating numbers")

    def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        k = y.shape[-1] // 2
        loss, d_mean, d_log_var = _nll_rule(xp, y[..., :k], y[..., k:], t, of_samples(self, xp, y, math.prod(t.shape[1:]), weights))
        return sum_of(xp, loss), xp.concat([d_mean, d_log_var], axis=-1)


class ELBO(Loss):
    """ℓ = -ln p(t|z) + β KL(N(μ, σ²) ‖ N(0, 1)),  z drawn from N(μ, σ²): minus the evidence lower bound of a variational autoencoder

        ∂ℓ/∂ŷ = that of the reconstruction        ∂ℓ/∂[μ | s] = β [μ | ½ (e^s - 1)]

    y is a tuple (ŷ, [μ | s]): the decoder's output for a z of `Reparametrize`, and the encoder's (n, 2k). With reduction "batch_mean", the
    default of both parts, L is in nats a sample, and at least -ln p(t) in the mean over z.
    reconstruction  -ln p(t|z), a loss of (ŷ, t): BinaryCrossEntropy for logits of bits, GaussianNLL for means and variances
    beta            β: 1 for the bound, larger to be close to N(0, 1) at the price of the reconstruction (Higgins et al., 2017)
    Raises ValueError for a reconstruction that is a mean over outputs: the two parts would not be in the same measure.
    Kingma & Welling (2014).
    """

    predictions = (2,)

    def __init__(self, reconstruction: Loss | None = None, beta: float = 1.0):
        self.reconstruction = BinaryCrossEntropy("batch_mean") if reconstruction is None else reconstruction
        super().__init__(self.reconstruction.reduction)
        if self.reduction in ("mean", "half_mean"):
            raise ValueError(f"ELBO: the reconstruction sums over a sample's outputs, as 'batch_mean' does, got {reconstruction!r}")
        if not beta >= 0:
            raise ValueError(f"ELBO: beta is a number from 0 on, got {beta!r}")
        self.beta, self.kl = float(beta), NormalKL(self.reduction)

    def check_values(self, t: Any, name: str = "t") -> None:
        self.reconstruction.check_values(t, name)

    def target_shape(self, y: Any) -> tuple[int, ...]:
        return self.reconstruction.target_shape(first(y))

    def check(self, xp: Any, y: Any, t: Array) -> None:
        self.reconstruction.check(xp, y[0], t)
        self.kl.check(xp, y[1], t)

    def value_and_grad(self, xp: Any, y: Any, t: Array, weights: Array | None) -> tuple[Array, Any]:
        loss, d_output = self.reconstruction.value_and_grad(xp, y[0], t, weights)
        kl, d_stats = self.kl.value_and_grad(xp, y[1], t, weights)
        return loss + self.beta * kl, (d_output, self.beta * d_stats)

    def __repr__(self) -> str:
        beta = "" if self.beta == 1.0 else f", beta={self.beta:g}"
        return f"ELBO({self.reconstruction!r}{beta})"


@elementwise
def _kl_rule(xp: Any, mean: Array, log_var: Array, scale: Any) -> tuple[Array, Array, Array]:
    grown = xp.expm1(log_var)                             # e^s - 1, exact near s = 0
    return 0.5 * (mean * mean + (grown - log_var)) * scale, mean * scale, 0.5 * grown * scale


@elementwise
def _nll_rule(xp: Any, mean: Array, log_var: Array, t: Array, scale: Any) -> tuple[Array, Array, Array]:
    r = mean - t
    precision = xp.exp(-log_var)
    return 0.5 * (r * r * precision + log_var + _LOG_2_PI) * scale, r * precision * scale, 0.5 * (1.0 - r * r * precision) * scale


_LOG_2_PI = math.log(2.0 * math.pi)


def halves(loss: Loss, y: Array) -> int:
    """k of y = [μ | s]: (n, ..., 2k)."""
    if y.ndim < 2 or y.shape[-1] % 2:
        raise ValueError(f"{type(loss).__name__} takes means and log-variances side by side, (n, ..., 2k), got {tuple(y.shape)}")
    return int(y.shape[-1]) // 2

"""Optimizers that scale each parameter's step by the size its gradients have had. Sorted by complexity: each adds one idea."""

import math
from typing import Any

from ..backend import elementwise
from .base import Array, Optimizer
from .sgd import _fraction


class AdaGrad(Optimizer):
    """s ← s + g²        θ ← θ - η g / (√s + ε)

    Duchi, Hazan & Singer (2011).
    """

    slots = ("s",)

    def __init__(self, lr: Any = 0.01, eps: float = 1e-10, **options: Any):
        super().__init__(lr, **options)
        self.eps = float(eps)

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        adagrad_rule(xp, p, g, self.state["s"], self._rate(lr), self.eps)


@elementwise(inplace=True)
def adagrad_rule(xp: Any, p: Array, g: Array, s: Array, lr: Any, eps: float) -> None:
    s += g * g
    p -= lr * g / (xp.sqrt(s) + eps)


class RMSProp(Optimizer):
    """s ← α s + (1 - α) g²        θ ← θ - η g / (√s + ε)

    AdaGrad with a sum that forgets. Hinton (2012), lecture 6e of "Neural networks for machine learning".
    """

    slots = ("s",)

    def __init__(self, lr: Any = 0.01, alpha: float = 0.99, eps: float = 1e-8, **options: Any):
        super().__init__(lr, **options)
        self.alpha, self.eps = _fraction("alpha", alpha), float(eps)

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        rmsprop_rule(xp, p, g, self.state["s"], self._rate(lr), 1.0 - self.alpha, self.eps)


@elementwise(inplace=True)
def rmsprop_rule(xp: Any, p: Array, g: Array, s: Array, lr: Any, one_minus_alpha: float, eps: float) -> None:
    s += one_minus_alpha * (g * g - s)
    p -= lr * g / (xp.sqrt(s) + eps)


class AdaDelta(Optimizer):
    """s ← ρ s + (1 - ρ) g²        Δ = g √(u + ε) / √(s + ε)        u ← ρ u + (1 - ρ) Δ²        θ ← θ - η Δ

    The numerator gives Δ the units of θ, so η = 1 is natural. Zeiler (2012), algorithm 1.
    """

    slots = ("s", "u")

    def __init__(self, lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, **options: Any):
        super().__init__(lr, **options)
        self.rho, self.eps = _fraction("rho", rho), float(eps)

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        adadelta_rule(xp, p, g, self.state["s"], self.state["u"], self._rate(lr), 1.0 - self.rho, self.eps)


@elementwise(inplace=True)
def adadelta_rule(xp: Any, p: Array, g: Array, s: Array, u: Array, lr: Any, one_minus_rho: float, eps: float) -> None:
    s += one_minus_rho * (g * g - s)
    delta = g * xp.sqrt(u + eps) / xp.sqrt(s + eps)
    u += one_minus_rho * (delta * delta - u)
    p -= lr * delta


class Adam(Optimizer):
    """m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²
    m̂ = m / (1 - β₁ᵗ)        v̂ = v / (1 - β₂ᵗ)        θ ← θ - η m̂ / (√v̂ + ε)

    m and v start at 0, so their first averages are too small by 1 - βᵗ; the hats undo that. Both corrections are folded into two
    numbers of the step: η √(1 - β₂ᵗ)/(1 - β₁ᵗ) and ε √(1 - β₂ᵗ).
    Kingma & Ba (2015), algorithm 1, in the order of computation of the end of its section 2.
    """

    slots: tuple[str, ...] = ("m", "v")

    def __init__(self, lr: Any = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, **options: Any):
        super().__init__(lr, **options)
        self.beta1, self.beta2, self.eps = _fraction("beta1", beta1), _fraction("beta2", beta2), float(eps)

    def folded(self, lr: float, t: int) -> tuple[float, float]:
        """η √(1 - β₂ᵗ)/(1 - β₁ᵗ) and ε √(1 - β₂ᵗ)"""
        c2 = math.sqrt(1.0 - self.beta2 ** t)
        return lr * c2 / (1.0 - self.beta1 ** t), self.eps * c2

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        step_size, eps = self.folded(lr, t)
        adam_rule(xp, p, g, self.state["m"], self.state["v"], self._rate(step_size), 1.0 - self.beta1, 1.0 - self.beta2, eps)


def moments(m: Array, v: Array, g: Array, one_minus_beta1: float, one_minus_beta2: float) -> None:
    """The two running averages of Adam and its kin, in place."""
    m += one_minus_beta1 * (g - m)
    v += one_minus_beta2 * (g * g - v)


@elementwise(inplace=True)
def adam_rule(xp: Any, p: Array, g: Array, m: Array, v: Array, step_size: Any, one_minus_beta1: float, one_minus_beta2: float,
              eps: float) -> None:
    moments(m, v, g, one_minus_beta1, one_minus_beta2)
    p -= step_size * m / (xp.sqrt(v) + eps)


class AdamW(Adam):
    """Adam, with θ ← θ - ηλθ beside its step instead of λθ in the gradient, where √v̂ would divide it.

    Loshchilov & Hutter (2019), "Decoupled weight decay regularization", algorithm 2.
    """

    def __init__(self, lr: Any = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, *,
                 weight_decay: float = 0.01, **options: Any):
        super().__init__(lr, beta1, beta2, eps, weight_decay=weight_decay, **{"decoupled": True, **options})


class AMSGrad(Adam):
    """Adam with v̄ ← max(v̄, v) in the place of v: the step size never grows again.

    Reddi, Kale & Kumar (2018), algorithm 2, with Adam's bias corrections as PyTorch has them.
    """

    slots = ("m", "v", "v_max")

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        step_size, eps = self.folded(lr, t)
        amsgrad_rule(xp, p, g, self.state["m"], self.state["v"], self.state["v_max"], self._rate(step_size), 1.0 - self.beta1,
                     1.0 - self.beta2, eps)


@elementwise(inplace=True)
def amsgrad_rule(xp: Any, p: Array, g: Array, m: Array, v: Array, v_max: Array, step_size: Any, one_minus_beta1: float,
                 one_minus_beta2: float, eps: float) -> None:
    moments(m, v, g, one_minus_beta1, one_minus_beta2)
    v_max[...] = xp.maximum(v_max, v)
    p -= step_size * m / (xp.sqrt(v_max) + eps)


class NAdam(Adam):
    """Adam with Nesterov's momentum: m̂ looks one step ahead.

    μₜ = β₁ (1 - ½ 0.96^(tψ)), ψ = 0.004        Π ← Π μₜ
    θ ← θ - η (μₜ₊₁ m / (1 - Π μₜ₊₁) + (1 - μₜ) g / (1 - Π)) / (√v̂ + ε)
    Dozat (2016), "Incorporating Nesterov momentum into Adam".
    """

    def __init__(self, lr: Any = 2e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, psi: float = 4e-3, **options: Any):
        super().__init__(lr, beta1, beta2, eps, **options)
        self.psi = float(psi)
        self._product = (0, 1.0)                          # (t, Π of μ₁ … μₜ)

    def mu(self, t: int) -> float:
        return self.beta1 * (1.0 - 0.5 * 0.96 ** (t * self.psi))

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        before = self._product[1] if self._product[0] == t - 1 else math.prod(self.mu(i) for i in range(1, t))
        product = before * self.mu(t)
        self._product = (t, product)
        c2 = math.sqrt(1.0 - self.beta2 ** t)
        ahead = lr * c2 * self.mu(t + 1) / (1.0 - product * self.mu(t + 1))
        now = lr * c2 * (1.0 - self.mu(t)) / (1.0 - product)
        nadam_rule(xp, p, g, self.state["m"], self.state["v"], self._rate(ahead), self._rate(now), 1.0 - self.beta1, 1.0 - self.beta2,
                   self.eps * c2)


@elementwise(inplace=True)
def nadam_rule(xp: Any, p: Array, g: Array, m: Array, v: Array, ahead: Any, now: Any, one_minus_beta1: float, one_minus_beta2: float,
               eps: float) -> None:
    moments(m, v, g, one_minus_beta1, one_minus_beta2)
    p -= (ahead * m + now * g) / (xp.sqrt(v) + eps)


class RAdam(Adam):
    """Adam whose adaptive step is left out while the variance of 1/√v̂ is not finite, and rectified by r after that.

    ρ∞ = 2/(1 - β₂) - 1        ρₜ = ρ∞ - 2t β₂ᵗ/(1 - β₂ᵗ)        r = √[(ρₜ-4)(ρₜ-2)ρ∞ / ((ρ∞-4)(ρ∞-2)ρₜ)]
    θ ← θ - η r m̂ √(1 - β₂ᵗ) / (√v + ε) for ρₜ > 5, else θ ← θ - η m̂
    Liu et al. (2020), algorithm 2, which has no ε; ε as PyTorch has it, added to √v and not to √v̂.
    """

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        m, v = self.state["m"], self.state["v"]
        c1, c2 = 1.0 - self.beta1 ** t, math.sqrt(1.0 - self.beta2 ** t)
        rho_inf = 2.0 / (1.0 - self.beta2) - 1.0
        rho = rho_inf - 2.0 * t * self.beta2 ** t / (1.0 - self.beta2 ** t)
        if rho > 5.0:
            r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            adam_rule(xp, p, g, m, v, self._rate(lr * r * c2 / c1), 1.0 - self.beta1, 1.0 - self.beta2, self.eps)
        else:
            warmup_rule(xp, p, g, m, v, self._rate(lr / c1), 1.0 - self.beta1, 1.0 - self.beta2)


@elementwise(inplace=True)
def warmup_rule(xp: Any, p: Array, g: Array, m: Array, v: Array, step_size: Any, one_minus_beta1: float, one_minus_beta2: float) -> None:
    moments(m, v, g, one_minus_beta1, one_minus_beta2)
    p -= step_size * m


class Lion(Optimizer):
    """θ ← θ - η sign(β₁ m + (1 - β₁) g)        m ← β₂ m + (1 - β₂) g

    Every parameter moves by exactly η. Chen et al. (2023), "Symbolic discovery of optimization algorithms", algorithm 2, with its
    weight decay decoupled.
    """

    slots = ("m",)

    def __init__(self, lr: Any = 1e-4, beta1: float = 0.9, beta2: float = 0.99, **options: Any):
        super().__init__(lr, **{"decoupled": True, **options})
        self.beta1, self.beta2 = _fraction("beta1", beta1), _fraction("beta2", beta2)

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        lion_rule(xp, p, g, self.state["m"], self._rate(lr), 1.0 - self.beta1, 1.0 - self.beta2)

    def _flush_moment(self, xp: Any, v: Array, tiny: float) -> None:
        """Never 0: the sign of the smallest m moves θ as far as that of the largest. Held at `tiny`, m has the sign that it would have,
        unless a gradient comes that is not 0 and below tiny β₂ / (1 - β₂), some 10⁻²⁸.
        """
        floor_rule(xp, v, tiny)


@elementwise(inplace=True)
def lion_rule(xp: Any, p: Array, g: Array, m: Array, lr: Any, one_minus_beta1: float, one_minus_beta2: float) -> None:
    p -= lr * xp.sign(m + one_minus_beta1 * (g - m))
    m += one_minus_beta2 * (g - m)


@elementwise(inplace=True)
def floor_rule(xp: Any, m: Array, tiny: float) -> None:
    """|m| ← max(|m|, tiny) where m is not 0; m keeps its sign"""
    m[...] = xp.sign(m) * xp.maximum(xp.abs(m), tiny)

"""Gradient descent and its momentum: batch (batch_size=None), stochastic (1) and mini-batch (k) differ only in what g is summed over."""

from typing import Any

from ..backend import elementwise
from .base import Array, Optimizer


class SGD(Optimizer):
    """θ ← θ - η g

    Robbins & Monro (1951).
    """

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        sgd_rule(xp, p, g, self._rate(lr))


@elementwise(inplace=True)
def sgd_rule(xp: Any, p: Array, g: Array, lr: Any) -> None:
    p -= lr * g


class Momentum(Optimizer):
    """v ← μ v + g        θ ← θ - η v

    momentum: μ. A constant gradient is amplified by 1/(1 - μ). Polyak (1964); in PyTorch's form, where η multiplies v and not g.
    """

    slots = ("v",)

    def __init__(self, lr: Any, momentum: float = 0.9, **options: Any):
        super().__init__(lr, **options)
        self.momentum = _fraction("momentum", momentum)

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        momentum_rule(xp, p, g, self.state["v"], self._rate(lr), self.momentum)


@elementwise(inplace=True)
def momentum_rule(xp: Any, p: Array, g: Array, v: Array, lr: Any, momentum: float) -> None:
    v *= momentum
    v += g
    p -= lr * v


class Nesterov(Momentum):
    """v ← μ v + g        θ ← θ - η (g + μ v)

    The gradient is taken to be that of the point the momentum leads to. Nesterov (1983), in the form of Sutskever et al. (2013) as
    PyTorch writes it.
    """

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        nesterov_rule(xp, p, g, self.state["v"], self._rate(lr), self.momentum)


@elementwise(inplace=True)
def nesterov_rule(xp: Any, p: Array, g: Array, v: Array, lr: Any, momentum: float) -> None:
    v *= momentum
    v += g
    p -= lr * (g + momentum * v)


def _fraction(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} is in [0, 1), got {value!r}")
    return float(value)

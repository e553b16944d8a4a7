"""Bugs of optimizers. The gradient is right, and what is done with it is not: no gradient check can see them."""

from typing import Any

from ..optim import SGD, AdamW, Momentum
from . import checks, pictures
from .bug import bug
from .open import OpenAdam
from .problems import CLASSES, DEEP_TANH, WITH_ADAMW, WITH_L2, WITH_MOMENTUM

Array = Any


def small(cls: Any) -> Any:
    return cls(0.1)


def decaying(cls: Any) -> Any:
    return cls(0.1, weight_decay=0.01)


@bug("ascent", "the update has the wrong sign", checks.constant_gradient, DEEP_TANH, make=small,
     symptom="The loss rises from the first step on.", fix="θ ← θ - η ∂L/∂θ.", draw=pictures.curves)
class Ascent(SGD):
    """The gradient points to where L grows fastest. Going downhill is going against it."""

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        eta = self._rate(lr)
        p += eta * g                                      # should be: p -= eta * g


@bug("momentum-sign", "two conventions of momentum mixed", checks.constant_gradient, WITH_MOMENTUM, make=small,
     symptom="The loss rises, and faster with every step.",
     fix="Either v ← μv + g with θ ← θ - ηv, or v ← μv - ηg with θ ← θ + v. Not one line of each.", draw=pictures.steps)
class MomentumSign(Momentum):
    """In one convention v gathers gradients and is subtracted; in the other it gathers steps, which have the minus sign already, and
    is added. The first line of one and the second line of the other make minus times minus: ascent, with momentum."""

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        v = self.state["v"]
        v *= self.momentum
        v -= g                                            # should be: v += g
        p -= self._rate(lr) * v


@bug("adam-without-correction", "Adam without its bias correction", checks.constant_gradient, CLASSES, make=small,
     symptom="The first steps are too large, up to 6.6 times with the usual β₁ = 0.9 and β₂ = 0.999. Sometimes that is a jump in the "
             "loss at the start, sometimes even an advantage; it is another learning rate than the one you set.",
     fix="m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ).", draw=pictures.steps)
class AdamWithoutCorrection(OpenAdam):
    """m and v start at 0 and are averages that are too small at first, by the factors 1 - β₁ᵗ and 1 - β₂ᵗ. They do not cancel in m/√v: at t
    = 1 they leave 0.1/√0.001 = 3.16 in the place of 1."""

    def corrected(self, m: Array, v: Array, t: int) -> tuple[Array, Array]:
        m_hat, v_hat = m, v                               # should be: m_hat, v_hat = super().corrected(m, v, t)
        return m_hat, v_hat


@bug("adam-t-from-zero", "Adam's t starts at 0", checks.constant_gradient, CLASSES, make=small,
     symptom="Every parameter is NaN after the first step.", fix="Count first, then use: t = 1 in the first step.", draw=pictures.steps)
class AdamTFromZero(OpenAdam):
    """Off by one: with t = 0 the correction divides by 1 - β⁰ = 0, and
    ∞/∞ is NaN."""

    def corrected(self, m: Array, v: Array, t: int) -> tuple[Array, Array]:
        t = self.t - 1                                    # should be: t = self.t
        return super().corrected(m, v, t)


@bug("adam-t-stands-still", "Adam's t is never counted up", checks.constant_gradient, CLASSES, make=small,
     symptom="The first step is right. Later ones are too small where they should be too large, or the other way round: with a steady "
             "gradient a step rises to 2.1 η around the twelfth, and falls to η √0.001/0.1 = 0.32 η in the long run.",
     fix="One t for each step, kept with the state, saved and loaded with it.", draw=pictures.steps)
class AdamTStandsStill(OpenAdam):
    """The correction is for averages that are t steps old. Frozen at t = 1 it multiplies m by 10 and v by 1000 for ever, long
    after both have filled up."""

    def corrected(self, m: Array, v: Array, t: int) -> tuple[Array, Array]:
        t = 1                                             # should be: t = self.t
        return super().corrected(m, v, t)


@bug("l2-twice", "weight decay in the gradient and in the update", checks.decay_alone, WITH_L2, make=decaying,
     symptom="The weights are smaller than λ says, and the best λ seems to be half of everyone else's.",
     fix="λ acts in one place: in the loss, in the gradient, or in the update.", draw=pictures.weights_alone)
class L2Twice(SGD):
    """½λ‖θ‖² has the gradient λθ. The gradient that comes in holds it already, as it does when the penalty is part of the loss;
    adding it again in the update doubles λ."""

    def update(self, xp: Any, p: Array, g: Array, lr: float, t: int) -> None:
        d = g + self.weight_decay * p                     # should be: d = g
        p -= self._rate(lr) * d


@bug("decay-through-adam", "L2 in the gradient where decay should be decoupled", checks.decay_alone, WITH_ADAMW,
     make=lambda cls: cls(0.1, weight_decay=0.1),
     symptom="λ does not do what it says. A weight with large gradients is hardly decayed, and a weight without a gradient starts to "
             "move by η a step, whatever λ is.",
     fix="Decoupled weight decay: θ ← θ - ηλθ beside Adam's step, not through it.", draw=pictures.weights_alone)
class DecayThroughAdam(AdamW):
    """In SGD, λθ in the gradient and θ ← (1 - ηλ)θ are the same. In Adam they are not: what goes into the gradient is divided by √v̂, the
    size of the gradient itself. AdamW is Adam with the decay taken out of it."""

    def start(self, model: Any) -> None:
        self.decoupled = False                            # should be: self.decoupled = True
        super().start(model)

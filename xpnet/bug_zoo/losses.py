"""Bugs of losses: the gradient that everything else starts from, or a number that is not worth minimising."""

import math
from typing import Any

from ..layer import Context
from ..layers import Softmax
from ..layers.activations import sigmoid, softplus
from ..losses import BinaryCrossEntropy, SoftmaxCrossEntropy, one_hot
from . import checks, pictures
from .bug import bug
from .open import OpenCrossEntropy, OpenSquaredError
from .problems import CLASSES, WAVE, WAVE_SGD, YES_OR_NO

Array = Any


@bug("mean-missing-in-gradient", "1/n in the loss, and not in its gradient", checks.gradients, WAVE_SGD,
     symptom="The learning rate that works depends on the batch size: twice the batch, twice the step. At some size training diverges.",
     fix="Differentiate what you report: L = 1/n Σ r² has the gradient 2r/n.", draw=pictures.batch_sizes)
class MeanMissing(OpenSquaredError):
    """The loss is a mean, so each sample's share in its gradient is 1/n. Leaving the 1/n out gives the gradient of the sum: the same
    direction, n times as long, which acts as a learning rate n times as large."""

    def gradient(self, xp: Any, r: Array, s: Any) -> Array:
        dy = 2.0 * r                                      # should be: dy = 2.0 * s * r
        return dy


@bug("loss-sign", "t - y for y - t", checks.gradients, WAVE_SGD,
     symptom="The loss rises from the first step on, faster and faster, to infinity.",
     fix="∂(y - t)²/∂y = 2(y - t). Texts that write t - y have the minus sign in the update: w ← w + η δ a.", draw=pictures.curves)
class LossSign(OpenSquaredError):
    """(y - t)² and (t - y)² are equal, and their derivatives by y too: 2(y - t). Forgetting the inner derivative of t - y, which is -1,
    turns descent into ascent."""

    def gradient(self, xp: Any, r: Array, s: Any) -> Array:
        dy = 2.0 * s * -r                                 # should be: dy = 2.0 * s * r
        return dy


@bug("residual-broadcast", "(n, 1) minus (n,) is (n, n)", checks.overfits_one_batch, WAVE,
     symptom="The loss falls a little and then stays at the variance of the targets. The network has learnt a constant, the mean of all "
             "targets. No error, and no wrong gradient.",
     fix="Give both the same shape, and let the loss refuse what has not: xpnet's losses raise ValueError with both shapes.",
     draw=pictures.fit)
class ResidualBroadcast(OpenSquaredError):
    """A prediction of shape (n, 1) minus a target of shape (n,) is broadcast to (n, n): every prediction is compared with every target. The
    mean of those squares is least where each prediction is the mean of the targets. Its gradient is the right gradient of the wrong
    loss, so the gradient check is content."""

    def residual(self, xp: Any, y: Array, t: Array) -> Array:
        flat = xp.reshape(t, (-1,))
        r = y - flat                                      # should be: r = y - t
        return r

    def gradient(self, xp: Any, r: Array, s: Any) -> Array:
        return xp.mean(2.0 * s * r, axis=-1, keepdims=True)

    def value_and_grad(self, xp: Any, y: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        s = self.scale(xp, y.shape[0], math.prod(y.shape[1:]), None)
        r = self.residual(xp, y, t)
        return xp.mean(r * r * s) * y.shape[0], self.gradient(xp, r, s)


# Cross-entropy.

@bug("cross-entropy-times-slope", "σ′ after a cross-entropy, where it cancels", checks.gradients, YES_OR_NO,
     symptom="From a good start it learns as well. But an output that is sure and wrong has a slope near 0, and does not learn: the slow "
             "start of the squared error is back.",
     fix="For the cross-entropy on the logit ∂L/∂z = σ(z) - t, without σ′. It was divided out: ∂L/∂p = (p - t)/(p(1 - p)).",
     draw=pictures.logit_gradient)
class CrossEntropyTimesSlope(BinaryCrossEntropy):
    """∂L/∂p = (p - t)/(p(1 - p)) and ∂p/∂z = p(1 - p), so their product is p - t. Multiplying p - t by the slope once more mixes the
    cross-entropy's gradient with the squared error's habit."""

    def rule(self, xp: Any, z: Array, t: Array) -> tuple[Array, Array]:
        p = sigmoid(xp, z)
        dz = (p - t) * p * (1.0 - p)                      # should be: dz = p - t
        return softplus(xp, z) - t * z, dz


@bug("cross-entropy-of-probabilities", "∂L/∂p handed to the logits", checks.gradients, CLASSES,
     symptom="The loss stays near ln C. Every sample pushes the logit of its own class up, nothing pushes the others down, and all rise "
             "together.",
     fix="∂L/∂p = -q/p is the gradient with respect to p. Multiply by softmax's Jacobian, or use the product, p - q.", draw=pictures.curves)
class CrossEntropyOfProbabilities(OpenCrossEntropy):
    """L = -Σ q ln p has the gradient -q/p with respect to p. The network's output is not p but z, and between the two stands softmax,
    whose Jacobian is missing here. With it everything becomes p - q."""

    def gradient(self, xp: Any, p: Array, q: Array, s: Any) -> Array:
        dz = s * (-q / p)                                 # should be: dz = s * (p - q)
        return dz


@bug("softmax-twice", "a softmax in front of a loss that has one", checks.overfits_one_batch, CLASSES,
     symptom="It learns, but the loss cannot fall below ln(1 + (C - 1)/e): 0.551 for three classes, 1.461 for ten. Confident predictions "
             "are impossible.",
     fix="SoftmaxCrossEntropy takes logits: the network ends with a Dense without activation.", draw=pictures.own_curves)
class SoftmaxTwice(SoftmaxCrossEntropy):
    """The loss takes its input for logits and applies softmax to it. Given probabilities, which lie between 0 and 1, the second softmax
    sees logits that differ by at most 1, and answers at most e/(e + C - 1). Every gradient is the right one of that loss, so the
    gradient check is content."""

    def value_and_grad(self, xp: Any, z: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        before = Softmax()                                # should be: before = Identity()
        logits, back = before.forward({}, z, Context(xp))
        loss, dlogits = super().value_and_grad(xp, logits, t, weights)
        return loss, back(dlogits)[0]


@bug("log-of-zero", "the logarithm of a probability that is 0", checks.large_numbers, CLASSES,
     symptom="Training runs well until the network is sure of itself; then the loss is inf or NaN, from one batch to the next.",
     fix="Never form p to take its logarithm: ln pₖ = zₖ - max z - ln Σ e^(z - max z).", draw=pictures.loss_range)
class LogOfZero(OpenCrossEntropy):
    """Softmax itself does not overflow here, since the maximum is subtracted; but it underflows: for logits 746 or more below the largest,
    p is 0 in float64, and ln 0 = -∞. Even for a class that is not the target, 0 · ∞ is NaN. In exact arithmetic ln p is just z minus a
    number, and harmless."""

    def log_softmax(self, xp: Any, z: Array) -> Array:
        p, _ = Softmax().forward({}, z, Context(xp))
        log_p = xp.log(p)                                 # should be: log_p = super().log_softmax(xp, z)
        return log_p


@bug("argmax-trained-through", "training on the number of errors", checks.overfits_one_batch, CLASSES,
     symptom="Nothing moves. The loss, the share of wrong answers, stays exactly where it was; every gradient is 0.",
     fix="Train on a smooth stand-in, the cross-entropy, and use argmax only to count right answers.", draw=pictures.curves)
class ArgmaxTrainedThrough(SoftmaxCrossEntropy):
    """The class that argmax picks does not change under a small change of the logits: the share of errors is a step function, with
    derivative 0 wherever it has one. The gradient check agrees: 0 is right. The loss is what is wrong."""

    def value_and_grad(self, xp: Any, z: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
        loss, dz = errors(self, xp, z, t, weights)        # should be: loss, dz = super().value_and_grad(xp, z, t, weights)
        return loss, dz


def errors(loss: SoftmaxCrossEntropy, xp: Any, z: Array, t: Array, weights: Array | None) -> tuple[Array, Array]:
    """The share of wrong answers, and its derivative."""
    picked = one_hot(xp, xp.argmax(z, axis=-1), z)
    q = one_hot(xp, t, z) if t.ndim < z.ndim else t
    wrong = 1.0 - xp.sum(picked * q, axis=-1, keepdims=True)
    return xp.sum(wrong * loss.rows(xp, z, weights)), 0.0 * z

"""Bugs of the start: the code is right, and begins at a point from where it cannot go on."""

import numpy as np

from ..initializers import glorot_uniform, lecun_normal
from . import checks, pictures
from .bug import bug
from .problems import CLASSES, DEEPER


@bug("equal-weights", "all weights start equal", checks.equal_units, CLASSES, kind="initialization", clean=glorot_uniform,
     symptom="The hidden layer learns as if it had a single unit, however wide it is. With zeros and tanh not even that: every gradient "
             "of the weights is 0, and only the last bias moves.",
     fix="Draw the weights at random. Biases may all be 0: different weights are enough.", draw=pictures.units)
def equal_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Units of a layer that have the same weights compute the same number, get the same delta, and make the same step: gradient descent
    keeps the symmetry that it finds. Only chance, in the weights or in a dropout mask, breaks it. Each of the equal gradients is right."""
    W = np.full(shape, 0.1)                               # should be: W = glorot_uniform(rng, shape)
    return W


@bug("weights-too-large", "a standard deviation of 1, whatever the layer's width", checks.chance, DEEPER, kind="initialization",
     clean=lecun_normal,
     symptom="The loss starts far above ln C, the network being sure of nonsense; tanh units sit at ±1, where their slope is 0.",
     fix="Var(W) = 1/fan_in (LeCun), 2/(fan_in + fan_out) (Glorot), 2/fan_in for ReLU (He).", draw=pictures.activations)
def weights_too_large(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """zⱼ = Σᵢ xᵢ Wᵢⱼ is a sum over fan_in terms, so its variance is fan_in times that of a term. With 64 inputs of variance 1 and
    weights of variance 1, z has a standard deviation of 8, far out on the flat parts of tanh."""
    W = rng.standard_normal(shape)                        # should be: W = rng.standard_normal(shape) / np.sqrt(shape[0])
    return W


@bug("weights-too-small", "0.01 times normal numbers in a deep network", checks.signal, DEEPER, kind="initialization", clean=lecun_normal,
     symptom="The loss starts at ln C, as it should, and stays there: each layer makes the signal, and the gradient, smaller.",
     fix="The same: scale by the fan, and not by a constant that worked for two layers.", draw=pictures.signal_by_layer)
def weights_too_small(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A layer multiplies the standard deviation of its input by about √fan_in · std(W): with 64 and 0.01 that is 0.08. After five layers
    3·10⁻⁶ is left, and what comes back in the backward pass is as small."""
    W = 0.01 * rng.standard_normal(shape)                 # should be: W = rng.standard_normal(shape) / np.sqrt(shape[0])
    return W


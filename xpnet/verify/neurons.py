"""One neuron: forward, backward, and a step. Then the functions that a neuron, or a layer of them, may end in."""

import math
from typing import Any

import numpy as np

from ..backend import sum_of
from ..layers import GELU, SELU, Dense, Sigmoid, Softmax, Softplus
from ..model import Model
from ..optim import SGD
from .bench import model_of
from .circuits import CIRCUIT
from .rows import CUT, Row, Source, cut, erratum, row

Array = Any
HACKER = Source("Karpathy, Hacker's guide", "Karpathy, Hacker's guide to Neural Networks, karpathy.github.io/neuralnets")
MICROGRAD = Source("Karpathy, micrograd (2022)", "Karpathy, The spelled-out intro to neural networks and backpropagation: building "
                   "micrograd, lecture, 2022")
SELU_PAPER = Source("Klambauer et al. (2017)", "Klambauer, Unterthiner, Mayr & Hochreiter, Self-Normalizing Neural Networks, NeurIPS 2017")
CLOSED = Source("closed form", "what follows from the formula on paper")
LINEAR = Source("CS231n, classification notes", "Karpathy, CS231n, course notes, cs231n.github.io/linear-classify")


def neuron(bench: Any, x: list[float], w: list[float], b: float, activation: str) -> tuple[Model, Array, Array]:
    """y = f(w·x + b): the model, y and ∂y/∂x; ∂y/∂w and ∂y/∂b are then the model's gradients."""
    model = model_of(bench, Dense(len(w), 1, activation), {"W": [[v] for v in w], "b": [b]})
    y, backward = model.forward(bench.asarray([x]))
    dx, _ = backward(bench.asarray([[1.0]]), input_grad=True)
    return model, y, dx


def cs231n_neuron(bench: Any) -> list[Row]:
    """σ(w₀x₀ + w₁x₁ + w₂) with w = (2, -3, -3), x = (-1, -2). ∂σ/∂z = σ(1 - σ) is the gradient of the bias w₂."""
    model, y, dx = neuron(bench, [-1.0, -2.0], [2.0, -3.0], -3.0, "sigmoid")
    dw, db = model.get_grad("W"), model.get_grad("b")
    more = CIRCUIT.recomputed
    return [row(CIRCUIT, "σ(z) of a neuron", "0.73", y),
            row(CIRCUIT, "∂σ/∂z", "0.2", db),
            row(more, "σ(z)", "0.7310585786", y),
            row(more, "∂σ/∂x", "0.39322387 -0.58983580", dx),
            row(more, "∂σ/∂w", "-0.19661193 -0.39322387 0.19661193", [dw, db])]


def karpathy_neuron(bench: Any) -> list[Row]:
    """s = σ(ax + by + c) with a, b, c, x, y = 1, 2, -3, -1, 3; then a step of 0.01 *up* the gradient of all five."""
    model, s, dx = neuron(bench, [-1.0, 3.0], [1.0, 2.0], -3.0, "sigmoid")
    gradient = [model.get_grad("W"), model.get_grad("b"), dx]
    x = bench.asarray([[-1.0, 3.0]]) + 0.01 * dx
    SGD(0.01).step(model, -1.0 * model.grads)             # descent on -s
    after, _ = model.forward(x)
    more = HACKER.recomputed
    return [row(HACKER, "s", "0.8808", s),
            erratum(HACKER, "s after the step", "0.8825", after, cut(after, 4), CUT),
            row(more, "s", "0.8807970779778823", s),
            row(more, "∂s/∂(a, b, c, x, y)", "-0.10499358540350662 0.31498075621051985 0.10499358540350662 0.10499358540350662 "
                "0.20998717080701323", gradient),
            row(more, "s after the step", "0.8825501816218984", after)]


def micrograd_neuron(bench: Any) -> list[Row]:
    """o = tanh(n), n = w·x + b. b is chosen so that o² = ½: then ∂o/∂n = 1 - o² = ½, and the gradients are round numbers."""
    x, w, b = [2.0, 0.0], [-3.0, 1.0], 6.8813735870195432
    n, _ = Dense(2, 1)(bench.asarray([x]), {"W": bench.asarray([[v] for v in w]), "b": bench.asarray([b])})
    model, o, dx = neuron(bench, x, w, b, "tanh")
    return [row(MICROGRAD, "n", "0.8814", n),
            row(MICROGRAD, "o", "0.7071", o),
            row(MICROGRAD, "∂o/∂n", "0.5", model.get_grad("b"), exact=True),
            row(MICROGRAD, "∂o/∂w", "1 0", model.get_grad("W"), exact=True),
            row(MICROGRAD, "∂o/∂x", "-1.5 0.5", dx, exact=True),
            row(MICROGRAD.recomputed, "n o", "0.8813735870195432 0.7071067811865476", [n, o])]


def activations(bench: Any) -> list[Row]:
    """Values known in closed form: σ(0) = ½, σ'(0) = ¼, softplus(0) = ln 2, and GELU(1) = Φ(1), the normal distribution's."""
    zero, one = bench.asarray([0.0]), bench.asarray([1.0])
    y, backward = Sigmoid()(zero)
    return [row(CLOSED, "σ(0) σ'(0)", "0.5 0.25", [y, backward(one)[0]], exact=True),
            row(CLOSED, "softplus(0) = ln 2", "0.6931471805599453", Softplus()(zero)[0]),
            row(CLOSED, "GELU(1) = Φ(1)", "0.8413447460685429", GELU()(one)[0])]


def selu_fixed_point(bench: Any) -> list[Row]:
    """SELU's two constants make mean 0 and variance 1 a fixed point: for z ~ N(0, 1), E[f(z)] = 0 and E[f(z)²] = 1.

    The expectations are integrals, by Gauss and Legendre's rule on either side of the kink at 0.
    """
    nodes, weights = np.polynomial.legendre.leggauss(80)
    z = np.concatenate([6.0 * nodes - 6.0, 6.0 * nodes + 6.0])             # beyond 12 the density is below 1e-32
    density = np.concatenate([weights, weights]) * 6.0 * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    f, _ = SELU()(bench.asarray(z))
    p, xp = bench.asarray(density), bench.backend.xp
    scale, _ = SELU()(bench.asarray([1.0]))
    limit, _ = SELU()(bench.asarray([-50.0]))
    return [row(SELU_PAPER, "λ = f(1)", "1.0507", scale),
            row(SELU_PAPER, "α = -f(-∞)/λ", "1.6733", -limit / scale),
            row(SELU_PAPER, "E[f(z)] E[f(z)²]", "0 1", [sum_of(xp, f * p), sum_of(xp, f * f * p)])]


def softmax(bench: Any) -> list[Row]:
    """Halving the logits makes the distribution flatter; large logits overflow unless the maximum is subtracted first."""
    p, _ = Softmax()(bench.asarray([[1.0, -2.0, 0.0], [0.5, -1.0, 0.0]]))
    large, _ = Softmax()(bench.asarray([[123.0, 456.0, 789.0]]))
    return [row(LINEAR, "softmax(1, -2, 0)", "0.7 0.04 0.26", p[0, ...]),
            row(LINEAR, "softmax(0.5, -1, 0)", "0.55 0.12 0.33", p[1, ...]),
            row(LINEAR, "softmax(123, 456, 789)", "0 0 1", large)]


CASES = (cs231n_neuron, karpathy_neuron, micrograd_neuron, activations, selu_fixed_point, softmax)

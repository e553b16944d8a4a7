"""Losses: the number, and the gradient that everything else starts from."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...derivation import explain
from ...layers import Sigmoid
from ...losses import REDUCTIONS, BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from ..derivation import Derivation, Worked, loss_explained, model_of
from ..draw import Draw
from ..functions import LossTask
from ..question import Question, topic

Probes = Iterator[tuple[Any, np.ndarray, np.ndarray, dict[str, Any], bool]]
IN_WORDS = {"mean": "1/(nk) Σₙ Σₖ (y - t)²", "batch_mean": "1/n Σₙ Σₖ (y - t)²", "sum": "Σₙ Σₖ (y - t)²",
            "half_mean": "1/(2nk) Σₙ Σₖ (y - t)²",
            "half_batch_mean": "1/(2n) Σₙ Σₖ (y - t)²", "half_sum": "½ Σₙ Σₖ (y - t)²"}


@topic("mse-reductions", "The squared error, and where 1/n enters")
def mse_reductions(q: Question, draw: Draw) -> None:
    n, k = draw.shuffled((2, 3, 4))[:2]
    y, t = draw.numbers(n, k, low=-2.0, high=2.0, step=0.5), draw.integers(n, k, low=-2, high=2)
    reduction, other = draw.shuffled(REDUCTIONS)[:2]
    e, f = loss_explained(MeanSquaredError(reduction), y, t), loss_explained(MeanSquaredError(other), y, t)
    q.say(f"The squared error of n = {n} samples with k = {k} outputs each is made one number in two ways,")
    q.say(f"L = {IN_WORDS[reduction]}  and  M = {IN_WORDS[other]}.")
    q.given(y=y, t=t)
    q.ask("L", e["L"], "What is L?", mistakes={"this is M": f["L"]})
    q.ask("dy", e["∂L/∂y"], "What is ∂L/∂y?", mistakes={"this is the gradient of M": f["∂L/∂y"], "the sign is wrong: y - t": -e["∂L/∂y"]})
    q.ask("dy_M", f["∂L/∂y"], "What is ∂M/∂y?", mistakes={"this is the gradient of L": e["∂L/∂y"]})
    q.columns = True
    q.remark("Whatever stands before the sum of the loss stands before its gradient too, once.")
    q.solve(e, "loss", title=f"L, {IN_WORDS[reduction]}")
    q.solve(f, "loss", title=f"M, {IN_WORDS[other]}, written as L")

    def probes(rng: np.random.Generator) -> Probes:
        for shape in ((1, 3), (4, 1), (4, 2), (3, 3), (5, 1)):
            yield MeanSquaredError(reduction), rng.standard_normal(shape), rng.standard_normal(shape), {}, True

    q.function(LossTask(f"loss(y, t)  ->  L, dy        # L = {IN_WORDS[reduction]}; y and t of shape (n, k)", probes))


@topic("softmax-cross-entropy", "Softmax and cross-entropy")
def softmax_cross_entropy(q: Question, draw: Draw) -> None:
    n, k = draw.of((2, 3)), 3
    z, t = draw.numbers(n, k, low=-2.0, high=2.0, step=0.5), np.array([draw.integer(0, k - 1) for _ in range(n)])
    e = loss_explained(SoftmaxCrossEntropy(), z, t, "z")
    p, hit = e["p"], np.eye(k)[t]
    q.say("A network gives logits $z$, a row a sample. The loss is the mean over the n samples of -ln pₜ, with p = softmax(z) of each row "
          "and $t$ the class that is right, counted from 0.")
    q.given(z=z, t=t)
    q.ask("p", p, "What is p = softmax(z)?")
    q.ask("L", e["L"], "What is the loss?", mistakes={"the sum, where the mean is asked for": e["L"] * n})
    q.ask("dz", e["δ"], "What is the gradient with respect to the logits, $dz$?", mistakes={
        "1/n is missing": e["δ"] * n, "the sign is wrong: p - q": -e["δ"], "this is the gradient with respect to p, not to z": -hit / p / n,
        "the one-hot target is missing: p - q": p / n})
    q.solve(e, "loss")

    def probes(rng: np.random.Generator) -> Probes:
        for n, k in ((1, 3), (4, 5), (3, 2)):
            yield SoftmaxCrossEntropy(), rng.standard_normal((n, k)), rng.integers(0, k, n), {}, True
        yield SoftmaxCrossEntropy(), np.array([[1000.0, 0.0, -1000.0], [-800.0, 300.0, 800.0]]), np.array([1, 0]), {}, False

    q.function(LossTask("loss(z, t)  ->  L, dz        # z: logits (n, k) of any size, t: n integer classes, L: the mean over the samples",
                        probes, ("z", "t")))


@topic("binary-cross-entropy", "The cross-entropy of a logit")
def binary_cross_entropy(q: Question, draw: Draw) -> None:
    n = draw.of((2, 3, 4))
    z, t = draw.numbers(n, 1, low=-3.0, high=3.0, step=0.5), np.array([[float(draw.integer(0, 1))] for _ in range(n)])
    e = loss_explained(BinaryCrossEntropy(), z, t, "z")
    p, dz = e["p"], e["δ"]
    q.say("Yes-or-no questions: a network gives a logit $z$ for each of n samples, p = σ(z) is the probability of yes, and $t$ is 1 for "
          "yes and 0 for no. The loss is the mean over the samples of -t ln p - (1 - t) ln(1 - p).")
    q.given(z=z, t=t)
    q.ask("p", p, "What are the probabilities p?")
    q.ask("L", e["L"], "What is the loss?", mistakes={"the sum, where the mean is asked for": e["L"] * n})
    q.ask("dz", dz, "What is the gradient with respect to the logits, $dz$?", mistakes={
        "1/n is missing": dz * n, "σ′ once more: with the cross-entropy it cancels": dz * p * (1.0 - p),
        "this is the gradient with respect to p, not to z": dz / (p * (1.0 - p)), "the sign is wrong: p - t": -dz})
    q.solve(e, "loss")

    def probes(rng: np.random.Generator) -> Probes:
        for n, k in ((1, 1), (5, 1), (3, 2)):
            yield BinaryCrossEntropy(), 2.0 * rng.standard_normal((n, k)), rng.integers(0, 2, (n, k)).astype(np.float64), {}, True
        yield BinaryCrossEntropy(), np.array([[900.0], [-900.0], [800.0]]), np.array([[0.0], [1.0], [1.0]]), {}, False

    q.function(LossTask("loss(z, t)  ->  L, dz        # z: logits of any size, t: 0 or 1, of z's shape, L: the mean over all entries",
                        probes, ("z", "t")))


@topic("saturated-sigmoid", "A sigmoid that is sure and wrong")
def saturated_sigmoid(q: Question, draw: Draw) -> None:
    t = float(draw.integer(0, 1))
    z = draw.number(2.0, 5.0, 0.05) * (1.0 if t == 0.0 else -1.0)
    model, x, target = model_of(Sigmoid()), np.array([[z]]), np.array([[t]])
    square = Worked(explain(model, MeanSquaredError("half_sum"), x, target), x="z")
    entropy = loss_explained(BinaryCrossEntropy("sum"), x, target, "z")
    dz_square, dz_entropy = square["δ"].item(), entropy["δ"].item()
    ratio = Derivation({"E": dz_entropy, "S": dz_square}, "R = E / S", title="How many times larger")
    a = square["a"].item()
    q.say(f"An output unit with a = σ(z) has z = {z:g}, and the target is t = {t:g}: it is sure, and wrong.")
    q.ask("a", a, "What is a?")
    q.ask("dz_square", dz_square, "What is ∂L/∂z for the squared error L = ½(a - t)²?", mistakes={"σ′ is missing": a - t})
    q.ask("dz_entropy", dz_entropy, "What is ∂L/∂z for the cross-entropy L = -t ln a - (1 - t) ln(1 - a)?", mistakes={
        "σ′ cancels here": (a - t) * a * (1.0 - a)})
    q.ask("ratio", ratio["R"], "How many times larger is the second gradient? (Use the unrounded values.)")
    q.remark("The squared error, through the sigmoid:")
    q.solve(square, "forward", "loss", "backward", title="")
    q.remark("The cross-entropy on the logit, where σ′ has cancelled:")
    q.solve(entropy, "loss", title="")
    q.solve(ratio)
    q.remark("The more wrong the unit is, the less the squared error moves it: that is the learning slowdown.")

"""Normalisation: the three paths to x, and what changes after training."""

from collections.abc import Iterator

import numpy as np

from ...layers import LayerNorm
from ..derivation import Derivation, explained
from ..draw import Draw
from ..functions import LayerTask, Probe
from ..question import Question, topic

EPS = 1e-5


@topic("layer-norm", "Layer normalisation, and its three paths to x")
def layer_norm(q: Question, draw: Draw) -> None:
    n, d = draw.shuffled((2, 3, 4))[:2]
    d = max(d, 3)                                         # of two features the gradient is all but 0
    x, dy = draw.integers(n, d, low=-4, high=4), draw.numbers(n, d)
    q.need(np.all(np.ptp(x, axis=1) >= 2))
    layer = LayerNorm(d, EPS)
    e = explained(layer, x, dy)
    xhat, s = e.read("∂L/∂x", "xhat"), e["s"]
    g = dy
    centred = (g - g.mean(axis=1, keepdims=True)) / s
    unbiased = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, ddof=1, keepdims=True) + EPS)
    q.say(f"Layer normalisation of n = {n} samples with d = {d} features: μ and v are the mean and the variance (1/d Σ) of each sample's "
          f"features, and x̂ = (x - μ)/√(v + ε) with ε = {EPS}. Then y = x̂ ⊙ γ + β with γ = 1 and β = 0. The gradient that comes back "
          "is $dy$.")
    q.given(x=x, dy=dy)
    q.ask("y", e["y"], "What is $y$?", mistakes={
        "the variance is 1/d Σ, not 1/(d - 1) Σ": unbiased,
        "the mean is over the features of each sample, not over the samples": (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + EPS)})
    q.ask("dgamma", e["∂L/∂γ"], "What is ∂L/∂γ?", mistakes={"it is a sum over the samples, not a mean": e["∂L/∂γ"] / n})
    q.ask("dbeta", e["∂L/∂β"], "What is ∂L/∂β?", mistakes={"it is a sum over the samples, not a mean": e["∂L/∂β"] / n})
    q.ask("dx", e["∂L/∂x"], "What is $dx$?", mistakes={
        "μ and v depend on x too: two paths are missing": g / s, "the path through the variance is missing": centred,
        "the path through the mean is missing": (g - xhat * np.mean(g * xhat, axis=1, keepdims=True)) / s})
    q.solve(e, "forward", "backward")
    q.remark("Each row of $dx$ sums to 0, and so does its product with x̂ (but for ε): a shift or a scaling of x changes no y.")

    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for shape in ((1, 3), (4, 5), (3, 4), (5, 3)):
            yield Probe(LayerNorm(shape[1], EPS), 2.0 * rng.standard_normal(shape) + 1.0)

    q.function(LayerTask(f"backward(dy, x, gamma, beta)  ->  dx, dgamma, dbeta     # x: (n, d), gamma and beta: (d,), eps = {EPS}\n"
                         "layer(x, gamma, beta)  ->  y, backward                   # with backward(dy) -> dx, dgamma, dbeta", probes,
                         {"gamma": "gamma", "beta": "beta"}))


@topic("batch-norm-statistics", "Batch normalisation: training against inference")
def batch_norm_statistics(q: Question, draw: Draw) -> None:
    n, momentum = draw.of((4, 5)), draw.of((0.1, 0.2, 0.5))
    x, mean, var, new = draw.integers(n, low=-5, high=5), draw.number(-2.0, 2.0), draw.number(0.5, 3.0), draw.number(-3.0, 3.0)
    q.need(np.ptp(x) >= 2)
    trained = Derivation({"x": x[:, None], "m": n, "ε": EPS}, "mu = sum_n(x) / m", "v = sum_n((x - mu) ** 2) / m",
                         "y = (x - mu) / sqrt(v + ε)", title="Training: the statistics of the batch")
    running = Derivation({"mu": trained["mu"], "v": trained["v"], "M": mean, "V": var, "m": n, "q": momentum, "c": new, "ε": EPS},
                         "A = (1 - q) * M + q * mu", "B = (1 - q) * V + q * m / (m - 1) * v", "y = (c - A) / sqrt(B + ε)",
                         title="The running mean A and variance B after it, and inference with them",
                         notes={"B": "the running variance takes the unbiased variance of the batch"})
    mu, v = trained["mu"].item(), trained["v"].item()
    A, B = running["A"].item(), running["B"].item()
    q.say(f"Batch normalisation of one feature, with γ = 1, β = 0, ε = {EPS} and momentum {momentum:g}, the share of the new batch. "
          f"Before this training step the running mean is {mean:g} and the running variance {var:g}; the batch has n = {n} samples, $x$.")
    q.given(x=x)
    q.ask("y", trained["y"][:, 0], "What is $y$ in this training step?", mistakes={
        "in training the statistics are the batch's, not the running ones": (x - mean) / np.sqrt(var + EPS),
        "x̂ divides by the biased variance, 1/n Σ": (x - mu) / np.sqrt(v * n / (n - 1) + EPS)})
    q.ask("mean", A, "What is the running mean after it?", mistakes={
        "the shares are the other way round": momentum * mean + (1.0 - momentum) * mu, "this is the batch's mean": mu})
    q.ask("var", B, "What is the running variance after it? (It takes the unbiased variance of the batch.)", mistakes={
        "it takes the unbiased variance, 1/(n - 1) Σ": (1.0 - momentum) * var + momentum * v, "this is the batch's": v * n / (n - 1)})
    q.ask("y_new", running["y"].item(), f"What is y for the sample x = {new:g} in inference, after this step?", mistakes={
        "in inference the statistics are the running ones": (new - mu) / np.sqrt(v + EPS),
        "these are the running statistics from before the step": (new - mean) / np.sqrt(var + EPS)})
    q.solve(trained)
    q.solve(running)

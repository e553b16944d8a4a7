"""Conditions of training: how weights start, and how large a step may be."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...derivation import explain
from ...layers import Dense
from ...losses import MeanSquaredError
from ...optim import SGD, schedules
from ..derivation import Derivation, Worked, model_of
from ..draw import Draw
from ..functions import FunctionTask
from ..question import Question, topic


@topic("initialization-variance", "The variance of initial weights")
def initialization_variance(q: Question, draw: Draw) -> None:
    d, k, depth = draw.integer(10, 300), draw.integer(10, 300), draw.integer(3, 8)
    v, s = draw.number(0.5, 4.0, 0.5), draw.number(0.5, 3.0, 0.5)
    derived = Derivation({"d": d, "k": k, "v": v, "s": s, "D": depth},
                         "G = 2 / (d + k)", "l = sqrt(6 / (d + k))", "H = sqrt(2 / d)", "V = v * s", "T = s * v ** D", notes={
                             "G": "1/d would keep the variance of the activations, 1/k that of the gradients; 2/(d + k) is between",
                             "l": "the variance of a uniform distribution on (-l, l) is l²/3",
                             "H": "ReLU halves E[x²], so the variance is doubled",
                             "V": "d independent terms, each of variance Var(W) E[x²] = v/d · s", "T": "each layer multiplies by v"})
    q.say(f"A dense layer has d = {d} inputs and k = {k} outputs.")
    q.ask("glorot_variance", derived["G"], "What is the variance of its weights after Glorot and Bengio?", mistakes={
        "this is LeCun's, 1/d": 1.0 / d, "the mean of the two fans: 2/(d + k)": 1.0 / (d + k)})
    q.ask("glorot_bound", derived["l"], "They are drawn uniformly from (-l, l). What is l?", mistakes={
        "this is the standard deviation; the bound is √3 times that": math.sqrt(2.0 / (d + k))})
    q.ask("he_deviation", derived["H"], "The layer is followed by ReLU. What is the standard deviation of its weights after He and others?",
          mistakes={"this is the variance": 2.0 / d, "ReLU halves the second moment: 2/d": math.sqrt(1.0 / d)})
    q.ask("output_variance", derived["V"],
          f"The inputs are independent, with mean 0 and variance {s:g}, and the weights have mean 0 and variance {v:g}/d. What is the "
          "variance of each output (no activation, no bias)?", mistakes={"the number of inputs is forgotten: it cancels": v * s / d})
    q.ask("deep_variance", derived["T"],
          f"And after {depth} such layers, each with weights of variance {v:g} divided by its number of inputs?")
    q.solve(derived)


# What a schedule is: itself, in words, the numbers in its formula, and t -> the formula.
Made = tuple[Callable[[int], float], str, dict[str, float], Callable[[int], str]]
START = (0.1, 0.2, 0.4, 0.5)


def _step(draw: Draw) -> Made:
    lr, every, gamma = draw.of(START), draw.integer(3, 30), draw.of((0.1, 0.2, 0.5))
    return (schedules.Step(lr, every, gamma), f"η(t) = η₀ γ^⌊t / {every}⌋, with η₀ = {lr:g} and γ = {gamma:g}", {"η0": lr, "γ": gamma},
            lambda t: f"η0 * γ ** {t // every}")


def _exponential(draw: Draw) -> Made:
    lr, gamma = draw.of(START), draw.number(0.8, 0.99, 0.01)
    return (schedules.Exponential(lr, gamma), f"η(t) = η₀ γᵗ, with η₀ = {lr:g} and γ = {gamma:g}", {"η0": lr, "γ": gamma},
            lambda t: "η0 * γ ** t")


def _linear(draw: Draw) -> Made:
    lr, steps = draw.of(START), draw.integer(20, 200)
    end = lr / 10.0
    words = f"η(t) = η₁ + (η₀ - η₁)(1 - t/T), and η₁ from t = T on, with η₀ = {lr:g}, η₁ = {end:g} and T = {steps}"
    return (schedules.Polynomial(lr, steps, end=end), words, {"η0": lr, "η1": end, "T": steps},
            lambda t: "η1 + (η0 - η1) * (1 - min(t, T) / T)")


def _cosine(draw: Draw) -> Made:
    lr, steps, warmup = draw.of(START), draw.integer(40, 200), draw.integer(5, 20)
    words = ("a warmup, η(t) = η₀ (t + 1)/w for t < w, then half a cosine, η(t) = ½ η₀ (1 + cos(π (t - w)/(T - w))), and 0 from t = T on, "
             f"with η₀ = {lr:g}, w = {warmup} and T = {steps}")
    return (schedules.Cosine(lr, steps, warmup), words, {"η0": lr, "w": warmup, "T": steps, "π": math.pi},
            lambda t: "η0 * (t + 1) / w" if t < warmup else "η0 / 2 * (1 + cos(π * (min(t, T) - w) / (T - w)))")


@topic("learning-rate-schedule", "The learning rate at step t")
def learning_rate_schedule(q: Question, draw: Draw) -> None:
    schedule, words, values, formula = draw.of((_step, _exponential, _linear, _cosine))(draw)
    q.say(f"A schedule says {words}. The steps are counted from t = 0.")
    for t in (draw.integer(0, 9), draw.integer(10, 35), draw.integer(36, 120)):
        derived = Derivation({**values, "t": t}, f"η = {formula(t)}", title=f"t = {t}")
        q.need(abs(derived["η"] - schedule(t)) < 1e-12)
        q.ask(f"lr_{t}", schedule(t), f"What is η({t})?")
        q.solve(derived)

    def probes(rng: np.random.Generator) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        for t in (*range(12), *map(int, rng.integers(12, 150, 8))):
            yield {"t": t}, np.asarray(schedule(t))

    q.function(FunctionTask("schedule(t)  ->  lr        # for t = 0, 1, 2, …", "lr", probes))


@topic("learning-rate-limit", "How large a learning rate may be")
def learning_rate_limit(q: Question, draw: Draw) -> None:
    x, w = draw.number(0.5, 3.0, 0.5), draw.number(0.5, 2.0, 0.1)
    most = 2.0 / x ** 2
    small = round(draw.of((0.1, 0.2, 0.3)) * most, 3)
    large = round(draw.of((1.2, 1.3, 1.5)) * most, 3)
    target = np.zeros((1, 1))

    def steps(lr: float) -> list[Worked]:
        made, now = [], w
        for _ in range(2):
            model = model_of(Dense(1, 1, init=[[now]], bias=False))
            made.append(Worked(explain(model, MeanSquaredError("half_sum"), np.array([[x]]), target, optimizer=SGD(lr))))
            now = made[-1].new("W").item()
        return made

    slow, wild = steps(small), steps(large)
    limit = Derivation({"x": x}, "M = 2 / x ** 2", title="The limit", notes={
        "M": "each step multiplies W by 1 - η x², which is between -1 and 1 for 0 < η < 2/x²"})
    q.say(f"One linear unit without bias, z = x W, is trained on one sample, x = {x:g} with target 0: L = ½ z². The weight starts at W = "
          f"{w:g}, and gradient descent makes W ← W - η ∂L/∂W.")
    q.ask("W_small", slow[-1].new("W").item(), f"What is W after two steps with η = {small:g}?", mistakes={
        "this is W after one step": slow[0].new("W").item()})
    q.ask("W_large", wild[-1].new("W").item(), f"What is W after two steps with η = {large:g}?")
    q.ask("limit", limit["M"], "Up to which η does W go to 0?", mistakes={
        "twice that: the factor 1 - η x² may be negative, down to -1": 1.0 / x ** 2})
    for lr, made in ((small, slow), (large, wild)):
        for i, e in enumerate(made):
            q.solve(e, "backward", "update", title=f"η = {lr:g}, step {i + 1}", only=("∂L/∂W", "W"))
    q.solve(limit)

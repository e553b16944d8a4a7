"""Optimizers: what is done with the gradient."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...optim import SGD, Adam, AdamW, ClipNorm, ClipValue, Momentum, Nesterov, RMSProp
from ..derivation import Parameters, Worked, model_of, update_of
from ..draw import Draw
from ..functions import FunctionTask, OptimizerTask
from ..question import Question, topic

RATES = (0.05, 0.1, 0.2, 0.5)
STATE = "# the new w; state: a dictionary, empty at first, for what is kept between steps; t = 1, 2, …"
OFFERED = {"weight_decay": "lam", "momentum": "mu"}       # what an optimizer's argument is called in a student's function


def _two_steps(q: Question, draw: Draw, optimizer: Any, words: str) -> tuple[list[Worked], np.ndarray, list[np.ndarray]]:
    """The two steps, w and the two gradients, written into the question and the solution."""
    w, g = draw.numbers(3), [draw.numbers(3) for _ in range(2)]
    model = model_of(Parameters(w))
    made = [update_of(model, gradient, optimizer) for gradient in g]
    q.say(f"{words} The gradients of two steps are $g1$ and $g2$.")
    q.given(w=w, g1=g[0], g2=g[1])
    for i, e in enumerate(made):
        q.solve(e, "update", title=f"Step {i + 1}")
    return made, w, g


def _task(what: str, make: Any, **options: Any) -> OptimizerTask:
    """options: arguments of the optimizer, which the student's function is offered too."""
    def probes(rng: np.random.Generator) -> Iterator[tuple[Any, dict[str, Any]]]:
        for lr in (0.1, 0.03):
            yield make(lr, **options), {"lr": lr, **{OFFERED.get(name, name): v for name, v in options.items()}}

    return OptimizerTask(what, probes)


@topic("gradient-descent", "Gradient descent")
def gradient_descent(q: Question, draw: Draw) -> None:
    lr = draw.of(RATES)
    words = f"Gradient descent with learning rate η = {lr:g}: $w ← w - η * g$."
    (first, second), w, g = _two_steps(q, draw, SGD(lr), words)
    q.ask("w_1", first.new("w"), "What is $w$ after the first step?", mistakes={
        "the step goes uphill": w + lr * g[0], "η is missing": w - g[0]})
    q.ask("w_2", second.new("w"), "What is $w$ after the second step?", mistakes={
        "the second step starts where the first one ended": w - lr * g[1]})
    q.function(_task("step(w, g, lr)  ->  w\n# the new w", SGD))


@topic("momentum", "Two steps with momentum")
def momentum(q: Question, draw: Draw) -> None:
    lr, mu = draw.of(RATES), draw.of((0.5, 0.8, 0.9))
    words = f"Momentum with μ = {mu:g} and learning rate η = {lr:g}: $v ← μ * v + g$, then $w ← w - η * v$; v starts at 0."
    (first, second), w, g = _two_steps(q, draw, Momentum(lr, mu), words)
    q.ask("w_1", first.new("w"), "What is $w$ after the first step?", mistakes={"the step goes uphill": w + lr * g[0]})
    q.ask("v_2", second.new("v"), "What is $v$ after the second step?", mistakes={
        "v is not an average here: g comes in whole": mu * (1.0 - mu) * g[0] + (1.0 - mu) * g[1], "the first gradient is forgotten": g[1]})
    q.ask("w_2", second.new("w"), "What is $w$ after the second step?", mistakes={"without momentum": first.new("w") - lr * g[1]})
    q.function(_task(f"step(w, g, state, t, lr, mu)  ->  w\n{STATE}", Momentum, momentum=0.9))


@topic("nesterov", "Two steps with Nesterov's momentum")
def nesterov(q: Question, draw: Draw) -> None:
    lr, mu = draw.of(RATES), draw.of((0.5, 0.8, 0.9))
    words = (f"Nesterov's momentum with μ = {mu:g} and learning rate η = {lr:g}, in the form $v ← μ * v + g$, then "
             "$w ← w - η * (g + μ * v)$; v starts at 0.")
    (first, second), w, g = _two_steps(q, draw, Nesterov(lr, mu), words)
    q.ask("w_1", first.new("w"), "What is $w$ after the first step?", mistakes={
        "this is plain momentum, or the old v, 0, where the new one belongs": w - lr * g[0]})
    q.ask("w_2", second.new("w"), "What is $w$ after the second step?")
    q.function(_task(f"step(w, g, state, t, lr, mu)  ->  w\n{STATE}", Nesterov, momentum=0.9))


@topic("rmsprop", "Two steps of RMSProp")
def rmsprop(q: Question, draw: Draw) -> None:
    lr, alpha = draw.of(RATES), draw.of((0.5, 0.8, 0.9))
    words = (f"RMSProp with α = {alpha:g} and learning rate η = {lr:g}: s ← α s + (1 - α) g², then w ← w - η g/(√s + ε), entry by entry; s "
             "starts at 0, and ε = 1e-8.")
    (first, second), w, g = _two_steps(q, draw, RMSProp(lr, alpha, eps=1e-8), words)
    q.ask("s_2", second.new("s"), "What is s after the second step?", mistakes={
        "g is squared": alpha * (1.0 - alpha) * g[0] + (1.0 - alpha) * g[1]})
    q.ask("w_2", second.new("w"), "What is $w$ after the second step?", mistakes={
        "the root is missing": first.new("w") - lr * g[1] / second.new("s")})
    q.function(_task(f"step(w, g, state, t, lr, alpha)  ->  w        # ε = 1e-8\n{STATE}", RMSProp, alpha=0.9))


@topic("adam", "Two steps of Adam")
def adam(q: Question, draw: Draw) -> None:
    lr, b1, b2 = draw.of(RATES), draw.of((0.8, 0.9)), draw.of((0.9, 0.95, 0.99))
    words = (f"Adam with β₁ = {b1:g}, β₂ = {b2:g}, ε = 1e-8 and learning rate η = {lr:g}: m ← β₁ m + (1 - β₁) g, "
             "v ← β₂ v + (1 - β₂) g², m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ), w ← w - η m̂/(√v̂ + ε), entry by entry. m and v start at 0, and "
             "t is 1 in the first step.")
    (first, second), w, g = _two_steps(q, draw, Adam(lr, b1, b2, eps=1e-8), words)
    m, v = second.new("m"), second.new("v")
    q.ask("w_1", first.new("w"), "What is $w$ after the first step?", mistakes={
        "the bias corrections are missing": w - lr * (1.0 - b1) * g[0] / np.sqrt((1.0 - b2) * g[0] ** 2),
        "the step goes uphill": 2.0 * w - first.new("w")})
    q.ask("m_hat", second.new("m̂"), "What is m̂ in the second step?", mistakes={
        "the bias correction is missing": m, "t is still 1 in it": m / (1.0 - b1)})
    q.ask("v_hat", second.new("v̂"), "What is v̂ in the second step?", mistakes={
        "the bias correction is missing": v, "t is still 1 in it": v / (1.0 - b2)})
    q.ask("w_2", second.new("w"), "What is $w$ after the second step?")
    q.function(_task(f"step(w, g, state, t, lr, beta1, beta2)  ->  w        # ε = 1e-8\n{STATE}", Adam, beta1=0.9, beta2=0.999))


@topic("l2-penalty", "An L2 penalty in the gradient")
def l2_penalty(q: Question, draw: Draw) -> None:
    lr, lam = draw.of(RATES), draw.of((0.1, 0.2, 0.3, 0.5))
    w, g = draw.numbers(3, low=-2.0, high=2.0), draw.numbers(3)
    e = update_of(model_of(Parameters(w)), g, SGD(lr, weight_decay=lam))
    q.say(f"A penalty is added to the loss L, $P = L + λ / 2 * total(w * w)$ with λ = {lam:g}, and one step of gradient descent is made "
          f"with η = {lr:g}. $g$ is the gradient of L alone.")
    q.given(w=w, g=g)
    q.ask("total", e.new("g"), "What is the gradient of L with the penalty?", mistakes={
        "the penalty's gradient is λw: the ½ takes the 2 away": g + 2.0 * lam * w,
        "half of the penalty's gradient is missing": g + 0.5 * lam * w, "the penalty is missing": g})
    q.ask("w_new", e.new("w"), "What is $w$ after the step?", mistakes={
        "the penalty twice": w - lr * (g + 2.0 * lam * w), "the penalty is missing": w - lr * g})
    q.ask("factor", 1.0 - lr * lam, "By which factor does the penalty alone multiply $w$ in a step, where $g$ is 0?")
    q.solve(e, "update", title="The step")
    q.remark("Where $g$ is 0: w ← w - ηλw = (1 - ηλ) w.")
    q.function(_task("step(w, g, lr, lam)  ->  w\n# the new w; g: the gradient of the loss without the penalty ½ λ Σ w²", SGD,
                     weight_decay=0.1))


@topic("weight-decay", "Weight decay in Adam, coupled and decoupled")
def weight_decay(q: Question, draw: Draw) -> None:
    lr, lam = draw.of((0.1, 0.2, 0.5)), draw.of((0.1, 0.2, 0.5))
    w, g = draw.numbers(3, low=-2.0, high=2.0), draw.numbers(3)
    coupled, decoupled, plain = (update_of(model_of(Parameters(w)), g, optimizer) for optimizer in (
        Adam(lr, 0.9, 0.99, weight_decay=lam), AdamW(lr, 0.9, 0.99, weight_decay=lam), Adam(lr, 0.9, 0.99)))
    q.need(np.min(np.abs(g + lam * w)) > 1e-3)            # else ε decides
    q.say(f"The first step of Adam (η = {lr:g}, β₁ = 0.9, β₂ = 0.99, ε = 1e-8; in the first step m̂ = g and v̂ = g²), with weight decay "
          f"λ = {lam:g} in two ways. Coupled: g + λw goes into Adam in the place of g. Decoupled (AdamW): first w ← w - ηλw, then Adam's "
          "step with g.")
    q.given(w=w, g=g)
    q.ask("coupled", coupled.new("w"), "What is $w$ after the step with coupled decay?", mistakes={
        "this is decoupled": decoupled.new("w")})
    q.ask("decoupled", decoupled.new("w"), "What is $w$ after the step with decoupled decay?", mistakes={
        "this is coupled": coupled.new("w"), "η is missing in the decay": plain.new("w") - lam * w, "the decay is missing": plain.new("w")})
    q.solve(coupled, "update", title="Coupled")
    q.solve(decoupled, "update", title="Decoupled")
    q.remark("Coupled, the decay is divided by √v̂ with the rest of the gradient, and in the first step nothing of its size is left, only "
             "its share in a sign.")
    q.function(_task(f"step(w, g, state, t, lr, lam, beta1, beta2)  ->  w        # AdamW, decoupled, ε = 1e-8\n{STATE}", AdamW,
                     weight_decay=0.1, beta1=0.9, beta2=0.99))


@topic("gradient-clipping", "Clipping a gradient")
def gradient_clipping(q: Question, draw: Draw) -> None:
    w, g = draw.numbers(4), draw.integers(4, low=-6, high=6)
    c, limit, lr = draw.number(1.0, 4.0, 0.5), draw.number(1.0, 3.0, 0.5), draw.of((0.1, 0.2))
    by_norm = update_of(model_of(Parameters(w)), g, SGD(lr, clip=ClipNorm(c)))
    by_value = update_of(model_of(Parameters(w)), g, SGD(lr, clip=ClipValue(limit)))
    norm = by_norm.read("g", "N")
    q.need(norm > c)
    q.say(f"A network has four parameters $w$ and the gradient $g$. It is clipped before a step of gradient descent with η = {lr:g}: by "
          f"its norm, to at most c = {c:g}, or entry by entry, to at most {limit:g} in size.")
    q.given(w=w, g=g)
    q.ask("norm", norm, "What is the norm of $g$?", mistakes={"the root is missing": norm ** 2, "the sum of the sizes": np.sum(np.abs(g))})
    q.ask("by_norm", by_norm.new("g"), "What is the gradient, clipped by its norm?", mistakes={
        "the direction stays, the length becomes c": g / norm, "this is clipped entry by entry": by_value.new("g")})
    q.ask("by_value", by_value.new("g"), "What is the gradient, clipped entry by entry?")
    q.ask("w_new", by_norm.new("w"), "What is $w$ after the step with the gradient clipped by its norm?", mistakes={
        "without clipping": w - lr * g})
    q.solve(by_norm, "update", title="By the norm")
    q.solve(by_value, "update", title="Entry by entry")

    def probes(rng: np.random.Generator) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        for size, limit in ((1, 0.1), (4, 1.0), (7, 100.0), (30, 2.0), (3, 1.0)):
            g = 3.0 * rng.standard_normal(size)
            expected = g.copy()
            ClipNorm(limit)(np, expected)
            yield {"g": g, "c": limit}, expected
        yield {"g": np.zeros(3), "c": 1.0}, np.zeros(3)

    q.function(FunctionTask("clip(g, c)  ->  g        # clipped by its norm, to at most c", "g", probes))

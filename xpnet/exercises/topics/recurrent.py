"""Backpropagation through time, by hand."""

from collections.abc import Iterator

import numpy as np

from ...layers import RNN
from ..derivation import Derivation, explained
from ..draw import Draw
from ..functions import LayerTask, Probe
from ..question import Question, topic


@topic("backpropagation-through-time", "Backpropagation through time")
def through_time(q: Question, draw: Draw) -> None:
    x, dy = draw.integers(3), draw.numbers(3)
    w, u, b = draw.number(0.1, 0.9), draw.number(0.2, 0.9), draw.number(-0.5, 0.5)
    e = explained(RNN(1, 1, init=[[w]], recurrent_init=[[u]], bias_init=[b]), x[None, :, None], dy[None, :, None], checks=False)
    numbers = {f"{name}{t}": a[t - 1] for name, a in (("x", x), ("dy", dy)) for t in (1, 2, 3)}
    forward = Derivation(numbers | {"w": w, "u": u, "b": b, "h0": 0.0}, *(
        formula for t in (1, 2, 3) for formula in (f"z{t} = w * x{t} + u * h{t - 1} + b", f"h{t} = tanh(z{t})")), title="Forward in time")
    backward = Derivation(forward.values, "dh3 = dy3", "dz3 = dh3 * (1 - h3 ** 2)", "dh2 = dy2 + u * dz3", "dz2 = dh2 * (1 - h2 ** 2)",
                          "dh1 = dy1 + u * dz2", "dz1 = dh1 * (1 - h1 ** 2)", "dw = dz1 * x1 + dz2 * x2 + dz3 * x3",
                          "du = dz1 * h0 + dz2 * h1 + dz3 * h2", "db = dz1 + dz2 + dz3", title="Backward in time", notes={
                              "dh2": "h₂ goes two ways: it is an output, and it goes into z₃", "dw": "w is used at each step"})
    h, dz = (np.array([e[f"{name}{t}"].item() for t in "₁₂₃"]) for name in ("h", "∂L/∂z"))
    before = np.array([0.0, *h[:2]])
    slope = 1.0 - h * h
    alone = dy * slope                                    # no gradient goes back in time
    q.say("A recurrent unit reads three numbers, one after the other, with the same weights at each step: zₜ = w xₜ + u hₜ₋₁ + b and "
          "hₜ = tanh(zₜ), from h₀ = 0. Each hₜ is an output as well; $dy$ holds the gradient that comes back to each of them from outside.")
    q.given(x=x, w=w, u=u, b=b, dy=dy)
    q.ask("h", h, "What are h₁, h₂, h₃?", mistakes={"the state before is missing": np.tanh(w * x + b)})
    q.ask("dz", dz, "What are ∂L/∂z₁, ∂L/∂z₂, ∂L/∂z₃, where L is the loss of the whole sequence?", mistakes={
        "a state has an influence on the next one too, and gets a gradient from there": alone,
        "tanh′ is missing in what the later step hands back": _handed_without_slope(dy, u, slope)})
    q.ask("dw", e["∂L/∂W"].item(), "What is ∂L/∂w?", mistakes={
        "w is used at each step: the gradients of all steps add": float(dz[2] * x[2]),
        "a mean over the steps, where it is a sum": float(dz @ x) / 3})
    q.ask("du", e["∂L/∂U"].item(), "What is ∂L/∂u?", mistakes={
        "u is multiplied with the state before, not with the state of the step": float(dz @ h),
        "only the last step is counted": float(dz[2] * before[2])})
    q.ask("db", e["∂L/∂b"].item(), "What is ∂L/∂b?", mistakes={"a mean over the steps, where it is a sum": float(dz.mean())})
    q.solve(forward)
    q.solve(backward)

    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for n, time, d, k in ((1, 1, 1, 1), (2, 3, 4, 5), (3, 4, 2, 1), (1, 5, 3, 2)):
            yield Probe(RNN(d, k), rng.standard_normal((n, time, d)))

    q.function(LayerTask("backward(dy, x, y, W, U, b)  ->  dx, dW, dU, db     # y: all states, from h₀ = 0, (n, time, k). x: (n, time, d)\n"
                         "layer(x, W, U, b)  ->  y, backward                  # with backward(dy) -> dx, dW, dU, db", probes,
                         {"W": "W", "U": "U", "b": "b"}))


def _handed_without_slope(dy: np.ndarray, u: float, slope: np.ndarray) -> np.ndarray:
    """dz where ∂L/∂h, not ∂L/∂z, is handed back through u."""
    dh = [float(dy[2])]
    for t in (1, 0):
        dh.append(float(dy[t]) + u * dh[-1])
    return np.array(dh[::-1]) * slope

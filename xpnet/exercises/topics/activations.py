"""The derivative of each activation, and softmax, whose outputs depend on all inputs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...layers import Softmax
from ...layers.activations import NAMES
from ..derivation import Derivation, explained
from ..draw import Draw
from ..functions import FunctionTask, LayerTask, Probe
from ..question import Question, topic

SMOOTH = ("sigmoid", "tanh", "softplus", "silu")
TITLES = {"relu": "ReLU", "leaky_relu": "leaky ReLU", "prelu": "PReLU", "elu": "ELU", "selu": "SELU", "gelu": "GELU",
          "silu": "SiLU (swish)",
          "hard_sigmoid": "hard sigmoid", "hard_swish": "hard swish", "log_softmax": "log-softmax"}


def _activation(name: str) -> Callable[[Question, Draw], None]:
    def write(q: Question, draw: Draw) -> None:
        layer = NAMES[name]()
        x, dy = draw.numbers(4, low=-4.5, high=4.5, step=0.5), draw.numbers(4)
        x = np.where(np.abs(x) == 3.0, x + 0.25, x)       # the kinks of the hard ones
        if name in ("softmax", "log_softmax"):
            x = draw.numbers(4, low=-2.0, high=2.0, step=0.5)
        e = explained(layer, x, dy)
        title = TITLES.get(name, name)
        q.say(f"The activation is {title}: {_formula(name)}")
        q.given(x=x, dy=dy)
        q.ask("y", e["y"], f"What is y = {title}(x)?" if name != "identity" else "What is $y$?")
        q.ask("dx", e["∂L/∂x"], "What is $dx$?")
        if name != "identity":
            q.mistake("dx", f"the derivative of {title} is missing", dy)
        if name in SMOOTH:
            q.mistake("dx", "the derivative is given y where it takes x", explained(layer, e["y"], dy)["∂L/∂x"])
        if name == "prelu":
            q.ask("da", e["∂L/∂α"], "What is the gradient of the slope, ∂L/∂a?", mistakes={
                "the sum over all inputs is missing: this is the last one's": dy[-1] * min(x[-1], 0.0)} if x[-1] < 0 else {})
        q.solve(e, "forward", "backward")

        def probes(rng: np.random.Generator) -> Iterator[Probe]:
            for shape in ((1, 4), (3, 2), (2, 5)):
                yield Probe(NAMES[name](), 2.0 * rng.standard_normal(shape))

        if name == "prelu":
            task = LayerTask("backward(dy, x, a)  ->  dx, da\nlayer(x, a)  ->  y, backward        # with backward(dy) -> dx, da", probes,
                             {"a": "a"})
        else:
            task = LayerTask("backward(dy, x, y)  ->  dx\nlayer(x)  ->  y, backward           # with backward(dy) -> dx", probes)
        q.function(task)

    return write


def _formula(name: str) -> str:
    """From the first line of the class's docstring."""
    words = (NAMES[name].__doc__ or "").strip().split("\n")[0].split("        ")[0]
    if name == "prelu":
        return f"{words}, with a = 0.25."
    if name == "leaky_relu":
        return f"{words}, with α = 0.01."
    if name in ("elu",):
        return f"{words}, with α = 1."
    if name == "selu":
        return "f(x) = λ x if x > 0, else λ α (eˣ - 1), with λ = 1.0507009873554805 and α = 1.6732632423543772."
    return f"{words}."


for _name in NAMES:
    topic(f"activation-{_name}", f"The derivative of {TITLES.get(_name, _name)}", "activation")(_activation(_name))


@topic("softmax-jacobian", "The Jacobian of softmax")
def softmax_jacobian(q: Question, draw: Draw) -> None:
    x, dy = draw.numbers(3, low=-2.0, high=2.0, step=0.5), draw.numbers(3)
    e = explained(Softmax(), x, dy)
    y = e["y"]
    rows = [explained(Softmax(), x, unit) for unit in np.eye(3)]
    J = np.array([row["∂L/∂x"] for row in rows])
    q.say("Softmax of three numbers: yₖ = e^(xₖ) / Σⱼ e^(xⱼ).")
    q.given(x=x, dy=dy)
    q.ask("y", y, "What is $y$?")
    q.ask("J", J, "What is the Jacobian, J with ∂yₖ/∂xⱼ in row k and column j?", mistakes={
        "it has only the diagonal: each output also depends on the other inputs": np.diag(np.diag(J)),
        "the diagonal is yₖ(1 - yₖ)": J - np.diag(np.diag(J)) - np.diag(y * y)})
    q.ask("dx", e["∂L/∂x"], "What is $dx$ for the given $dy$?", mistakes={
        "only the diagonal of the Jacobian, as if softmax worked entry by entry": dy * np.diag(J), "the Jacobian is missing": dy})
    q.solve(e, "forward")
    q.remark("The row k of the Jacobian is the gradient of yₖ, that is $dx$ for a $dy$ that is 1 at k and 0 elsewhere: yₖ(1 - yₖ) on the "
             "diagonal, -yₖ yⱼ beside it.")
    for k, row in enumerate(rows):
        q.solve(row, "backward", title=f"Row {k + 1} of the Jacobian")
    q.remark("For the given $dy$ the Jacobian is never formed:")
    q.solve(e, "backward")

    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for shape in ((1, 3), (4, 5), (3, 2), (5, 1)):
            yield Probe(Softmax(), rng.standard_normal(shape))

    q.function(LayerTask("backward(dy, x, y)  ->  dx        # softmax over the last axis\n"
                         "layer(x)  ->  y, backward         # with backward(dy) -> dx", probes))


@topic("softmax-stability", "Softmax of large numbers")
def softmax_stability(q: Question, draw: Draw) -> None:
    x = draw.of((800.0, 900.0, 1000.0, 2000.0)) + draw.integer(1, 60) + draw.numbers(3, low=-3.0, high=3.0, step=0.5)
    e = explained(Softmax(), x, np.ones(3))
    c = Derivation({"x": x}, "m = max_k(x)", "c = x - m", "s = sum_k(exp(c))", "l = m + log(s)",
                   title="The logarithm of the sum of exponentials",
                   notes={"m": "the largest; it cancels in softmax, and comes back in the sum"})
    q.say("Softmax, p = e^x / Σ e^x, of three large numbers in float64, whose largest finite number is about e^709.8:")
    q.given(x=x)
    q.choose("naive", 2, "What does a program give that computes e^x / Σ e^x just so?",
             ("the right probabilities", "NaN, not a number", "0, 0, 0", "1/3, 1/3, 1/3"))
    q.ask("c", c["c"], "What is $c = x - max_k(x)$?")
    q.ask("p", e["y"], "What are the probabilities?")
    q.ask("l", c["l"].item(), "What is the logarithm of Σ e^x?", mistakes={
        "the largest number, which was subtracted, is not added again": np.log(c["s"]).item()})
    q.remark("The exponential of such a number is infinite in float64, and ∞/∞ is NaN. Subtracting the largest changes nothing, since "
             "e^(x - m) = e^x / e^m and e^m cancels; then no exponential is above 1.")
    q.solve(e, "forward")
    q.solve(c)

    def probes(rng: np.random.Generator) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        for scale, shape in ((1.0, (1, 3)), (1.0, (4, 5)), (1000.0, (4, 3)), (1e5, (2, 2))):
            x = scale * rng.standard_normal(shape) + (scale if scale > 1.0 else 0.0)
            yield {"x": x}, np.asarray(Softmax()(x)[0])

    q.function(FunctionTask("softmax(x)  ->  y        # over the last axis, for numbers of any size", "y", probes))

"""The chain rule by itself: circuits of single numbers, and what becomes of a product of many derivatives."""

import numpy as np

from ...layers import Dense, Sequential
from ..derivation import Derivation, explained
from ..draw import Draw
from ..question import Question, topic

# (forward, backward from the last result to the inputs, {a part: {mistake: formula}})
CIRCUITS = (
    (("q = a + b", "f = q * c"), ("dq = c", "dc = q", "da = dq", "db = dq"),
     {"da": {"this is the derivative with respect to c": "q"}, "dc": {"this is the derivative with respect to q": "c"}}),
    (("q = a * b", "r = q + c", "f = r * r"), ("dr = 2 * r", "dq = dr", "dc = dr", "da = dq * b", "db = dq * a"),
     {"da": {"the outer derivative is missing": "b", "the inner derivative is missing": "2 * r"},
      "dc": {"the 2 is missing": "r"}}),
    (("q = a * b", "r = q + a", "f = r * c"), ("dr = c", "dc = r", "dq = dr", "da = dq * b + dr", "db = dq * a"),
     {"da": {"a is used twice, and only one of its two paths is here": "dq * b", "a is used twice: the path through q is missing": "dr"}}),
    (("q = a * b + c", "f = 1 / q"), ("dq = -1 / (q * q)", "dc = dq", "da = dq * b", "db = dq * a"),
     {"dc": {"the sign is wrong: (1/q)′ = -1/q²": "1 / (q * q)"}, "da": {"the inner derivative is missing": "-1 / (q * q)"}}),
    (("q = a * b + c", "f = sigma(q)"), ("dq = f * (1 - f)", "dc = dq", "da = dq * b", "db = dq * a"),
     {"da": {"σ′ is missing": "b", "the inner derivative is missing": "f * (1 - f)"}}),
)


@topic("chain-rule", "The chain rule in a circuit")
def chain_rule(q: Question, draw: Draw) -> None:
    forward, backward, mistakes = draw.of(CIRCUITS)
    inputs = dict(zip("abc", draw.numbers(3, low=-3.0, high=3.0, step=0.5)))
    derived = Derivation(inputs, *forward, title="Forward")
    back = Derivation(derived.values, *backward, title="Backward, from the result to the inputs")
    q.say("A circuit computes")
    for formula in forward:
        q.formula(formula.replace(" * ", " @ "))           # written side by side: all are single numbers
    q.given(**inputs)
    q.ask("f", derived["f"], "What is $f$?")
    for name in ("a", "b", "c"):
        wrong = {words: Derivation(back.values, f"wrong = {text}")["wrong"] for words, text in mistakes.get(f"d{name}", {}).items()}
        q.ask(f"d{name}", back[f"d{name}"], f"What is the derivative of f by ${name}$?", mistakes=wrong)
    q.solve(derived)
    q.remark("Backward, each value's derivative is the sum over its uses of (derivative of the use) × (local derivative). L is here f "
             "itself.")
    q.solve(back)


@topic("vanishing-gradient", "A product of derivatives through depth")
def vanishing(q: Question, draw: Draw) -> None:
    name = draw.of(("sigmoid", "tanh"))
    w, x = draw.numbers(4, low=-2.0, high=2.0, step=0.5), draw.numbers(1, 1, low=-2.0, high=2.0, step=0.5)
    net = Sequential(*(Dense(1, 1, name, init=[[v]], bias=False) for v in w))
    e = explained(net, x, np.ones((1, 1)))
    a = np.array([e[f"a{above}"] for above in ("⁽⁰⁾", "⁽¹⁾", "⁽²⁾", "⁽³⁾")]).reshape(-1)
    slopes = Derivation({"a": a}, "s = a * (1 - a)" if name == "sigmoid" else "s = 1 - a ** 2", title="The slopes, from the outputs")
    most = {"sigmoid": 0.25, "tanh": 1.0}[name]
    f = {"sigmoid": "sigma", "tanh": "tanh"}[name]
    q.say(f"Four layers of one unit each, without biases, are a chain: $a_0 = {f}(x @ w_0)$, $a_1 = {f}(a_0 @ w_1)$, and so on up to "
          "$a_3$, with")
    q.given(w=w, x=x.item())
    q.say("where the entries of w are the four weights in this order. The gradient that comes back to the output, $da_3$, is 1.")
    q.ask("a", a, "What are the four outputs?")
    q.ask("s", slopes["s"], f"What are the four slopes {name}′ at the points where the units are?")
    q.ask("dx", e["∂L/∂x"], "What gradient reaches $x$?", mistakes={
        "the weights are missing": [[np.prod(slopes["s"])]], "the slopes are missing": [[np.prod(w)]]})
    largest = Derivation({"m": most, "w1": w[0], "w2": w[1], "w3": w[2], "w4": w[3]}, "B = m ** 4 * abs(w1 * w2 * w3 * w4)",
                         title="The largest gradient: every slope at its maximum")
    q.ask("bound", largest["B"], "With these weights, but any $x$ and any biases: what is the largest size that the gradient at $x$ can "
          f"have? (The slope of {name} is at most {most:g}.)")
    q.solve(e, "forward")
    q.solve(slopes)
    q.solve(e, "backward")
    q.remark("Each layer multiplies by w and by the slope: through many layers a product of numbers below 1 goes to 0, of numbers above 1 "
             "to infinity.")
    q.solve(largest)

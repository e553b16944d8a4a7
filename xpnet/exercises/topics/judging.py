"""Judging: gradients, by finite differences and by eye; and predictions, by metrics."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ... import metrics
from ...derivation import explain
from ...layers import Dense
from ...losses import MeanSquaredError
from ..derivation import Derivation, Worked, explained, model_of
from ..draw import Draw
from ..functions import FunctionTask
from ..question import Question, topic


@topic("gradient-check", "A gradient check by hand")
def gradient_check(q: Question, draw: Draw) -> None:
    x, w, t = draw.number(0.5, 2.0, 0.1), draw.number(-1.5, 1.5, 0.1) or 0.7, draw.number(-0.9, 0.9, 0.1)
    h, name = draw.of((0.1, 0.2)), draw.of(("tanh", "sigmoid"))
    f = {"tanh": "tanh", "sigmoid": "sigma"}[name]

    def run(weight: float) -> Worked:
        model = model_of(Dense(1, 1, name, init=[[weight]], bias=False))
        return Worked(explain(model, MeanSquaredError("half_sum"), np.array([[x]]), np.array([[t]])), a="a")

    at, ahead, behind = run(w), run(w + h), run(w - h)
    g = at["∂L/∂W"].item()
    derived = Derivation({"L1": ahead.loss, "L0": at.loss, "L2": behind.loss, "h": h, "g": g},
                         "D = (L1 - L2) / (2 * h)", "F = (L1 - L0) / h", "r = abs(g - D) / (abs(g) + abs(D))",
                         title="The differences: L₁ is at W + h, L₂ at W - h, and L₀ at W")
    q.say(f"One unit without bias, $a = {f}(x @ W)$, has the loss L = ½ (a - t)². Check its gradient with finite differences of step h = "
          f"{h:g}.")
    q.given(x=x, W=w, t=t)
    q.ask("gradient", g, "What is ∂L/∂W, by the chain rule?", mistakes={
        f"{name}′ is missing": (at["a"].item() - t) * x, "the sign is wrong": -g})
    q.ask("central", derived["D"], "What is the central difference, (L(W + h) - L(W - h)) / (2h)?",
          mistakes={"the 2 is missing": 2.0 * derived["D"]})
    q.ask("forward", derived["F"], "What is the one-sided difference, (L(W + h) - L(W)) / h?",
          mistakes={"this is the central one": derived["D"]})
    q.ask("error", derived["r"], "What is the relative error of the first against the second, |g - D| / (|g| + |D|)? (Use unrounded "
                                 "values.)")
    q.choose("better", 1, "Halve h. What happens to the errors of the two differences, as long as rounding does not count?",
             ("that of the central one falls to about a quarter, that of the one-sided one to about a half", "both fall to about a half",
              "both stay"))
    q.need(abs(g) > 0.02 and abs(g - derived["F"]) > 2.0 * abs(g - derived["D"]))   # else they show nothing
    q.solve(at, "forward", "loss", "backward", title="", only=("z", "a", "r", "L", "∂L/∂a", "δ", "∂L/∂W"))
    q.solve(derived)


WRONG = (
    ("dx is formed with W in the place of Wᵀ", "dx", lambda x, W, dz, g: dz @ W),
    ("db is a mean over the samples", "db", lambda x, W, dz, g: np.mean(dz, axis=0)),
    ("dW is divided by n once more", "dW", lambda x, W, dz, g: g / x.shape[0]),
    ("dW has the wrong sign", "dW", lambda x, W, dz, g: -g),
    ("dW is transposed", "dW", lambda x, W, dz, g: g.T),
    ("db is that of the last sample only", "db", lambda x, W, dz, g: dz[-1]),
)


@topic("wrong-gradient", "Which gradient is wrong, and why")
def wrong_gradient(q: Question, draw: Draw) -> None:
    n, d = 3, 2
    x, W, b, dz = draw.integers(n, d), draw.numbers(d, d), draw.numbers(d), draw.numbers(n, d)
    e = explained(Dense(d, d, init=W, bias_init=b), x, dz)
    right = {"dW": e["∂L/∂W"], "db": e["∂L/∂b"], "dx": e["∂L/∂x"]}
    which = draw.integer(0, len(WRONG) - 1)
    words, name, spoil = WRONG[which]
    said = {**right, name: spoil(x, W, dz, right[name])}
    q.need(not any(np.allclose(other(x, W, dz, right[its]), said[its]) for words, its, other in WRONG if other is not spoil))
    q.say("A program for a dense layer, $z = x @ W + b$, is given")
    q.given(x=x, W=W, b=b, dz=dz)
    q.say("and answers as follows. Just one of the three gradients is wrong.")
    q.given(**{name: np.round(a, 10) for name, a in said.items()})
    q.choose("mistake", which + 1, "Which mistake was made?", tuple(w for w, _, _ in WRONG))
    q.ask("right", right[name], "What is the right gradient?", mistakes={"this is what the program says": said[name]})
    q.remark(f"The mistake: {words}. The right gradients:")
    q.solve(e, "backward")


@topic("classification-metrics", "A confusion matrix, and what it says")
def classification_metrics(q: Question, draw: Draw) -> None:
    k, n = 3, 12
    t = np.array([draw.integer(0, k - 1) for _ in range(n)])
    y = np.array([v if draw.integer(0, 9) < 6 else draw.integer(0, k - 1) for v in t])
    c = draw.integer(0, k - 1)
    C = metrics.confusion_matrix(y, t, k)
    hits, predicted, true = int(C[c, c]), int(np.sum(C[:, c])), int(np.sum(C[c]))
    values = [np.asarray(m(y, t, average=None, classes=k))[c] for m in (metrics.precision, metrics.recall, metrics.f1)]
    q.need(hits)
    derived = Derivation({"A": int(np.trace(C)), "n": n, "TP": hits, "FP": predicted - hits, "FN": true - hits},
                         "accuracy = A / n", "P = TP / (TP + FP)", "R = TP / (TP + FN)", "F = 2 * P * R / (P + R)")
    q.say(f"Of {n} samples these are the right classes, $t$, and those predicted, $y$. The classes are 0, 1 and 2.")
    q.given(t=t, y=y)
    q.ask("confusion", C, "What is the confusion matrix, with the right class as the row and the predicted one as the column?", exact=True,
          mistakes={"rows are the right classes, columns the predicted ones": C.T})
    q.ask("accuracy", metrics.accuracy(y, t), "What is the accuracy?")
    q.ask("precision", values[0], f"What is the precision of class {c}?", mistakes={"this is the recall": values[1]})
    q.ask("recall", values[1], f"What is the recall of class {c}?")
    q.ask("f1", values[2], "What is its F1?", mistakes={
        "this is the mean of the two; F1 is their harmonic mean": (values[0] + values[1]) / 2.0})
    q.solve(derived)
    q.remark(f"A counts the samples on the diagonal; TP, FP and FN are those of class {c}: predicted and right, predicted and wrong, "
             "missed.")

    def probes(rng: np.random.Generator) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        for n, k in ((1, 2), (20, 3), (50, 5), (7, 4)):
            t, y = rng.integers(0, k, n), rng.integers(0, k, n)
            yield {"y": y, "t": t, "k": k}, np.asarray(metrics.confusion_matrix(y, t, k), dtype=np.float64)

    q.function(FunctionTask("confusion_matrix(y, t, k)  ->  C        # y, t: predicted and right classes; C: (k, k)", "C", probes))

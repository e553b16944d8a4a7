"""Attention: a softmax of products, and the three gradients through it. And the table that its tokens come from."""

from collections.abc import Iterator

import numpy as np

from ...backend import get_backend
from ...layers.attention import attend
from ...layers.embedding import Embedding
from ..derivation import Derivation, explained
from ..draw import Draw
from ..functions import FunctionTask
from ..question import Question, topic


@topic("attention", "Scaled dot-product attention, and its three gradients")
def attention(q: Question, draw: Draw) -> None:
    t, s, d = 2, draw.of((2, 3)), 4                       # √d is 2
    Q, K, V = draw.integers(t, d, low=-2, high=2), draw.integers(s, d, low=-2, high=2), draw.integers(s, 2, low=-3, high=3)
    dO = draw.numbers(t, 2)
    e = Derivation({"Q": Q, "K": K, "V": V, "dO": dO}, "S = Q @ K.T / 2", "P = exp(S - max_k(S)) / sum_k(exp(S - max_k(S)))", "O = P @ V",
                   "dV = P.T @ dO", "dP = dO @ V.T", "dS = P * (dP - sum_k(P * dP))", "dQ = dS @ K / 2", "dK = dS.T @ Q / 2",
                   notes={"S": "1/√d, with d = 4, keeps the variance of the scores at 1", "dS": "the Jacobian of softmax, row by row"})
    P, S, dP = e["P"], e["S"], e["dP"]
    q.need(np.all(P > 0.02) and np.all(np.ptp(P, axis=1) > 0.05))

    def softmax(scores: np.ndarray, axis: int) -> np.ndarray:
        a = np.exp(scores - scores.max(axis=axis, keepdims=True))
        return a / a.sum(axis=axis, keepdims=True)

    q.say(f"{t} queries $Q$ look at {s} keys $K$ with d = {d} features, and take a mean of the values $V$: $O = P @ V$, with P the "
          "softmax over the keys of $Q @ K.T$, divided by √d. The gradient that comes back is $dO$.")
    q.given(Q=Q, K=K, V=V, dO=dO)
    q.ask("P", P, "What is $P$?", mistakes={
        "1/√d is missing": softmax(2.0 * S, 1), "the softmax is over the keys, not over the queries": softmax(S, 0)})
    q.ask("O", e["O"], "What is $O$?", mistakes={"1/√d is missing": softmax(2.0 * S, 1) @ V})
    q.ask("dV", e["dV"], "What is $dV$?", mistakes={"1/√d is missing": softmax(2.0 * S, 1).T @ dO})
    diagonal = P * (1.0 - P) * dP
    q.ask("dQ", e["dQ"], "What is $dQ$?", mistakes={
        "1/√d is missing": 2.0 * e["dQ"],
        "softmax's Jacobian is not diagonal": diagonal @ K / 2.0})
    q.ask("dK", e["dK"], "What is $dK$?", mistakes={
        "1/√d is missing": 2.0 * e["dK"],
        "softmax's Jacobian is not diagonal": diagonal.T @ Q / 2.0})
    q.solve(e)
    q.remark("The rows of ∂L/∂S sum to 0: a number that is added to all scores of a query changes nothing.")

    def probes(rng: np.random.Generator) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        xp = get_backend("numpy").xp
        for a, b, c in ((1, 1, 2), (3, 2, 4), (2, 5, 3)):
            arrays = {"Q": rng.standard_normal((a, c)), "K": rng.standard_normal((b, c)), "V": rng.standard_normal((b, 3))}
            yield arrays, attend(xp, *arrays.values())[0]

    q.function(FunctionTask("attention(Q, K, V)  ->  O        # Q: (t, d), K: (s, d), V: (s, e)", "O", probes))


@topic("embedding", "A table of tokens, and the gradient of a token that comes twice")
def embedding(q: Question, draw: Draw) -> None:
    rows, d = draw.of((4, 5)), 2
    first, second = draw.shuffled(tuple(range(rows)))[:2]
    tokens = np.array([first, second, first])             # one comes twice
    W, dy = draw.numbers(rows, d), draw.numbers(3, d)
    e = explained(Embedding(rows, d, init=W), tokens, dy)
    q.say(f"An embedding is a table W of {rows} rows, numbered from 0, and gives row t for the token t: $y = take(W, t)$. The tokens are "
          f"{', '.join(map(str, tokens))}, and the gradient that comes back is $dy$.")
    q.given(W=W, dy=dy)
    last, mean = np.zeros_like(W), e["∂L/∂W"].copy()
    last[tokens] = dy
    mean[first] /= 2.0
    q.ask("y", e["y"], "What is $y$?")
    q.ask("dW", e["∂L/∂W"], "What is $dW$?", mistakes={
        "a token that comes twice gets both gradients: they add": last, "gradients of one row add; this is their mean": mean})
    q.solve(e, "forward", "backward")
    q.remark("A row whose token does not come has gradient 0. Assigning dW[t] = dy instead of adding keeps only the last of a token's "
             "gradients.")

    def probes(rng: np.random.Generator) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        for size, n in ((1, 1), (3, 8), (6, 4)):
            arrays = {"dy": rng.standard_normal((n, 3)), "x": rng.integers(0, size, n), "W": rng.standard_normal((size, 3))}
            _, back = Embedding(size, 3)(arrays["x"], {"W": arrays["W"]})
            yield arrays, back(arrays["dy"])[1]["W"]

    q.function(FunctionTask("backward(dy, x, W)  ->  dW        # x: tokens (n,), W: (tokens, d), dy: (n, d)", "dW", probes))

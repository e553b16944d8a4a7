"""Whole networks: one step of training by hand, and what goes wrong in it."""

import numpy as np

from ...derivation import explain
from ...layers import Dense, Sequential
from ...losses import MeanSquaredError
from ...optim import SGD
from ..derivation import Derivation, Worked, model_of
from ..draw import Draw
from ..question import Question, topic


def _step(q: Question, draw: Draw, outputs: int, hidden: str = "sigmoid") -> Worked:
    """A 2-2-k network of sigmoids and one sample, and its step, written into the question."""
    x, t = draw.numbers(1, 2, low=0.05, high=0.95, step=0.05), draw.numbers(1, outputs, low=0.05, high=0.95, step=0.05)
    W0, b0 = draw.numbers(2, 2, low=-0.9, high=0.9, step=0.05), draw.numbers(2, low=0.05, high=0.6, step=0.05)
    W1, b1 = draw.numbers(2, outputs, low=-0.9, high=0.9, step=0.05), draw.numbers(outputs, low=0.05, high=0.6, step=0.05)
    lr = draw.of((0.1, 0.2, 0.5, 1.0))
    net = Sequential(Dense(2, 2, hidden, init=W0, bias_init=b0), Dense(2, outputs, "sigmoid", init=W1, bias_init=b1))
    q.say("A network: $z_0 = x @ W_0 + b_0$, $a_0 = sigma(z_0)$, $z_1 = a_0 @ W_1 + b_1$, $a_1 = sigma(z_1)$. The loss is L = ½ Σ (a⁽¹⁾ - "
          f"t)², and one step of gradient descent is made with learning rate η = {lr:g}, on one sample.")
    q.given(x=x, t=t, W_0=W0, b_0=b0, W_1=W1, b_1=b1)
    return Worked(explain(model_of(net), MeanSquaredError("half_sum"), x, t, optimizer=SGD(lr)))


def _mistaken(e: Worked) -> Derivation:
    """δ⁽⁰⁾ as the updated weights of the output layer make it."""
    return Derivation({"dz_1": e["δ⁽¹⁾"], "W_1": e.new("W⁽¹⁾"), "a_0": e["a⁽⁰⁾"]}, "dz_0 = dz_1 @ W_1.T * (a_0 * (1 - a_0))")


@topic("two-layer-step", "A whole step by hand")
def two_layer_step(q: Question, draw: Draw) -> None:
    e = _step(q, draw, 2)
    q.ask("a_1", e["a⁽¹⁾"], "What is the output $a_1$?")
    q.ask("L", e.loss, "What is the loss?", mistakes={"½ is missing": 2.0 * e.loss})
    q.ask("dz_1", e["δ⁽¹⁾"], "What is $dz_1$ = ∂L/∂z⁽¹⁾?", mistakes={"σ′ is missing": e["∂L/∂a⁽¹⁾"], "the sign is wrong": -e["δ⁽¹⁾"]})
    q.ask("dz_0", e["δ⁽⁰⁾"], "What is $dz_0$ = ∂L/∂z⁽⁰⁾?", mistakes={
        "σ′ is missing": e["∂L/∂a⁽⁰⁾"], "the new W⁽¹⁾ stands where the old belongs": _mistaken(e)["dz_0"]})
    q.ask("dW_0", e["∂L/∂W⁽⁰⁾"], "What is $dW_0$?")
    q.ask("W_1", e.new("W⁽¹⁾"), "What is $W_1$ after the step?", mistakes={
        "the step goes uphill": 2.0 * e.read("W⁽¹⁾", "p", "update") - e.new("W⁽¹⁾")})
    q.ask("L_after", e["L after"], "What is the loss after the step?")
    q.solve(e)


@topic("sequential-update", "All deltas come before any update")
def sequential_update(q: Question, draw: Draw) -> None:
    e = _step(q, draw, 1)
    right, wrong = e["δ⁽⁰⁾"], _mistaken(e)
    q.say("A widespread mistake is to update the output layer first, and to compute the hidden layer's delta with the *new* output "
          "weights.")
    q.ask("W_1", e.new("W⁽¹⁾"), "What is $W_1$ after the step?")
    q.ask("dz_0", right, "What is the right $dz_0$ = ∂L/∂z⁽⁰⁾?", mistakes={"this is what the new weights make of it": wrong["dz_0"]})
    q.ask("dz_0_mistake", wrong["dz_0"], "What does the mistake make of it?", mistakes={"this is the right one": right})
    q.choose("gradient_check", 2, "Would a gradient check of the layers' backward passes, each run before any update, find the mistake?",
             ("yes: a delta is wrong", "no: each backward pass is right, they are only called in the wrong order"))
    q.solve(e, "forward", "loss", "backward", "update")
    q.remark("With the mistake the delta is formed with the new weights:")
    q.solve(wrong)
    q.solve(e, "after")


@topic("symmetric-initialization", "Weights that start equal")
def symmetric_initialization(q: Question, draw: Draw) -> None:
    x, t = draw.numbers(2, 2), draw.numbers(2, 1)
    c, v, lr = draw.number(0.1, 0.9), draw.number(0.1, 0.9), draw.of((0.1, 0.2, 0.5))
    net = Sequential(Dense(2, 2, "tanh", init=np.full((2, 2), c), bias=False), Dense(2, 1, init=np.full((2, 1), v), bias=False))
    e = Worked(explain(model_of(net), MeanSquaredError("half_batch_mean"), x, t, optimizer=SGD(lr)))
    q.say("A network $z_0 = x @ W_0$, $a_0 = tanh(z_0)$, $z_1 = a_0 @ W_1$, without biases. All weights of a layer start equal: each of "
          f"$W_0$ is {c:g}, each of $W_1$ is {v:g}. The loss is L = 1/(2n) Σ (z⁽¹⁾ - t)², the learning rate of gradient descent η = "
          f"{lr:g}.")
    q.given(x=x, t=t)
    q.ask("a_0", e["a⁽⁰⁾"], "What is $a_0$?")
    q.ask("dW_0", e["∂L/∂W⁽⁰⁾"], "What is $dW_0$?", mistakes={"1/n is missing": 2.0 * e["∂L/∂W⁽⁰⁾"]})
    q.ask("W_0", e.new("W⁽⁰⁾"), "What is $W_0$ after one step?")
    q.choose("after", 3, "And after many steps?", ("the two hidden units have become different", "all weights are 0",
                                                    "the two hidden units are still equal, and do the work of one"))
    q.choose("zero", 1, "What if all weights started at 0?", ("no weight ever changes: every gradient is 0",
                                                              "only the output layer's weights learn",
                                                              "it learns as well as with small random weights"))
    q.solve(e, "forward", "loss", "backward", "update")
    q.remark("Both columns of $W_0$ get the same gradient, so they stay equal for ever. With zeros a⁽⁰⁾ = 0, so ∂L/∂W⁽¹⁾ = 0, and W⁽¹⁾ = "
             "0, so no gradient reaches W⁽⁰⁾. Random numbers break the symmetry.")

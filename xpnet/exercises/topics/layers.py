"""Layers: the dense layer first, then dropout, and layers in which a value or a weight is used twice."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...backend import Random
from ...bug_zoo.open import Twice
from ...layer import Context
from ...layers import Concat, Dense, Dropout, Residual, Sequential
from ..derivation import Derivation, explained, model_of
from ..draw import Draw
from ..functions import LayerTask, Probe
from ..question import Question, topic

SIZES = ((1, 3, 2), (4, 3, 5), (5, 2, 1), (3, 4, 4), (2, 1, 3))   # n, d, k: one sample, not square, one unit, square, one input
SQUARES = ((1, 3), (4, 2), (5, 4), (3, 1))                # n, d = k


def dense_probes(activation: str | None = None) -> Callable[[np.random.Generator], Iterator[Probe]]:
    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for n, d, k in SIZES:
            yield Probe(Dense(d, k, activation), rng.standard_normal((n, d)))

    return probes


def three_sizes(draw: Draw) -> tuple[int, int, int]:
    """n, d, k, all different, so that a transpose shows."""
    n, d, k = draw.shuffled((2, 3, 4))
    return n, d, k


@topic("dense-forward", "The forward pass of a dense layer")
def dense_forward(q: Question, draw: Draw) -> None:
    n, d, k = three_sizes(draw)
    x, W, b = draw.integers(n, d), draw.numbers(d, k), draw.numbers(k)
    e = explained(Dense(d, k, "relu", init=W, bias_init=b), x, np.ones((n, k)), "a")
    q.say(f"A batch of {n} samples goes through a dense layer, $z = x @ W + b$, and a ReLU, $a = max(z, 0)$.")
    q.given(x=x, W=W, b=b)
    z = e["z"]
    q.ask("z", z, "What is $z$?", mistakes={"b is missing": z - b, "b is subtracted": z - 2.0 * b})
    q.ask("a", e["a"], "What is $a$?", mistakes={"negative numbers are still there": z})
    q.columns = True
    q.solve(e, "forward")


@topic("dense-backward", "The three gradients of a dense layer")
def dense_backward(q: Question, draw: Draw) -> None:
    n, d, k = three_sizes(draw)
    x, W, b, dz = draw.integers(n, d), draw.numbers(d, k), draw.numbers(k), draw.numbers(n, k)
    e = explained(Dense(d, k, init=W, bias_init=b), x, dz)
    q.say(f"A dense layer computes $z = x @ W + b$ for a batch of {n} samples. Behind it follow other layers and a loss L, and the "
          "gradient that they send back is $dz$, also written ∂L/∂z.")
    q.given(x=x, W=W, b=b, dz=dz)
    q.ask("dW", e["∂L/∂W"], "What is $dW$?", mistakes={"it is divided by n: 1/n is in the loss already": e["∂L/∂W"] / n})
    q.ask("db", e["∂L/∂b"], "What is $db$?", mistakes={
        "the mean over the samples, where it is a sum": np.mean(dz, axis=0), "it is the gradient of the first sample only": dz[0],
        "it is the gradient of the last sample only": dz[-1]})
    q.ask("dx", e["∂L/∂x"], "What is $dx$?")
    q.columns = True
    q.solve(e, "backward")
    q.function(LayerTask("backward(dz, x, W, b)  ->  dx, dW, db\nlayer(x, W, b)  ->  z, backward        # with backward(dz) -> dx, dW, db",
                         dense_probes(), {"W": "W", "b": "b"}, "z"))


@topic("batch-sums", "Sums over the batch, and where 1/n goes")
def batch_sums(q: Question, draw: Draw) -> None:
    n, k = draw.of((4, 5)), 3
    b, dz = draw.numbers(k), draw.numbers(n, k)
    x = draw.integers(n, 2)
    W = draw.numbers(2, k)
    total = explained(Dense(2, k, init=W, bias_init=b), x, dz)
    mean = explained(Dense(2, k, init=W, bias_init=b), x, dz / n)
    q.say(f"A dense layer $z = x @ W + b$ is given {n} samples. For each sample alone, with a loss ℓ of its own, the gradient ∂ℓ/∂z is a "
          "row of $D$.")
    q.given(x=x, D=dz)
    q.ask("db_sum", total["∂L/∂b"], "What is ∂L/∂b where L is the sum of the samples' losses, L = Σ ℓ?",
          mistakes={"the mean, where it is a sum": mean["∂L/∂b"], "it is the gradient of the first sample only": dz[0]})
    q.ask("db_mean", mean["∂L/∂b"], "What is ∂L/∂b where L is their mean, L = 1/n Σ ℓ?",
          mistakes={"1/n is missing": total["∂L/∂b"], "1/n twice": mean["∂L/∂b"] / n})
    q.ask("dW_mean", mean["∂L/∂W"], "What is ∂L/∂W where L is their mean?",
          mistakes={"1/n is missing": total["∂L/∂W"], "1/n twice": mean["∂L/∂W"] / n})
    q.remark("L is the sum: ∂L/∂z is $D$ as it stands, and b, which is added to every sample, gathers the rows.")
    q.solve(total, "backward", only=("∂L/∂b",))
    q.remark("L is the mean: ∂L/∂z is $D / n$, and from there on everything is the same plain sum.")
    q.solve(mean, "backward", only=("∂L/∂b", "∂L/∂W"))


@topic("hidden-delta", "The delta of a hidden layer")
def hidden_delta(q: Question, draw: Draw) -> None:
    n, d, h, k = 2, 2, 3, 2
    x, W0, b0 = draw.integers(n, d), draw.numbers(d, h), draw.numbers(h)
    W1, dz1 = draw.numbers(h, k), draw.numbers(n, k)
    name = draw.of(("sigmoid", "tanh"))
    f = {"sigmoid": "sigma", "tanh": "tanh"}[name]
    e = explained(Sequential(Dense(d, h, name, init=W0, bias_init=b0), Dense(h, k, init=W1)), x, dz1)
    z, a, da = e["z⁽⁰⁾"], e["a⁽⁰⁾"], e["∂L/∂a⁽⁰⁾"]
    twice = explained(Sequential(Dense(h, h, name, init=np.eye(h), bias=False)), a, da)["δ⁽⁰⁾"]
    q.say(f"A network of two layers: $z_0 = x @ W_0 + b_0$, $a_0 = {f}(z_0)$, $z_1 = a_0 @ W_1 + b_1$. From the loss comes $dz_1$.")
    q.given(x=x, W_0=W0, b_0=b0, W_1=W1, dz_1=dz1)
    q.ask("z_0", z, "What is $z_0$?")
    q.ask("a_0", a, "What is $a_0$?")
    q.ask("dz_0", e["δ⁽⁰⁾"], "What is the hidden layer's delta, $dz_0$ = ∂L/∂z⁽⁰⁾?", mistakes={
        f"{name}′(z) is missing": da, f"{name}′ is given a, where it takes z": twice})
    q.ask("dW_0", e["∂L/∂W⁽⁰⁾"], "What is $dW_0$?", mistakes={f"{name}′(z) comes before the weight gradient: it is missing here": x.T @ da})
    q.solve(e, "forward")
    q.solve(e, "backward")
    q.function(LayerTask(f"backward(da, x, a, W, b)  ->  dx, dW, db     # of a = {name}(x W + b)\n"
                         "layer(x, W, b)  ->  a, backward             # with backward(da) -> dx, dW, db",
                         dense_probes(name), {"W": "W", "b": "b"}, "a"))


@topic("dropout", "Dropout with a given mask")
def dropout(q: Question, draw: Draw) -> None:
    p = draw.of((0.2, 0.25, 0.4, 0.5, 0.6))
    x, dy = draw.numbers(2, 4, low=-3.0, high=3.0, step=0.5), draw.numbers(2, 4)
    model = model_of(Dropout(p), draw.integer(0, 10_000))
    e = explained(model, x, dy)
    rest = explained(model, x, dy, training=False)
    m = e.read("y", "m")
    q.say(f"A dropout layer (inverted dropout, so that inference is the identity) has p = {p:g}, the probability with which a number is "
          "dropped. In this training step the mask is $m$: 0 where it drops.")
    q.given(x=x, m=m, dy=dy)
    q.ask("y", e["y"], "What is $y$ in training?", mistakes={"1/(1 - p) is missing": x * m, "this is divided by p": x * m / p})
    q.ask("dx", e["∂L/∂x"], "What is $dx$?", mistakes={"1/(1 - p) is missing": dy * m, "the mask is missing": dy / (1.0 - p),
                                                       "the mask belongs into the backward pass too": dy})
    q.ask("y_inference", rest["y"], "What is the output for the same $x$ in inference?", mistakes={
        "with inverted dropout nothing is left to do in inference": (1.0 - p) * x, "the mask is for training only": e["y"]})
    q.solve(e, "forward", "backward")
    q.remark("In inference:")
    q.solve(rest, "forward")

    def mask(x: Any, xp: Any) -> Any:
        y, back = Dropout(0.4).forward({}, x, Context(xp, True, Random(1)))
        return xp.astype(back(xp.ones_like(y))[0] > 0.0, y.dtype)

    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for shape in ((1, 8), (6, 5), (4, 3)):
            for training in (True, False):
                yield Probe(Dropout(0.4), rng.standard_normal(shape), {"m": mask, "p": 0.4, "training": training}, training)

    q.function(LayerTask("dropout(x, m, p, training)  ->  y, backward      # with backward(dy) -> dx", probes))


@topic("shared-weights", "A weight that is used twice")
def shared_weights(q: Question, draw: Draw) -> None:
    x, dy = draw.numbers(2, 2), draw.numbers(2, 2)
    W, b = draw.numbers(2, 2), draw.numbers(2)
    cell = Dense(2, 2, "tanh", init=W, bias_init=b)
    e = explained(Sequential(cell, cell), x, dy)
    of = [(e[f"∂L/∂W{i}"], e[f"∂L/∂b{i}"]) for i in ("⁽⁰⁾", "⁽¹⁾")]
    dW, db = e.new("∂L/∂W⁽⁰⁾"), e.new("∂L/∂b⁽⁰⁾")
    q.say("The same layer is used twice, with the same weights, as in a recurrent network of two time steps: $a_0 = tanh(x @ W + b)$, "
          "then $a_1 = tanh(a_0 @ W + b)$. The gradient that comes back to the output is $da_1$.")
    q.given(x=x, W=W, b=b, da_1=dy)
    q.ask("a_1", e["a⁽¹⁾"], "What is $a_1$?")
    q.ask("dW", dW, "What is ∂L/∂W, all uses together?", mistakes={
        "this is the gradient of the first use only: the two add": of[0][0],
        "this is the gradient of the second use only: the two add": of[1][0],
        "the gradients of the two uses add; this is their mean": (of[0][0] + of[1][0]) / 2.0})
    q.ask("db", db, "What is ∂L/∂b?", mistakes={"this is the gradient of the first use only: the two add": of[0][1],
                                                "this is the gradient of the second use only: the two add": of[1][1]})
    q.ask("dx", e["∂L/∂x"], "What is $dx$?")
    q.solve(e, "forward", "backward")
    q.remark("Both layers are one, so their gradients add:")
    q.solve(e, "update", title="The sum over the uses", only=("∂L/∂W⁽⁰⁾", "∂L/∂b⁽⁰⁾"))

    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for n, d in SQUARES:
            yield Probe(Twice(Dense(d, d, "tanh")), rng.standard_normal((n, d)))

    q.function(LayerTask("backward(dy, x, y, W, b)  ->  dx, dW, db\n"
                         "layer(x, W, b)  ->  y, backward            # with backward(dy) -> dx, dW, db",
                         probes, {"W": "cell.W", "b": "cell.b"}))


@topic("residual", "A residual connection")
def residual(q: Question, draw: Draw) -> None:
    x, dy, W, b = draw.numbers(2, 2), draw.numbers(2, 2), draw.numbers(2, 2), draw.numbers(2)
    e = explained(Residual(Dense(2, 2, "tanh", init=W, bias_init=b)), x, dy)
    through = e["∂L/∂x|0"]
    q.say("A residual block computes $y = x + tanh(x @ W + b)$. The gradient that comes back is $dy$.")
    q.given(x=x, W=W, b=b, dy=dy)
    q.ask("y", e["y"], "What is $y$?", mistakes={"the skip path is missing: x + …": e["a⁽⁰⁾"]})
    q.ask("dW", e["∂L/∂W⁽⁰⁾"], "What is $dW$?", mistakes={"tanh′ is missing": x.T @ dy})
    q.ask("dx", e["∂L/∂x"], "What is $dx$?", mistakes={
        "the skip path is missing: x goes two ways, and two gradients add": through, "this is the skip path alone": dy,
        "W stands where its transpose belongs": dy + e["δ⁽⁰⁾"] @ W})
    q.solve(e, "forward", "backward")

    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for n, d in SQUARES:
            yield Probe(Residual(Dense(d, d, "tanh")), rng.standard_normal((n, d)))

    q.function(LayerTask("backward(dy, x, y, W, b)  ->  dx, dW, db\n"
                         "layer(x, W, b)  ->  y, backward            # with backward(dy) -> dx, dW, db",
                         probes, {"W": "0.W", "b": "0.b"}))


@topic("branching", "Two branches, joined")
def branching(q: Question, draw: Draw) -> None:
    n, d, k0, k1 = 2, 2, 1, 2
    x, W0, W1, dy = draw.numbers(n, d), draw.numbers(d, k0), draw.numbers(d, k1), draw.numbers(n, k0 + k1)
    e = explained(Concat(Dense(d, k0, "tanh", init=W0, bias=False), Dense(d, k1, init=W1, bias=False)), x, dy)
    q.say("The input goes through two branches, $a_0 = tanh(x @ W_0)$ and $z_1 = x @ W_1$, and their outputs are joined side by side: $y "
          "= concat(a_0, z_1)$. The gradient that comes back is $dy$.")
    q.given(x=x, W_0=W0, W_1=W1, dy=dy)
    q.ask("dW_0", e["∂L/∂W⁽⁰⁾"], "What is $dW_0$?", mistakes={"tanh′ is missing": x.T @ dy[:, :k0]})
    q.ask("dW_1", e["∂L/∂W⁽¹⁾"], "What is $dW_1$?", mistakes={"the wrong columns of dy: the parts are in order": x.T @ dy[:, :k1]})
    q.ask("dx", e["∂L/∂x"], "What is $dx$?", mistakes={
        "this is the first branch only: a value used twice gets two gradients, which add": e["∂L/∂x|0"],
        "this is the second branch only: a value used twice gets two gradients, which add": e["∂L/∂x|1"],
        "the gradients of the two branches add; this is their mean": e["∂L/∂x"] / 2.0})
    q.solve(e, "forward", "backward")

    def probes(rng: np.random.Generator) -> Iterator[Probe]:
        for n, d, k in SIZES:
            yield Probe(Concat(Dense(d, k, "tanh"), Dense(d, k + 1)), rng.standard_normal((n, d)))

    q.function(LayerTask("backward(dy, x, W0, b0, W1, b1)  ->  dx, dW0, db0, dW1, db1     # of y = [tanh(x W0 + b0), x W1 + b1]\n"
                         "layer(x, W0, b0, W1, b1)  ->  y, backward                       # with backward(dy) -> the same five",
                         probes, {"W0": "0.W", "b0": "0.b", "W1": "1.W", "b1": "1.b"}))


@topic("notation", "From rows to columns")
def notation(q: Question, draw: Draw) -> None:
    n, d, k = three_sizes(draw)
    x, W, b, dz = draw.integers(n, d), draw.numbers(d, k), draw.numbers(k), draw.numbers(n, k)
    layer = Dense(d, k, init=W, bias_init=b)
    rows, e = explained(layer, x, dz), explained(layer, x, dz, notation="columns")
    q.say(f"A batch of {n} samples and a dense layer are written with samples as rows, $z = x @ W + b$, and the gradient that comes back "
          "is $dz$:")
    q.given(x=x, W=W, b=b, dz=dz)
    q.say("A textbook writes samples as columns: z = Wx + b. Give, in the textbook's layout,")
    q.ask("W", e.read("z", "W"), "the matrix $W$;")
    q.ask("z", e["z"], "the result $z$;")
    q.ask("dW", e["∂L/∂W"], "the gradient $dW$;")
    q.ask("db", e["∂L/∂b"], "the gradient $db$;", mistakes={"the mean, where it is a sum": e["∂L/∂b"] / n})
    q.ask("dx", e["∂L/∂x"], "the gradient $dx$.")
    q.remark("In the textbook's notation every array is the transpose, and so is every formula, by (AB)ᵀ = BᵀAᵀ:")
    q.solve(e, "forward", "backward")
    q.remark("The same in rows, for comparison:")
    q.solve(rows, "backward")


@topic("shapes", "Which shape has which array")
def shapes(q: Question, draw: Draw) -> None:
    n, d, h, k = draw.integer(8, 64), draw.integer(5, 40), draw.integer(6, 30), draw.integer(2, 12)
    q.need(len({n, d, h, k}) == 4)
    e = explained(Sequential(Dense(d, h, "relu"), Dense(h, k)), np.zeros((n, d)), np.zeros((n, k)), checks=False, max_entries=1)
    found = {"W_0": e.shape("∂L/∂W⁽⁰⁾"), "z_0": e.shape("z⁽⁰⁾"), "db_0": e.shape("∂L/∂b⁽⁰⁾"), "da_0": e.shape("∂L/∂a⁽⁰⁾"),
             "dW_1": e.shape("∂L/∂W⁽¹⁾"), "dx": e.shape("∂L/∂x")}
    q.say(f"A network of two dense layers, $z_0 = x @ W_0 + b_0$, $a_0 = max(z_0, 0)$, $z_1 = a_0 @ W_1 + b_1$, takes {d} features to {h} "
          f"hidden units and these to {k} outputs. The batch has {n} samples, which are rows. Give shapes as lists of their sizes, in "
          "order: (7, 3), or (5) of a vector.")
    for name, shape in found.items():
        mistakes = {"the other way round: z = xW, with samples as rows": shape[::-1]} if len(shape) > 1 else {}
        q.ask(name, np.array(shape), f"The shape of ${name}$?", exact=True, mistakes=mistakes)
    q.solve(e, "forward", "backward")
    q.remark("A gradient has the shape of what it is the gradient of.")


@topic("counting", "Counting parameters and multiplications")
def counting(q: Question, draw: Draw) -> None:
    d, h, k, n = draw.integer(3, 40), draw.integer(4, 30), draw.integer(2, 12), draw.integer(2, 32)
    model = model_of(Sequential(Dense(d, h, "relu"), Dense(h, k)))
    first = sum(model.layout.slot(f"0.{name}").stop - model.layout.slot(f"0.{name}").start for name in "Wb")
    derived = Derivation({"d": d, "h": h, "k": k, "n": n}, "P_0 = d * h + h", "P_1 = h * k + k", "P = P_0 + P_1",
                         "F = n * d * h + n * h * k", "B = 2 * n * h * k + n * d * h")
    q.say(f"A network has {d} inputs, a hidden layer of {h} units with ReLU, and {k} outputs; both layers are dense, with biases. A batch "
          f"has {n} samples.")
    q.ask("parameters_0", first, "How many parameters has the first layer?", exact=True, mistakes={"the biases are missing": d * h})
    q.ask("parameters", model.layout.size, "How many parameters has the network?", exact=True,
          mistakes={"the biases are missing": d * h + h * k})
    q.ask("forward", derived["F"], "How many multiplications are in the matrix products of the forward pass of one batch?", exact=True,
          mistakes={"of one sample; the batch has n": d * h + h * k})
    q.ask("backward", derived["B"], "And in those of the backward pass, for the gradients of all weights, without that of the input?",
          exact=True, mistakes={
              "the input's gradient is not asked for": 2 * n * (h * k + d * h),
              "one product for each weight matrix, and one for the gradient that goes on to the layer before": n * (h * k + d * h)})
    q.solve(derived)
    q.remark("In the backward pass each layer has two products, dW = xᵀ dz and dx = dz Wᵀ, of as many multiplications each as the forward "
             "pass; the first layer has no one to hand dx to.")

"""Layers and losses with one mistake each, the kind that people make. `BROKEN` says where the gradient check has to find it.

The classic ones are those of the bug zoo; here are more, and stranger ones.
"""

import math
from dataclasses import dataclass
from typing import Any

import xpnet as xn
from xpnet import bug_zoo
from xpnet.backend import Random
from xpnet.bug_zoo import gradient_of, spoiled, spoiled_loss
from xpnet.layer import Buffer, Layer, Param

NoSkip = bug_zoo.get("residual-skip-forgotten").broken
ReLUWithOtherSide = bug_zoo.get("relu-other-side").broken
TanhOfInput = bug_zoo.get("tanh-derivative-of-input").broken


def first_row_only(xp, a):
    return xp.concat([a[:1, ...], xp.zeros_like(a[1:, ...])])


class GELUWithOtherDerivative(xn.Activation):
    """The exact f with the f' of the tanh approximation: wrong by a thousandth."""

    def f(self, xp, x):
        return xn.GELU().f(xp, x)

    def df(self, xp, dy, x):
        return xn.GELU("tanh").df(xp, dy, x)


class ReLUOneAtZero(xn.ReLU):
    """f'(0) = 1: unusual, and not wrong."""

    saves = "input"

    def df(self, xp, dy, x):
        return dy * xp.astype(x >= 0.0, dy.dtype)


class ReLUTwoAtZero(ReLUOneAtZero):
    """f'(0) = 2: outside what any slope at 0 can be."""

    def df(self, xp, dy, x):
        return dy * (xp.astype(x >= 0.0, dy.dtype) + xp.astype(x == 0.0, dy.dtype))


class BentLine(Layer):
    """y = |x|, with a kink that it does not declare. factor: a mistake in the gradient."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def forward(self, params, x, ctx):
        xp = ctx.xp
        sign = 2.0 * xp.astype(x >= 0.0, x.dtype) - 1.0
        return xp.abs(x), lambda dy, input_grad=True: (self.factor * dy * sign, {})


class DropoutOtherMask(xn.Dropout):
    def forward(self, params, x, ctx):
        y, _ = super().forward(params, x, ctx)
        u = Random(99).uniform(ctx.xp, x.shape, x.dtype, x.device)
        m = ctx.xp.astype(u >= self.p, x.dtype) / (1.0 - self.p)
        return y, lambda dy, input_grad=True: (dy * m, {})


class DropoutOfItsOwn(xn.Dropout):
    """Draws other numbers at every call."""

    calls = 0

    def forward(self, params, x, ctx):
        self.calls += 1
        m = ctx.xp.astype(Random(self.calls).uniform(ctx.xp, x.shape, x.dtype, x.device) >= self.p, x.dtype)
        return x * m, lambda dy, input_grad=True: (dy * m, {})


class LayerNorm(Layer):
    """y = (x - μ)/σ over the last axis;  ∂L/∂x = (dy - mean(dy) - y mean(dy y)) / σ. without: the path that is forgotten."""

    def __init__(self, without=""):
        self.without = without

    def forward(self, params, x, ctx):
        xp = ctx.xp
        c = x - xp.mean(x, axis=-1, keepdims=True)
        s = xp.sqrt(xp.mean(c * c, axis=-1, keepdims=True) + 1e-5)
        y = c / s

        def backward(dy, input_grad=True):
            mean = 0.0 if self.without == "mean" else xp.mean(dy, axis=-1, keepdims=True)
            variance = 0.0 if self.without == "variance" else xp.mean(dy * y, axis=-1, keepdims=True)
            return (dy - mean - y * variance) / s, {}

        return y, backward


class RunningNorm(Layer):
    """y = x - μ over the batch, with a running μ as a buffer."""

    def __init__(self):
        self.mean = Buffer((5,))

    def buffers(self):
        return {"mean": self.mean}

    def forward(self, params, x, ctx):
        xp = ctx.xp
        batch = xp.mean(x, axis=0) if ctx.training else ctx.state[self.mean]
        ctx.update(self.mean, 0.9 * ctx.state[self.mean] + 0.1 * batch)

        def backward(dy, input_grad=True):
            return (dy - xp.mean(dy, axis=0) if ctx.training else dy), {}

        return x - batch, backward


class Embedding(Layer):
    """y = W[x], x integers. assign: of a token that comes twice, only one gradient is kept."""

    def __init__(self, rows, features, assign=False):
        self.W = Param((rows, features), "glorot_uniform")
        self.assign = assign

    def params(self):
        return {"W": self.W}

    def forward(self, params, x, ctx):
        xp, W = ctx.xp, params["W"]
        flat = xp.reshape(x, (-1,))

        def backward(dy, input_grad=True):
            hit = xp.astype(flat[:, None] == xp.arange(W.shape[0], dtype=x.dtype, device=x.device)[None, :], W.dtype)
            if self.assign:
                hit = hit * xp.astype(xp.cumulative_sum(hit, axis=0) == 1.0, W.dtype)
            return None, {"W": hit.T @ xp.reshape(dy, (-1, W.shape[1]))}

        return xp.reshape(xp.take(W, flat, axis=0), (*x.shape, W.shape[1])), backward


class OneBranch(xn.Parallel):
    """The gradients of the branches are not added."""

    def forward(self, params, x, ctx):
        y, _ = super().forward(params, x, ctx)
        runs = [ctx.forward(name, layer, params, x) for name, layer in self.named]

        def backward(dy, input_grad=True):
            back = [run[1](d) for run, d in zip(runs, dy)]
            return back[-1][0], {name: g for (name, _), (_, g) in zip(self.named, back)}

        return y, backward


class SwappedParts(xn.Concat):
    def forward(self, params, x, ctx):
        y, back = super().forward(params, x, ctx)
        half = y.shape[-1] // 2
        return y, lambda dy, input_grad=True: back(ctx.xp.concat([dy[..., half:], dy[..., :half]], axis=-1), input_grad)


class CheckpointOtherRandom(xn.Sequential):
    """Runs its layers again in backward, but with the random numbers that come next."""

    def forward(self, params, x, ctx):
        y, _ = super().forward(params, x, ctx)
        run = super().forward

        def backward(dy, input_grad=True):
            return run(params, x, ctx.replay(17))[1](dy, input_grad)

        return y, backward


class Accumulates(xn.Dense):
    """Each call of backward adds to the last one's dW."""

    def forward(self, params, x, ctx):
        y, back = super().forward(params, x, ctx)
        total = {"W": 0.0, "b": 0.0}

        def backward(dy, input_grad=True):
            dx, grads = back(dy, input_grad)
            for name in total:
                total[name] = total[name] + grads[name]
            return dx, dict(total)

        return y, backward


class ChangesDy(xn.Tanh):
    def forward(self, params, x, ctx):
        y, _ = super().forward(params, x, ctx)

        def backward(dy, input_grad=True):
            dy *= 1.0 - y * y
            return dy, {}

        return y, backward


class ChangesX(xn.Tanh):
    def forward(self, params, x, ctx):
        x *= 1.0
        x += 0.25
        return super().forward(params, x, ctx)


class SinglePrecision(xn.Tanh):
    def forward(self, params, x, ctx):
        return super().forward(params, ctx.xp.astype(x, ctx.xp.float32), ctx)


class ForgetsWithoutInput(xn.Dense):
    """Where the input's gradient is not wanted, the bias's is lost too."""

    def forward(self, params, x, ctx):
        y, back = super().forward(params, x, ctx)

        def backward(dy, input_grad=True):
            dx, grads = back(dy, input_grad)
            return dx, grads if input_grad else {"W": grads["W"], "b": 0.0 * grads["b"]}

        return y, backward


def over_probability(xp, dz, z):
    p = 1.0 / (1.0 + xp.exp(-z))
    return dz / (p * (1.0 - p))


def over_probabilities(xp, z, t):
    """∂L/∂p = -t/p of the mean cross-entropy, p = softmax(z)."""
    e = xp.exp(z)
    return -t * (xp.sum(e, axis=-1, keepdims=True) / e) / z.shape[0]


@dataclass
class Broken:
    """layer or loss: a function that makes it. It takes x of `shape`. path, parameter: what is wrong first, where the layer is "1"
    of a network; cause: words of the guess, or "" where none is expected."""

    make: Any
    parameter: str
    cause: str
    path: str = "1"
    shape: tuple[int, ...] = (4, 5)


def dense(cls):
    return lambda: cls(5, 5)


BROKEN = {
    "dx with W instead of W^T": Broken(
        dense(spoiled(xn.Dense, lambda dx, grads, dy, x, params, xp: (dy @ params["W"], grads))), "x", "transposed"),
    "dW transposed, square": Broken(dense(gradient_of("W", lambda g, dy, x, xp: dy.T @ x)), "W", "guess: it is transposed"),
    "dW transposed, not square": Broken(
        lambda: gradient_of("W", lambda g, dy, x, xp: dy.T @ x)(5, 3), "W", "guess: transposed"),
    "dW of the wrong sign": Broken(dense(gradient_of("W", lambda g, dy, x, xp: -g)), "W", "the sign is wrong"),
    "dW over n": Broken(dense(gradient_of("W", lambda g, dy, x, xp: g / 4)), "W", "exactly 4 times too small, the batch size"),
    "dW zero": Broken(dense(gradient_of("W", lambda g, dy, x, xp: 0.0 * g)), "W", "it is 0: the term is missing"),
    "db as a mean": Broken(
        dense(gradient_of("b", lambda g, dy, x, xp: xp.mean(dy, axis=0))), "b", "exactly 4 times too small, the batch size"),
    "db not summed": Broken(dense(gradient_of("b", lambda g, dy, x, xp: +dy)), "b", "the sum over the batch is missing"),
    "db of the first sample": Broken(dense(gradient_of("b", lambda g, dy, x, xp: dy[0, ...])), "b", "the first sample only"),
    "db of the last sample": Broken(dense(gradient_of("b", lambda g, dy, x, xp: dy[-1, ...])), "b", "the last sample only"),
    "db missing": Broken(dense(spoiled(xn.Dense, lambda dx, grads, *_: (dx, {"W": grads["W"]}))), "b", "there is no gradient of b"),
    "db under another name": Broken(
        dense(spoiled(xn.Dense, lambda dx, grads, *_: (dx, {"W": grads["W"], "bias": grads["b"]}))), "bias", "no parameter"),
    "dx of the first sample": Broken(
        dense(spoiled(xn.Dense, lambda dx, grads, dy, x, params, xp: (first_row_only(xp, dx), grads))), "x", "the first sample only"),
    "dx missing": Broken(dense(spoiled(xn.Dense, lambda dx, grads, *_: (None, grads))), "x", "there is no gradient of x"),
    "dx not a number": Broken(
        lambda: spoiled(xn.Tanh, lambda dx, grads, *_: (dx * math.nan, grads))(), "x", "overflow"),
    "tanh' of x": Broken(TanhOfInput, "x", "saves = 'output'"),
    "tanh' of x, fused": Broken(lambda: xn.Dense(5, 5, TanhOfInput()), "x", "saves = 'output'", path="1.activation"),
    "sigmoid' missing": Broken(lambda: spoiled(xn.Sigmoid, lambda dx, grads, dy, *_: (+dy, grads))(), "x", "it is dy itself"),
    "gelu' of the other gelu": Broken(GELUWithOtherDerivative, "x", ""),
    "relu' on the other side": Broken(ReLUWithOtherSide, "x", "another mask"),
    "softmax' diagonal only": Broken(bug_zoo.get("softmax-diagonal").layer, "x", "only the diagonal of the Jacobian"),
    "layer norm without the mean": Broken(lambda: LayerNorm("mean"), "x", "all along the last axis"),
    "layer norm without the variance": Broken(lambda: LayerNorm("variance"), "x", ""),
    "dropout with another mask": Broken(lambda: DropoutOtherMask(0.4), "x", "another mask"),
    "dropout unscaled": Broken(
        lambda: spoiled(xn.Dropout, lambda dx, grads, *_: (0.6 * dx, grads))(0.4), "x", "off by a factor of 0.6"),
    "dropout of its own": Broken(lambda: DropoutOfItsOwn(0.4), "y", "random numbers come from ctx.random"),
    "residual without the skip": Broken(lambda: NoSkip(xn.Dense(5, 5, "tanh")), "x", "the skip path is missing"),
    "residual with two skips": Broken(
        lambda: spoiled(xn.Residual, lambda dx, grads, dy, *_: (dx + dy, grads))(xn.Dense(5, 5, "tanh")), "x", "dy once too often"),
    "shared, assigned": Broken(bug_zoo.get("shared-assigned").layer, "cell.W", "one use only"),
    "parallel, one branch": Broken(lambda: OneBranch(xn.Dense(5, 2), xn.Dense(5, 3)), "x", "one use only"),
    "concat, parts swapped": Broken(lambda: SwappedParts(xn.Dense(5, 3), xn.Dense(5, 3)), "0.W", ""),
    "flatten, parts swapped": Broken(
        lambda: spoiled(xn.Reshape, lambda dx, grads, dy, x, params, xp: (xp.flip(dx, axis=1), grads))(5), "x", "another order"),
    "checkpoint with other masks": Broken(lambda: CheckpointOtherRandom(xn.Dropout(0.4)), "x", "another mask"),
    "accumulates": Broken(dense(Accumulates), "W", "backward is not repeatable"),
    "keeps on self": Broken(bug_zoo.get("cache-on-self").layer, "x", "after another forward"),
    "changes dy": Broken(ChangesDy, "dy", "backward changes dy (law 1)"),
    "changes x": Broken(ChangesX, "x", "forward changes x (law 1)"),
    "single precision": Broken(SinglePrecision, "y", "law 6"),
    "forgets db without dx": Broken(dense(ForgetsWithoutInput), "b", "law 9"),
}

# name: (a function that makes the loss, words of the guess); predictions of shape (4, 3)
BROKEN_LOSSES = {
    "mse of the wrong sign": (lambda: spoiled_loss(xn.MeanSquaredError, lambda dy, *_: -dy), "the sign is wrong"),
    "mse without the 2": (lambda: spoiled_loss(xn.MeanSquaredError, lambda dy, *_: 0.5 * dy), "exactly 2 times too small"),
    "mse without 1/n": (lambda: spoiled_loss(xn.MeanSquaredError, lambda dy, *_: 4.0 * dy), "exactly 4 times too large, the batch size"),
    "mse with 1/n twice": (lambda: spoiled_loss(xn.MeanSquaredError, lambda dy, *_: dy / 4.0), "exactly 4 times too small, the batch size"),
    "mse without 1/k": (lambda: spoiled_loss(xn.MeanSquaredError, lambda dy, *_: 3.0 * dy), "the number of outputs"),
    "mse without 1/nk": (lambda: spoiled_loss(xn.MeanSquaredError, lambda dy, *_: 12.0 * dy), "the number of all outputs"),
    "mse as the mean of the rows": (
        lambda: spoiled_loss(xn.MeanSquaredError, lambda dy, y, t, xp: xp.mean(dy, axis=0)), "∂L/∂y has shape (3,), y has (4, 3)"),
    "bce over the probability": (
        lambda: spoiled_loss(xn.BinaryCrossEntropy, lambda dy, y, t, xp: over_probability(xp, dy, y)), "σ(z), not to the logit z"),
    "cross-entropy over the probabilities": (
        lambda: spoiled_loss(xn.SoftmaxCrossEntropy, lambda dy, y, t, xp: over_probabilities(xp, y, t)), "softmax(z), not to the logits"),
    "cross-entropy without t": (lambda: spoiled_loss(xn.SoftmaxCrossEntropy, lambda dy, y, t, xp: dy + t / 4.0), ""),
}

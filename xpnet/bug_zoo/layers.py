"""Bugs of layers: a backward pass that is not the derivative of the forward pass, or a forward pass that is not what it is called."""

from typing import Any

from ..layer import Backward, Context
from ..layers import Dense, ReLU, Residual, Sequential, Sigmoid, Softmax, Tanh
from ..layers.activations import sigmoid
from . import checks, pictures
from .bug import bug
from .open import OpenDense, OpenDropout, Twice
from .problems import DEEP_TANH, FUSED_SIGMOIDS, NOISY, ONE_TANH, RECURRENT, RELUS, RESIDUALS, SIGMOIDS, SOFTMAX

Array = Any


# The dense layer.

def small_dense(cls: Any) -> Any:
    return cls(5, 5)


@bug("dense-sum-missing", "∂L/∂b is not summed over the batch", checks.gradients, DEEP_TANH, make=small_dense,
     symptom="With checked shapes, an error at the first step. With plain arrays b = b - η db turns the vector b of shape (k,) into a "
             "matrix (n, k), a bias for each sample of the batch: the training loss falls, and the next batch of another size does not "
             "fit.",
     fix="What is broadcast in the forward pass is summed in the backward pass: b is added to each of n rows, so n gradients add.",
     draw=pictures.bias_gradient)
class SumMissing(OpenDense):
    """b is added to every row of z. A change of bⱼ changes all n entries zₙⱼ, so by the chain rule its gradient has n terms, one a sample:
    ∂L/∂bⱼ = Σₙ ∂L/∂zₙⱼ. Without the sum the "gradient of b" has the shape of z."""

    def pull(self, xp: Any, x: Array, W: Array, dz: Array, da: Array) -> tuple[Array, Array, Array]:
        dW = x.T @ dz
        db = 1.0 * dz                                     # should be: db = xp.sum(dz, axis=0)
        dx = dz @ W.T
        return dx, dW, db


@bug("dense-transposed", "W where Wᵀ belongs", checks.gradients, DEEP_TANH, make=small_dense,
     where=lambda layer: layer.in_features == layer.out_features,
     symptom="In a layer with as many inputs as outputs nothing complains. The layers before it get a gradient of the right size and of "
             "a wrong direction; those after it learn all the same, and the loss falls. Only a comparison shows it.",
     fix="Read the shapes with d ≠ k: (n, k) times (k, d) is the only product that gives (n, d). Try layers that are not square first.",
     draw=pictures.entries)
class Transposed(OpenDense):
    """Forward, input i reaches unit j by the weight Wᵢⱼ; backward, the gradient of unit j goes back to input i by the same weight:
    ∂L/∂xᵢ = Σⱼ ∂L/∂zⱼ Wᵢⱼ, which is dz Wᵀ. With a square W the product dz W has the right shape too, and runs every edge the wrong way."""

    def pull(self, xp: Any, x: Array, W: Array, dz: Array, da: Array) -> tuple[Array, Array, Array]:
        dW = x.T @ dz
        db = xp.sum(dz, axis=0)
        dx = dz @ W                                       # should be: dx = dz @ W.T
        return dx, dW, db


@bug("dense-mean-for-sum", "the mean over the batch where ∂L/∂b is a sum", checks.gradients, DEEP_TANH, make=small_dense,
     symptom="Biases learn n times too slowly. With a small batch one hardly sees it; with a large one they stand still.",
     fix="1/n enters once, in the loss. From there on every gradient is a plain sum over the samples.", draw=pictures.biases)
class MeanForSum(OpenDense):
    """The loss is a mean over n samples, so ∂L/∂z already holds 1/n. Adding up what the samples say about b is then a sum; a mean divides
    by n a second time, for the biases only."""

    def pull(self, xp: Any, x: Array, W: Array, dz: Array, da: Array) -> tuple[Array, Array, Array]:
        dW = x.T @ dz
        db = xp.mean(dz, axis=0)                          # should be: db = xp.sum(dz, axis=0)
        dx = dz @ W.T
        return dx, dW, db


@bug("dense-divided-twice", "1/n twice", checks.gradients, DEEP_TANH, make=small_dense,
     symptom="Training is slow, as with a learning rate n times too small, and a larger batch makes it slower. Adam hides it: it divides "
             "by the size of the gradient.",
     fix="Decide where 1/n lives, in the loss or in the weight gradients (as in the columns notation, 1/m), and write it there only.",
     draw=pictures.curves)
class DividedTwice(OpenDense):
    """Two conventions are mixed. In one the loss is a mean, its gradient ∂L/∂z holds 1/n, and dW = xᵀ dz. In the other δ belongs to the
    sum of the losses, and dW = xᵀ δ / n. Taking dz from the first and the formula from the second divides by n twice."""

    def pull(self, xp: Any, x: Array, W: Array, dz: Array, da: Array) -> tuple[Array, Array, Array]:
        dW = x.T @ dz / x.shape[0]                        # should be: dW = x.T @ dz
        db = xp.sum(dz, axis=0)
        dx = dz @ W.T
        return dx, dW, db


@bug("derivative-in-the-wrong-place", "f′ comes after the weight gradient", checks.gradients, FUSED_SIGMOIDS,
     make=lambda cls: cls(5, 5, "sigmoid"), where=lambda layer: layer.activation is not None,
     symptom="The loss falls as it should, or nearly so. The weight gradients are at least 4 times too large, the more so the more a "
             "unit is saturated: just those weights that should rest move.",
     fix="First δ = ∂L/∂z = ∂L/∂a ⊙ f′(z); all three gradients of the layer are then written in δ, and in nothing else.",
     draw=pictures.entries)
class DerivativeTooLate(OpenDense):
    """The order of the chain rule is L → a → z → W. Going back, f′(z) stands between a and z, so it has to be multiplied in before the
    weight gradient is formed. Here the input's gradient has it and dW has not: dW is written in ∂L/∂a."""

    def pull(self, xp: Any, x: Array, W: Array, dz: Array, da: Array) -> tuple[Array, Array, Array]:
        dW = x.T @ da                                     # should be: dW = x.T @ dz
        db = xp.sum(dz, axis=0)
        dx = dz @ W.T
        return dx, dW, db


# Activations.

@bug("sigmoid-derivative-missing", "σ′ is missing", checks.gradients, SIGMOIDS,
     symptom="It learns, only not as well: the gradients of the layers before are at least 4 times too large, and not in their right "
             "proportions. Since the loss falls, popular tutorials have it.",
     fix="∂L/∂z = ∂L/∂y ⊙ y(1 - y), for every sigmoid on the way. (Only behind the fused cross-entropy is it absent: there it cancels.)",
     draw=pictures.slope_of)
class SigmoidDerivativeMissing(Sigmoid):
    """The backward pass of y = σ(x) is a multiplication by its slope. Passing dy on unchanged is the backward pass of the identity: the
    gradients of all layers before it lack a factor between 0 and 1/4, another for each unit and sample."""

    def df(self, xp: Any, dy: Array, y: Array) -> Array:
        slope = 1.0                                       # should be: slope = y * (1.0 - y)
        return dy * slope


@bug("sigmoid-derivative-of-output", "σ′ is given y where it takes x", checks.gradients, SIGMOIDS,
     symptom="It learns nearly as well: the wrong slope is always between 0.196 and 0.25. But it never goes to 0, and so it is wrong by "
             "any factor where |x| is large.",
     fix="In terms of the output σ′ = y(1 - y); in terms of the input σ′ = σ(x)(1 - σ(x)). Name which of the two a function takes.",
     draw=pictures.slope_of)
class SigmoidDerivativeOfOutput(Sigmoid):
    """A function `sigmoid_derivative(x)` that computes σ(x)(1 - σ(x)) is right for the input x. Given the stored output y = σ(x), as layers
    usually keep it, it squashes a second time: σ(y)(1 - σ(y))."""

    def df(self, xp: Any, dy: Array, y: Array) -> Array:
        s = sigmoid(xp, y)                                # should be: s = y
        return dy * (s * (1.0 - s))


@bug("tanh-derivative-of-input", "1 - x² in the place of 1 - y²", checks.gradients, DEEP_TANH,
     symptom="Right for small x, and wrong without bound: beyond |x| = 1 the slope is negative, at x = 3 it is -8. Training starts well "
             "and blows up when the weights have grown.",
     fix="tanh′(x) = 1 - tanh²(x) = 1 - y²: keep the output for the backward pass.", draw=pictures.slope_of)
class TanhDerivativeOfInput(Tanh):
    """The derivative of tanh is 1 minus the square of its *output*. The formula 1 - s² is the same; what is kept for it, s, is the wrong
    array. (In xpnet `saves` says which of the two an activation keeps.)"""

    saves = "input"                                       # should be: saves = "output"


@bug("relu-other-side", "ReLU's mask on the other side", checks.gradients, RELUS,
     symptom="Units that are on learn nothing, and units that are off are moved, on samples where they have no effect. What the last "
             "layer alone can learn is learnt, so the loss still falls a little.",
     fix="The gradient passes where the unit is on, x > 0, which is where y > 0.", draw=pictures.slope_of)
class ReLUOtherSide(ReLU):
    """y = max(x, 0) has slope 1 where x > 0 and 0 elsewhere. With the comparison turned round the gradient flows through exactly those
    units that had no part in the output."""

    def df(self, xp: Any, dy: Array, y: Array) -> Array:
        on = y <= 0.0                                     # should be: on = y > 0.0
        return dy * xp.astype(on, dy.dtype)


@bug("relu-mask-of-gradient", "ReLU applied to the gradient", checks.gradients, RELUS,
     symptom="Every gradient that passes is positive, so biases are only ever pushed down, until the units are off for good: the loss "
             "goes to that of guessing, ln C, and stays.",
     fix="Backward, ReLU is a mask made of its forward input, not the function ReLU itself.", draw=pictures.curves)
class ReLUMaskOfGradient(ReLU):
    """The backward pass of an activation is linear in dy: it multiplies by f′(x), and does not apply f again. relu(dy) keeps the positive
    gradients, whether or not the unit was on."""

    def df(self, xp: Any, dy: Array, y: Array) -> Array:
        on = dy > 0.0                                     # should be: on = y > 0.0
        return dy * xp.astype(on, dy.dtype)


@bug("softmax-diagonal", "softmax's Jacobian taken for a diagonal", checks.gradients, SOFTMAX,
     symptom="The loss falls, here no less than with the right code: the diagonal alone still points downhill. A falling loss proves "
             "nothing about a gradient.",
     fix="∂L/∂x = y ⊙ (dy - Σₖ yₖ dyₖ). Or use the cross-entropy on the logits, whose gradient is p - t.", draw=pictures.entries)
class SoftmaxDiagonal(Softmax):
    """y(1 - y) is softmax's derivative of yₖ by its own xₖ, as of a sigmoid. But raising xⱼ also lowers every other yₖ, through the sum in
    the denominator: ∂yₖ/∂xⱼ = -yₖ yⱼ off the diagonal."""

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        y, _ = super().forward(params, x, ctx)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dx = dy * y * (1.0 - y)                       # should be: dx = y * (dy - ctx.xp.sum(y * dy, axis=-1, keepdims=True))
            return dx if input_grad else None, {}

        return y, backward


@bug("softmax-not-shifted", "softmax without subtracting the maximum", checks.large_numbers, SOFTMAX,
     symptom="All is well until a logit passes 88 in float32, or 709 in float64. Then eˣ is infinite, ∞/∞ is NaN, and one step later "
             "every parameter is NaN.",
     fix="Subtract the row's maximum first: it cancels in the quotient, and no exponential is above 1.", draw=pictures.softmax_range)
class SoftmaxNotShifted(Softmax):
    """softmax(x) = softmax(x - c) for every c, so mathematically the shift is nothing. Numerically it is all: e^710 does not fit
    into a float64. The gradient check has nothing to say: at numbers of ordinary size the formula is right, and so is its derivative."""

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp = ctx.xp
        e = xp.exp(x)                                     # should be: e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        y = e / xp.sum(e, axis=-1, keepdims=True)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return y * (dy - xp.sum(y * dy, axis=-1, keepdims=True)) if input_grad else None, {}

        return y, backward


# Dropout.

def small_dropout(cls: Any) -> Any:
    return cls(0.4)


@bug("dropout-unscaled", "dropout without 1/(1 - p)", checks.dropout, NOISY, make=small_dropout,
     symptom="The training loss is as good as ever, and the test loss bad: in inference all units are on, each layer sees inputs 1/(1 - "
             "p) times larger than those it was trained on, and the network is far too sure.",
     fix="Divide by 1 - p in training (inverted dropout), or multiply by 1 - p in inference: one of the two.", draw=pictures.curves)
class DropoutUnscaled(OpenDropout):
    """With probability p a unit is 0, so the mean of x ⊙ m is (1 - p) x. Inference is the identity, and must find the same mean. Forward
    and backward agree with each other, so the gradient check is content."""

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        if not ctx.training or self.p == 0.0:
            return super().forward(params, x, ctx)
        m = self.mask(x, ctx)
        scale = 1.0                                       # should be: scale = 1.0 / (1.0 - self.p)
        return x * (m * scale), lambda dy, input_grad=True: (dy * (m * scale) if input_grad else None, {})


@bug("dropout-in-inference", "dropout stays on in inference", checks.dropout, NOISY, make=small_dropout,
     symptom="The same input gets another answer each time, and test accuracy is lower than it could be. Validation curves are noisy.",
     fix="Dropout asks whether it is training. In inference it is the identity.", draw=pictures.same_input)
class DropoutInInference(OpenDropout):
    """Dropout is noise that is added in training. In inference the whole network should answer, the mean over all masks so to speak; with
    the noise left on it is one random thinned network that answers. The derivative of what is computed is right, so the gradient
    check is content."""

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        off = self.p == 0.0                               # should be: off = self.p == 0.0 or not ctx.training
        if off:
            return x, lambda dy, input_grad=True: (dy if input_grad else None, {})
        m = self.mask(x, ctx) / (1.0 - self.p)
        return x * m, lambda dy, input_grad=True: (dy * m if input_grad else None, {})


@bug("dropout-new-mask", "another mask in the backward pass", checks.gradients, NOISY, make=small_dropout,
     symptom="Units that had no part in the output are changed, and units that had are not. It learns all the same, since on average the "
             "gradient still points downhill; the training loss stays higher.",
     fix="Draw the mask once, in the forward pass, and keep it: the closure does.", draw=pictures.entries)
class DropoutNewMask(OpenDropout):
    """y = x ⊙ m is linear in x, with slope m. The backward pass multiplies by that same m; drawing again gives the gradient of another
    network than the one that made the prediction."""

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        if not ctx.training or self.p == 0.0:
            return super().forward(params, x, ctx)
        m = self.mask(x, ctx) / (1.0 - self.p)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            mask = self.mask(x, ctx) / (1.0 - self.p)     # should be: mask = m
            return dy * mask if input_grad else None, {}

        return x * m, backward


# Layers made of layers.

@bug("residual-skip-forgotten", "the skip path is missing in the backward pass", checks.gradients, RESIDUALS,
     make=lambda cls: cls(Dense(5, 5, "tanh")),
     symptom="The first layers of a deep network learn slowly or not at all: their gradient vanishes, which residual connections were "
             "made against.",
     fix="y = x + f(x) uses x twice, so two gradients add: dx = dy + (∂f/∂x)ᵀ dy.", draw=pictures.gradient_by_layer)
class SkipForgotten(Residual):
    """x reaches y on two ways, through f and past it. Each brings back a gradient, and they add. Without the dy of the direct way the
    product of many I + ∂f/∂x becomes a product of many ∂f/∂x, which vanishes."""

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        fx, back = Sequential.forward(self, params, x, ctx)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            dfx, grads = back(dy, input_grad)
            if not input_grad:
                return None, grads
            dx = dfx                                      # should be: dx = dy + dfx
            return dx, grads

        return x + fx, backward


@bug("shared-assigned", "a shared weight's gradient is assigned, not added", checks.gradients, RECURRENT,
     clean=Twice, make=lambda cls: cls(Dense(5, 5, "tanh")),
     symptom="It learns from one of the uses only. In a recurrent network that is one time step of many.",
     fix="A value used k times gets k gradients, and they add: grads[name] += g, from 0 at the start of each backward pass.",
     draw=pictures.entries)
class SharedAssigned(Twice):
    """If W is used twice, L depends on it in two ways, and dL/dW = Σ over the uses. An assignment keeps the gradient of the use that comes
    last in the backward pass, that is the first in the forward pass."""

    def collect(self, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
        grads = second
        grads = first                                     # should be: grads = added(grads, first)
        return grads


@bug("cache-on-self", "what backward needs is kept on the layer", checks.gradients, ONE_TANH,
     symptom="Right for as long as each layer runs once. Use a layer twice, or run a validation batch between forward and backward, and "
             "the gradients are those of another input.",
     fix="Keep it in the closure, or on a stack: one cache a call, not one a layer.", draw=pictures.curves)
class CacheOnSelf(Tanh):
    """self.y is one place, and every forward pass overwrites it. Backward then multiplies by the slope at another input. A lone check
    of the layer, forward then backward, finds nothing; one that runs forward once more in between does."""

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        self.y = y = ctx.xp.tanh(x)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            kept = self.y                                 # should be: kept = y
            return dy * (1.0 - kept * kept) if input_grad else None, {}

        return y, backward

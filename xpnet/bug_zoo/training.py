"""Bugs of the training loop: each piece is right, and they are put together in the wrong order, or once too often."""

from typing import Any

from ..backend import Random
from ..layer import Context, tree_map
from ..losses import Loss
from ..model import Model
from ..optim import Optimizer
from . import checks, pictures
from .bug import bug
from .problems import DEEP_TANH, NOISY, WAVE_SIGMOID, WITH_MOMENTUM
from .setup import train_step

Array = Any


@bug("gradients-accumulated", "gradients are never set to zero", checks.three_steps, DEEP_TANH, kind="training", clean=train_step,
     symptom="The first step is right, then the steps grow: all gradients so far are added up, a momentum that never forgets. The loss "
             "swings, and ends far above where it began.",
     fix="Start each step's gradients at zero. In xpnet a backward pass writes the vector of gradients anew.", draw=pictures.curves)
class GradientsAccumulated:
    """In libraries where backward *adds* to stored gradients, they have to be cleared before each step. Here `total` is what is never
    cleared."""

    def __init__(self) -> None:
        self.total: Any = 0.0

    def __call__(self, model: Model, loss: Loss, optimizer: Optimizer, x: Array, t: Array) -> Array:
        y, backward = model.forward(x)
        L, dy = loss(y, t)
        grads = backward(dy)
        with model.backend:
            self.total = self.total + grads               # should be: self.total = grads
        optimizer.step(model, self.total)
        return L


@bug("gradients-stale", "the gradients of the batch before", checks.three_steps, DEEP_TANH, kind="training", clean=train_step,
     symptom="With a small learning rate nothing is seen, since the gradients of two batches are alike. With a larger one training goes "
             "wild where the right code still converges.",
     fix="forward, loss, backward, update, in this order, of one batch.", draw=pictures.learning_rates)
class GradientsStale:
    """The update comes before the backward pass of its own batch, so it uses the gradient at parameters that are one step old. A delay of
    one step halves the largest learning rate that is stable on a quadratic: from ηλ < 2 to ηλ < 1."""

    def __init__(self) -> None:
        self.last: Any = None

    def __call__(self, model: Model, loss: Loss, optimizer: Optimizer, x: Array, t: Array) -> Array:
        y, backward = model.forward(x)
        L, dy = loss(y, t)
        before = self.last
        with model.backend:
            self.last = model.xp.asarray(backward(dy), copy=True)
        grads = self.last if before is None else before   # should be: grads = self.last
        optimizer.step(model, grads)
        return L


@bug("optimizer-made-anew", "a new optimizer for every step", checks.three_steps, WITH_MOMENTUM, kind="training", clean=train_step,
     symptom="Momentum does nothing: training is as slow as plain gradient descent. Adam becomes θ ← θ - η sign(g), and never settles.",
     fix="Make the optimizer once, outside of the loop: its state is what it has learnt about the gradients.", draw=pictures.curves)
class OptimizerMadeAnew:
    """An optimizer has state: velocities, averages, a step count. Made inside of the loop it starts from zero at every step, and never gets
    beyond its first one."""

    def __call__(self, model: Model, loss: Loss, optimizer: Optimizer, x: Array, t: Array) -> Array:
        y, backward = model.forward(x)
        L, dy = loss(y, t)
        grads = backward(dy)
        optimizer.start(model)                            # should be: optimizer.start_for(model)
        optimizer.step(model, grads)
        return L


@bug("trained-in-inference-mode", "training in inference mode", checks.three_steps, NOISY, kind="training", clean=train_step,
     symptom="Dropout has no effect: the training loss goes to 0, the test loss rises, and p makes no difference.",
     fix="Say which mode it is at every forward pass: here training=True is the default, and predict is inference.", draw=pictures.curves)
class TrainedInInferenceMode:
    """After an evaluation the network was left in inference mode. Dropout is then the identity, and a normalisation's running statistics
    stand still. Every gradient is that of the network as it is run."""

    def __call__(self, model: Model, loss: Loss, optimizer: Optimizer, x: Array, t: Array) -> Array:
        y, backward = model.forward(x, training=False)    # should be: y, backward = model.forward(x, training=True)
        L, dy = loss(y, t)
        optimizer.step(model, backward(dy))
        return L


@bug("updated-before-deltas", "the output weights are updated before the hidden deltas", checks.three_steps, WAVE_SIGMOID, kind="training",
     clean=train_step,
     symptom="Nothing to see in the loss: the mistake is of the order η, beside a step of the order η. Mazur's post (2015) prints "
             "0.291027924 as the error after one step, and the right code gives 0.291027774.",
     fix="All deltas first, then all updates. xpnet refuses: a backward pass after the parameters have changed raises RuntimeError.",
     draw=pictures.mazur)
class UpdatedBeforeDeltas:
    """δ of a hidden layer is (δ of the next) Wᵀ ⊙ f′(z), with the W of the forward pass. Going through the layers from the last to the
    first and updating each one on the way gives the layer below a W that has been changed: ∂L/∂θ of a network that is half old and half
    new. (For a Sequential, and an optimizer without state.)"""

    def __call__(self, model: Model, loss: Loss, optimizer: Optimizer, x: Array, t: Array) -> Array:
        if optimizer.slots:
            raise ValueError(f"updated-before-deltas updates layer by layer, for an optimizer without state such as SGD; got {optimizer!r}")
        xp = model.xp
        params = model.layout.views(xp, model.params)
        ctx = Context(xp, True, Random(model.seed, model.step), model.state)
        tape = []
        for name, layer in model.net.children().items():
            x, back = ctx.forward(name, layer, params, x)
            tape.append((name, back))
        L, dy = loss(x, t)
        for name, back in reversed(tape):
            dx, grads = back(dy)
            optimizer.step(model, gradient_of_layer(model, params, name, grads))
            after, _ = back(dy)                           # the same closure, which sees the weights as they are now
            dy = after                                    # should be: dy = dx
        model.step += 1
        return L


def gradient_of_layer(model: Model, params: dict[str, Any], name: str, grads: dict[str, Any]) -> Array:
    """The vector of gradients with those of one layer, and 0 for the others."""
    vector = model.xp.zeros_like(model.params)
    model.layout.writer(model.layout.parts(model.xp, vector))({**tree_map(model.xp.zeros_like, params), name: grads})
    return vector

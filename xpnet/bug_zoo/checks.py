"""The checks that find the bugs. Each looks at one piece of a set-up, and says nothing of the others.

`gradients` is the first to run, and cannot see everything: it asks whether backward is the derivative of forward. Where the forward pass is
wrong too, or the mistake is in the update, the start, the loop or the data, every gradient is right, and another question has to be asked.
"""

import copy
import math
from typing import Any

import numpy as np

from ..backend import Random
from ..backend.registry import to_host
from ..gradcheck import gradient_check
from ..layer import Context, walk_layers, walk_params
from ..layers import Activation, Dropout, LogSoftmax, Softmax
from ..losses import BinaryCrossEntropy, SoftmaxCrossEntropy
from ..optim import SGD, Adam, AdamW, Momentum
from .bug import Finding, first_batch, for_model
from .problems import Data
from .setup import Setup, train_step

HUGE = 1000.0                                             # e^1000 is infinite, also in float64


def gradients(setup: Setup, data: Data) -> Finding:
    """Is every backward pass the derivative of its forward pass?"""
    x, t = first_batch(setup, data)
    report = gradient_check(setup.model, x, setup.loss, t, max_entries=16)
    return Finding(not report.ok, report.verdict())


def overfits_one_batch(setup: Setup, data: Data) -> Finding:
    """Can the network learn four samples by heart? What cannot do that has a loss that does not ask for it, or a network that cannot."""
    model, optimizer = copy.deepcopy(setup.model), Adam(0.01)
    x, t = first_batch(setup, data, size=4)
    first = last = math.nan
    steps = 0
    while steps < 500 and not last < 0.1 * first:
        y, backward = model.forward(x, training=False)    # dropout off
        loss, dy = setup.loss(y, t)
        optimizer.step(model, backward(dy))
        steps, last = steps + 1, float(loss)
        first = last if steps == 1 else first
    learnt = last < 0.1 * first
    return Finding(not learnt, f"the loss on four samples goes from {first:.3g} to {last:.3g} in {steps} steps of Adam; "
                               f"{'it learns them by heart' if learnt else 'a right set-up learns them by heart'}.")


def chance(setup: Setup, data: Data) -> Finding:
    """Is the first loss that of guessing, ln C? More means that the untrained network is sure of itself."""
    x, t = first_batch(setup, data, size=64)
    y, _ = setup.model.forward(x, training=False)
    if isinstance(setup.loss, SoftmaxCrossEntropy):
        classes = y.shape[-1]
    elif isinstance(setup.loss, BinaryCrossEntropy):
        classes = 2
    else:
        return Finding(False, "not a loss over classes: there is no chance level.")
    first, guess = float(setup.loss(y, t)[0]), math.log(classes)
    return Finding(not first < 3.0 * guess, f"before training the loss is {first:.3f}; that of guessing is ln {classes} = {guess:.3f}.")


def large_numbers(setup: Setup, data: Data) -> Finding:
    """Do loss and activations stay finite for inputs of ±1000?"""
    model, (x, t) = setup.model, first_batch(setup, data)
    y, _ = model.forward(x, training=False)
    rng = np.random.default_rng(0)
    large = model.asarray(HUGE * np.sign(rng.standard_normal(tuple(y.shape))))
    for path, layer in walk_layers(model.net):
        if isinstance(layer, (Activation, Softmax, LogSoftmax)):
            out, backward = layer.forward({}, large, Context(model.xp))
            if not np.all(np.isfinite(to_host(out))):
                return Finding(True, f"the output of layer {path} ({layer!r}) is not finite for inputs of ±{HUGE:g}.")
    loss, dy = setup.loss(large, t)
    if not (math.isfinite(float(loss)) and np.all(np.isfinite(to_host(dy)))):
        return Finding(True, f"the loss is {float(loss)} for predictions of ±{HUGE:g}.")
    return Finding(False, f"loss and activations are finite for inputs of ±{HUGE:g}.")


def dropout(setup: Setup, data: Data) -> Finding:
    """In training E[y] = x; in inference y = x, always."""
    model, n, passes = setup.model, 500, 20
    ones = model.asarray(np.ones((n, 2)))
    for path, layer in walk_layers(model.net):
        if isinstance(layer, Dropout):
            means = [float(np.mean(to_host(layer.forward({}, ones, Context(model.xp, True, Random(model.seed, step)))[0])))
                     for step in range(passes)]
            five_sigma = 5.0 * math.sqrt(layer.p / (1.0 - layer.p) / (2 * n * passes))
            mean = float(np.mean(means))
            if abs(mean - 1.0) > five_sigma:
                return Finding(True, f"layer {path} ({layer!r}) makes a mean of {mean:.3f} of inputs of 1 in training, "
                                     f"where 1 ± {five_sigma:.3f} is right.")
    x, _ = first_batch(setup, data)
    again, outputs = copy.deepcopy(model), []
    for again.step in (0, 1):
        outputs.append(to_host(again.forward(x, training=False)[0]))
    apart = np.max(np.abs(outputs[0] - outputs[1]))
    if apart > 0.0:
        return Finding(True, f"in inference the same input gives outputs that differ by up to {apart:.3g}.")
    return Finding(False, "dropout keeps the mean in training, and is off in inference.")


def constant_gradient(setup: Setup, data: Data) -> Finding:
    """Do ten steps with the same gradient g lead where the formula says? SGD: η g a step. Momentum: (1 - μᵏ)/(1 - μ) η g. Adam: η
    sign(g)."""
    optimizer = setup.optimizer
    eta = optimizer.learning_rate()
    if isinstance(optimizer, Adam):
        rule, steps = "η sign(g)", [eta] * 10
    elif isinstance(optimizer, Momentum):
        rule, steps = "η g (1 - μᵏ)/(1 - μ)", [eta * (1.0 - optimizer.momentum ** k) / (1.0 - optimizer.momentum) for k in range(1, 11)]
    elif isinstance(optimizer, SGD):
        rule, steps = "η g", [eta] * 10
    else:
        return Finding(False, f"no formula for {optimizer!r}.")
    if optimizer.weight_decay:
        return Finding(False, "weight decay moves the parameters too: see the check without a gradient.")
    path = _path(setup, 1.0, 10)
    for k, (moved, right) in enumerate(zip(-np.diff(path), steps), 1):
        if not abs(moved - right) < 1e-4 * right:
            return Finding(True, f"with a gradient that is always 1, step {k} moves a parameter by {-moved:.4g}; "
                                 f"the formula, -{rule}, says {-right:.4g}.")
    return Finding(False, f"with a gradient that is always 1, each of ten steps is -{rule}.")


def decay_alone(setup: Setup, data: Data) -> Finding:
    """With a gradient of 0 weight decay acts alone: θ ← (1 - ηλ) θ. (For Adam with coupled decay there is no such formula.)"""
    optimizer = setup.optimizer
    eta, decay = optimizer.learning_rate(), optimizer.weight_decay
    if not decay or (isinstance(optimizer, Adam) and not isinstance(optimizer, AdamW)) or isinstance(optimizer, Momentum):
        return Finding(False, "no weight decay of a known effect.")
    theta = _path(setup, 0.0, 2)
    factor, right = theta[1] / theta[0], 1.0 - eta * decay
    return Finding(not abs(factor - right) < 1e-3 * eta * decay,
                   f"without a gradient a step multiplies a parameter by 1 - {1.0 - factor:.5f}; 1 - ηλ is 1 - {1.0 - right:.5f}.")


def _path(setup: Setup, g: float, steps: int) -> np.ndarray:
    """One parameter before each of the steps with gradient g, and after the last; of copies of model and optimizer."""
    model = copy.deepcopy(setup.model)
    optimizer = for_model(setup.optimizer, model)
    model.params = np.full(model.layout.size, 0.5)
    gradient = model.asarray(np.full(model.layout.size, g))
    path = [0.5]
    for _ in range(steps):
        optimizer.step(model, gradient)
        path.append(float(to_host(model.params)[0]))
    return np.array(path)


def three_steps(setup: Setup, data: Data) -> Finding:
    """Do three steps of training, on three batches, do what forward, loss, backward, update do?"""
    size, models = 8, (copy.deepcopy(setup.model), copy.deepcopy(setup.model))
    optimizers = [for_model(setup.optimizer, model) for model in models]
    step = copy.copy(setup.step)
    x, t = first_batch(setup, data, 3 * size)
    tolerance = 1e-9 if models[0].dtype == "float64" else 1e-5
    for k in range(3):
        batch = x[k * size:(k + 1) * size, ...], t[k * size:(k + 1) * size, ...]
        before = to_host(models[1].params).copy()
        step(models[0], setup.loss, optimizers[0], *batch)
        train_step(models[1], setup.loss, optimizers[1], *batch)
        got, right = (to_host(model.params) for model in models)
        moved = float(np.linalg.norm(right - before))
        if not np.linalg.norm(got - right) < tolerance * max(moved, float(np.linalg.norm(right))):
            return Finding(True, f"step {k + 1} is not forward, loss, backward, update: the parameters are off by "
                                 f"{np.linalg.norm(got - right) / moved:.1e} of what the step moves.")
    return Finding(False, "three steps on three batches are what forward, loss, backward, update make them.")


def equal_units(setup: Setup, data: Data) -> Finding:
    """Do the units of a layer differ after three steps? Units that start equal get equal gradients, and stay equal."""
    model = copy.deepcopy(setup.model)
    optimizer, (x, t) = for_model(setup.optimizer, model), first_batch(setup, data)
    for _ in range(3):
        train_step(model, setup.loss, optimizer, x, t)
    for path, param in walk_params(model.net):
        W = to_host(model.get_param(path))
        if not param.bias and W.ndim == 2 and W.shape[1] > 1 and np.max(np.abs(W - W[:, :1])) < 1e-6 * np.max(np.abs(W), initial=1e-30):
            return Finding(True, f"after three steps all {W.shape[1]} units of {path} have the same weights: they do the work of one.")
    return Finding(False, "the units of every layer differ.")


def signal(setup: Setup, data: Data) -> Finding:
    """Does the signal keep its size? The standard deviation of each layer's output, the first against the last hidden one."""
    model, (x, _) = setup.model, first_batch(setup, data, size=64)
    stds: list[float] = []

    class Listening(Context):
        def forward(self, name: str, layer: Any, params: dict[str, Any], x: Any) -> Any:
            y, back = super().forward(name, layer, params, x)
            if isinstance(layer, Activation):
                stds.append(float(np.std(to_host(y))))
            return y, back

    model.run(x, Listening(model.xp, False, Random(), model.state))
    if len(stds) < 3:
        return Finding(False, "too few layers for a signal to vanish in.")
    return Finding(stds[-1] < 0.05 * stds[0], f"the standard deviation of the activations is {stds[0]:.3g} in the first hidden layer "
                                              f"and {stds[-1]:.3g} in the last.")


def batches_are_right(setup: Setup, data: Data) -> Finding:
    """Numbered samples sent through the batches: does every sample come once with its own label, in another order each epoch?"""
    n = len(data.x)
    numbers = np.arange(n)
    orders = []
    for epoch in (0, 1):
        parts = list(setup.batches(numbers[:, None] * 1.0, numbers, 8, 0, epoch))
        x, t = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
        apart = int(np.sum(x[:, 0] != t))
        if apart:
            return Finding(True, f"{apart} of {n} samples come with the label of another.")
        if not np.array_equal(np.sort(t), numbers):
            return Finding(True, f"an epoch of {n} samples does not hold each of them once.")
        orders.append(t)
    if np.array_equal(orders[0], numbers) or np.array_equal(orders[0], orders[1]):
        return Finding(True, "the samples come in the same order in every epoch, that of the file.")
    return Finding(False, f"{n} samples, each with its own label, in another order each epoch.")


def preparation(setup: Setup, data: Data) -> Finding:
    """Training data that do not depend on the test set, test data that do not depend on each other, and arithmetic that is exact."""
    x, x_test = setup.prepare(data.x, data.x_test)
    other, _ = setup.prepare(data.x, (data.x_test[:5] + 7).astype(data.x.dtype))
    if not np.allclose(x, other):
        change = np.max(np.abs(x - other))
        return Finding(True, f"the training data change by up to {change:.3g} with another test set: it leaks into them.")
    _, alone = setup.prepare(data.x, data.x_test[1:2])
    if not np.allclose(alone, x_test[1:2]):
        return Finding(True, f"a test sample alone becomes {_row(alone)}, and among others {_row(x_test[1:2])}.")
    exact, _ = setup.prepare(data.x.astype(np.float64), data.x_test.astype(np.float64))
    if not np.allclose(x, exact):
        worst = np.argmax(np.abs(x - exact))
        return Finding(True, f"computed in {data.x.dtype} a number becomes {x.flat[worst]:.3g}, in float64 {exact.flat[worst]:.3g}.")
    return Finding(False, "training data and each test sample are prepared alone, in exact arithmetic.")


def _row(x: np.ndarray) -> str:
    return f"({', '.join(f'{v:.2f}' for v in x[0])})"


CHECKS = (gradients, overfits_one_batch, chance, large_numbers, dropout, constant_gradient, decay_alone, three_steps, equal_units, signal,
          batches_are_right, preparation)

"""The symptoms, drawn: blue is clean, orange is broken. Each function computes on the host what it draws, in a second or two."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..layer import Context, walk_params
from ..layers import Activation, Dense, Sequential
from ..losses import Loss, MeanSquaredError
from ..model import Model
from ..optim import SGD
from ..plot import COLOURS, learning_curves
from .setup import Setup, train_step

Axes = Any
Bug = Any
LABELS = "clean", "broken"
LOOKS: tuple[dict[str, Any], ...] = ({"color": COLOURS[0], "label": LABELS[0]}, {"color": COLOURS[1], "label": LABELS[1]})


def both(bug: Bug, seed: int = 0) -> tuple[Setup, Setup]:
    """The clean set-up of a bug's problem, and the broken one."""
    clean = bug.setup("numpy", seed)
    return clean, bug.inject(clean)


def trained(bug: Bug, setup: Setup, judge: Loss | None = None, **options: Any) -> Any:
    """The history of training on the bug's problem."""
    problem, data = bug.problem, bug.problem.data(0)
    return setup.train((data.x, data.t), (data.x_test, data.t_test), judge=judge,
                       **{"epochs": problem.epochs, "batch_size": problem.batch_size, **options})


def each_epoch(bug: Bug, setup: Setup, measure: Callable[[Model], Any], epochs: int) -> list[Any]:
    """measure(model) before training and after each epoch."""
    values = [measure(setup.model)]
    for epoch in range(epochs):
        trained(bug, setup, epochs=1, seed=epoch)
        values.append(measure(setup.model))
    return values


def batch_of(bug: Bug, setup: Setup, n: int = 8) -> tuple[np.ndarray, np.ndarray]:
    data = bug.problem.data(0)
    return setup.prepare(data.x, data.x_test)[0][:n], data.t[:n]


def finish(ax: Axes, xlabel: str, ylabel: str, log: bool = False) -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        ax.set_yscale("log")
    ax.legend()


def not_finite(ax: Axes, words: str, height: float = 0.4) -> None:
    """Where a line ends in numbers that cannot be drawn, say so."""
    ax.text(0.97, height, words, transform=ax.transAxes, ha="right", color=COLOURS[3])


# Training.

def curves(bug: Bug, ax: Axes) -> None:
    """Training and test loss by epoch; the test loss is that of the clean loss for both."""
    clean, broken = both(bug)
    _curves(bug, ax, clean, broken, clean.loss)


def own_curves(bug: Bug, ax: Axes) -> None:
    """The same, each measured by its own loss; and the least that a softmax of three probabilities can have."""
    _curves(bug, ax, *both(bug), None)
    ax.axhline(math.log(1.0 + 2.0 / math.e), color="#777777", linestyle=":", label="ln(1 + 2/e)")
    ax.legend()


def _curves(bug: Bug, ax: Axes, clean: Setup, broken: Setup, judge: Loss | None) -> None:
    histories = {label: trained(bug, setup, judge) for label, setup in zip(LABELS, (clean, broken))}
    learning_curves(histories, ax=ax, log=False)
    values = np.array([h[name] for h in histories.values() for name in ("loss", "val_loss")])
    drawn = values[np.isfinite(values)]
    ax.set_yscale("log")
    ax.set_ylim(0.8 * np.min(drawn), 1.3 * min(np.max(drawn), 30.0 * values[0, 0]))
    if not np.all(np.isfinite(values)):
        first = 1 + int(np.argmin(np.all(np.isfinite(values), axis=0)))
        not_finite(ax, f"broken: not finite from epoch {first} on")


def batch_sizes(bug: Bug, ax: Axes) -> None:
    """The test loss after equally many steps, by batch size, at the same learning rate."""
    sizes, steps = (2, 4, 8, 16, 32, 64, 96), 150
    for look, which in zip(LOOKS, (0, 1)):
        ends = []
        for size in sizes:
            setups = both(bug)
            per_epoch = math.ceil(96 / size)
            history = trained(bug, setups[which], setups[0].loss, epochs=math.ceil(steps / per_epoch), batch_size=size)
            ends.append(history["val_loss"][-1])
        ends = [v if v < 10.0 else math.nan for v in ends]
        ax.plot(sizes, ends, "o-", **look)
        if not np.all(np.isfinite(ends)):
            not_finite(ax, "broken: diverges for larger batches")
    ax.set_xscale("log", base=2)
    finish(ax, "batch size", f"test loss after {steps} steps", log=True)


def learning_rates(bug: Bug, ax: Axes) -> None:
    """The training loss after some epochs of batch gradient descent, by learning rate."""
    rates = np.geomspace(0.1, 12.0, 9)
    for look, which in zip(LOOKS, (0, 1)):
        ends = []
        for rate in rates:
            setup = both(bug)[which]
            setup.optimizer = SGD(float(rate))
            ends.append(trained(bug, setup, epochs=60, batch_size=180)["loss"][-1])
        ax.plot(rates, ends, "o-", **look)
    ax.set_xscale("log")
    finish(ax, "learning rate", "training loss after 60 steps", log=True)


def biases(bug: Bug, ax: Axes) -> None:
    """How far the biases have come, by epoch."""
    def length(model: Model) -> float:
        return math.sqrt(sum(float(np.sum(model.get_param(path) ** 2)) for path, param in walk_params(model.net) if param.bias))

    for look, setup in zip(LOOKS, both(bug)):
        ax.plot(each_epoch(bug, setup, length, 20), **look)
    finish(ax, "epoch", "length of the vector of all biases")


def units(bug: Bug, ax: Axes) -> None:
    """A weight of each hidden unit, by epoch."""
    for look, setup in zip(LOOKS, both(bug)):
        path = np.array(each_epoch(bug, setup, lambda model: model.get_param("0.W")[0], 20))
        width = {"clean": 0.8, "broken": 3.0}[look["label"]]
        ax.plot(path, color=look["color"], linewidth=width)
        ax.plot([], [], linewidth=width, **{**look, "label": f"{look['label']}: {path.shape[1]} units"})
    finish(ax, "epoch", "first weight of each hidden unit")


def fit(bug: Bug, ax: Axes) -> None:
    """The curve that is learnt, through the data."""
    data = bug.problem.data(0)
    ax.plot(data.x_test, data.t_test, ".", color="#777777", markersize=4, label="test data")
    grid = np.linspace(-math.pi, math.pi, 100)[:, None]
    for look, setup in zip(LOOKS, both(bug)):
        trained(bug, setup)
        ax.plot(grid, setup.model.predict(setup.prepare(data.x, grid)[1]), **look)
    finish(ax, "x", "prediction")


def same_input(bug: Bug, ax: Axes) -> None:
    """The probability of class 1 for one input, asked forty times, after training."""
    data = bug.problem.data(0)
    for look, setup, marker in zip(LOOKS, both(bug), "-o"):
        trained(bug, setup)
        model = setup.model
        model.link = "softmax"
        x = setup.prepare(data.x, data.x_test)[1]
        y = model.predict_proba(x)
        x = x[np.argmin(np.abs(y[:, 1] - 0.7))][None, :]
        answers = []
        for _ in range(40):
            answers.append(model.predict_proba(x)[0, 1])
            model.step += 1
        ax.plot(answers, marker, markersize=4, **look)
    ax.set_ylim(0.0, 1.0)
    finish(ax, "call", "p(class 1) of the same input")


def mazur(bug: Bug, ax: Axes) -> None:
    """The step of w1 in Mazur's network of 2-2-2, by learning rate; and the error after one step, with the digits of his post."""
    rates = np.linspace(0.05, 5.0, 30)
    loss = MeanSquaredError("half_sum")
    x, t = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])

    def one_step(step: Any, rate: float) -> Model:
        net = Sequential(Dense(2, 2, "sigmoid", init=np.array([[0.15, 0.25], [0.20, 0.30]]), bias_init=np.array([0.35, 0.35])),
                         Dense(2, 2, "sigmoid", init=np.array([[0.40, 0.50], [0.45, 0.55]]), bias_init=np.array([0.60, 0.60])))
        model = Model(net, "numpy", "float64")
        step(model, loss, SGD(rate, freeze=("*.b",)), x, t)
        return model

    for look, step in zip(LOOKS, (train_step, bug.broken())):
        slopes = [(0.15 - one_step(step, rate).get_param("0.W")[0, 0]) / rate for rate in rates]
        error = float(loss(one_step(step, 0.5).forward(x)[0], t)[0])
        ax.plot(rates, slopes, **{**look, "label": f"{look['label']}; E after a step with η = 0.5: {error:.9f}"})
    ax.axhline(0.0, color="#777777", linewidth=0.8)
    finish(ax, "learning rate η", "step of w1 / η")


# A layer, a loss or an optimizer alone.

def entries(bug: Bug, ax: Axes) -> None:
    """Every entry of ∂L/∂θ before training: what the broken backward pass says, over what is right."""
    gradients = []
    for setup in both(bug):
        x, t = batch_of(bug, setup, 64)
        y, backward = setup.model.forward(x)
        gradients.append(backward(setup.loss(y, t)[1]).copy())
    right, theirs = gradients
    ends = np.array([np.min(right), np.max(right)])
    ax.plot(right, theirs, "o", markersize=3, alpha=0.7, **LOOKS[1])
    ax.plot(ends, ends, linewidth=1.5, **LOOKS[0])
    finish(ax, "entry of the right ∂L/∂θ", "the same entry as it is computed")


def slope_of(bug: Bug, ax: Axes) -> None:
    """The slope by which an activation's backward pass multiplies."""
    x = np.linspace(-4.0, 4.0, 400)[:, None]
    for look, layer, width in zip(LOOKS, (bug.clean_layer(), bug.layer()), (3.0, 1.5)):
        _, backward = layer(x)
        ax.plot(x, backward(np.ones_like(x))[0], linewidth=width, **look)
    ax.set_ylim(bottom=max(ax.get_ylim()[0], -3.0))
    finish(ax, "x", "slope in the backward pass")


def bias_gradient(bug: Bug, ax: Axes) -> None:
    """What two layers call the gradient of their biases."""
    x, dy = (np.random.default_rng(seed).standard_normal((8, 5)) for seed in (0, 1))
    clean, broken = (layer(x)[1](dy)[1]["b"] for layer in (bug.clean_layer(), bug.layer()))
    n, k = broken.shape
    ax.bar(np.arange(k), clean, width=0.5, color=COLOURS[0], alpha=0.6, label=f"clean: a sum for each unit, shape {clean.shape}")
    ax.plot(np.tile(np.arange(k), n), np.ravel(broken), "o", color=COLOURS[1],
            label=f"broken: a number for each sample, shape {broken.shape}")
    ax.set_xticks(np.arange(k))
    ax.set_ylim(top=1.5 * max(ax.get_ylim()))
    finish(ax, "unit", "∂L/∂b")


def gradient_by_layer(bug: Bug, ax: Axes) -> None:
    """The length of ∂L/∂W of each layer, before training."""
    for look, setup in zip(LOOKS, both(bug)):
        x, t = batch_of(bug, setup, 64)
        y, backward = setup.model.forward(x)
        backward(setup.loss(y, t)[1])
        lengths = [float(np.linalg.norm(setup.model.get_grad(path))) for path in setup.model.paths() if path.endswith("W")]
        ax.plot(range(1, len(lengths) + 1), lengths, "o-", **look)
    finish(ax, "layer with weights, from the input on", "‖∂L/∂W‖", log=True)


def softmax_range(bug: Bug, ax: Axes) -> None:
    """softmax(x, 0), the larger logit from 0 to 1000."""
    x = np.linspace(0.0, 1000.0, 501)
    for look, layer, width in zip(LOOKS, (bug.clean_layer(), bug.layer()), (4.0, 1.5)):
        y, _ = layer(np.stack([x, 0.0 * x], axis=1))
        ax.plot(x, y[:, 0], linewidth=width, **look)
    not_finite(ax, f"broken: NaN from x = {x[np.argmin(np.isfinite(y[:, 0]))]:.0f} on")
    finish(ax, "larger logit x, the other is 0", "softmax of the larger")


def loss_range(bug: Bug, ax: Axes) -> None:
    """The loss of a sample whose class has the smaller of two logits."""
    x = np.linspace(0.0, 1000.0, 501)
    for look, loss, width in zip(LOOKS, (bug.clean_loss("sum"), bug.loss("sum")), (4.0, 1.5)):
        values = [float(loss(np.array([[v, 0.0]]), np.array([1]))[0]) for v in x]
        ax.plot(x, [v if math.isfinite(v) else math.nan for v in values], linewidth=width, **look)
    not_finite(ax, f"broken: infinite from z = {x[np.argmin(np.isfinite(values))]:.0f} on", 0.25)
    finish(ax, "logit z of the wrong class, that of the right one is 0", "loss")


def logit_gradient(bug: Bug, ax: Axes) -> None:
    """∂L/∂z of one sample of class 1."""
    z = np.linspace(-8.0, 8.0, 200)[:, None]
    for look, loss in zip(LOOKS, (bug.clean_loss("sum"), bug.loss("sum"))):
        ax.plot(z, loss(z, np.ones_like(z))[1], **look)
    ax.annotate("sure and wrong", (-8.0, -0.08), fontsize=9)
    finish(ax, "logit z of a sample with target 1", "∂L/∂z")


def steps(bug: Bug, ax: Axes) -> None:
    """The step of an optimizer for a gradient that is always 1, in units of η."""
    for look, setup, marker in zip(LOOKS, both(bug), "so"):
        model, optimizer = setup.model, setup.optimizer
        eta, gradient, path = optimizer.learning_rate(), np.ones_like(model.params), [0.0]
        model.params = 0.0 * model.params
        for _ in range(60):
            optimizer.step(model, gradient)
            path.append(model.params[0])
        taken = -np.diff(path) / eta
        ax.plot(np.arange(1, 61), taken, marker=marker, markersize=3, **look)
        if not np.all(np.isfinite(taken)):
            not_finite(ax, "broken: NaN from the first step on")
            ax.set_ylim(0.0, 2.0)
    finish(ax, "step", "step downhill / η, for a gradient of 1")


def weights_alone(bug: Bug, ax: Axes) -> None:
    """Weights without a gradient, under weight decay alone."""
    for look, setup in zip(LOOKS, both(bug)):
        model, optimizer = setup.model, setup.optimizer
        model.params = np.resize([1.0, 0.5], model.params.shape)
        path = [model.params[:2].copy()]
        for _ in range(300):
            optimizer.step(model, 0.0 * model.params)
            path.append(model.params[:2].copy())
        ax.plot(np.array(path)[:, 0], **look)
        ax.plot(np.array(path)[:, 1], color=look["color"], linestyle="--")
    ax.axhline(0.0, color="#777777", linewidth=0.8)
    finish(ax, "step", "two weights that get no gradient")


# The start and the data.

def _hidden(setup: Setup, x: np.ndarray) -> list[np.ndarray]:
    """The outputs of the activations."""
    outputs = []

    class Listening(Context):
        def forward(self, name: str, layer: Any, params: dict[str, Any], x: Any) -> Any:
            y, back = super().forward(name, layer, params, x)
            if isinstance(layer, Activation):
                outputs.append(y)
            return y, back

    setup.model.run(x, Listening(setup.model.xp))
    return outputs


def activations(bug: Bug, ax: Axes) -> None:
    """The activations of the third hidden layer, before training."""
    for look, setup in zip(LOOKS, both(bug)):
        x, _ = batch_of(bug, setup, 64)
        ax.hist(np.ravel(_hidden(setup, x)[2]), bins=41, range=(-1.0, 1.0), density=True, histtype="stepfilled", alpha=0.55, **look)
    finish(ax, "activation, third hidden layer", "density")


def signal_by_layer(bug: Bug, ax: Axes) -> None:
    """The standard deviation of the activations, before training."""
    for look, setup in zip(LOOKS, both(bug)):
        x, _ = batch_of(bug, setup, 64)
        stds = [float(np.std(h)) for h in _hidden(setup, x)]
        ax.plot(range(1, len(stds) + 1), stds, "o-", **look)
    ax.set_xticks(range(1, len(stds) + 1))
    finish(ax, "hidden layer", "standard deviation of the activations", log=True)


def scaled_training_data(bug: Bug, ax: Axes) -> None:
    _histogram(bug, ax, 0, "first feature of the training data, scaled")


def scaled_test_data(bug: Bug, ax: Axes) -> None:
    _histogram(bug, ax, 1, "first feature of the test data, scaled")


def _histogram(bug: Bug, ax: Axes, which: int, words: str) -> None:
    data = bug.problem.data(0)
    for look, setup in zip(LOOKS, both(bug)):
        x = setup.prepare(data.x, data.x_test)[which]
        ax.hist(x[:, 0], bins=60, range=(-3.0, 5.0), histtype="stepfilled", alpha=0.55, **look)
    finish(ax, words, "samples")


def bytes_wrap(bug: Bug, ax: Axes) -> None:
    """What each pixel value becomes."""
    data, values = bug.problem.data(0), np.arange(256, dtype=np.uint8)
    for look, setup in zip(LOOKS, both(bug)):
        z = setup.prepare(data.x, np.stack([values, values], axis=1))[1][:, 0]
        ax.plot(values, z, ".", markersize=3, **look)
    finish(ax, "pixel", "pixel as the network sees it")

"""The same seed, the same network, the same losses: 200 steps with dropout on every backend, beside NumPy's. And `parity`, which shows it."""

import os

import numpy as np
import pytest
from conftest import NAMES, STATE, Bench

from xpnet import (
    SGD,
    Adam,
    ClipNorm,
    Dense,
    Dropout,
    Identity,
    Layer,
    MeanSquaredError,
    Model,
    Nesterov,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
)
from xpnet.backend import kind
from xpnet.comparison import parity
from xpnet.data import batches, mnist
from xpnet.errors import BackendError

STEPS = 200


def images():
    """MNIST where its folder is known, else random images of its size with ten classes."""
    if "XPNET_MNIST" in os.environ:
        x, t, _, _ = mnist(os.environ["XPNET_MNIST"])
        return x[:6400] / 255.0, t[:6400]
    rng = np.random.default_rng(0)
    t = rng.integers(0, 10, 6400)
    x = np.clip(rng.standard_normal((10, 784))[t] + rng.standard_normal((6400, 784)), 0, 1)
    return x, np.where(rng.random(6400) < 0.2, rng.integers(0, 10, 6400), t)   # a fifth is wrong: the loss, and with it its digits, stays


def losses(bench, dtype, x, t, steps):
    model = bench.model(Sequential(Dense(784, 300, "relu", init="he_normal"), Dropout(0.3), Dense(300, 10)), dtype, seed=1)
    loss_fn, optimizer = SoftmaxCrossEntropy(), Adam(1e-3)
    data = model.asarray(x), model.asarray(t)
    found = []
    while len(found) < steps:
        for xb, tb in batches(data, batch_size=128, seed=2, epoch=len(found)):
            y, backward = model.forward(xb)
            loss, dy = loss_fn(y, tb)
            optimizer.step(model, backward(dy))
            found.append(loss)
            if len(found) == steps:
                break
    return np.array([float(v) for v in found])


def test_every_loss_of_200_steps_is_that_of_numpy(backend, dtype):
    if backend.name.startswith("numpy"):
        return
    steps = STEPS if backend.name == "cupy" or "XPNET_MNIST" in os.environ else 40
    x, t = images()
    ours, numpys = losses(backend, dtype, x, t, steps), losses(Bench("numpy"), dtype, x, t, steps)
    worst = np.max(np.abs(ours - numpys) / np.abs(numpys))
    print(f"{backend.name} {dtype}: {steps} losses from {numpys[0]:.4f} to {numpys[-1]:.4f}, largest relative difference {worst:.1e}")
    assert worst <= {"float32": 1e-4, "float64": 1e-10}[dtype]
    assert numpys[-1] < numpys[0]


# parity(): the instrument.

class Planted(Layer):
    """The identity, which on every library but NumPy adds `error` from training step `since` on."""

    keeps_features = True

    def __init__(self, error, since=1):
        self.error, self.since = error, since

    def forward(self, params, x, ctx):
        wrong = kind(ctx.xp) != "numpy" and ctx.random.step + 1 >= self.since
        return x + (self.error if wrong else 0.0), lambda dy, input_grad=True: (dy if input_grad else None, {})


class WrongGradient(Dense):
    """A Dense whose ∂L/∂W is off by 1e-3 on every library but NumPy."""

    def forward(self, params, x, ctx):
        y, back = super().forward(params, x, ctx)

        def backward(dy, input_grad=True):
            dx, grads = back(dy, input_grad)
            return dx, grads if kind(ctx.xp) == "numpy" else {**grads, "W": grads["W"] + 1e-3}

        return y, backward


def classes(n=96, d=12, seed=0):
    rng = np.random.default_rng(seed)
    t = rng.integers(0, 3, n)
    return rng.standard_normal((3, d))[t] + rng.standard_normal((n, d)), t


def network(layer=None):
    return Sequential(Dense(12, 16, "relu"), Dropout(0.3), Dense(16, 8, "gelu"), layer or Identity(), Dense(8, 3))


def beside_numpy(backend):
    """The two backends of a comparison; NumPy is not compared with itself."""
    if backend.name.startswith("numpy"):
        pytest.skip("NumPy is what the others are compared with")
    return "numpy", NAMES[backend.name]


@pytest.mark.float64
@pytest.mark.parametrize("optimizer", [Adam(0.01), Nesterov(0.05, clip=ClipNorm(0.5), weight_decay=1e-3)], ids=repr)
def test_float64_stays_below_1e_9_after_100_steps(optimizer, backend):
    names = beside_numpy(backend)
    report = parity(Model(network(), dtype="float64", seed=3), SoftmaxCrossEntropy(), optimizer, classes(), names, batch_size=32)
    assert [row.step for row in report.rows] == list(range(1, 101))
    assert 0.0 < max(d.relative for d in report.worst.values()) < 1e-9   # two libraries round differently: no difference at all is no run
    assert report.first is None and report.verdict.startswith("The backends agree: in 100 steps")
    assert report.rows[-1].losses["numpy"] < 0.8 * report.rows[0].losses["numpy"]


def test_it_trains_as_fit_does_and_leaves_its_arguments_alone():
    """The rows are those of the loop; the model and the optimizer that were given have made no step."""
    names = ("numpy", another())
    model, optimizer, loss_fn = Model(network(), seed=4), Adam(0.01), SoftmaxCrossEntropy()
    before = np.array(model.params)
    report = parity(model, loss_fn, optimizer, classes(), names, steps=8, batch_size=40, seed=7)
    assert optimizer.t == model.step == 0
    np.testing.assert_array_equal(model.params, before)

    trained, optimizer = Model(network(), seed=4), Adam(0.01)
    found, data = [], batches(tuple(trained.asarray(a) for a in classes()), 40, seed=7)
    for _ in range(3):                                    # 96 samples: batches of 40, 40 and 16
        for x, t in data:
            y, backward = trained.forward(x)
            loss, dy = loss_fn(y, t)
            optimizer.step(trained, backward(dy))
            found.append(float(loss))
    assert [row.losses["numpy"] for row in report.rows] == found[:8]


def another():
    """A backend beside NumPy, the first that there is."""
    names = [n for n in ("strict", "torch", "cupy") if STATE[n] is None]
    if not names:
        pytest.skip("no backend beside NumPy")
    return NAMES[names[0]]


def test_it_finds_a_layer_that_is_off_on_one_backend(backend):
    names, fine = beside_numpy(backend), backend.widest == "float64"
    model = Model(network(Planted(1e-3 if fine else 0.1, since=4)), dtype=backend.widest, seed=1)
    report = parity(model, SoftmaxCrossEntropy(), SGD(0.1), classes(), names, steps=6, batch_size=32)
    for what in ("loss", "gradient", "parameters"):
        sizes = [getattr(row, what).relative for row in report.rows]
        assert max(sizes[:3]) < (1e-12 if fine else 2e-6) < min(sizes[3:]), (what, sizes)
    assert report.first.step == 4
    assert report.first.backend == names[1]


def test_it_names_the_step_and_the_path_of_a_wrong_gradient(backend):
    """That of 2.W only: the loss of the step and every other gradient are right, the next step's are not."""
    names, quiet = beside_numpy(backend), 1e-12 if backend.widest == "float64" else 1e-5
    net = Sequential(Dense(12, 16, "relu"), Dropout(0.3), WrongGradient(16, 8), Dense(8, 3))
    report = parity(Model(net, dtype=backend.widest, seed=1), SoftmaxCrossEntropy(), SGD(0.1), classes(), names, steps=3, batch_size=32)
    first, second, _ = report.rows
    assert first.loss.relative < quiet < 1e-3 < first.gradient.relative
    assert first.gradient[1:] == (pytest.approx(1e-3, rel=1e-2), 1, "gradient", "2.W", names[1])
    assert first.parameters[1:] == (pytest.approx(1e-4, rel=1e-1), 1, "parameters", "2.W", names[1])
    assert second.loss.relative > quiet
    assert report.first == first.gradient
    assert f"{names[0]} and {names[1]} part at step 1 in the gradient of 2.W" in report.verdict
    assert report.verdict.startswith("The backends differ") and str(report).endswith(report.verdict)


def test_the_differences_are_those_of_the_numbers():
    """A layer that is off by a known amount: y = x + c against y = x, a single weight, and everything by hand."""
    other, c, lr = another(), 0.5, 0.1
    x, t = np.array([[1.0], [3.0]]), np.array([[2.0], [2.0]])
    model = Model(Sequential(Dense(1, 1, bias=False, init=np.array([[2.0]])), Planted(c)), dtype="float64")
    report = parity(model, MeanSquaredError(), SGD(lr), (x, t), ("numpy", other), steps=1, batch_size=None)
    # residuals y - t: NumPy 0 and 4, the other 0.5 and 4.5;  L = mean r²,  ∂L/∂W = mean 2 r x
    loss, grad = (0 + 16) / 2, (0 * 1 + 4 * 3)
    their_loss, their_grad = (0.25 + 20.25) / 2, (0.5 * 1 + 4.5 * 3)
    row = report.rows[0]
    assert row.losses == {"numpy": loss, other: their_loss}
    np.testing.assert_allclose(row.loss[:2], (abs(their_loss - loss) / loss, abs(their_loss - loss)))
    np.testing.assert_allclose(row.gradient[:2], ((their_grad - grad) / grad, their_grad - grad))
    weight = abs(2.0 - lr * grad)
    np.testing.assert_allclose(row.parameters[:2], (lr * (their_grad - grad) / weight, lr * (their_grad - grad)))
    assert row.gradient[2:] == (1, "gradient", "0.W", other) and row.loss.path == ""
    assert report.layers["0.W"] == {"gradient": row.gradient, "parameters": row.parameters}


def test_what_is_not_finite_on_one_side_is_an_infinite_difference():
    report = parity(Model(network(Planted(float("nan"), since=2))), SoftmaxCrossEntropy(), SGD(0.1), classes(), ("numpy", another()), steps=3)
    assert report.rows[0].loss.relative < 1e-3 and report.worst["parameters"].relative == np.inf
    assert report.first.step == 2 and "part at step 2" in report.verdict


def test_more_than_two_backends_are_compared_with_the_first():
    names = ["numpy", *(NAMES[n] for n in ("strict", "torch", "cupy") if STATE[n] is None)]
    if len(names) < 3:
        pytest.skip("needs two backends beside NumPy")
    report = parity(Model(network(Planted(1e-2))), SoftmaxCrossEntropy(), Adam(), classes(), names, steps=2)
    assert list(report.rows[0].losses) == names
    assert len({report.rows[0].losses[n] for n in names[1:]} & {report.rows[0].losses["numpy"]}) == 0
    assert report.worst["loss"].backend in names[1:]


def test_the_report_is_a_table_of_the_first_the_worst_and_the_last_steps():
    report = parity(Model(network(ReLU())), SoftmaxCrossEntropy(), Adam(0.01), classes(), ("numpy", another()), steps=20, batch_size=16)
    lines = str(report).splitlines()
    assert lines[0].startswith("numpy and ") and "Adam(0.01), float32, 20 steps" in lines[0]
    steps = [int(line.split()[0]) for line in lines if line[:1].isdigit() and "." not in line.split()[0]]
    assert steps == sorted({1, 20, *(d.step for d in report.worst.values())})
    assert [line.split()[0] for line in lines if line[1:2] == "." and line[:1].isdigit()] == list(report.layers) == Model(network()).paths()
    assert lines[-1] == report.verdict


@pytest.mark.parametrize("changes,error,message", [
    ({"backends": ["numpy"]}, ValueError, r"two or more backends, got \['numpy'\]"),
    ({"backends": ["numpy", "numpy"]}, ValueError, "different backends"),
    ({"backends": ["numpy", "cupy:99"]}, BackendError, "cupy"),
    ({"steps": 0}, ValueError, "steps is a positive integer, got 0"),
    ({"data": [1, 2]}, TypeError, r"takes \(x, t\) or \(x, t, sample weights\), got list"),
    ({"model": Model(Dropout(0.5))}, ValueError, "this network has no parameters"),
])
def test_what_it_refuses(changes, error, message):
    arguments = {"model": Model(network()), "loss": SoftmaxCrossEntropy(), "optimizer": SGD(0.1), "data": classes(),
                 "backends": ("numpy", another()), **changes}
    with pytest.raises(error, match=message):
        parity(**arguments)


def test_it_refuses_an_optimizer_that_has_made_steps():
    model, optimizer = Model(network()), SGD(0.1)
    optimizer.step(model)
    with pytest.raises(ValueError, match="this SGD has made 1 steps; give a new one"):
        parity(model, SoftmaxCrossEntropy(), optimizer, classes(), ("numpy", another()))

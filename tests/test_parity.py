"""The same seed, the same network, the same losses: 200 steps with dropout on every backend, beside NumPy's."""

import os

import numpy as np
from conftest import Bench

from xpnet import Adam, Dense, Dropout, Sequential, SoftmaxCrossEntropy
from xpnet.data import batches, mnist

STEPS = 200


def images():
    """MNIST where its folder is known, else random images of its size with ten classes."""
    if "XPNET_MNIST" in os.environ:
        x, t, _, _ = mnist(os.environ["XPNET_MNIST"])
        return x[:6400] / 255.0, t[:6400]
    rng = np.random.default_rng(0)
    t = rng.integers(0, 10, 6400)
    return np.clip(rng.standard_normal((10, 784))[t] + rng.standard_normal((6400, 784)), 0, 1), t


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

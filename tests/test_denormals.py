"""Denormal numbers do not slow a long run down: they are counted here, and timed by ci/denormals. On NumPy; a GPU has no such cost."""

import functools

import numpy as np
import pytest
from denormals import Watched, denormals, watched

import xpnet.optim
from xpnet import SGD, Adam, Dense, Lion, Model, Momentum, Optimizer, RMSProp, Sequential, SoftmaxCrossEntropy
from xpnet.optim import base

OPTIMIZERS = {c.__name__: c for c in vars(xpnet.optim).values() if isinstance(c, type) and issubclass(c, Optimizer) and c is not Optimizer}
EVERY = base.FLUSH_EVERY
STEPS = 20_032                                            # a sweep ends the last step
LOOKS = [t * EVERY for t in (16, 32, 79, 157, 313)]       # windows of EVERY steps that end there are looked at step by step
DECAYED = 157 * EVERY                                     # 0.99 to this power is a denormal number
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def training(optimizer, seed=0):
    """A model and its step: 5-12-3 with ReLU, of whose hidden units half die at step 100, and labels by chance."""
    rng = np.random.default_rng(seed)
    model, loss_fn = Model(Sequential(Dense(5, 12, "relu"), Dense(12, 3)), seed=seed), SoftmaxCrossEntropy()
    xs, ts = rng.standard_normal((8, 4, 5)).astype("float32"), rng.integers(0, 3, (509, 4))

    def step():
        if optimizer.t == 100:
            b = model.get_param("0.b")
            b[::2] = -1000.0
            model.set_param("0.b", b)
        y, backward = model.forward(xs[optimizer.t % len(xs)])
        optimizer.step(model, backward(loss_fn(y, ts[optimizer.t % len(ts)])[1]))

    return model, step


def replay(optimizer, steps, gradients, dtype="float32"):
    """A model after steps with these gradients, over and over."""
    model = Model(Dense(4, gradients.shape[1] // 5), dtype=dtype, seed=0)
    for t in range(steps):
        optimizer.step(model, gradients[t % len(gradients)])
    return model


def longest_run(counts):
    """The most steps in a row whose count is not 0."""
    run = longest = 0
    for n in counts:
        run = run + 1 if n else 0
        longest = max(longest, run)
    return longest


@every_optimizer
def test_20_000_steps_with_dead_units_leave_no_denormal_numbers(name):
    """Neither in the state nor in the parameters or the gradients, and no operation of the update meets one, from a few sweeps on."""
    optimizer = OPTIMIZERS[name](1e-3)
    model, step = training(optimizer)
    for t in range(1, STEPS + 1):
        if not any(look - EVERY < t <= look for look in LOOKS):
            step()
            continue
        with watched(model, optimizer):
            step()
        assert Watched.found == 0, f"step {t}: operations of the update met {Watched.found}"
        assert denormals(model.params, model.grads, *optimizer.state.values()) == 0, f"step {t}"
    assert not np.any(model.get_grad("0.W")[:, ::2]), "no unit is dead: this test sees nothing"


@pytest.mark.parametrize("make", [lambda: Momentum(1e-3, 0.3), lambda: Adam(beta1=0.3, beta2=0.5), lambda: Lion(beta2=0.3),
                                  lambda: RMSProp(alpha=0.3), lambda: Adam(eps=1e-30)],
                         ids=["momentum 0.3", "beta1 0.3", "Lion, beta2 0.3", "alpha 0.3", "eps 1e-30"])
def test_denormal_numbers_last_for_less_than_the_steps_between_two_sweeps(make):
    """Whatever the decay: where it is fast, moments come to denormal numbers between two sweeps, and the next one ends them."""
    optimizer, counts = make(), []
    model = Model(Dense(4, 8))
    optimizer.step(model, np.logspace(-18, 0, 40, dtype="float32"))
    for t in range(2, 40 * EVERY + 1):
        optimizer.step(model, np.zeros(40, "float32"))
        counts.append(denormals(model.params, *optimizer.state.values()))
        assert t % EVERY or counts[-1] == 0
    assert longest_run(counts) < EVERY


@every_optimizer
def test_parameters_that_decay_are_no_denormal_numbers(name):
    """Weights of dead units under a decay of ηλ = 0.01 a step."""
    optimizer = OPTIMIZERS[name](0.1, weight_decay=0.1, decoupled=True)
    model = replay(optimizer, DECAYED, np.zeros((1, 40), "float32"))
    assert np.all(model.params == 0.0)


def test_frozen_parameters_are_not_swept():
    optimizer, model = SGD(0.1, weight_decay=0.1, freeze=["b"]), Model(Dense(4, 8))
    model.set_param("b", np.full(8, 1e-39, "float32"))
    for _ in range(EVERY):
        optimizer.step(model, np.zeros(40, "float32"))
    np.testing.assert_array_equal(model.get_param("b"), np.full(8, 1e-39, "float32"))


@functools.cache
def gradients():
    """Of 40 parameters: half are dead after 128 steps, and 4 have always had a gradient that is very small."""
    g = np.random.default_rng(1).standard_normal((DECAYED, 40)).astype("float32")
    g[128:, ::2] = 0.0
    g[:, 1:9:2] *= np.array([1e-6, 1e-9, 1e-12, 1e-15], "float32")
    return g


@every_optimizer
def test_the_sweep_changes_results_by_less_than_rounding(name, monkeypatch):
    """Beside the same run without a sweep: 10,048 steps differ by no more than half a unit in the last place of a parameter of size 1."""
    swept = replay(OPTIMIZERS[name](1e-3), DECAYED, gradients()).params
    monkeypatch.setattr(base, "FLUSH_EVERY", 10 ** 9)
    optimizer = OPTIMIZERS[name](1e-3)
    kept = replay(optimizer, DECAYED, gradients()).params
    np.testing.assert_allclose(swept, kept, rtol=2.0 ** -24, atol=2.0 ** -24)
    if name not in ("SGD", "AdaGrad"):                    # no state; and none that decays
        assert denormals(*optimizer.state.values()) > 0, "without a sweep there are none either: this test sees nothing"


@pytest.mark.parametrize("eps", [1e-8, 1e-12, 1e-15])
@pytest.mark.parametrize("name", ["Adam", "AMSGrad", "NAdam", "RAdam", "RMSProp", "AdaGrad", "AdaDelta"])
def test_a_small_epsilon_loses_nothing_to_the_sweep(name, eps, monkeypatch):
    """Gradients of the size of ε, which then counts: √v is of the size of ε, and v may not become 0."""
    g = (eps * np.random.default_rng(2).standard_normal((997, 40))).astype("float32")
    swept = replay(OPTIMIZERS[name](1e-3, eps=eps), 10 * EVERY, g).params
    monkeypatch.setattr(base, "FLUSH_EVERY", 10 ** 9)
    np.testing.assert_array_equal(swept, replay(OPTIMIZERS[name](1e-3, eps=eps), 10 * EVERY, g).params)


def test_lion_with_a_dead_unit_moves_as_it_would_without_the_sweep(monkeypatch):
    """The sign of a moment that has decayed for 20,000 steps moves its parameter by η in each of them, and still gives way to a gradient."""
    after = [np.zeros((1, 40), "float32")] * STEPS + [np.full((1, 40), -1e-20, "float32")] * 3
    first = np.random.default_rng(3).standard_normal((1, 40)).astype("float32")

    def end():
        return replay(Lion(2.0 ** -14), STEPS + 4, np.concatenate([first, *after])).params

    swept = end()
    monkeypatch.setattr(base, "FLUSH_EVERY", 10 ** 9)
    np.testing.assert_array_equal(swept, end())

"""Optimizers, clipping and schedules: against the textbook's formulas, one parameter at a time, and against PyTorch.

The formulas here are the published ones with their hats, not the folded ones of xpnet/optim, and run in Python floats.
"""

import functools
import math
import sys
from collections import defaultdict

import numpy as np
import pytest
from conftest import assert_close

from xpnet.backend import blocks, get_backend
from xpnet.layers import Dense, Dropout, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.model import Model
from xpnet.optim import (
    SGD,
    AdaDelta,
    AdaGrad,
    Adam,
    AdamW,
    AMSGrad,
    ClipNorm,
    ClipValue,
    Constant,
    Cosine,
    Exponential,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    OneCycle,
    Plateau,
    Polynomial,
    RAdam,
    RMSProp,
    Step,
)
from xpnet.optim import base as optim_base

elementwise_module = sys.modules["xpnet.backend.elementwise"]   # the package's attribute of that name is the decorator

# One step of one parameter: step(θ, g, s, t, η) -> θ, with the state in s (0 at first) and t = 1, 2, …
B1, B2, EPS = 0.8, 0.95, 1e-3                             # not the defaults, and an ε that matters


def sgd(p, g, s, t, lr):
    return p - lr * g


def momentum(p, g, s, t, lr):
    s["v"] = 0.8 * s["v"] + g
    return p - lr * s["v"]


def nesterov(p, g, s, t, lr):
    s["v"] = 0.8 * s["v"] + g
    return p - lr * (g + 0.8 * s["v"])


def adagrad(p, g, s, t, lr):
    s["s"] += g * g
    return p - lr * g / (math.sqrt(s["s"]) + EPS)


def rmsprop(p, g, s, t, lr):
    s["s"] = 0.9 * s["s"] + 0.1 * g * g
    return p - lr * g / (math.sqrt(s["s"]) + EPS)


def adadelta(p, g, s, t, lr):
    s["s"] = 0.9 * s["s"] + 0.1 * g * g
    delta = g * math.sqrt(s["u"] + EPS) / math.sqrt(s["s"] + EPS)
    s["u"] = 0.9 * s["u"] + 0.1 * delta * delta
    return p - lr * delta


def moments(g, s, t):
    """m̂ and v̂"""
    s["m"] = B1 * s["m"] + (1 - B1) * g
    s["v"] = B2 * s["v"] + (1 - B2) * g * g
    return s["m"] / (1 - B1 ** t), s["v"] / (1 - B2 ** t)


def adam(p, g, s, t, lr):
    m_hat, v_hat = moments(g, s, t)
    return p - lr * m_hat / (math.sqrt(v_hat) + EPS)


def amsgrad(p, g, s, t, lr):
    m_hat, _ = moments(g, s, t)
    s["v_max"] = max(s["v_max"], s["v"])
    return p - lr * m_hat / (math.sqrt(s["v_max"] / (1 - B2 ** t)) + EPS)


def nadam(p, g, s, t, lr):
    _, v_hat = moments(g, s, t)
    mu, mu_next = (B1 * (1 - 0.5 * 0.96 ** (i * 0.1)) for i in (t, t + 1))
    s["mu"] = (s["mu"] or 1.0) * mu
    step = mu_next * s["m"] / (1 - s["mu"] * mu_next) + (1 - mu) * g / (1 - s["mu"])
    return p - lr * step / (math.sqrt(v_hat) + EPS)


def radam(p, g, s, t, lr):
    m_hat, _ = moments(g, s, t)
    rho_inf = 2 / (1 - B2) - 1
    rho = rho_inf - 2 * t * B2 ** t / (1 - B2 ** t)
    if rho <= 5:
        return p - lr * m_hat
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return p - lr * r * m_hat * math.sqrt(1 - B2 ** t) / (math.sqrt(s["v"]) + EPS)


def lion(p, g, s, t, lr):
    c = B1 * s["m"] + (1 - B1) * g
    s["m"] = B2 * s["m"] + (1 - B2) * g
    return p - lr * ((c > 0) - (c < 0))


BETAS = {"beta1": B1, "beta2": B2}
ADAM = {**BETAS, "eps": EPS}
TORCH_ADAM = {"betas": (B1, B2), "eps": EPS}
# name: (the optimizer, its formula, η, PyTorch's name for it, its options there)
OPTIMIZERS = {
    "sgd": (SGD, sgd, 0.1, "SGD", {}),
    "momentum": (functools.partial(Momentum, momentum=0.8), momentum, 0.1, "SGD", {"momentum": 0.8}),
    "nesterov": (functools.partial(Nesterov, momentum=0.8), nesterov, 0.1, "SGD", {"momentum": 0.8, "nesterov": True}),
    "adagrad": (functools.partial(AdaGrad, eps=EPS), adagrad, 0.1, "Adagrad", {"eps": EPS}),
    "rmsprop": (functools.partial(RMSProp, alpha=0.9, eps=EPS), rmsprop, 0.01, "RMSprop", {"alpha": 0.9, "eps": EPS}),
    "adadelta": (functools.partial(AdaDelta, rho=0.9, eps=EPS), adadelta, 1.0, "Adadelta", {"rho": 0.9, "eps": EPS}),
    "adam": (functools.partial(Adam, **ADAM), adam, 0.01, "Adam", TORCH_ADAM),
    "adamw": (functools.partial(AdamW, **ADAM, weight_decay=0.0), adam, 0.01, "AdamW", TORCH_ADAM),
    "amsgrad": (functools.partial(AMSGrad, **ADAM), amsgrad, 0.01, "Adam", {**TORCH_ADAM, "amsgrad": True}),
    "nadam": (functools.partial(NAdam, **ADAM, psi=0.1), nadam, 0.01, "NAdam", {**TORCH_ADAM, "momentum_decay": 0.1}),
    "radam": (functools.partial(RAdam, **ADAM), radam, 0.01, "RAdam", TORCH_ADAM),
    "lion": (functools.partial(Lion, **BETAS), lion, 0.01, None, None),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
SIZE, STEPS, DECAY = 26, 60, 0.1
FIRST = np.arange(SIZE) < 16                              # the entries of 0.W and 0.b
BIAS = np.isin(np.arange(SIZE), [12, 13, 14, 15, 24, 25])


def network():
    return Sequential(Dense(3, 4, "tanh"), Dense(4, 2))   # 0.W 12, 0.b 4, 1.W 8, 1.b 2: 26 parameters


def make(name, **options):
    return OPTIMIZERS[name][0](options.pop("lr", OPTIMIZERS[name][2]), **options)


@functools.cache
def start_and_gradients():
    """θ₀, and gradients that change from step to step and are of many sizes, some of them 0."""
    rng = np.random.default_rng(0)
    g = rng.standard_normal((STEPS, SIZE)) * np.logspace(-3, 1, SIZE)
    g[rng.random(g.shape) < 0.1] = 0.0
    return Model(network(), dtype="float64").params.copy(), g


@functools.cache
def plainly(name, coupled=0.0, decoupled=0.0, spare_biases=False, first_lr=1.0):
    """θ after the steps of the textbook's formula, from start_and_gradients."""
    _, formula, lr, _, _ = OPTIMIZERS[name]
    theta, gradients = start_and_gradients()
    end = []
    for i, p in enumerate(theta.tolist()):
        state = defaultdict(float)
        eta = lr * first_lr if FIRST[i] else lr
        keep = 0.0 if spare_biases and BIAS[i] else 1.0
        for t, g in enumerate(gradients[:, i].tolist(), 1):
            g += coupled * keep * p
            p -= eta * decoupled * keep * p
            p = formula(p, g, state, t, eta)
        end.append(p)
    return np.array(end)


def run(optimizer, backend, dtype, steps=STEPS):
    """θ after the optimizer's steps, from start_and_gradients."""
    model = backend.model(network(), dtype)
    for g in start_and_gradients()[1][:steps]:
        optimizer.step(model, backend.asarray(g, dtype))
    return model.params


# Against the formulas, on every backend.


@every_optimizer
def test_steps(name, backend, dtype):
    assert_close(run(make(name), backend, dtype), plainly(name), backend, dtype=dtype)


@every_optimizer
def test_coupled_weight_decay(name, backend, dtype):
    end = run(make(name, weight_decay=DECAY, decoupled=False), backend, dtype)
    assert_close(end, plainly(name, coupled=DECAY), backend, dtype=dtype)


@every_optimizer
def test_decoupled_weight_decay(name, backend, dtype):
    end = run(make(name, weight_decay=DECAY, decoupled=True), backend, dtype)
    assert_close(end, plainly(name, decoupled=DECAY), backend, dtype=dtype)


@every_optimizer
def test_biases_need_not_decay(name, backend):
    for decoupled in (False, True):
        end = run(make(name, weight_decay=DECAY, decoupled=decoupled, decay_biases=False), backend, backend.widest)
        kind = "decoupled" if decoupled else "coupled"
        assert_close(end, plainly(name, **{kind: DECAY}, spare_biases=True), backend)


@every_optimizer
def test_learning_rates_by_path(name, backend):
    end = run(make(name, lr_scale={"*": 5.0, "1.*": 1.0, "0.*": 0.25}), backend, backend.widest)
    assert_close(end, plainly(name, first_lr=0.25), backend)


@every_optimizer
@pytest.mark.parametrize("decoupled", [False, True])
def test_frozen_parameters_stay_as_they_are(name, decoupled, backend, dtype):
    optimizer = make(name, weight_decay=DECAY, decoupled=decoupled, freeze=("0.*",), lr_scale={"0.W": 3.0})
    end = run(optimizer, backend, dtype, steps=5)
    free = run(make(name, weight_decay=DECAY, decoupled=decoupled), backend, dtype, steps=5)
    assert_close(end, np.where(FIRST, backend.host(end), backend.host(free)), backend, dtype=dtype)
    np.testing.assert_array_equal(backend.host(end)[FIRST], start_and_gradients()[0].astype(dtype)[FIRST])


def test_default_decays():
    """Decoupled for AdamW and Lion, as they were published; the gradient's own everywhere else."""
    assert AdamW().decoupled and AdamW().weight_decay == 0.01
    assert Lion().decoupled
    others = (SGD(0.1), Momentum(0.1), Nesterov(0.1), AdaGrad(), RMSProp(), AdaDelta(), Adam(), AMSGrad(), NAdam(),
              RAdam())
    assert not any(o.decoupled or o.weight_decay for o in others)


# Against PyTorch.


@pytest.fixture
def torch64():
    """PyTorch, with float64 for what it makes itself: its NAdam keeps a product of momenta in the default dtype."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n != "lion"])
def test_against_torch(name, decay, torch64):
    _, _, lr, torch_name, options = OPTIMIZERS[name]
    theta, gradients = start_and_gradients()
    p = torch64.nn.Parameter(torch64.tensor(theta))
    theirs = getattr(torch64.optim, torch_name)([p], lr=lr, weight_decay=decay, **options)
    for g in gradients:
        p.grad = torch64.tensor(g)
        theirs.step()
    model = Model(network(), dtype="float64")
    ours = make(name, weight_decay=decay, decoupled=name == "adamw")
    for g in gradients:
        ours.step(model, g)
    np.testing.assert_allclose(model.params, p.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ours,torch_name", [(SGD(0.1), "SGD"), (AdaGrad(), "Adagrad"), (RMSProp(), "RMSprop"),
                                             (AdaDelta(), "Adadelta"), (Adam(), "Adam"), (AdamW(), "AdamW"),
                                             (NAdam(), "NAdam"), (RAdam(), "RAdam")], ids=lambda o: repr(o))
def test_defaults_are_those_of_torch(ours, torch_name):
    """All but SGD's learning rate, which has no default here."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.optim, torch_name)([torch.nn.Parameter(torch.zeros(1))]).defaults
    same = {name: name for name in ("lr", "weight_decay", "eps", "alpha", "rho")}
    for name, other in {**same, "psi": "momentum_decay"}.items():
        if hasattr(ours, name) and not (torch_name == "SGD" and name == "lr"):
            assert getattr(ours, name) == theirs[other], name
    if "betas" in theirs:
        assert (ours.beta1, ours.beta2) == theirs["betas"]


# Clipping.


def clipped(clip, g, backend, dtype):
    """What the optimizer makes of g: θ₀ - θ₁ of plain gradient descent from 0 with η = 1."""
    model = backend.model(network(), dtype)
    model.params[...] = backend.asarray(np.zeros(SIZE), dtype)
    given = backend.asarray(g, dtype)
    SGD(1.0, clip=clip, weight_decay=0.5).step(model, given)
    np.testing.assert_array_equal(backend.host(given), g.astype(dtype))     # the gradient itself stays
    return -model.params


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_clip_norm(scale, backend, dtype):
    g = scale * start_and_gradients()[1][0]
    norm = math.sqrt(math.fsum(v * v for v in g.tolist()))
    got = clipped(ClipNorm(2.0), g, backend, dtype)
    assert_close(got, g * min(1.0, 2.0 / norm), backend, dtype=dtype)
    if norm <= 2.0:
        np.testing.assert_array_equal(backend.host(got), g.astype(dtype))
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.zeros(SIZE, dtype=torch.float64))
    p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_([p], 2.0)              # divides by ‖g‖ + 1e-6
    np.testing.assert_allclose(backend.host(got), p.grad.numpy(), rtol=2e-6 if dtype == "float64" else 2e-5)


def test_clip_norm_of_nothing(backend, dtype):
    """A gradient of 0 stays 0, whatever the limit."""
    assert_close(clipped(ClipNorm(1e4), np.zeros(SIZE), backend, dtype), np.zeros(SIZE), backend, dtype=dtype)


def test_clip_value(backend, dtype):
    g = start_and_gradients()[1][0]
    assert_close(clipped(ClipValue(0.5), g, backend, dtype), np.clip(g, -0.5, 0.5), backend, dtype=dtype)


def test_weight_decay_is_not_clipped(backend):
    """Clipping is of ∂L/∂θ; the L2 term comes after it."""
    model = backend.model(network(), backend.widest)
    begin = backend.host(model.params)
    SGD(1.0, clip=ClipValue(0.1), weight_decay=1e3).step(model, backend.asarray(np.zeros(SIZE), backend.widest))
    assert_close(model.params, begin - 1e3 * begin, backend, atol=1e-3 if backend.widest == "float32" else None)


# Schedules.

SCHEDULES = {
    "constant": (Constant(0.5), [0.5] * 4),
    "step": (Step(1.0, 3, 0.5), [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
    "exponential": (Exponential(2.0, 0.5), [2, 1, 0.5, 0.25]),
    "line": (Polynomial(1.0, 4, end=0.2), [1, 0.8, 0.6, 0.4, 0.2, 0.2]),
    "polynomial": (Polynomial(1.0, 4, power=2.0), [1, 9 / 16, 4 / 16, 1 / 16, 0, 0]),
    "cosine": (Cosine(1.0, 4, end=0.2), [1, 0.6 + 0.4 * math.sqrt(0.5), 0.6, 0.6 - 0.4 * math.sqrt(0.5), 0.2, 0.2]),
    "warmup": (Cosine(1.0, 6, warmup=2), [0.5, 1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0, 0]),
    "one_cycle": (OneCycle(1.0, 10, peak=0.3, start_div=4.0, end_div=100.0),
                  [0.25, 0.625, 1, *(0.01 + 0.99 * (1 + math.cos(math.pi * i / 7)) / 2 for i in range(1, 8)), 0.01]),
    "one_cycle_down": (OneCycle(1.0, 3, peak=0.0, end_div=2.0),
                       [0.75 + 0.25 * math.cos(math.pi * (t + 1) / 3) for t in range(3)]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name):
    schedule, expected = SCHEDULES[name]
    np.testing.assert_allclose([schedule(t) for t in range(len(expected))], expected, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("ours,theirs", [
    (Step(0.3, 4, 0.2), lambda s, o: s.StepLR(o, 4, 0.2)),
    (Exponential(0.3, 0.9), lambda s, o: s.ExponentialLR(o, 0.9)),
    (Polynomial(0.3, 15, 1.7), lambda s, o: s.PolynomialLR(o, 15, 1.7)),
    (Cosine(0.3, 20, end=0.01), lambda s, o: s.CosineAnnealingLR(o, 20, 0.01)),
    (OneCycle(0.3, 20), lambda s, o: s.OneCycleLR(o, 0.3, 20, cycle_momentum=False)),
    (OneCycle(0.3, 20, 0.15, 7.0, 70.0),
     lambda s, o: s.OneCycleLR(o, 0.3, 20, None, None, 0.15, cycle_momentum=False, div_factor=7, final_div_factor=10)),
], ids=["step", "exponential", "polynomial", "cosine", "one_cycle", "one_cycle_of_other_shape"])
def test_schedule_against_torch(ours, theirs):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = theirs(torch.optim.lr_scheduler, optimizer)
    for t in range(20):
        assert math.isclose(ours(t), optimizer.param_groups[0]["lr"], rel_tol=1e-12, abs_tol=1e-15), t
        optimizer.step()
        if t < 19:
            scheduler.step()


@pytest.mark.parametrize("patience,min_delta,min_lr", [(0, 0.0, 0.0), (2, 0.0, 0.0), (3, 0.05, 0.0), (1, 0.01, 0.02)])
def test_plateau_against_torch(patience, min_delta, min_lr):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.3, patience=patience, threshold=min_delta, threshold_mode="abs", min_lr=min_lr, eps=0.0)
    ours = Plateau(0.3, 0.3, patience, min_delta, min_lr)
    values = 1 / np.sqrt(np.arange(1, 41)) + 0.02 * np.random.default_rng(0).standard_normal(40)
    rates = []
    for value in values.tolist():
        scheduler.step(value)
        ours.observe(value)
        assert math.isclose(ours(0), optimizer.param_groups[0]["lr"], rel_tol=1e-12)
        rates.append(ours(0))
    assert rates[0] == 0.3 > rates[-1]


def test_a_schedule_counts_the_steps(backend):
    model = backend.model(network(), backend.widest)
    begin = backend.host(model.params)
    optimizer = SGD(Exponential(1.0, 0.5))
    rates = []
    for _ in range(4):
        rates.append(optimizer.learning_rate())
        optimizer.step(model, backend.asarray(np.ones(SIZE), backend.widest))
    assert rates == [1.0, 0.5, 0.25, 0.125]
    assert_close(model.params, begin - 1.875, backend)


# State.


@every_optimizer
def test_resuming_is_exact(name, backend, dtype):
    """Five steps, then five more from copies of the state, in a new model and a new optimizer."""
    def optimizer():
        return make(name, lr=Cosine(0.01, steps=10), weight_decay=DECAY)

    gradients = [backend.asarray(g, dtype) for g in start_and_gradients()[1][:10]]
    model, first = backend.model(network(), dtype), optimizer()
    for g in gradients[:5]:
        first.step(model, g)
    saved, params = first.state_dict(), backend.host(model.params)
    for g in gradients[5:]:
        first.step(model, g)

    again, second = backend.model(network(), dtype, seed=1), optimizer()
    again.params[...] = backend.asarray(params)
    second.load_state_dict(again, {k: v if k == "t" else backend.host(v) for k, v in saved.items()})
    for g in gradients[5:]:
        second.step(again, g)
    np.testing.assert_array_equal(backend.host(again.params), backend.host(model.params))
    assert second.t == first.t == 10


@every_optimizer
def test_vectors_are_never_reallocated_and_keep_their_dtype(name, backend, dtype):
    model = backend.model(network(), dtype)
    optimizer = make(name, weight_decay=DECAY, clip=ClipNorm(1.0), lr_scale={"0.*": 0.5}, decay_biases=False)
    params, grads = model.params, model.grads
    for g in start_and_gradients()[1][:3]:
        model.grads[...] = backend.asarray(g, dtype)
        optimizer.step(model)
        state = dict(optimizer.state)
    optimizer.step(model)
    assert model.params is params and model.grads is grads
    assert set(optimizer.state) == set(optimizer.slots)
    for key, v in optimizer.state.items():
        assert v is state[key]
        assert_close(v, backend.host(v), backend, dtype=dtype)
        assert np.any(backend.host(v) != 0.0), key
    assert_close(params, backend.host(params), backend, dtype=dtype)


@every_optimizer
def test_a_numpy_number_as_learning_rate_changes_nothing(name, backend):
    """NumPy scalars are strong: η as np.float64 would make float32 arithmetic float64."""
    plain, strong = (backend.host(run(make(name, lr=lr), backend, "float32", steps=3)) for lr in (0.1, np.float64(0.1)))
    np.testing.assert_array_equal(plain, strong)
    scheduled = backend.host(run(make(name, lr=lambda t: np.float64(0.1)), backend, "float32", steps=3))
    np.testing.assert_array_equal(plain, scheduled)


@every_optimizer
def test_blocks_change_nothing(name, monkeypatch):
    """NumPy runs a rule over a long vector in blocks; here of 7, which does not divide 26."""
    def end():
        model = Model(network())
        optimizer = make(name, weight_decay=DECAY, clip=ClipValue(1.0), lr_scale={"0.*": 0.5}, decay_biases=False)
        for g in start_and_gradients()[1][:5]:
            optimizer.step(model, g.astype("float32"))
        return model.params

    whole = end()
    monkeypatch.setattr(elementwise_module, "SMALL", 0)
    for limit in ("LARGE", "MANY"):
        monkeypatch.setattr(blocks, limit, 0)
    monkeypatch.setattr(blocks, "BLOCK", 7)
    np.testing.assert_array_equal(end(), whole)


@every_optimizer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_denormal_numbers_are_left(name, dtype, monkeypatch):
    """Units that have died: after one gradient, of many sizes, only zeros. Denormal numbers would be slow on a CPU.

    Counted just before a sweep, when the state is as small as it gets.
    """
    sizes = (np.logspace(-25, -10, SIZE) if dtype == "float32" else np.logspace(-290, -140, SIZE)).astype(dtype)
    smallest = np.finfo(dtype).smallest_normal

    def end():
        """Parameters, and how many denormal numbers the state holds."""
        model = Model(network(), dtype=dtype)
        optimizer = make(name)
        optimizer.step(model, sizes)
        for _ in range(6 * 64 - 2):
            optimizer.step(model, 0 * sizes)
        denormal = sum(int(np.sum((v != 0) & (np.abs(v) < smallest))) for v in optimizer.state.values())
        return model.params, denormal

    flushed, left = end()
    monkeypatch.setattr(optim_base, "FLUSH_EVERY", 10**9)
    kept, denormal = end()
    if name in ("sgd", "lion"):                           # no state; and none that decays so fast or may become 0
        np.testing.assert_array_equal(flushed, kept)
        return
    assert left == 0
    assert denormal > 0, "this test sees no denormal numbers without the sweep either"
    np.testing.assert_allclose(flushed, kept, rtol=2.0 ** -24)


def test_the_smallest_momentum_of_lion_still_moves_its_parameter(monkeypatch):
    monkeypatch.setattr(optim_base, "FLUSH_EVERY", 1)
    model = Model(network())
    begin = model.params.copy()
    optimizer = Lion(0.125)
    optimizer.step(model, np.full(SIZE, 1e-36, "float32"))
    optimizer.step(model, np.zeros(SIZE, "float32"))
    np.testing.assert_allclose(model.params, begin - 0.25, rtol=1e-6)


# No host synchronisation. (A strict array on device1 refuses to become a NumPy array anyway.)


@every_optimizer
@pytest.mark.parametrize("clip", [None, ClipNorm(0.1), ClipValue(0.01)], ids=["unclipped", "norm", "value"])
def test_a_training_step_never_waits_for_the_device(name, clip, no_sync, monkeypatch):
    monkeypatch.setattr(optim_base, "FLUSH_EVERY", 2)
    net = Sequential(Dense(3, 4, "relu"), Dropout(0.2), Dense(4, 2))
    model = Model(net, backend=get_backend("array-api-strict:device1"))
    rng = np.random.default_rng(0)
    x, t = model.asarray(rng.standard_normal((5, 3))), model.asarray(rng.integers(0, 2, 5))
    loss_fn = SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=[1.0, 2.0])
    optimizer = make(name, lr=Cosine(0.1, 5, warmup=2), clip=clip, weight_decay=DECAY, decay_biases=False,
                     lr_scale={"0.*": 0.5})
    for _ in range(4):
        y, backward = model.forward(x)
        loss, dy = loss_fn(y, t)
        optimizer.step(model, backward(dy))
    assert str(loss.dtype).endswith("float32")
    with pytest.raises(AssertionError, match="host synchronisation"):
        float(loss)


# Errors.


@pytest.mark.parametrize("make_it,message", [
    (lambda: SGD(-0.1), "lr is a number from 0 on or a schedule, got -0.1"),
    (lambda: Adam(lr=float("nan")), "lr is a number from 0 on"),
    (lambda: Adam(lr="fast"), "lr is a number from 0 on or a schedule, got 'fast'"),
    (lambda: Adam(weight_decay=-1.0), "weight_decay is from 0 on"),
    (lambda: Momentum(0.1, momentum=1.0), r"momentum is in \[0, 1\), got 1.0"),
    (lambda: Adam(beta2=1.0), r"beta2 is in \[0, 1\)"),
    (lambda: RMSProp(alpha=-0.1), r"alpha is in \[0, 1\)"),
    (lambda: ClipNorm(0.0), "positive norm, got 0.0"),
    (lambda: ClipValue(-1.0), "positive limit, got -1.0"),
    (lambda: Step(0.1, 0), "every is a positive integer, got 0"),
    (lambda: Polynomial(0.1, 2.5), "steps is a positive integer, got 2.5"),
    (lambda: Cosine(0.1, 5, warmup=5), "warmup is from 0 to below steps = 5"),
    (lambda: OneCycle(0.1, 5, peak=1.0), r"peak is the part of the steps that rises, in \[0, 1\), got 1.0"),
    (lambda: Constant(-1.0), "lr is a number from 0 on, got -1.0"),
])
def test_wrong_options(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()


def test_wrong_uses(backend):
    model, other = backend.model(network()), backend.model(network())
    optimizer = Adam()
    with pytest.raises(ValueError, match=r"vector of gradients, of shape \(26,\), got \(25,\)"):
        optimizer.step(model, model.grads[:25])
    optimizer.step(model)
    with pytest.raises(ValueError, match="make one optimizer a model"):
        optimizer.step(other)
    for options in ({"freeze": "O.*"}, {"lr_scale": {"2.W": 0.1}}):
        with pytest.raises(ValueError, match="unknown path or pattern"):
            SGD(0.1, **options).step(model)


# What is frozen, and options that change.

def test_frozen_parameters_have_no_part_in_the_clipped_norm(backend, dtype):
    model = backend.model(Sequential(Dense(3, 4), Dense(4, 2)), dtype)
    g = np.arange(1.0, model.layout.size + 1)
    trained = model.layout.mask(lambda paths, param: float(paths[0].startswith("1.")))
    before = backend.host(model.params).astype(float)
    SGD(1.0, freeze="0.*", clip=ClipNorm(3.0)).step(model, backend.asarray(g, dtype))
    moved = before - backend.host(model.params)
    assert np.linalg.norm(moved) == pytest.approx(3.0, rel=1e-4)
    np.testing.assert_array_equal(moved[trained == 0], 0.0)


def test_options_may_change_during_a_run(backend):
    model = backend.model(Sequential(Dense(3, 2)))
    optimizer, g = SGD(1.0), backend.asarray(np.ones(8), "float32")
    optimizer.step(model, g)
    optimizer.clip, optimizer.freeze = ClipNorm(1e-3), ("0.b",)
    before = backend.host(model.params)
    optimizer.step(model, g)
    moved = before - backend.host(model.params)
    assert np.linalg.norm(moved) == pytest.approx(1e-3, rel=1e-2) and not moved[6:].any()

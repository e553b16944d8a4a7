"""Activations: against formulas in `math`, against PyTorch, at their kinks and far out.

That they keep the laws, and that `Dense(activation=f)` is Dense and f, is shown in test_layer_laws.py.
"""

import math

import numpy as np
import pytest
from conftest import assert_close

from xpnet.errors import LayerError
from xpnet.layer import Context
from xpnet.layers import (
    ELU,
    GELU,
    SELU,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnet.layers.activations import NAMES, get_activation

ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805    # of SELU


def logistic(x):
    """σ(x), from the exponential that does not overflow"""
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def bell(x):
    """φ(x), the normal density"""
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def bent(x):
    """u of the tanh form of GELU; ½ (1 + tanh u) is σ(2u)."""
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)


def bent_slope(x):
    """x · 2u', the inner derivative of x σ(2u)"""
    return x * math.sqrt(8 / math.pi) * (1 + 0.134145 * x ** 2)


# name: (the layer, f, f', PyTorch's f), with f and f' from the definitions
ACTIVATIONS = {
    "identity": (Identity(), lambda x: x, lambda x: 1, lambda F, x: x),
    "relu": (ReLU(), lambda x: max(x, 0), lambda x: float(x > 0), lambda F, x: F.relu(x)),
    "leaky_relu": (LeakyReLU(0.2), lambda x: x if x > 0 else 0.2 * x, lambda x: 1 if x > 0 else 0.2,
                   lambda F, x: F.leaky_relu(x, 0.2)),
    "prelu": (PReLU(), lambda x: x if x > 0 else x / 4, lambda x: 1 if x > 0 else 0.25,
              lambda F, x: F.prelu(x, x.new_tensor([0.25]))),
    "sigmoid": (Sigmoid(), logistic, lambda x: logistic(x) * logistic(-x), lambda F, x: F.sigmoid(x)),
    "tanh": (Tanh(), math.tanh, lambda x: 4 * logistic(2 * x) * logistic(-2 * x), lambda F, x: F.tanh(x)),
    "softplus": (Softplus(), lambda x: x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x)), logistic,
                 lambda F, x: F.softplus(x, threshold=1e9)),
    "elu": (ELU(0.5), lambda x: x if x > 0 else 0.5 * math.expm1(x), lambda x: 1 if x > 0 else 0.5 * math.exp(x),
            lambda F, x: F.elu(x, 0.5)),
    "elu_1": (ELU(), lambda x: x if x > 0 else math.expm1(x), lambda x: 1 if x > 0 else math.exp(x),
              lambda F, x: F.elu(x)),
    "selu": (SELU(), lambda x: LAMBDA * (x if x > 0 else ALPHA * math.expm1(x)),
             lambda x: LAMBDA * (1 if x > 0 else ALPHA * math.exp(x)), lambda F, x: F.selu(x)),
    "hard_sigmoid": (HardSigmoid(), lambda x: min(max(x / 6 + 0.5, 0), 1), lambda x: 1 / 6 if -3 < x < 3 else 0,
                     lambda F, x: F.relu6(x + 3) / 6),    # its own hardsigmoid has a float32 1/6 in its gradient
    "hard_swish": (HardSwish(), lambda x: x * min(max(x / 6 + 0.5, 0), 1),
                   lambda x: 0 if x <= -3 else 1 if x >= 3 else x / 3 + 0.5, lambda F, x: F.hardswish(x)),
    "silu": (SiLU(), lambda x: x * logistic(x), lambda x: logistic(x) * (1 + x * logistic(-x)), lambda F, x: F.silu(x)),
    "gelu": (GELU(), lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
             lambda x: math.erfc(-x / math.sqrt(2)) / 2 + x * bell(x), lambda F, x: F.gelu(x)),
    "gelu_tanh": (GELU("tanh"), lambda x: x * logistic(2 * bent(x)),
                  lambda x: logistic(2 * bent(x)) * (1 + bent_slope(x) * logistic(-2 * bent(x))),
                  lambda F, x: F.gelu(x, approximate="tanh")),
}
every_activation = pytest.mark.parametrize("name", ACTIVATIONS)
# The derivative at each kink, as documented: that of one side.
AT_KINKS = {"relu": {0.0: 0.0}, "leaky_relu": {0.0: 0.2}, "prelu": {0.0: 0.25}, "elu": {0.0: 0.5},
            "selu": {0.0: LAMBDA * ALPHA}, "hard_sigmoid": {-3.0: 0.0, 3.0: 0.0}, "hard_swish": {-3.0: 0.0, 3.0: 1.0}}
X = np.linspace(-8.0, 8.0, 33).reshape(3, 11) + 0.0625    # between the kinks, exact in float32


def value_and_slope(layer, x, backend, dtype):
    """f(x) and f'(x): the gradient for dy = 1."""
    x = backend.asarray(x, dtype)
    y, backward = layer(x)
    dx, _ = backward(backend.xp.ones_like(x))
    return y, dx


@every_activation
def test_formula(name, backend, dtype):
    layer, f, df, _ = ACTIVATIONS[name]
    y, dx = value_and_slope(layer, X, backend, dtype)
    assert_close(y, np.vectorize(f, [float])(X), backend, dtype=dtype)
    assert_close(dx, np.vectorize(df, [float])(X), backend, dtype=dtype)


@every_activation
def test_against_torch(name):
    torch = pytest.importorskip("torch")
    layer, _, _, theirs = ACTIVATIONS[name]
    x = np.concatenate([X.reshape(-1), 30.0 * X.reshape(-1)])
    y, backward = layer(x)
    dy = np.random.default_rng(0).standard_normal(x.shape)
    dx, _ = backward(dy)
    leaf = torch.tensor(x, requires_grad=True)
    expected = theirs(torch.nn.functional, leaf)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-12, atol=1e-12)


@every_activation
def test_far_out(name, backend):
    """At ±1e4 in float32 everything is finite and where the formula's limit is. Warnings are errors in this suite."""
    layer, f, df, _ = ACTIVATIONS[name]
    x = np.array([[-1e4, -1e3, -100.0, -20.0, 20.0, 100.0, 1e3, 1e4]])
    y, dx = value_and_slope(layer, x, backend, "float32")
    assert_close(y, np.vectorize(f, [float])(x), backend, dtype="float32", atol=1e-6)
    assert_close(dx, np.vectorize(df, [float])(x), backend, dtype="float32", atol=1e-6)


@every_activation
def test_kinks(name, backend):
    """The derivative at a kink is the documented side's, `kinks` names each of them, and there is none elsewhere."""
    layer, f, _, _ = ACTIVATIONS[name]
    expected = AT_KINKS.get(name, {})
    assert set(layer.kinks) == set(expected)
    for at, slope in expected.items():
        _, dx = value_and_slope(layer, [[at]], backend, backend.widest)
        assert_close(dx, [[slope]], backend)
    h = 1e-6
    for at in np.linspace(-4.0, 4.0, 17):
        jump = (f(at + h) - f(at)) / h - (f(at) - f(at - h)) / h
        assert (abs(jump) > 1e-2) == (at in layer.kinks), (at, jump)


def test_the_slope_at_zero_of_a_smooth_activation(backend):
    for name, slope in {"sigmoid": 0.25, "tanh": 1, "softplus": 0.5, "elu_1": 1, "silu": 0.5, "gelu": 0.5}.items():
        assert_close(value_and_slope(ACTIVATIONS[name][0], [[0.0]], backend, backend.widest)[1], [[slope]], backend)


# A trained slope.


@pytest.mark.parametrize("features,shape", [(None, (4, 3)), (3, (4, 3)), (3, (2, 5, 3)), (1, (4, 1))])
def test_prelu_against_torch(features, shape, backend):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, dy, a = rng.standard_normal(shape), rng.standard_normal(shape), rng.standard_normal(features or 1)
    layer = PReLU(features)
    y, backward = layer.forward({"a": backend.asarray(a)}, backend.asarray(x), Context(backend.xp))
    dx, grads = backward(backend.asarray(dy))
    leaf, slope = (torch.tensor(v, requires_grad=True) for v in (x, a))
    first = torch.movedim(leaf, -1, 1)                    # PyTorch has the features on axis 1
    expected = torch.movedim(torch.nn.functional.prelu(first, slope), 1, -1)
    expected.backward(torch.tensor(dy))
    assert_close(y, expected.detach().numpy(), backend)
    assert_close(dx, leaf.grad.numpy(), backend)
    assert_close(grads["a"], slope.grad.numpy(), backend)


def test_prelu_refuses_other_features(backend):
    with pytest.raises(LayerError, match=r"takes x of shape \(..., 3\), got \(2, 4\)"):
        PReLU(3)(backend.asarray(np.ones((2, 4))))


# Softmax and LogSoftmax: their outputs share a sum, so the Jacobian is a full matrix.


@pytest.mark.parametrize("layer,torch_name", [(Softmax(), "softmax"), (LogSoftmax(), "log_softmax")])
def test_jacobian_against_torch(layer, torch_name, backend, dtype):
    torch = pytest.importorskip("torch")
    k = 5
    x = np.random.default_rng(0).standard_normal(k)
    y, backward = layer(backend.asarray(np.stack([x] * k), dtype))
    jacobian, _ = backward(backend.asarray(np.eye(k), dtype))      # row i: ∂yᵢ/∂x

    def f(a):
        return getattr(torch.nn.functional, torch_name)(a, dim=-1)

    assert_close(y, np.stack([f(torch.tensor(x)).numpy()] * k), backend, dtype=dtype)
    assert_close(jacobian, torch.autograd.functional.jacobian(f, torch.tensor(x)).numpy(), backend, dtype=dtype)


@pytest.mark.parametrize("layer", [Softmax(), LogSoftmax()], ids=repr)
def test_over_the_last_of_any_axes(layer, backend):
    x, dy = np.random.default_rng(0).standard_normal((2, 2, 3, 4))
    y, backward = layer(backend.asarray(x))
    dx, _ = backward(backend.asarray(dy))
    p = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    full = np.eye(4) - p[..., None, :]                    # ∂ ln pᵢ/∂xⱼ = δᵢⱼ - pⱼ
    if isinstance(layer, Softmax):
        full = p[..., :, None] * full
    assert_close(y, p if isinstance(layer, Softmax) else np.log(p), backend)
    assert_close(dx, np.einsum("...i,...ij->...j", dy, full), backend)


def test_softmax_far_out(backend):
    x = np.array([[-1e4, 0.0, 1e4], [1e4, 1e4, -1e4]])
    y, dx = value_and_slope(Softmax(), x, backend, "float32")
    assert_close(y, [[0, 0, 1], [0.5, 0.5, 0]], backend, dtype="float32")
    assert_close(dx, np.zeros((2, 3)), backend, dtype="float32")
    y, dx = value_and_slope(LogSoftmax(), x, backend, "float32")
    assert_close(y, [[-2e4, -1e4, 0], [-math.log(2), -math.log(2), -2e4 - math.log(2)]], backend, dtype="float32")
    assert_close(dx, [[1, 1, -2], [-0.5, -0.5, 1]], backend, dtype="float32")


# Names.


def test_every_name_makes_its_layer():
    assert set(NAMES) - {"softmax", "log_softmax"} <= set(ACTIVATIONS)
    for name, layer_class in NAMES.items():
        assert type(get_activation(name)) is layer_class
        if name in ACTIVATIONS:
            assert type(ACTIVATIONS[name][0]) is layer_class
    assert get_activation(None) is None
    layer = ReLU()
    assert get_activation(layer) is layer


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="unknown activation 'sigmod'; did you mean 'sigmoid'"):
        get_activation("sigmod")
    with pytest.raises(TypeError, match=r"activation=ReLU is a class; write activation=ReLU\(\)"):
        get_activation(ReLU)
    with pytest.raises(TypeError, match=r"takes a layer such as ReLU\(\), or its name, got 3"):
        get_activation(3)
    with pytest.raises(ValueError, match="unknown GELU approximation 'erf'"):
        GELU("erf")

"""Initialisers: their distributions against the docstrings' formulas, and the same numbers on every backend.

Of N independent numbers, the sample variance has a relative standard deviation of √((κ - 1)/N), κ the kurtosis (3 for
a normal, 9/5 for a uniform distribution), the sample mean one of σ/√N. Five of them are allowed: chance exceeds that
once in two million seeds.
"""

import math

import numpy as np
import pytest

from xpnet import initializers
from xpnet.initializers import (
    constant,
    fans,
    from_array,
    get_initializer,
    he_normal,
    normal,
    ones,
    orthogonal,
    uniform,
    zeros,
)
from xpnet.layer import Param
from xpnet.layers import Dense, Sequential
from xpnet.layout import Layout
from xpnet.model import Model

MATRIX, KERNEL = (400, 300), (3, 5, 60, 40)               # fan_in, fan_out: 400, 300 and 900, 600
# name: (the variance for these fans, whether it is normal)
VARIANCE = {
    "lecun_normal": (lambda i, o: 1 / i, True), "lecun_uniform": (lambda i, o: 1 / i, False),
    "glorot_normal": (lambda i, o: 2 / (i + o), True), "glorot_uniform": (lambda i, o: 2 / (i + o), False),
    "he_normal": (lambda i, o: 2 / i, True), "he_uniform": (lambda i, o: 2 / i, False),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def assert_distributed(values, variance, is_normal):
    n, kurtosis = values.size, 3.0 if is_normal else 1.8
    assert abs(values.mean()) < 5 * math.sqrt(variance / n)
    assert abs(values.var() / variance - 1) < 5 * math.sqrt((kurtosis - 1) / n)
    assert abs(np.mean((values - values.mean()) ** 4) / values.var() ** 2 - kurtosis) < 0.2
    if not is_normal:
        assert 0.99 * math.sqrt(3 * variance) < np.abs(values).max() <= math.sqrt(3 * variance)


@pytest.mark.parametrize("shape,fan_in,fan_out", [(MATRIX, 400, 300), (KERNEL, 900, 600)], ids=["matrix", "kernel"])
@pytest.mark.parametrize("name", VARIANCE)
def test_variances(name, shape, fan_in, fan_out):
    variance, is_normal = VARIANCE[name]
    values = get_initializer(name, shape)(rng(), shape)
    assert values.shape == shape and values.dtype == np.float64
    assert_distributed(values, variance(fan_in, fan_out), is_normal)


def test_variances_that_are_given():
    assert_distributed(normal(0.2)(rng(), MATRIX), 0.04, True)
    assert_distributed(uniform(0.3)(rng(), MATRIX), 0.03, False)


def test_he_keeps_the_size_of_relu_activations():
    """The reason for its 2: through ten layers of ReLU, E[x²] stays where it was; with LeCun's it falls 2¹⁰ times."""
    x = rng(1).standard_normal((400, 500))
    begin = np.mean(x ** 2)
    for layer in range(10):
        x = np.maximum(x @ he_normal(rng(layer), (500, 500)), 0.0)
    assert 0.5 < np.mean(x ** 2) / begin < 2.0


def test_constants():
    np.testing.assert_array_equal(zeros(rng(), (2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(ones(rng(), (2, 3)), np.ones((2, 3)))
    np.testing.assert_array_equal(constant(0.25)(rng(), (2, 3)), np.full((2, 3), 0.25))


@pytest.mark.parametrize("shape,expected", [((7, 5), (7, 5)), ((3, 3, 4, 8), (36, 72)), ((6,), (6, 6)), ((), (1, 1))])
def test_fans(shape, expected):
    assert fans(shape) == expected


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (2, 2, 3, 5), (5,), (1, 1)])
def test_orthogonal(shape):
    q = orthogonal(rng(), shape)
    assert q.shape == shape
    q = q.reshape(-1, shape[-1])
    few = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(few, np.eye(min(q.shape)), atol=1e-14)


def test_orthogonal_is_uniform():
    """Every entry of a uniform orthogonal 2×2 matrix is as often positive as negative; a bare QR's are not."""
    signs = np.mean([orthogonal(rng(seed), (2, 2)) > 0 for seed in range(400)], axis=0)
    assert np.all(np.abs(signs - 0.5) < 5 * 0.5 / math.sqrt(400)), signs


# By name, by array.


def test_every_name_is_the_function_of_that_name():
    for name in initializers.NAMES:
        assert get_initializer(name, (2, 3)) is getattr(initializers, name)
    assert set(VARIANCE) | {"zeros", "ones", "orthogonal"} == set(initializers.NAMES)


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match="unknown initializer 'he_norml'; did you mean 'he_normal'"):
        Dense(2, 3, init="he_norml")


def test_an_array_of_any_backend(backend):
    values = rng().standard_normal((2, 3))
    net = Dense(2, 3, init=backend.asarray(values, "float32"), bias_init=[1, 2, 3])
    params = net.initial_params()
    np.testing.assert_array_equal(params["W"], values.astype("float32"))
    np.testing.assert_array_equal(params["b"], [1.0, 2.0, 3.0])


def test_an_array_is_copied():
    values = np.ones((2, 3))
    net = Dense(2, 3, init=values)
    values[0, 0] = 7.0
    np.testing.assert_array_equal(net.initial_params()["W"], np.ones((2, 3)))


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"array of shape \(2, 3\) is needed, got \(3, 2\)"):
        Dense(2, 3, init=np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"array of shape \(2, 3\) is needed, got \(3,\)"):
        from_array([1, 2, 3])(rng(), (2, 3))
    with pytest.raises(ValueError, match=r"returned shape \(3, 2\) for a parameter of shape \(2, 3\)"):
        Model(Dense(2, 3, init=lambda rng, shape: np.ones(shape[::-1])))


# Seeds.


def network(first="glorot_uniform", **options):
    return Sequential(Dense(5, 4, init=first), Dense(4, 3, init="he_normal", bias_init=normal(0.1), **options))


def test_the_same_seed_gives_the_same_weights_on_every_backend(backend, dtype):
    """The float64 draw of the host, cast: equal to the last bit."""
    drawn = Layout(network()).initial_vector(3)
    np.testing.assert_array_equal(backend.host(backend.model(network(), dtype, seed=3).params), drawn.astype(dtype))
    assert not np.any(drawn[:20] == Layout(network()).initial_vector(4)[:20])


def test_each_parameter_draws_from_its_own_stream():
    """What one draws does not move another's numbers, and no two draw the same."""
    drawn, other = network().initial_params(), network(first="orthogonal").initial_params()
    np.testing.assert_array_equal(drawn["1"]["W"], other["1"]["W"])
    np.testing.assert_array_equal(drawn["1"]["b"], other["1"]["b"])
    twins = Sequential(Dense(5, 5), Dense(5, 5)).initial_params()
    assert not np.any(twins["0"]["W"] == twins["1"]["W"])


def test_a_param_takes_what_a_layer_takes():
    for init, expected in (("ones", 1.0), (constant(2.0), 2.0), (np.full((2, 2), 3.0), 3.0), ([[4, 4], [4, 4]], 4.0)):
        np.testing.assert_array_equal(Param((2, 2), init).init(rng(), (2, 2)), np.full((2, 2), expected))

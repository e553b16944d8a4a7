"""Normalisation: against PyTorch in float64, against what the formulas promise, and the running statistics."""

import math

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet as xn
from xpnet.backend.reduce import sum_product, sum_product_plain
from xpnet.layer import Context

MANY = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**16)


def run(layer, x, params, dy, state=None, training=True):
    """y, dx, grads and the buffers' updates, on NumPy."""
    ctx = Context(xn.get_backend("numpy").xp, training, state=state or {})
    y, backward = layer.forward(params, x, ctx)
    dx, grads = backward(dy)
    return y, dx, grads, ctx.updates


def normal(rng, *shape):
    return rng.standard_normal(shape)


def torch_run(f, x, dy, *parameters):
    """y and the gradients of x and the parameters."""
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, *parameters)]
    y = f(torch, *leaves)
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)


def same(got, want, rtol=1e-9, atol=1e-10):
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=atol)


shapes = st.sampled_from([(2, 1), (3, 4), (5, 3, 2), (1, 3, 4), (2, 4, 3, 2), (1, 6, 1, 2), (2, 1, 1, 3)])


# Against PyTorch.

@MANY
@given(shape=st.sampled_from([(1, 1), (3, 1), (1, 4), (3, 5), (2, 1, 3), (2, 3, 4), (2, 2, 2, 3)]), k=st.integers(1, 3), affine=st.booleans(),
       seed=seeds, eps=st.sampled_from([1e-5, 1e-3, 1.0]))
def test_layer_norm_and_rms_norm_against_torch(shape, k, affine, seed, eps):
    rng = np.random.default_rng(seed)
    features = shape[-min(k, len(shape) - 1):]
    x, dy, gamma, beta = normal(rng, *shape), normal(rng, *shape), normal(rng, *features), normal(rng, *features)
    own = {"gamma": gamma, "beta": beta} if affine else {}
    y, dx, grads, _ = run(xn.LayerNorm(features, eps, affine), x, own, dy)
    same((y, dx, *grads.values()), torch_run(lambda torch, a, *p: torch.nn.functional.layer_norm(a, features, *p, eps=eps), x, dy,
                                             *own.values()))
    own.pop("beta", None)
    y, dx, grads, _ = run(xn.RMSNorm(features, eps, affine), x, own, dy)
    same((y, dx, *grads.values()), torch_run(lambda torch, a, *p: torch.nn.functional.rms_norm(a, features, *p, eps=eps), x, dy,
                                             *own.values()))


@MANY
@given(shape=shapes, affine=st.booleans(), seed=seeds, data=st.data())
def test_group_norm_against_torch(shape, affine, seed, data):
    rng, c = np.random.default_rng(seed), shape[1]
    groups = data.draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
    if math.prod(shape[1:]) == groups:                    # one number in a group: PyTorch refuses it
        return
    own = {"gamma": normal(rng, c), "beta": normal(rng, c)} if affine else {}
    x, dy = normal(rng, *shape), normal(rng, *shape)
    y, dx, grads, _ = run(xn.GroupNorm(groups, c, affine=affine), x, own, dy)
    same((y, dx, *grads.values()), torch_run(lambda torch, a, *p: torch.nn.functional.group_norm(a, groups, *p), x, dy, *own.values()))


@MANY
@given(shape=st.sampled_from([(1, 3, 4), (2, 1, 2), (2, 4, 3, 2), (1, 6, 1, 2)]), affine=st.booleans(), seed=seeds)
def test_instance_norm_against_torch(shape, affine, seed):
    rng, c = np.random.default_rng(seed), shape[1]
    own = {"gamma": normal(rng, c), "beta": normal(rng, c)} if affine else {}
    x, dy = normal(rng, *shape), normal(rng, *shape)
    y, dx, grads, _ = run(xn.InstanceNorm(c, affine=affine), x, own, dy)
    given_p = {"weight": 1, "bias": 2}

    def f(torch, *a):
        return torch.nn.functional.instance_norm(a[0], **({name: a[i] for name, i in given_p.items()} if affine else {}))

    same((y, dx, *grads.values()), torch_run(f, x, dy, *own.values()))


@MANY
@given(shape=shapes, affine=st.booleans(), seed=seeds, momentum=st.sampled_from([0.1, 0.3, 1.0]))
def test_batch_norm_against_torch(shape, affine, seed, momentum):
    """Three steps of training, whose statistics then serve inference."""
    torch = pytest.importorskip("torch")
    rng, c = np.random.default_rng(seed), shape[1]
    layer = xn.BatchNorm(c, momentum=momentum, affine=affine)
    state = {layer.mean: normal(rng, c), layer.var: rng.uniform(0.5, 2.0, c)}
    theirs = [torch.tensor(state[b]) for b in (layer.mean, layer.var)]
    for training in (True, True, True, False):
        own = {"gamma": normal(rng, c), "beta": normal(rng, c)} if affine else {}
        x, dy = 2.0 * normal(rng, *shape) + 1.0, normal(rng, *shape)
        y, dx, grads, updates = run(layer, x, own, dy, state, training)
        state |= updates
        assert bool(updates) == training

        def f(torch, a, *p, training=training):
            return torch.nn.functional.batch_norm(a, *theirs, *(p or (None, None)), training=training, momentum=momentum)

        same((y, dx, *grads.values()), torch_run(f, x, dy, *own.values()), atol=1e-8)
        same((state[layer.mean], state[layer.var]), [a.numpy() for a in theirs])


WRAPPED = st.sampled_from([(1, 1), (1, 4), (5, 1), (3, 4), (6, 2)])


@MANY
@given(size=WRAPPED, n=st.integers(1, 4), seed=seeds)
def test_weight_norm_against_torch(size, n, seed):
    torch = pytest.importorskip("torch")
    rng, (d, k) = np.random.default_rng(seed), size
    x, dy, v, g, b = normal(rng, n, d), normal(rng, n, k), normal(rng, d, k), normal(rng, k), normal(rng, k)
    y, dx, grads, _ = run(xn.WeightNorm(xn.Dense(d, k)), x, {"g": g, "v": v, "layer": {"b": b}}, dy)

    def f(torch, a, v, g, b):
        return torch.nn.functional.linear(a, torch._weight_norm(v.T, g[:, None], 0), b)

    same((y, dx, grads["v"], grads["g"], grads["layer"]["b"]), torch_run(f, x, dy, v, g, b))
    assert torch


@MANY
@given(size=WRAPPED, seed=seeds)
def test_spectral_norm_against_torch(size, seed):
    """PyTorch, given our u and v: in evaluation it iterates no further."""
    torch = pytest.importorskip("torch")
    rng, (d, k), n = np.random.default_rng(seed), size, 3
    x, dy, W, b = normal(rng, n, d), normal(rng, n, k), normal(rng, d, k), normal(rng, k)
    layer = xn.SpectralNorm(xn.Dense(d, k))
    u = layer.u.init(rng, (k,))
    for training in (True, False):
        y, dx, grads, updates = run(layer, x, {"W": W, "layer": {"b": b}}, dy, {layer.u: u}, training)
        linear = torch.nn.Linear(d, k).double()
        theirs = torch.nn.utils.parametrizations.spectral_norm(linear).eval()
        made = theirs.parametrizations.weight[0]
        v = W @ u / np.linalg.norm(W @ u)
        theirs.parametrizations.weight.original.data = torch.tensor(W.T.copy())
        theirs.bias.data = torch.tensor(b)
        with torch.no_grad():
            made._u.copy_(torch.tensor(u))
            made._v.copy_(torch.tensor(v))
        leaf = torch.tensor(x, requires_grad=True)
        expected = theirs(leaf)
        expected.backward(torch.tensor(dy))
        same((y, dx, grads["W"].T, grads["layer"]["b"]), (expected.detach().numpy(), leaf.grad.numpy(),
                                                          theirs.parametrizations.weight.original.grad.numpy(), theirs.bias.grad.numpy()))
        assert (layer.u in updates) == training


# What the formulas promise.

@pytest.mark.parametrize("make, shape, axes", [
    (lambda: xn.LayerNorm(6), (4, 6), (1,)), (lambda: xn.LayerNorm((3, 6)), (2, 3, 6), (1, 2)), (lambda: xn.InstanceNorm(3), (2, 3, 4, 5), (2, 3)),
    (lambda: xn.GroupNorm(1, 3), (2, 3, 4, 5), (1, 2, 3)), (lambda: xn.BatchNorm(3), (6, 3), (0,)), (lambda: xn.BatchNorm(3), (2, 3, 4, 5), (0, 2, 3)),
], ids=["LayerNorm", "LayerNorm(3, 6)", "InstanceNorm", "GroupNorm", "BatchNorm", "BatchNorm(images)"])
def test_mean_0_and_variance_1_whatever_the_scale(make, shape, axes, backend):
    """And the gradient has no component along a shift or a scaling of x."""
    rng = np.random.default_rng(0)
    model = backend.model(xn.Sequential(make()), backend.widest)
    x = backend.asarray(50.0 + 10.0 * rng.standard_normal(shape), backend.widest)
    with_dy = backend.asarray(rng.standard_normal(shape), backend.widest)
    y, backward = model.forward(x)
    y = backend.host(y)
    dx = backend.host(model.net.forward(model._views, x, Context(backend.xp, True, state=model.state))[1](with_dy)[0])
    np.testing.assert_allclose(y.mean(axis=axes), 0.0, atol=2e-5)
    np.testing.assert_allclose(y.var(axis=axes), 1.0, rtol=2e-5)
    np.testing.assert_allclose(dx.sum(axis=axes), 0.0, atol=2e-5)
    np.testing.assert_allclose((dx * y).sum(axis=axes), 0.0, atol=2e-5)


def test_rms_norm_has_a_mean_square_of_1(backend, dtype):
    x = backend.asarray(3.0 + np.random.default_rng(0).standard_normal((4, 6)), dtype)
    y, _ = xn.RMSNorm(6)(x)
    np.testing.assert_allclose((backend.host(y) ** 2).mean(axis=1), 1.0, rtol=1e-5)


def test_the_wrappers_begin_as_the_layer_would(backend, dtype):
    W = np.random.default_rng(0).standard_normal((4, 3))
    x = backend.asarray(np.eye(4), dtype)
    model = backend.model(xn.WeightNorm(xn.Dense(4, 3, init=W, bias=False)), dtype)
    assert model.paths() == ["g", "v"]
    assert_close(model.predict(x), W, backend, dtype=dtype)


def test_weight_norm_of_an_initialiser_keeps_the_distribution():
    model = xn.Model(xn.WeightNorm(xn.Dense(500, 200, init="lecun_normal", bias=False)), dtype="float64")
    W = model.predict(np.eye(500))
    assert W.std() == pytest.approx(math.sqrt(1 / 500), rel=0.01)
    plain = xn.Model(xn.Dense(500, 200, init="lecun_normal", bias=False), dtype="float64").get_param("W")
    assert np.linalg.norm(W, axis=0).std() == pytest.approx(np.linalg.norm(plain, axis=0).std(), rel=0.2)


def test_spectral_norm_comes_to_the_largest_singular_value(backend, dtype):
    model = backend.model(xn.Sequential(xn.SpectralNorm(xn.Dense(7, 5, bias=False))), dtype)
    x = backend.asarray(np.random.default_rng(0).standard_normal((3, 7)), dtype)
    assert model.paths() == ["0.W"]
    for _ in range(60):
        y, backward = model.forward(x)
        backward(y)
    W = np.linalg.svd(backend.host(model.predict(backend.asarray(np.eye(7), dtype))), compute_uv=False)
    assert W[0] == pytest.approx(1.0, rel=1e-5)


def test_weight_norm_of_a_layer_without_a_weight_or_with_another():
    with pytest.raises(ValueError, match="has no parameter 'W' of its own, but none at all"):
        xn.WeightNorm(xn.ReLU())
    with pytest.raises(ValueError, match="has no parameter 'V' of its own, but W, b"):
        xn.SpectralNorm(xn.Dense(2, 3), weight="V")
    with pytest.raises(TypeError, match="takes a layer"):
        xn.WeightNorm(3)
    biased = xn.Dense(2, 3, "prelu", bias_init="ones")    # a bias is one row: g is its size by output
    model = xn.Model(xn.WeightNorm(biased, weight="b"), dtype="float64")
    assert model.paths() == ["g", "v", "layer.W", "layer.activation.a"]


# Running statistics.

def test_running_statistics_follow_the_batches(backend, dtype):
    """After many steps on one batch they are its mean and unbiased variance, and inference gives nearly what training does."""
    rng = np.random.default_rng(0)
    x_host = 3.0 + 2.0 * rng.standard_normal((50, 4))
    model = backend.model(xn.Sequential(xn.BatchNorm(4, momentum=0.5)), dtype)
    x = backend.asarray(x_host, dtype)
    for _ in range(40):
        y, backward = model.forward(x)
        backward(y)
    layer = model.net.layers[0]
    assert_close(model.state[layer.mean], x_host.mean(axis=0), backend, dtype=dtype)
    assert_close(model.state[layer.var], x_host.var(axis=0, ddof=1), backend, dtype=dtype)
    assert_close(model.predict(x), backend.host(y) * math.sqrt(49 / 50), backend, rtol=1e-5, atol=1e-5)


def test_statistics_are_committed_after_backward_only_and_saved(tmp_path):
    rng = np.random.default_rng(0)
    model = xn.Model(xn.Sequential(xn.Dense(3, 2), xn.BatchNorm(2)), dtype="float64")
    layer, x = model.net.layers[1], rng.standard_normal((6, 3))
    before = model.state[layer.mean].copy()
    y, backward = model.forward(x)
    np.testing.assert_array_equal(model.state[layer.mean], before)
    backward(y)
    assert np.all(model.state[layer.mean] != before)
    model.save(tmp_path / "m.npz")
    again = xn.Model(xn.Sequential(xn.Dense(3, 2), xn.BatchNorm(2)), dtype="float64", seed=9).load(tmp_path / "m.npz")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_a_batch_norm_used_twice_takes_two_steps():
    layer = xn.BatchNorm(2, momentum=0.5)
    net = xn.Sequential(layer, xn.Tanh(), layer)
    model = xn.Model(net, dtype="float64")
    x = 1.0 + np.random.default_rng(0).standard_normal((5, 2))
    y, backward = model.forward(x)
    backward(y)
    inner = np.tanh((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5))
    np.testing.assert_allclose(model.state[layer.mean], 0.25 * x.mean(axis=0) + 0.5 * inner.mean(axis=0), atol=1e-12)


def test_one_number_of_a_feature(backend, dtype):
    """v = 0: y = β, no gradient of x, and the running variance stays."""
    model = backend.model(xn.Sequential(xn.BatchNorm(3)), dtype)
    x = backend.asarray([[1.0, 2.0, 3.0]], dtype)
    y, backward = model.forward(x)
    assert_close(y, np.zeros((1, 3)), backend)
    dx = model.net.forward(model._views, x, Context(backend.xp, True, state=model.state))[1](y + 1.0)[0]
    assert_close(dx, np.zeros((1, 3)), backend)
    backward(y)
    assert_close(model.state[model.net.layers[0].var], np.ones(3), backend)
    assert_close(model.state[model.net.layers[0].mean], [0.1, 0.2, 0.3], backend)


# Gradients by finite differences, in training and in inference.

@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make, shape", [
    (lambda: xn.Sequential(xn.Dense(4, 6), xn.BatchNorm(6), xn.Tanh(), xn.LayerNorm(6), xn.RMSNorm(6), xn.Dense(6, 2)), (5, 4)),
    (lambda: xn.Sequential(xn.BatchNorm(4), xn.GroupNorm(2, 4), xn.Tanh(), xn.InstanceNorm(4, affine=True), xn.Flatten()), (3, 4, 2, 3)),
    (lambda: xn.Sequential(xn.WeightNorm(xn.Dense(4, 5, "tanh")), xn.SpectralNorm(xn.Dense(5, 2))), (4, 4)),
], ids=["features", "images", "weights"])
def test_gradient_check(make, shape, training):
    rng = np.random.default_rng(0)
    model, x = xn.Model(make(), dtype="float64"), rng.standard_normal(shape)
    y, _ = model.forward(x)
    report = xn.gradient_check(model, x, xn.MeanSquaredError(), rng.standard_normal(y.shape), training=training)
    assert report.ok, report


# Precision.

def test_half_precision_sums_do_not_overflow():
    """The squares of 4096 numbers near 8 sum to 262,144, beyond float16's 65,504."""
    model = xn.Model(xn.Sequential(xn.LayerNorm(4096), xn.RMSNorm(4096)), dtype="mixed")
    x = np.full((2, 4096), 8.0) * np.sign(np.random.default_rng(0).standard_normal((2, 4096)))
    y, backward = model.forward(model.asarray(x))
    assert np.all(np.isfinite(y)) and abs(np.abs(y).mean() - 1.0) < 0.01
    backward(1e-4 * y)
    assert np.all(np.isfinite(model.grads))


@pytest.mark.parametrize("axes", [(1,), (0,), (0, 1), (0, 2), (2,), (-1,)])
def test_sum_product_is_the_sum_of_the_product(axes, backend, dtype):
    rng = np.random.default_rng(0)
    shape = (3, 4, 5) if max(axes) > 1 or -1 in axes else (3, 4)
    a, b = (backend.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
    if min(axes) < 0 or max(axes) < len(shape):
        plain = sum_product_plain(backend.xp, a, b, axes, 0.5)
        assert_close(sum_product(backend.xp, a, b, axes, 0.5), backend.host(plain), backend, dtype=dtype)


# Errors.

@pytest.mark.parametrize("make, shape, message", [
    (lambda: xn.LayerNorm(5), (4, 3), r"takes x of shape \(batch, ..., 5\), got \(4, 3\)"),
    (lambda: xn.LayerNorm((2, 5)), (2, 5), r"\(batch, ..., 2, 5\), got \(2, 5\)"),
    (lambda: xn.RMSNorm(5), (5,), r"got \(5,\)"),
    (lambda: xn.GroupNorm(2, 4), (3, 5, 2), r"takes x of shape \(batch, 4\) or \(batch, 4, ...\), got \(3, 5, 2\)"),
    (lambda: xn.InstanceNorm(4), (3, 4), r"takes x of shape \(batch, 4, ...\), got \(3, 4\)"),
    (lambda: xn.BatchNorm(4), (3, 5), r"takes x of shape \(batch, 4\) or \(batch, 4, ...\), got \(3, 5\)"),
    (lambda: xn.BatchNorm(4), (4,), r"got \(4,\)"),
])
def test_shapes_that_do_not_fit(make, shape, message, backend):
    model = backend.model(xn.Sequential(make()))
    with pytest.raises(xn.LayerError, match=message):
        model.forward(backend.asarray(np.zeros(shape), "float32"))


def test_a_dtype_that_is_not_the_parameters(backend):
    if backend.float64:
        layer = xn.LayerNorm(3)
        with pytest.raises(xn.LayerError, match="convert x first"):
            layer.forward({"gamma": backend.asarray(np.ones(3), "float32"), "beta": backend.asarray(np.ones(3), "float32")},
                          backend.asarray(np.ones((2, 3)), "float64"), Context(backend.xp))


@pytest.mark.parametrize("make, message", [
    (lambda: xn.LayerNorm(0), "LayerNorm: features is an integer from 1 on"), (lambda: xn.LayerNorm(()), "a tuple of numbers"),
    (lambda: xn.GroupNorm(3, 4), "groups divides channels, got 3 groups of 4 channels"), (lambda: xn.BatchNorm(2, momentum=0.0), "momentum"),
    (lambda: xn.BatchNorm(2, eps=0.0), "eps is a positive number"), (lambda: xn.LayerNorm(2, eps="small"), "eps is a positive number")])
def test_wrong_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_summary_and_neighbours():
    net = xn.Sequential(xn.Dense(4, 5), xn.BatchNorm(5), xn.WeightNorm(xn.Dense(5, 3)), xn.LayerNorm(3), xn.SpectralNorm(xn.Dense(3, 2)))
    text = str(xn.Model(net).summary((4,)))
    assert "WeightNorm(Dense(5, 3))" in text and "trainable parameters" in text
    with pytest.raises(xn.LayerError, match="LayerNorm"):
        xn.Sequential(xn.Dense(4, 5), xn.LayerNorm(4))


def test_a_layer_is_written_with_the_options_that_are_not_the_defaults():
    written = "BatchNorm(4, eps=0.001, momentum=0.5, affine=False)"
    assert repr(xn.BatchNorm(4, 1e-3, 0.5, False)) == written and repr(eval(written, vars(xn))) == written
    assert repr(xn.LayerNorm((2, 3))) == "LayerNorm((2, 3))" and repr(xn.InstanceNorm(3, affine=True)) == "InstanceNorm(3, affine=True)"
    assert repr(xn.WeightNorm(xn.Dense(2, 3), "b")) == "WeightNorm(Dense(2, 3), weight='b')"

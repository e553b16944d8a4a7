"""Convolutions: windows and their adjoint against their definition, the layers against PyTorch, and what a convolution promises."""

import itertools
import math
import os

import numpy as np
import pytest
from conftest import STATE, assert_close
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import xpnet as xn
from xpnet.backend.windows import places, positions, windows, windows_adjoint, windows_adjoint_plain, windows_plain
from xpnet.errors import LayerError

MANY = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**16)


# Windows and their adjoint.

@st.composite
def layouts(draw):
    """(shape of x as (groups, channels, *size, n), kernel, stride, dilation): at least one window."""
    axes = draw(st.integers(1, 2))
    kernel, stride, dilation = (tuple(draw(st.integers(1, 3)) for _ in range(axes)) for _ in range(3))
    size = tuple(d * (k - 1) + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation))
    return (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size, draw(st.integers(1, 3))), kernel, stride, dilation


def by_definition(x, kernel, stride, dilation):
    """u[g, i, …, c, o, …, n] = x[g, c, s·o + d·i, …, n], one number at a time."""
    g, c, *size, n = x.shape
    out = tuple((m - d * (k - 1) - 1) // s + 1 for m, k, s, d in zip(size, kernel, stride, dilation))
    u = np.empty((g, *kernel, c, *out, n))
    for i in np.ndindex(*kernel):
        for o in np.ndindex(*out):
            at = tuple(s * p + d * q for p, q, s, d in zip(o, i, stride, dilation))
            u[(slice(None), *i, slice(None), *o)] = x[(slice(None), slice(None), *at)]
    return u


@MANY
@given(layout=layouts(), seed=seeds)
def test_windows_are_what_their_definition_says(layout, seed):
    shape, kernel, stride, dilation = layout
    rng = np.random.default_rng(seed)
    xp, x = xn.get_backend("numpy").xp, rng.standard_normal(shape)
    u = windows(xp, x, kernel, stride, dilation)
    np.testing.assert_array_equal(u, by_definition(x, kernel, stride, dilation))
    v = rng.standard_normal(u.shape)                      # ⟨v, windows x⟩ = ⟨adjoint v, x⟩
    back = windows_adjoint(xp, v, shape[2:-1], stride, dilation)
    assert back.shape == shape and np.sum(v * u) == pytest.approx(np.sum(back * x), rel=1e-10, abs=1e-10)


LAYOUTS = [((1, 2, 5, 2), (3,), (1,), (1,)), ((2, 1, 7, 3), (2,), (3,), (2,)), ((1, 3, 4, 5, 2), (2, 3), (1, 2), (1, 1)),
           ((2, 2, 7, 6, 1), (3, 2), (2, 1), (2, 3)), ((1, 1, 1, 1, 1), (1, 1), (1, 1), (1, 1)), ((1, 2, 4, 4, 3), (2, 2), (2, 2), (1, 1))]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_windows_of_each_backend(layout, backend, dtype):
    """The backend's own way and the standard's, of an array in any order of memory."""
    shape, kernel, stride, dilation = layout
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    expected = by_definition(x, kernel, stride, dilation)
    v = rng.standard_normal(expected.shape).astype(dtype)
    back = windows_adjoint_plain(xn.get_backend("numpy").xp, v.astype("float64"), shape[2:-1], stride, dilation)
    order = tuple(range(len(shape)))
    for axes in (order, order[::-1]):
        given_x = backend.xp.permute_dims(backend.asarray(np.transpose(x, axes)), axes if axes == order else order[::-1])
        given_v = backend.asarray(v)
        for forward, adjoint in ((windows, windows_adjoint), (windows_plain, windows_adjoint_plain)):
            assert_close(forward(backend.xp, given_x, kernel, stride, dilation), expected, backend, 0, 0, dtype)
            assert_close(adjoint(backend.xp, given_v, shape[2:-1], stride, dilation), back, backend, dtype=dtype)
        np.testing.assert_array_equal(backend.host(given_x), x)
        np.testing.assert_array_equal(backend.host(given_v), v)


def test_positions_and_places():
    assert [positions(n, 3, 1, 1) for n in range(6)] == [0, 0, 0, 1, 2, 3]
    assert positions(7, 3, 2, 1) == 3 and positions(7, 3, 2, 2) == 2 and positions(4, 3, 1, 2) == 0
    assert places((2, 2), (1, 2), (2, 3), (1, 1)) == [((0, 0), (slice(0, 3, 2), slice(0, 4, 3))), ((0, 1), (slice(0, 3, 2), slice(1, 5, 3)))]


# Against PyTorch.

def in_order(W, groups=1, transpose=False):
    """xpnet's (*kernel, in / groups, out) as PyTorch's (out, in / groups, *kernel), or of a transposed one (in, out / groups, *kernel)."""
    axes = W.ndim - 2
    if not transpose:
        return np.moveaxis(W, (-1, -2), (0, 1)).copy()
    *kernel, c, k = W.shape
    split = np.reshape(W, (*kernel, c, groups, k // groups))
    return np.reshape(np.transpose(split, (axes + 1, axes, axes + 2, *range(axes))), (c * groups, k // groups, *kernel))


def against_torch(layer, x, f, rng, transpose=False):
    """y, dx, dW and db of the layer and of f(torch, x, W, b)."""
    torch = pytest.importorskip("torch")
    params = {name: rng.standard_normal(p.shape) for name, p in layer.params().items()}
    y, backward = layer(x, params)
    dy = rng.standard_normal(y.shape)
    dx, grads = backward(dy)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, in_order(params["W"], layer.groups, transpose))]
    b = torch.tensor(params["b"], requires_grad=True) if "b" in params else None
    out = f(torch, *leaves, b)
    assert tuple(out.shape) == y.shape
    out.backward(torch.tensor(dy))
    for name, got, want in (("y", y, out), ("dx", dx, leaves[0].grad), ("dW", in_order(grads["W"], layer.groups, transpose), leaves[1].grad)):
        np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-10, atol=1e-11, err_msg=name)
    if b is not None:
        np.testing.assert_allclose(grads["b"], b.grad.numpy(), rtol=1e-10, atol=1e-11, err_msg="db")


@st.composite
def convolutions(draw, axes):
    """(layer, shape of x)"""
    def each(least, most):
        return tuple(draw(st.integers(least, most)) for _ in range(axes))

    groups = draw(st.integers(1, 3))
    c, k = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel, stride, dilation = each(1, 3), each(1, 3), each(1, 2)
    padding = draw(st.sampled_from(["same", "valid", None]))
    if padding is None:
        padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(axes))
    cls = xn.Conv1D if axes == 1 else xn.Conv2D
    layer = cls(c, k, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=draw(st.booleans()))
    shape = (draw(st.integers(1, 3)), c, *each(1, 7))
    padded = [a + n + b for n, (a, b) in zip(shape[2:], layer.padding_for(shape[2:]))]
    assume(all(n > d * (m - 1) for n, m, d in zip(padded, kernel, dilation)))
    return layer, shape


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("examples", [30, pytest.param(500, marks=pytest.mark.full)])
def test_convolution_against_torch(axes, examples):
    @settings(max_examples=examples, deadline=None)
    @given(case=convolutions(axes), seed=seeds)
    def check(case, seed):
        layer, shape = case
        rng = np.random.default_rng(seed)
        pairs = [n for pair in reversed(layer.padding_for(shape[2:])) for n in pair]

        def f(torch, x, W, b):
            F = torch.nn.functional
            conv = F.conv1d if axes == 1 else F.conv2d
            return conv(F.pad(x, pairs), W, b, stride=layer.stride, dilation=layer.dilation, groups=layer.groups)

        against_torch(layer, rng.standard_normal(shape), f, rng)

    check()


@st.composite
def transposed(draw):
    def each(least, most):
        return tuple(draw(st.integers(least, most)) for _ in range(2))

    groups = draw(st.integers(1, 2))
    c, k = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    stride, dilation = each(1, 3), each(1, 3)
    output_padding = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
    layer = xn.ConvTranspose2D(c, k, each(1, 3), stride=stride, dilation=dilation, output_padding=output_padding, padding=each(0, 2),
                               groups=groups, bias=draw(st.booleans()))
    shape = (draw(st.integers(1, 3)), c, *each(1, 4))
    assume(all(n > 2 * a for n, (a, _) in zip(layer.full_size(shape[2:]), layer.padding)))
    return layer, shape


@pytest.mark.parametrize("examples", [30, pytest.param(500, marks=pytest.mark.full)])
def test_transposed_convolution_against_torch(examples):
    @settings(max_examples=examples, deadline=None)
    @given(case=transposed(), seed=seeds)
    def check(case, seed):
        layer, shape = case
        rng = np.random.default_rng(seed)

        def f(torch, x, W, b):
            return torch.nn.functional.conv_transpose2d(x, W, b, stride=layer.stride, padding=tuple(a for a, _ in layer.padding),
                                                        output_padding=layer.output_padding, dilation=layer.dilation, groups=layer.groups)

        against_torch(layer, rng.standard_normal(shape), f, rng, transpose=True)

    check()


# "same": TensorFlow's table, which PyTorch has for stride 1 only.

@pytest.mark.parametrize("size,kernel,stride,dilation,pair,out", [
    (5, 3, 1, 1, (1, 1), 5), (5, 2, 1, 1, (0, 1), 5), (5, 4, 1, 1, (1, 2), 5), (6, 3, 2, 1, (0, 1), 3), (5, 3, 2, 1, (1, 1), 3),
    (13, 6, 5, 1, (1, 2), 3), (5, 1, 1, 1, (0, 0), 5), (7, 3, 1, 2, (2, 2), 7), (3, 2, 5, 1, (0, 0), 1), (1, 3, 1, 1, (1, 1), 1)])
def test_same_padding(size, kernel, stride, dilation, pair, out):
    layer = xn.Conv1D(1, 1, kernel, stride=stride, dilation=dilation, padding="same")
    assert layer.padding_for((size,)) == (pair,) and layer.out_size((size,)) == (out,)
    assert layer(np.ones((2, 1, size)))[0].shape == (2, 1, out)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_same_padding_is_that_of_torch_for_stride_1(kernel):
    rng = np.random.default_rng(kernel)
    layer = xn.Conv2D(2, 3, kernel, padding="same")
    against_torch(layer, rng.standard_normal((2, 2, 6, 5)), lambda torch, x, W, b: torch.nn.functional.conv2d(x, W, b, padding="same"), rng)


# Published numbers, and what a convolution promises.

def test_cs231n_numbers(backend):
    """Stanford CS231n (2016), assignment 2, the check of conv_forward_naive: 8 digits."""
    x = np.linspace(-0.1, 0.5, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    W = np.linspace(-0.2, 0.3, 3 * 3 * 4 * 4).reshape(3, 3, 4, 4)
    published = [[[[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]], [[0.21027089, 0.21661097], [0.22847626, 0.23004637]],
                  [[0.50813986, 0.54309974], [0.64082444, 0.67101435]]],
                 [[[-0.98053589, -1.03143541], [-1.19128892, -1.24695841]], [[0.69108355, 0.66880383], [0.59480972, 0.56776003]],
                  [[2.36270298, 2.36904306], [2.38090835, 2.38247847]]]]
    model = backend.model(xn.Conv2D(3, 3, 4, stride=2, padding=1), backend.widest)
    model.set_param("W", backend.asarray(np.moveaxis(W, (0, 1), (-1, -2))))
    model.set_param("b", backend.asarray(np.linspace(-0.1, 0.2, 3)))
    y, _ = model.forward(backend.asarray(x, backend.widest))
    assert_close(y, published, backend, atol=1e-8 if backend.float64 else 1e-6, dtype=backend.widest)


def test_an_edge_filter_by_hand():
    x = np.array([[[[1.0, 1.0, 0.0, 0.0]] * 3]])
    layer = xn.Conv2D(1, 1, (1, 2), init=np.reshape([1.0, -1.0], (1, 2, 1, 1)))
    y, backward = layer(x)
    np.testing.assert_array_equal(y, [[[[0.0, 1.0, 0.0]] * 3]])     # the kernel is not flipped
    dx, grads = backward(np.ones_like(y))
    np.testing.assert_array_equal(dx, [[[[1.0, 0.0, 0.0, -1.0]] * 3]])
    np.testing.assert_array_equal(np.ravel(grads["W"]), [6.0, 3.0])
    np.testing.assert_array_equal(grads["b"], [9.0])


def test_a_shifted_image_gives_a_shifted_output():
    rng = np.random.default_rng(0)
    layer, x = xn.Conv2D(2, 3, 3, "tanh"), rng.standard_normal((1, 2, 8, 9))
    y, shifted = layer(x)[0], layer(np.roll(x, (1, 2), axis=(2, 3)))[0]
    np.testing.assert_allclose(shifted[..., 1:, 2:], y[..., :-1, :-2], rtol=1e-13)


def test_a_kernel_of_size_1_is_dense_and_a_kernel_of_the_images_size_too():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 2, 5))
    conv, dense = xn.Conv2D(3, 6, 1), xn.Dense(3, 6)
    W, b = rng.standard_normal((3, 6)), rng.standard_normal(6)
    y, _ = conv(x, {"W": W[None, None], "b": b})
    np.testing.assert_allclose(np.moveaxis(y, 1, -1), dense(np.moveaxis(x, 1, -1), {"W": W, "b": b})[0], rtol=1e-12)
    whole = xn.Conv2D(3, 6, (2, 5))
    W = rng.standard_normal((2, 5, 3, 6))
    y, _ = whole(x, {"W": W, "b": b})
    rows = np.moveaxis(x, 1, -1).reshape(4, -1)
    np.testing.assert_allclose(y[:, :, 0, 0], rows @ W.reshape(30, 6) + b, rtol=1e-12)


def test_a_causal_convolution_sees_no_future():
    rng = np.random.default_rng(0)
    layer, x = xn.Conv1D(1, 2, 3, dilation=2, padding=(4, 0)), rng.standard_normal((1, 1, 10))
    y = layer(x)[0]
    x[..., 6:] = 100.0
    again = layer(x)[0]
    np.testing.assert_array_equal(again[..., :6], y[..., :6])
    assert np.all(again[..., 6:] != y[..., 6:])


def test_depthwise_is_grouped():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 5, 6))
    depthwise = xn.DepthwiseConv2D(4, 3, multiplier=2, padding="same", stride=2)
    grouped = xn.Conv2D(4, 8, 3, groups=4, padding="same", stride=2)
    params = {"W": rng.standard_normal((3, 3, 1, 8)), "b": rng.standard_normal(8)}
    np.testing.assert_array_equal(depthwise(x, params)[0], grouped(x, params)[0])
    assert repr(depthwise) == "DepthwiseConv2D(4, 3, multiplier=2, stride=2, padding='same')"
    each = [xn.Conv2D(1, 2, 3, padding="same", stride=2)(x[:, i:i + 1], {"W": params["W"][..., 2 * i:2 * i + 2], "b": params["b"][2 * i:2 * i + 2]})[0]
            for i in range(4)]
    np.testing.assert_allclose(depthwise(x, params)[0], np.concatenate(each, axis=1), rtol=1e-12, atol=1e-14)


def test_transposed_is_the_adjoint_of_the_convolution():
    """⟨Conv x, y⟩ = ⟨x, ConvTranspose y⟩ with the kernel's in and out swapped: the definition, and on a size that stride 2 rounds."""
    rng = np.random.default_rng(0)
    conv = xn.Conv2D(2, 3, 3, stride=2, padding=1, bias=False)
    back = xn.ConvTranspose2D(3, 2, 3, stride=2, padding=1, output_padding=(1, 0), bias=False)
    x, W = rng.standard_normal((2, 2, 6, 7)), rng.standard_normal((3, 3, 2, 3))
    y = rng.standard_normal((2, 3, 3, 4))
    up = back(y, {"W": np.swapaxes(W, -1, -2)})[0]
    assert up.shape == x.shape
    assert np.sum(conv(x, {"W": W})[0] * y) == pytest.approx(np.sum(x * up), rel=1e-12)


@pytest.mark.parametrize("cls", [xn.Conv1D, xn.Conv2D, xn.ConvTranspose2D])
@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", "prelu", "softmax"])
def test_an_activation_is_the_two_layers_in_one(cls, name, backend, dtype):
    rng = np.random.default_rng(0)
    size = (6,) if cls is xn.Conv1D else (6, 5)
    one, two = (backend.model(net, dtype) for net in (xn.Sequential(cls(2, 3, 2, name)),
                                                      xn.Sequential(cls(2, 3, 2), xn.layers.activations.get_activation(name))))
    for i, (path_1, path_2) in enumerate(zip(one.paths(), two.paths(), strict=True)):
        value = backend.asarray(0.3 + np.random.default_rng(i).standard_normal(one.get_param(path_1).shape), dtype)
        one.set_param(path_1, value)
        two.set_param(path_2, value)
    x = backend.asarray(rng.standard_normal((2, 2, *size)), dtype)
    y, back = one.forward(x)
    y2, back2 = two.forward(x)
    assert_close(y, backend.host(y2), backend, dtype=dtype)
    dy = backend.asarray(rng.standard_normal(tuple(y.shape)), dtype)
    tol = 1e-4 if dtype == "float32" else 1e-12           # the sums over places are made in another order
    assert_close(back(dy), backend.host(back2(dy)), backend, tol, tol, dtype)


@pytest.mark.parametrize("layer,shape", [
    (xn.Conv1D(2, 3, 3, "tanh", padding="same"), (2, 5)), (xn.Conv2D(2, 4, (3, 2), stride=2, padding=((1, 0), (0, 2)), groups=2), (2, 6, 5)),
    (xn.DepthwiseConv2D(2, 3, "sigmoid", multiplier=2), (2, 4, 5)),
    (xn.ConvTranspose2D(2, 3, 3, "tanh", stride=2, padding=1, output_padding=1), (2, 3, 2))], ids=repr)
def test_gradient_check(layer, shape):
    model = xn.Model(xn.Sequential(layer, xn.Flatten()), "numpy", "float64")
    x = np.random.default_rng(0).standard_normal((3, *shape))
    t = np.ones(model.forward(x)[0].shape)
    report = xn.gradient_check(model, x, xn.MeanSquaredError(), t)
    assert report.ok, report


def test_a_batch_of_none_and_a_batch_of_one():
    for layer, size in ((xn.Conv2D(2, 3, 2), (4, 4)), (xn.ConvTranspose2D(2, 3, 2), (4, 4)), (xn.Conv1D(2, 4, 2, groups=2), (5,))):
        x = np.random.default_rng(0).standard_normal((3, 2, *size))
        y = layer(x)[0]
        np.testing.assert_allclose(layer(x[:1])[0], y[:1], rtol=1e-12)
        none, backward = layer(x[:0])
        assert none.shape == (0, *y.shape[1:])
        dx, grads = backward(none)
        assert dx.shape == (0, *x.shape[1:]) and not np.any(grads["W"]) and not np.any(grads["b"])


def test_integers_of_numpy_are_welcome_and_the_initial_variance_is_he():
    layer = xn.Conv2D(np.int64(16), np.int32(64), np.int64(5), init="he_normal")
    assert layer.W.shape == (5, 5, 16, 64)
    W = layer.initial_params()["W"]
    assert np.var(W) == pytest.approx(2 / (5 * 5 * 16), rel=0.05)


# The edge.

CONV = xn.Conv2D(3, 4, 3)


@pytest.mark.parametrize("layer,x,message", [
    (CONV, np.ones((2, 3, 8)), r"takes x of shape \(batch, 3, height, width\), got \(2, 3, 8\)"),
    (CONV, np.ones((2, 1, 8, 8)), r"takes x of shape \(batch, 3, height, width\), got \(2, 1, 8, 8\)"),
    (CONV, np.ones((2, 3, 2, 8)), "has windows of 3 x 3, larger than x of 2 x 8"),
    (CONV, np.ones((2, 3, 8, 8), np.float32), "has parameters of dtype float64, got x of dtype float32; convert x first"),
    (CONV, (np.ones((2, 3, 8, 8)),) * 2, r"takes x of shape \(batch, .*\), got a tuple of 2 arrays"),
    (xn.Conv1D(1, 2, 3, dilation=4, padding=1), np.ones((2, 1, 6)), "has windows of 9, larger than x of 8 with its padding"),
    (xn.Conv1D(2, 2, 3), np.ones((2, 5, 2)), r"takes x of shape \(batch, 2, length\), got \(2, 5, 2\)"),
    (xn.ConvTranspose2D(3, 4, 3, padding=2), np.ones((2, 3, 2, 2)), "cuts padding 2 off an image of 4 x 4, made of x of 2 x 2: nothing is left"),
    (xn.ConvTranspose2D(3, 4, 3), np.ones((2, 4, 2, 2)), r"takes x of shape \(batch, 3, height, width\)")])
def test_wrong_x(layer, x, message):
    params = {name: p.astype("float64") for name, p in layer.initial_params().items()}
    with pytest.raises(LayerError, match=message):
        layer.forward(params, x, xn.Context(xn.get_backend("numpy").xp))
    with pytest.raises(LayerError, match=f"layer 0 .*{message}"):
        xn.Sequential(layer).forward({"0": params}, x, xn.Context(xn.get_backend("numpy").xp))


@pytest.mark.parametrize("make,error,message", [
    (lambda: xn.Conv2D(0, 4, 3), ValueError, "Conv2D: in_channels is an integer from 1 on, got 0"),
    (lambda: xn.Conv2D(3, 4, 3.0), TypeError, "Conv2D: kernel_size is an integer, got 3.0"),
    (lambda: xn.Conv2D(3, 4, (3, 3, 3)), ValueError, r"Conv2D: kernel_size is a number, or 2 of them, got \(3, 3, 3\)"),
    (lambda: xn.Conv2D(3, 4, 3, stride=0), ValueError, "Conv2D: stride is an integer from 1 on, got 0"),
    (lambda: xn.Conv2D(3, 4, 3, padding=-1), ValueError, "Conv2D: padding is an integer from 0 on, got -1"),
    (lambda: xn.Conv2D(3, 4, 3, padding="sames"), ValueError, "unknown padding of Conv2D 'sames'; did you mean 'same'"),
    (lambda: xn.Conv2D(3, 4, 3, padding=(1, (1, 2, 3))), ValueError, r"Conv2D: padding is a number, one for each axis, \(\(before, after\), \(be"),
    (lambda: xn.Conv1D(3, 4, 3, padding=(1, 2, 3)), ValueError, r"Conv1D: padding is a number, one for each axis, \(\(before, after\),\)"),
    (lambda: xn.Conv2D(3, 4, 3, groups=2), ValueError, "Conv2D: groups divides both channel counts, got 2 for 3 and 4 channels"),
    (lambda: xn.Conv2D(3, 4, 3, "rel"), ValueError, "unknown activation 'rel'"),
    (lambda: xn.ConvTranspose2D(3, 4, 3, padding="same"), ValueError, "ConvTranspose2D: padding is a number.*'same'"),
    (lambda: xn.ConvTranspose2D(3, 4, 3, stride=2, output_padding=2), ValueError, "output_padding is less than stride or dilation, got 2 for stride 2"),
    (lambda: xn.DepthwiseConv2D(3, 3, multiplier=0), ValueError, "DepthwiseConv2D: multiplier is an integer from 1 on, got 0")])
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("text", [
    "Conv2D(1, 2, 3)", "Conv2D(4, 2, (3, 5), ReLU(), stride=2, padding='same', dilation=(1, 2), groups=2, bias=False)",
    "Conv2D(1, 2, 3, padding=1)", "Conv2D(1, 2, 3, padding=((1, 0), 2))", "Conv1D(1, 2, 3, padding=(2, 0))",
    "DepthwiseConv2D(3, 3)", "ConvTranspose2D(1, 2, 3, stride=2, padding=1, output_padding=1)"])
def test_repr_is_how_it_is_written(text):
    layer = eval(text, {**vars(xn)})
    assert repr(layer) == text


# What it costs.

def test_summary_by_hand():
    """2 FLOPs a multiply-add; the padded input is made again in the backward pass, so only y is kept."""
    model = xn.Model(xn.Sequential(xn.Conv2D(3, 8, 3, "relu", padding=1), xn.Flatten()))
    s = model.summary((3, 10, 12), batch_size=4)
    conv = s.rows[0]
    outputs, terms = 4 * 8 * 10 * 12, 3 * 3 * 3
    assert conv.output_shape == (4, 8, 10, 12) and conv.params == 3 * 3 * 3 * 8 + 8
    assert conv.flops_forward == 2 * outputs * terms + 2 * outputs            # the product; bias and ReLU
    assert conv.flops_backward == 2 * outputs * terms + 3 * outputs           # dW; ReLU' (a comparison and a product) and db
    assert conv.cached_bytes == 4 * outputs


emulated = pytest.mark.skipif(os.environ.get("CUDA_ON_CPU") != "1" or STATE["cupy"] is not None, reason="counts on the emulated CUDA device")


def launches(net, shape):
    """(kernels, cuBLAS calls, copies) of a training step as counted, and as the dry run foretells."""
    from test_advise import counted, on_device, predicted

    model, step = on_device(net, shape, xn.MeanSquaredError(), xn.Adam())
    return counted(step), predicted(xn.advise(model, 6, loss=xn.MeanSquaredError(), optimizer=xn.Adam(), input_shape=shape).total)


@emulated
@pytest.mark.parametrize("net,shape", [
    (xn.Sequential(xn.Conv2D(1, 4, 3, "relu"), xn.Conv2D(4, 3, 3, "relu"), xn.Flatten(), xn.Dense(48, 2)), (1, 8, 8)),
    (xn.Sequential(xn.Conv2D(2, 4, 3, "relu", padding="same"), xn.Conv2D(4, 3, 3, "tanh", stride=2, padding=1, bias=False), xn.Flatten()), (2, 8, 7)),
    (xn.Sequential(xn.Conv2D(4, 4, 3, "gelu", groups=2), xn.DepthwiseConv2D(4, 2), xn.Flatten()), (4, 7, 7)),
    (xn.Sequential(xn.ConvTranspose2D(2, 4, 3, "relu", stride=2), xn.ConvTranspose2D(4, 2, 2, padding=1, groups=2), xn.Flatten()), (2, 4, 5)),
    (xn.Sequential(xn.Conv1D(2, 4, 3, "relu", dilation=2, padding=(4, 0)), xn.Conv1D(4, 2, 3), xn.Flatten()), (2, 9)),
    (xn.Sequential(xn.Conv2D(1, 3, 3, "relu"), xn.MaxPool2D(2), xn.Conv2D(3, 2, 2, "relu"), xn.AvgPool2D(2, stride=1), xn.Flatten()), (1, 9, 9)),
    (xn.Sequential(xn.Conv2D(1, 3, 2), xn.MaxPool2D(3, stride=2, padding=1), xn.Conv2D(3, 2, 1), xn.AvgPool2D(3, padding=1),
                   xn.Conv2D(2, 1, 1), xn.GlobalAvgPool2D()), (1, 9, 9)),
    (xn.Sequential(xn.Conv2D(1, 3, 2), xn.Upsample(2), xn.Conv2D(3, 1, 1), xn.Upsample(3, "bilinear"), xn.Flatten()), (1, 4, 5))], ids=repr)
def test_launches(net, shape):
    found, foretold = launches(net, shape)
    assert found == foretold


@emulated
def test_an_activation_of_its_own_costs_a_copy_that_the_dry_run_does_not_see():
    """CuPy's elementwise kernels write row by row, where NumPy's (and the dry run's) keep the order of memory: the pool's backward copies."""
    net = xn.Sequential(xn.Conv2D(1, 3, 3), xn.MaxPool2D(2), xn.ReLU(), xn.Conv2D(3, 2, 2, "relu"), xn.Flatten())
    found, foretold = launches(net, (1, 9, 9))
    assert (found[0] - foretold[0], found[1:]) == (1, foretold[1:])


@emulated
def test_launches_do_not_grow_with_the_kernel():
    """The strided view is one launch however many entries a kernel has; k·k slices would be k·k."""
    small, large = (launches(xn.Sequential(xn.Conv2D(1, 4, k, "relu"), xn.Conv2D(4, 3, k)), (1, 12, 12))[0] for k in (2, 5))
    assert small == large


def test_every_pair_of_options_has_been_a_case():
    """The cases of tests/cases.py hold the options with each other, so that the laws are tested on them."""
    from cases import LAYERS

    found = {(type(layer).__name__, option) for make, _ in LAYERS.values() for layer in [make()] if hasattr(layer, "options")
             for option in (o.partition("=")[0] for o in layer.options())}
    assert {("Conv2D", o) for o in ("stride", "padding", "dilation", "groups")} <= found
    assert {("ConvTranspose2D", o) for o in ("stride", "padding", "dilation", "groups", "output_padding")} <= found


def test_the_whole_network_learns(backend):
    """Bars, horizontal or vertical, anywhere in the image: a convolution with global pooling separates them, a linear layer cannot."""
    rng = np.random.default_rng(0)
    x, t = np.zeros((64, 1, 6, 6)), np.arange(64) % 2
    for i, kind in enumerate(t):
        row, column = rng.integers(0, 4, 2)
        x[i, 0, row:row + (1 if kind else 3), column:column + (3 if kind else 1)] = 1.0
    net = xn.Sequential(xn.Conv2D(1, 4, 3, "relu"), xn.GlobalAvgPool2D(), xn.Dense(4, 2))
    model = backend.model(net, "float32", seed=1)
    if backend.readonly:
        pytest.skip("trains")
    history = xn.fit(model, xn.SoftmaxCrossEntropy(), xn.Adam(0.05), (x.astype("float32"), t), epochs=40, batch_size=32, progress=False)
    assert history["loss"][-1] < 0.1
    assert math.isfinite(history["loss"][-1]) and list(itertools.islice(history["loss"], 1))[0] > 0.5

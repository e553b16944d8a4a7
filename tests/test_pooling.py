"""Pooling and upsampling: against PyTorch in float64, against their definitions, and what happens at ties and edges."""

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import xpnet as xn
from xpnet.errors import LayerError

seeds = st.integers(0, 2**16)
examples_of = pytest.mark.parametrize("examples", [30, pytest.param(400, marks=pytest.mark.full)])


def against_torch(layer, x, f, rng):
    torch = pytest.importorskip("torch")
    y, backward = layer(x)
    dy = rng.standard_normal(y.shape)
    dx, _ = backward(dy)
    leaf = torch.tensor(x, requires_grad=True)
    out = f(torch, leaf)
    assert tuple(out.shape) == y.shape
    out.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, out.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-12, atol=1e-13)


@st.composite
def pools(draw):
    """(axes, kernel, stride, padding, shape of x): PyTorch's padding, the same before and after."""
    axes = draw(st.integers(1, 2))

    def each(least, most):
        return tuple(draw(st.integers(least, most)) for _ in range(axes))

    kernel, stride = each(1, 4), each(1, 4)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *each(1, 8))
    assume(all(n + 2 * p >= k for n, p, k in zip(shape[2:], padding, kernel)))
    return axes, kernel, stride, padding, shape


@examples_of
def test_max_pool_against_torch(examples):
    """Small integers too, where most windows have ties: the first in a window takes the gradient there and here."""
    @settings(max_examples=examples, deadline=None)
    @given(case=pools(), seed=seeds, ties=st.booleans())
    def check(case, seed, ties):
        axes, kernel, stride, padding, shape = case
        rng = np.random.default_rng(seed)
        layer = (xn.MaxPool1D, xn.MaxPool2D)[axes - 1](kernel, stride=stride, padding=padding)
        x = rng.integers(-1, 2, shape).astype(float) if ties else rng.standard_normal(shape)
        against_torch(layer, x, lambda torch, x: getattr(torch.nn.functional, f"max_pool{axes}d")(x, kernel, stride, padding), rng)

    check()


@examples_of
def test_avg_pool_against_torch(examples):
    @settings(max_examples=examples, deadline=None)
    @given(case=pools(), seed=seeds, include=st.booleans())
    def check(case, seed, include):
        axes, kernel, stride, padding, shape = case
        rng = np.random.default_rng(seed)
        layer = (xn.AvgPool1D, xn.AvgPool2D)[axes - 1](kernel, stride=stride, padding=padding, count_include_pad=include)
        against_torch(layer, rng.standard_normal(shape), lambda torch, x: getattr(torch.nn.functional, f"avg_pool{axes}d")(
            x, kernel, stride, padding, count_include_pad=include), rng)

    check()


@examples_of
def test_upsample_against_torch(examples):
    @settings(max_examples=examples, deadline=None)
    @given(shape=st.one_of(st.tuples(*[st.integers(1, 3)] * 2, st.integers(1, 6)), st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 5)] * 2)),
           scale=st.tuples(st.integers(1, 4), st.integers(1, 4)), seed=seeds, mode=st.sampled_from(["nearest", "bilinear"]), one=st.booleans())
    def check(shape, scale, seed, mode, one):
        rng = np.random.default_rng(seed)
        axes = len(shape) - 2
        scale = scale[:axes]
        layer = xn.Upsample(scale[0] if one else scale, mode)
        name = {"nearest": "nearest", "bilinear": ("linear", "bilinear")[axes - 1]}[mode]
        factor = tuple(map(float, scale[:1] * axes if one else scale))
        against_torch(layer, rng.standard_normal(shape), lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=factor, mode=name), rng)

    check()


def test_global_average_against_torch():
    rng = np.random.default_rng(0)
    against_torch(xn.GlobalAvgPool2D(), rng.standard_normal((2, 3, 4, 5)),
                  lambda torch, x: torch.nn.functional.adaptive_avg_pool2d(x, 1)[..., 0, 0], rng)
    against_torch(xn.GlobalAvgPool1D(), rng.standard_normal((2, 3, 1)),
                  lambda torch, x: torch.nn.functional.adaptive_avg_pool1d(x, 1)[..., 0], rng)


# Published numbers, ties, edges.

def test_cs231n_numbers(backend):
    """Stanford CS231n (2016), assignment 2, the check of max_pool_forward_naive: 8 digits."""
    x = np.linspace(-0.3, 0.4, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    published = [[[[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]], [[-0.14526316, -0.13052632], [-0.08631579, -0.07157895]],
                  [[-0.02736842, -0.01263158], [0.03157895, 0.04631579]]],
                 [[[0.09052632, 0.10526316], [0.14947368, 0.16421053]], [[0.20842105, 0.22315789], [0.26736842, 0.28210526]],
                  [[0.32631579, 0.34105263], [0.38526316, 0.4]]]]
    y, _ = xn.MaxPool2D(2)(backend.asarray(x))
    assert_close(y, published, backend, atol=5e-9 if backend.float64 else 1e-7)


def test_ties_go_to_the_first_row_by_row(backend, dtype):
    x = backend.asarray([[[[1.0, 2.0, 5.0, 5.0], [2.0, 2.0, 5.0, 5.0]]]], dtype)
    y, backward = xn.MaxPool2D(2)(x)
    assert_close(y, [[[[2.0, 5.0]]]], backend)
    dx, _ = backward(backend.asarray([[[[3.0, 7.0]]]], dtype))
    assert_close(dx, [[[[0.0, 3.0, 7.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]], backend, 0, 0, dtype)


def test_an_entry_that_is_the_maximum_of_several_windows_gets_all_their_gradients(backend):
    x = backend.asarray([[[0.0, 9.0, 1.0, 2.0]]], "float32")
    y, backward = xn.MaxPool1D(2, stride=1)(x)
    assert_close(y, [[[9.0, 9.0, 2.0]]], backend)
    dx, _ = backward(backend.asarray([[[1.0, 10.0, 100.0]]], "float32"))
    assert_close(dx, [[[0.0, 11.0, 0.0, 100.0]]], backend)


def test_padding_is_never_the_maximum(backend, dtype):
    x = backend.asarray(np.full((1, 1, 3, 3), -5.0), dtype)
    y, backward = xn.MaxPool2D(3, stride=2, padding=1)(x)
    assert_close(y, np.full((1, 1, 2, 2), -5.0), backend, dtype=dtype)
    dx, _ = backward(backend.asarray(np.ones((1, 1, 2, 2)), dtype))
    assert float(backend.host(dx).sum()) == 4.0


def test_padding_does_not_darken_the_mean_unless_it_is_counted(backend):
    x = backend.asarray(np.ones((1, 1, 3, 3)), "float32")
    y, _ = xn.AvgPool2D(3, stride=1, padding=1)(x)
    assert_close(y, np.ones((1, 1, 3, 3)), backend)
    y, _ = xn.AvgPool2D(3, stride=1, padding=1, count_include_pad=True)(x)
    assert_close(y, np.array([[[[4, 6, 4], [6, 9, 6], [4, 6, 4]]]]) / 9.0, backend)


def test_relu_after_the_pool_is_relu_before_it():
    x = np.random.default_rng(0).standard_normal((3, 2, 6, 6)) - 1.0
    dy = np.random.default_rng(1).standard_normal((3, 2, 3, 3))
    (y1, back1), (y2, back2) = (xn.Sequential(*layers)(x) for layers in ((xn.ReLU(), xn.MaxPool2D(2)), (xn.MaxPool2D(2), xn.ReLU())))
    np.testing.assert_array_equal(y1, y2)
    np.testing.assert_array_equal(back1(dy)[0], back2(dy)[0])
    assert np.any(y1 == 0)


def test_what_fills_no_window_is_left_out():
    x = np.arange(10.0).reshape(1, 1, 2, 5)
    y, backward = xn.AvgPool2D(2)(x)
    np.testing.assert_array_equal(y, [[[[3.0, 5.0]]]])
    np.testing.assert_array_equal(backward(np.ones_like(y))[0][..., -1], 0.0)
    assert xn.MaxPool2D(2, padding="same")(x)[0].shape == (1, 1, 1, 3)


@pytest.mark.parametrize("layer", [xn.MaxPool2D(2), xn.MaxPool2D(3, stride=2, padding=1), xn.AvgPool2D(2, stride=1)], ids=repr)
def test_the_order_of_memory_does_not_matter(layer, backend):
    """x and dy of a network may lie row by row or batch last."""
    rng = np.random.default_rng(0)
    host = rng.standard_normal((3, 2, 5, 5))
    results = []
    for order in ((0, 1, 2, 3), (1, 2, 3, 0)):
        back = tuple(np.argsort(order))
        x = backend.xp.permute_dims(backend.asarray(np.ascontiguousarray(np.transpose(host, order))), back)
        y, backward = layer(x)
        dy = np.random.default_rng(1).standard_normal(tuple(y.shape))
        dx, _ = backward(backend.xp.permute_dims(backend.asarray(np.ascontiguousarray(np.transpose(dy, order))), back))
        results.append((backend.host(y), backend.host(dx)))
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer,shape", [
    (xn.MaxPool1D(2), (2, 6)), (xn.MaxPool2D(3, stride=2, padding=1), (2, 5, 5)), (xn.AvgPool1D(3, padding=1), (2, 5)),
    (xn.AvgPool2D((2, 3), stride=1), (2, 4, 4)), (xn.GlobalAvgPool1D(), (3, 4)), (xn.GlobalAvgPool2D(), (3, 2, 3)), (xn.Upsample(2), (2, 2, 3)),
    (xn.Upsample((3, 2), "bilinear"), (2, 2, 3)), (xn.Upsample(2, "bilinear"), (2, 4))], ids=repr)
def test_gradient_check(layer, shape):
    model = xn.Model(xn.Sequential(xn.Dense(shape[-1], shape[-1], "tanh"), layer, xn.Flatten()), "numpy", "float64")
    x = np.random.default_rng(0).standard_normal((3, *shape))
    t = np.ones(model.forward(x)[0].shape)
    report = xn.gradient_check(model, x, xn.MeanSquaredError(), t)
    assert report.ok, report


def test_a_batch_of_none():
    for layer in (xn.MaxPool2D(2), xn.AvgPool2D(3, padding=1), xn.Upsample(2), xn.Upsample(2, "bilinear")):
        y, backward = layer(np.zeros((0, 2, 4, 4)))
        assert y.shape[0] == 0 and backward(y)[0].shape == (0, 2, 4, 4)


# The edge.

@pytest.mark.parametrize("layer,x,message", [
    (xn.MaxPool2D(2), np.ones((2, 3, 4)), r"takes x of shape \(batch, channels, height, width\), got \(2, 3, 4\)"),
    (xn.AvgPool1D(2), np.ones((2, 3, 4, 4)), r"takes x of shape \(batch, channels, length\), got \(2, 3, 4, 4\)"),
    (xn.AvgPool2D(5), np.ones((2, 3, 4, 8)), "has windows of 5 x 5, larger than x of 4 x 8"),
    (xn.GlobalAvgPool2D(), np.ones((2, 3, 4)), r"takes x of shape \(batch, channels, height, width\), got \(2, 3, 4\)"),
    (xn.Upsample(2), np.ones((2, 3)), r"takes x of shape \(batch, channels, height, width\), got \(2, 3\)"),
    (xn.Upsample((2, 2)), np.ones((2, 3, 4)), r"takes x of shape \(batch, channels, height, width\), got \(2, 3, 4\)"),
    (xn.Upsample((2,)), np.ones((2, 3, 4, 4)), r"takes x of shape \(batch, channels, length\), got \(2, 3, 4, 4\)")])
def test_wrong_x(layer, x, message):
    with pytest.raises(LayerError, match=f"layer 0 .*{message}"):
        xn.Sequential(layer)(x)


@pytest.mark.parametrize("make,error,message", [
    (lambda: xn.MaxPool2D(0), ValueError, "MaxPool2D: kernel_size is an integer from 1 on, got 0"),
    (lambda: xn.MaxPool2D(2, padding=2), ValueError, "MaxPool2D: padding is at most half of kernel_size.* got padding=2 for kernel_size=2"),
    (lambda: xn.AvgPool1D(2, stride=1.5), TypeError, "AvgPool1D: stride is an integer, got 1.5"),
    (lambda: xn.Upsample(2, "cubic"), ValueError, "unknown Upsample mode 'cubic'"),
    (lambda: xn.Upsample((2, 2, 2)), ValueError, r"Upsample: scale is a number, or one for each of 1 or 2 axes, got \(2, 2, 2\)"),
    (lambda: xn.Upsample(0), ValueError, "Upsample: scale is an integer from 1 on, got 0")])
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("text", ["MaxPool2D(2)", "MaxPool2D(3, stride=2, padding=1)", "AvgPool2D((2, 3))", "AvgPool1D(2, padding='same')",
                                  "AvgPool2D(3, padding=1, count_include_pad=True)", "GlobalAvgPool2D()", "Upsample(2)", "Upsample((2, 3), 'bilinear')"])
def test_repr_is_how_it_is_written(text):
    assert repr(eval(text, {**vars(xn)})) == text


def test_summary_by_hand():
    s = xn.Model(xn.Sequential(xn.Conv2D(1, 4, 1), xn.MaxPool2D(2), xn.GlobalAvgPool2D(), xn.Dense(4, 2))).summary((1, 8, 6), batch_size=5)
    pool, average = s.rows[1:3]
    outputs = 5 * 4 * 4 * 3
    assert pool.output_shape == (5, 4, 4, 3) and pool.params == 0 and average.output_shape == (5, 4)
    assert pool.flops_forward == 3 * outputs              # three comparisons a window
    assert pool.flops_backward == 3 * 3 * outputs         # for all but the last of the window: a comparison, a product, a difference
    assert pool.cached_bytes == 4 * (4 + 1) * outputs     # x, which the convolution without activation does not keep, and y

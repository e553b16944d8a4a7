"""Losses: against plain formulas in numbers, against their own finite differences, and against PyTorch.

The formulas here are written from the definitions, one sample at a time in Python floats: they share nothing with
xpnet/losses.py.
"""

import math

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet as xn
from xpnet.losses import (
    REDUCTIONS,
    BinaryCrossEntropy,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanSquaredError,
    MulticlassHinge,
    Poisson,
    SoftmaxCrossEntropy,
)
from xpnet.model import apply_link

# name: (the loss, its value at one output, its derivative there, how targets are drawn)
PER_OUTPUT = {
    "squared": (MeanSquaredError, lambda y, t: (y - t) ** 2, lambda y, t: 2 * (y - t), "number"),
    "absolute": (MeanAbsoluteError, lambda y, t: abs(y - t), lambda y, t: math.copysign(1.0, y - t), "number"),
    "huber": (lambda r: Huber(0.7, r),
              lambda y, t: (y - t) ** 2 / 2 if abs(y - t) <= 0.7 else 0.7 * (abs(y - t) - 0.35),
              lambda y, t: y - t if abs(y - t) <= 0.7 else math.copysign(0.7, y - t), "number"),
    "log_cosh": (LogCosh, lambda y, t: math.log(math.cosh(y - t)), lambda y, t: math.tanh(y - t), "number"),
    "poisson": (Poisson, lambda z, t: math.exp(z) - t * z, lambda z, t: math.exp(z) - t, "count"),
    "hinge": (Hinge, lambda y, t: max(0.0, 1.0 - t * y), lambda y, t: -t if t * y < 1.0 else 0.0, "sign"),
    "binary": (BinaryCrossEntropy, lambda z, t: -t * math.log(logistic(z)) - (1 - t) * math.log(1 - logistic(z)),
               lambda z, t: logistic(z) - t, "probability"),
    "binary_weighted": (lambda r: BinaryCrossEntropy(r, pos_weight=3.0),
                        lambda z, t: -3 * t * math.log(logistic(z)) - (1 - t) * math.log(1 - logistic(z)),
                        lambda z, t: -3 * t * (1 - logistic(z)) + (1 - t) * logistic(z), "probability"),
}
CLASS_WEIGHTS = [0.5, 2.0, 1.0, 0.25]
# name: (the loss, the target's kind)
OVER_CLASSES = {
    "softmax": (SoftmaxCrossEntropy, "class"),
    "softmax_soft": (SoftmaxCrossEntropy, "distribution"),
    "softmax_smooth": (lambda r: SoftmaxCrossEntropy(r, label_smoothing=0.2), "class"),
    "softmax_weights": (lambda r: SoftmaxCrossEntropy(r, class_weights=CLASS_WEIGHTS), "class"),
    "softmax_soft_weights_smooth": (lambda r: SoftmaxCrossEntropy(r, 0.2, CLASS_WEIGHTS), "distribution"),
    "kl": (KLDivergence, "distribution"),
    "multiclass_hinge": (MulticlassHinge, "class"),
}
ALL = [*PER_OUTPUT, *OVER_CLASSES]


def logistic(z):
    return 1 / (1 + math.exp(-z))


def draw(name, n=5, k=4, seed=0, between=()):
    """A prediction and a target, float64 or int64, away from every kink."""
    rng = np.random.default_rng(seed)
    shape = (n, *between, k)
    y = rng.normal(0.0, 1.5, shape)
    kind = PER_OUTPUT[name][3] if name in PER_OUTPUT else OVER_CLASSES[name][1]
    if name == "kl":
        y = y - np.log(np.sum(np.exp(y), axis=-1, keepdims=True))
    e = rng.exponential(size=shape)
    t = {"number": lambda: y + rng.choice([-1, 1], shape) * rng.uniform(0.1, 0.6, shape) * rng.choice([1, 3], shape),
         "count": lambda: rng.integers(0, 5, shape).astype(float), "sign": lambda: rng.choice([-1.0, 1.0], shape),
         "probability": lambda: rng.random(shape), "class": lambda: rng.integers(0, k, shape[:-1]),
         "distribution": lambda: e / e.sum(axis=-1, keepdims=True)}[kind]()
    return y, t


def asarray(backend, t, dtype):
    """A target on the backend: floating ones in the prediction's dtype, classes as they are."""
    return backend.asarray(t, dtype if t.dtype.kind == "f" else None)


def make(name, reduction="mean"):
    return (PER_OUTPUT[name] if name in PER_OUTPUT else OVER_CLASSES[name])[0](reduction)


def reduce_plainly(reduction, losses, outputs):
    """The table of losses.py. `losses` has a row for each sample; "mean" counts `outputs` in each."""
    n = len(losses)
    total = float(np.sum(losses))
    return {"mean": total / (n * outputs), "half_mean": total / (2 * n * outputs), "batch_mean": total / n,
            "half_batch_mean": total / (2 * n), "sum": total, "half_sum": total / 2}[reduction]


def class_loss_plainly(name, y, t):
    """One sample's loss over classes and the weight it counts with in a mean, in Python floats."""
    k = len(y)
    if name == "kl":
        return sum(tk * (math.log(tk) - yk) for yk, tk in zip(y, t)), 1.0
    if name == "multiclass_hinge":
        return sum(max(0.0, y[j] - y[t] + 1.0) for j in range(k) if j != t), 1.0
    log_sum = math.log(sum(math.exp(v) for v in y))
    v = CLASS_WEIGHTS if "weights" in name else [1.0] * k
    epsilon = 0.2 if "smooth" in name else 0.0
    q = [float(j == t) for j in range(k)] if np.ndim(t) == 0 else list(t)
    q = [(1 - epsilon) * qk + epsilon / k for qk in q]
    loss = -sum(v[j] * q[j] * (y[j] - log_sum) for j in range(k))
    return loss, v[t] if np.ndim(t) == 0 else 1.0


def value_plainly(name, reduction, y, t):
    if name in PER_OUTPUT:
        f = PER_OUTPUT[name][1]
        losses = [[f(yk, tk) for yk, tk in zip(yr, tr)] for yr, tr in zip(y.reshape(len(y), -1), t.reshape(len(t), -1))]
        return reduce_plainly(reduction, losses, y[0].size)
    k, between = y.shape[-1], math.prod(y.shape[1:-1])
    rows = [class_loss_plainly(name, yr, tr)
            for yr, tr in zip(y.reshape(-1, k).tolist(), t.reshape(-1, *t.shape[y.ndim - 1:]).tolist())]
    losses = np.reshape([loss for loss, _ in rows], (len(y), between))
    counted = sum(weight for _, weight in rows) / len(rows)
    return reduce_plainly(reduction, losses, between) / (1.0 if reduction.endswith("sum") else counted)


def differences(f, y, h=1e-6):
    """∂f/∂y entry by entry, by central differences: the error is O(h²) + O(rounding/h)."""
    dy = np.zeros_like(y)
    for i in np.ndindex(*y.shape):
        up, down = y.copy(), y.copy()
        up[i] += h
        down[i] -= h
        dy[i] = (f(up) - f(down)) / (2 * h)
    return dy


# Values and gradients, against plain formulas, on every backend.


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ALL)
def test_value_and_gradient(name, reduction, backend, dtype):
    y, t = draw(name)
    loss, dy = make(name, reduction)(backend.asarray(y, dtype), asarray(backend, t, dtype))
    assert_close(loss, value_plainly(name, reduction, y, t), backend, dtype=dtype)
    if name in PER_OUTPUT:
        slope = PER_OUTPUT[name][2]
        slopes = np.array([[slope(yk, tk) for yk, tk in zip(yr, tr)] for yr, tr in zip(y.tolist(), t.tolist())])
        share = reduce_plainly(reduction, [1.0] + [0.0] * (len(y) - 1), y.shape[1])    # of one output in L
        assert_close(dy, slopes * share, backend, dtype=dtype)
    else:
        expected = differences(lambda a: value_plainly(name, reduction, a, t), y)
        assert_close(dy, expected, backend, dtype=dtype, rtol=1e-5, atol=1e-5 if dtype == "float32" else 1e-8)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ALL)
def test_gradient_is_the_derivative_of_the_value(name, reduction):
    y, t = draw(name, seed=1)
    loss_fn = make(name, reduction)
    _, dy = loss_fn(y, t)
    np.testing.assert_allclose(dy, differences(lambda a: float(loss_fn(a, t)[0]), y), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", OVER_CLASSES)
def test_axes_between_samples_and_classes(name, reduction, backend):
    """(n, time, k): "mean" is over samples and times, "batch_mean" over samples only."""
    y, t = draw(name, n=3, between=(2,))
    loss, dy = make(name, reduction)(backend.asarray(y), backend.asarray(t))
    assert_close(loss, value_plainly(name, reduction, y, t), backend, dtype=backend.widest)
    expected = differences(lambda a: value_plainly(name, reduction, a, t), y)
    assert_close(dy, expected, backend, rtol=1e-5, atol=1e-5 if backend.widest == "float32" else 1e-8)


@pytest.mark.parametrize("name", PER_OUTPUT)
def test_predictions_of_any_rank(name, backend):
    """A prediction of shape (n,) or (n, h, w) is n samples with 1 or h·w outputs."""
    for shape in ((6,), (6, 1), (2, 3, 1)):
        y, t = (a.reshape(shape) for a in draw(name, n=6, k=1))
        loss, dy = make(name)(backend.asarray(y), backend.asarray(t))
        assert_close(loss, value_plainly(name, "mean", y, t), backend)
        assert tuple(dy.shape) == shape


# Sample weights: a weight of 2 is the sample twice.


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ALL)
def test_a_sample_weight_repeats_the_sample(name, reduction, backend):
    y, t = draw(name, n=4)
    times = np.array([1, 3, 0, 2])
    loss_fn = make(name, reduction)
    loss, dy = loss_fn(backend.asarray(y), backend.asarray(t), backend.asarray(times.astype(float)))
    copies = [np.repeat(a, times, axis=0) for a in (y, t)]
    loss_r, dy_r = loss_fn(*map(backend.asarray, copies))
    assert_close(loss, backend.host(loss_r), backend, dtype=backend.widest)
    summed = np.zeros(y.shape)
    np.add.at(summed, np.repeat(np.arange(4), times), backend.host(dy_r))
    assert_close(dy, summed, backend, dtype=backend.widest)


@pytest.mark.parametrize("name", ["squared", "softmax", "softmax_weights", "kl"])
def test_sample_weights_with_axes_between(name, backend):
    y, t = draw(name, n=3, between=(2,))
    times = np.array([2, 1, 3])
    loss, _ = make(name)(backend.asarray(y), backend.asarray(t), backend.asarray(times.astype(float)))
    expected = value_plainly(name, "mean", *(np.repeat(a, times, axis=0) for a in (y, t)))
    assert_close(loss, expected, backend)


# Against PyTorch.

SHAPES = settings(max_examples=25, deadline=None)
many = given(n=st.integers(1, 6), k=st.integers(1, 5), seed=st.integers(0, 2**16))


def torch_value_and_grad(f, y):
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(y, requires_grad=True)
    value = f(torch, leaf)
    value.backward()
    return value.item(), leaf.grad.numpy()


def assert_as_torch(loss_fn, y, t, f, weights=None):
    loss, dy = loss_fn(y, t, weights)
    value, grad = torch_value_and_grad(f, y)
    np.testing.assert_allclose(loss, value, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dy, grad, rtol=1e-12, atol=1e-14)


TORCH_PER_OUTPUT = {
    "squared": lambda F, y, t, r: F.mse_loss(y, t, reduction=r),
    "absolute": lambda F, y, t, r: F.l1_loss(y, t, reduction=r),
    "huber": lambda F, y, t, r: F.huber_loss(y, t, delta=0.7, reduction=r),
    "poisson": lambda F, y, t, r: F.poisson_nll_loss(y, t, log_input=True, reduction=r),
    "binary": lambda F, y, t, r: F.binary_cross_entropy_with_logits(y, t, reduction=r),
    "binary_weighted": lambda F, y, t, r: F.binary_cross_entropy_with_logits(y, t, reduction=r,
                                                                              pos_weight=t.new_tensor(3.0)),
    "kl": lambda F, y, t, r: F.kl_div(y, t, reduction={"mean": "batchmean", "sum": "sum"}[r]),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", TORCH_PER_OUTPUT)
def test_against_torch(name, reduction):
    @SHAPES
    @many
    def check(n, k, seed):
        y, t = draw(name, n, k, seed)
        assert_as_torch(make(name, reduction), y, t,
                        lambda torch, a: TORCH_PER_OUTPUT[name](torch.nn.functional, a, torch.tensor(t), reduction))

    check()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("target", ["class", "one_hot", "distribution"])
def test_softmax_cross_entropy_against_torch(target, reduction):
    @SHAPES
    @given(n=st.integers(1, 6), k=st.integers(1, 5), between=st.sampled_from([(), (1,), (3,)]),
           seed=st.integers(0, 2**16), smoothing=st.sampled_from([0.0, 0.1, 0.5]), weighted=st.booleans())
    def check(n, k, between, seed, smoothing, weighted):
        k += target == "class" and k == 1                 # one class with integer targets is refused
        rng = np.random.default_rng(seed)
        v = list(rng.uniform(0.2, 2.0, k)) if weighted else None
        y, t = draw("softmax_soft" if target == "distribution" else "softmax", n, k, seed, between)
        if target == "one_hot":
            t = np.eye(k)[t]

        def f(torch, a):                                  # PyTorch has the classes on axis 1
            first = torch.movedim(a, -1, 1)
            given_t = torch.tensor(t) if target == "class" else torch.movedim(torch.tensor(t), -1, 1)
            return torch.nn.functional.cross_entropy(first, given_t, label_smoothing=smoothing, reduction=reduction,
                                                     weight=None if v is None else torch.tensor(v))

        assert_as_torch(SoftmaxCrossEntropy(reduction, smoothing, v), y, t, f)

    check()


def test_multiclass_hinge_against_torch():
    @SHAPES
    @given(n=st.integers(1, 6), k=st.integers(2, 5), seed=st.integers(0, 2**16))
    def check(n, k, seed):
        y, t = draw("multiclass_hinge", n, k, seed)
        assert_as_torch(MulticlassHinge(), y, t,          # PyTorch divides by the number of classes
                        lambda torch, a: k * torch.nn.functional.multi_margin_loss(a, torch.tensor(t)))

    check()


@pytest.mark.parametrize("name", ["squared", "huber", "binary", "softmax"])
def test_sample_weights_against_torch(name):
    """Σ w ℓ / Σ w, with PyTorch's ℓ of each sample."""
    y, t = draw(name)
    w = np.random.default_rng(1).uniform(0.1, 2.0, len(y))

    def f(torch, a):
        F, given_t = torch.nn.functional, torch.tensor(t)
        each = F.cross_entropy(a, given_t, reduction="none") if name == "softmax" else \
            torch.mean(TORCH_PER_OUTPUT[name](F, a, given_t, "none"), dim=1)
        return torch.sum(each * torch.tensor(w)) / w.sum()

    assert_as_torch(make(name), y, t, f, w)


# Known numbers.


def test_cross_entropy_at_logits_far_apart(backend, dtype):
    for target, expected in enumerate((858.0, 148.0, 0.0)):
        loss, _ = SoftmaxCrossEntropy()(backend.asarray([[-431.0, 279.0, 427.0]], dtype), backend.asarray([target]))
        assert_close(loss, expected, backend, dtype=dtype)


def test_chance_level(backend, dtype):
    """Ten classes that the network cannot tell apart cost ln 10, with either kind of target."""
    z = backend.asarray(np.zeros((7, 10)), dtype)
    t = np.arange(7)
    for target in (backend.asarray(t), backend.asarray(np.eye(10)[t], dtype)):
        assert_close(SoftmaxCrossEntropy()(z, target)[0], 2.302585092994046, backend)
    assert_close(BinaryCrossEntropy()(z, backend.asarray(np.eye(10)[t], dtype))[0], math.log(2.0), backend)


@pytest.mark.parametrize("name", ["softmax", "softmax_soft", "binary", "poisson"])
def test_gradient_is_the_modelled_quantity_minus_the_target(name, backend):
    """With the link that a loss names, ∂ℓ/∂z = p - t: σ(z) - t, softmax(z) - t, e^z - t."""
    y, t = draw(name)
    loss_fn = make(name, "sum")
    z = backend.asarray(y)
    _, dz = loss_fn(z, backend.asarray(t))
    p = backend.host(apply_link(backend.xp, loss_fn.link, z))
    assert_close(dz, p - (np.eye(4)[t] if name == "softmax" else t), backend)


def test_documented_derivatives_at_kinks(backend):
    for loss_fn, y, t, expected in ((MeanAbsoluteError(), 2.0, 2.0, 0.0), (Hinge(), 1.0, 1.0, 0.0),
                                    (Huber(1.0), 3.0, 2.0, 1.0)):
        _, dy = loss_fn(backend.asarray([[y]]), backend.asarray([[t]]))
        assert_close(dy, [[expected]], backend)
    _, dy = MulticlassHinge()(backend.asarray([[1.0, 2.0]]), backend.asarray([1]))
    assert_close(dy, [[0.0, 0.0]], backend)


def test_kl_of_a_distribution_with_itself_is_zero(backend, dtype):
    """0 ln 0 = 0: a class of probability 0 adds nothing, and nothing undefined."""
    t = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    y = np.log(np.maximum(t, 1e-30))
    loss, dy = KLDivergence()(backend.asarray(y, dtype), backend.asarray(t, dtype))
    assert_close(loss, 0.0, backend, dtype=dtype)
    assert_close(dy, -t / 2, backend, dtype=dtype)


# Numbers far out. Warnings are errors in this suite.


@pytest.mark.parametrize("name", ALL)
def test_finite_at_large_predictions(name, backend):
    big = np.array([-1e4, 1e4, 0.0, 1.0])
    if name == "poisson":                                 # e^z itself is beyond float32 from z = 88.7 on
        big = np.array([-1e4, 80.0, 0.0, 1.0])
    y = np.stack([big, -big if name != "poisson" else big, np.roll(big, 1)])
    _, t = draw(name, n=3)
    if name in ("binary", "binary_weighted"):
        t = np.round(t)
    loss, dy = make(name)(backend.asarray(y, "float32"), asarray(backend, t, "float32"))
    assert np.isfinite(backend.host(loss))
    assert np.all(np.isfinite(backend.host(dy)))
    if "softmax" in name:                                 # the gradient of a row sums to Σ p - Σ q = 0
        np.testing.assert_allclose(backend.host(dy).sum(axis=1), 0.0, atol=1e-6)


def test_saturated_logits_have_exact_losses(backend):
    """Far out the binary cross-entropy is |z| on the wrong side and 0 on the right one; the gradient is 1 and 0."""
    z, t = np.array([[1e4], [-1e4], [1e4], [-1e4]]), np.array([[0.0], [1.0], [1.0], [0.0]])
    loss, dz = BinaryCrossEntropy("sum")(backend.asarray(z, "float32"), backend.asarray(t, "float32"))
    assert_close(loss, 2e4, backend, rtol=0, atol=0)
    assert_close(dz, [[1.0], [-1.0], [0.0], [0.0]], backend, atol=1e-30)


# Errors.

Y = np.zeros((4, 3))
MISTAKES = {
    "target_shape": (MeanSquaredError(), Y, np.zeros((4, 2)), ValueError, r"prediction's shape \(4, 3\), got \(4, 2\)"),
    "target_flat": (MeanSquaredError(), np.zeros((4, 1)), np.zeros(4), ValueError, r"reshape the target to \(4, 1\)"),
    "target_dtype": (MeanSquaredError(), Y, np.zeros((4, 3), int), TypeError, "prediction's dtype"),
    "no_samples": (MeanSquaredError(), Y[:0], Y[:0], ValueError, "empty"),
    "no_axis": (MeanSquaredError(), np.array(1.0), np.array(1.0), ValueError, r"got \(\)"),
    "class_shape": (SoftmaxCrossEntropy(), Y, np.zeros(5, int), ValueError, r"classes of shape \(4,\).*got \(5,\)"),
    "class_column": (SoftmaxCrossEntropy(), Y, np.zeros((4, 1), int), ValueError, "drop the target's last axis"),
    "class_float": (SoftmaxCrossEntropy(), Y, np.zeros(4), TypeError, "integer classes"),
    "class_bool": (MulticlassHinge(), Y, np.zeros(4, bool), TypeError, "integer classes"),
    "one_class": (SoftmaxCrossEntropy(), Y[:, :1], np.zeros(4, int), ValueError, "BinaryCrossEntropy"),
    "soft_rank": (SoftmaxCrossEntropy(), np.zeros(3), np.zeros(3), ValueError, r"got \(3,\)"),
    "kl_rank": (KLDivergence(), np.zeros(3), np.zeros(3), ValueError, r"got \(3,\)"),
    "soft_shape": (SoftmaxCrossEntropy(), Y, np.zeros((4, 2)), ValueError, "prediction's shape"),
    "class_weights": (SoftmaxCrossEntropy(class_weights=[1, 2]), Y, np.zeros(4, int), ValueError, "2 entries for 3"),
    "narrow": (SoftmaxCrossEntropy(), np.zeros((4, 200)), np.zeros(4, "int8"), ValueError, "int8 count to 127"),
    "narrow_hinge": (MulticlassHinge(), np.zeros((4, 200)), np.zeros(4, "int8"), ValueError, "int8 count to 127"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named(case, backend):
    loss_fn, y, t, error, message = MISTAKES[case]
    with pytest.raises(error, match=message):
        loss_fn(backend.asarray(y), backend.asarray(t))


def test_sample_weights_that_do_not_fit(backend):
    y = backend.asarray(Y, "float32")
    with pytest.raises(ValueError, match=r"shape \(4,\), one a sample, got \(3,\)"):
        MeanSquaredError()(y, y, backend.asarray(np.ones(3), "float32"))
    with pytest.raises(TypeError, match="sample weights have the prediction's dtype"):
        MeanSquaredError()(y, y, backend.asarray(np.ones(4, int)))


@pytest.mark.float64
def test_wider_sample_weights_do_not_widen_the_loss(backend):
    """A float64 weight would make a float32 network's gradient float64."""
    y = backend.asarray(Y, "float32")
    with pytest.raises(TypeError, match="sample weights have the prediction's dtype"):
        MeanSquaredError()(y, y, backend.asarray(np.ones(4), "float64"))


@pytest.mark.parametrize("make_loss,message", [
    (lambda: MeanSquaredError("average"), "unknown reduction 'average'"),
    (lambda: SoftmaxCrossEntropy("batchmean"), "did you mean 'batch_mean'"),
    (lambda: SoftmaxCrossEntropy(label_smoothing=1.0), "label_smoothing"),
    (lambda: Huber(0.0), "delta is a positive number"),
])
def test_wrong_options(make_loss, message):
    with pytest.raises(ValueError, match=message):
        make_loss()


# Weights of 0, and what a mean divides by.

@pytest.mark.parametrize("name", ["mean", "batch_mean", "half_mean"])
def test_a_batch_of_weight_0_has_loss_0_and_gradient_0(name, backend, dtype):
    rng = np.random.default_rng(0)
    z, t = backend.asarray(rng.standard_normal((4, 3)), dtype), backend.asarray(np.zeros(4, dtype=np.int64))
    for loss, target, w in ((xn.MeanSquaredError(name), z * 0.5, np.zeros(4)), (xn.SoftmaxCrossEntropy(name), t, np.zeros(4)),
                            (xn.SoftmaxCrossEntropy(name, class_weights=[0, 1, 2]), t, None)):
        value, dz = loss(z, target, None if w is None else backend.asarray(w, dtype))
        assert float(value) == 0.0
        assert_close(dz, np.zeros((4, 3)), backend, dtype=dtype)


@pytest.mark.parametrize("options", [{}, {"class_weights": [1.0, 5.0, 0.5]}, {"reduction": "sum"}, {"reduction": "half_mean"}], ids=repr)
@pytest.mark.parametrize("weighted", [False, True])
def test_batches_losses_weighted_by_their_mass_are_the_loss_of_all(options, weighted, backend):
    rng = np.random.default_rng(1)
    z, t, w = rng.standard_normal((7, 3)), rng.integers(0, 3, 7), rng.random(7)
    loss = xn.SoftmaxCrossEntropy(**options)

    def part(rows):
        args = [backend.asarray(z[rows]), backend.asarray(t[rows]), *([backend.asarray(w[rows])] if weighted else [])]
        mass = loss.mass(backend.xp, args[0], args[1], args[2] if weighted else None)
        return float(loss(*args)[0]), float(mass)

    whole, _ = part(slice(None))
    parts = [part(slice(0, 2)), part(slice(2, 3)), part(slice(3, 7))]
    total = sum(v * m for v, m in parts)
    assert total / (1.0 if options.get("reduction") == "sum" else sum(m for _, m in parts)) == pytest.approx(whole, rel=1e-5)


def test_log_cosh_keeps_its_digits_near_0(backend):
    y = backend.asarray(np.full((1, 1), 1e-4), "float32")
    assert float(xn.LogCosh()(y, y * 0.0)[0]) == pytest.approx(5e-9, rel=5e-3)

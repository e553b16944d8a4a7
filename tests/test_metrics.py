"""Metrics against scikit-learn on random data, and where it says nothing, against numbers worked out by hand."""

import warnings

import numpy as np
import pytest
from conftest import assert_close
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnet import metrics

sk = pytest.importorskip("sklearn.metrics")
UndefinedMetricWarning = pytest.importorskip("sklearn.exceptions").UndefinedMetricWarning

few = settings(max_examples=25, deadline=None, database=None,
               suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2 ** 32 - 1)


def value(x, backend):
    return float(backend.host(x))


def draw(seed, n, k):
    """Scores with ties, and labels that leave classes out."""
    rng = np.random.default_rng(seed)
    y = rng.integers(-4, 5, (n, k)) / 2.0
    present = rng.choice(k, size=rng.integers(1, k + 1), replace=False)
    return y, rng.choice(present, size=n), rng


# Classification


@few
@given(seed=seeds, n=st.integers(1, 40), k=st.integers(2, 6))
def test_scores_against_scikit_learn(backend, dtype, seed, n, k):
    y, t, _ = draw(seed, n, k)
    device_y, device_t = backend.asarray(y, dtype), backend.asarray(t)
    predicted, labels = np.argmax(y, axis=1), np.arange(k)
    assert_close(metrics.accuracy(device_y, device_t), sk.accuracy_score(t, predicted), backend, dtype=dtype)
    assert_close(metrics.confusion_matrix(device_y, device_t), sk.confusion_matrix(t, predicted, labels=labels),
                 backend, dtype="int64")
    for ours, theirs in ((metrics.precision, sk.precision_score), (metrics.recall, sk.recall_score),
                         (metrics.f1, sk.f1_score)):
        for average in ("macro", "micro", None):
            expected = theirs(t, predicted, labels=labels, average=average, zero_division=0)
            assert_close(ours(device_y, device_t, average), expected, backend, dtype=dtype)


@few
@given(seed=seeds, n=st.integers(1, 40), k=st.integers(3, 6), data=st.data())
def test_top_k_against_scikit_learn(backend, dtype, seed, n, k, data):
    _, t, rng = draw(seed, n, k)
    y = rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1) / 4.0    # no ties: scikit-learn settles them the other way
    top = data.draw(st.integers(1, k))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)   # k = number of classes is 1
        expected = sk.top_k_accuracy_score(t, y, k=top, labels=np.arange(k))
    assert_close(metrics.top_k(backend.asarray(y, dtype), backend.asarray(t), top), expected, backend, dtype=dtype)


@few
@given(seed=seeds, n=st.integers(1, 30), k=st.integers(2, 5))
def test_top_1_is_the_accuracy_also_with_ties(backend, seed, n, k):
    y, t, _ = draw(seed, n, k)
    y, t = backend.asarray(y), backend.asarray(t)
    assert value(metrics.top_k(y, t, 1), backend) == value(metrics.accuracy(y, t), backend)


def test_top_k_of_useless_scores(backend):
    """Equal scores are not all in front, and NaN is never a hit."""
    t = backend.asarray(np.array([0, 1, 2, 3]))
    assert value(metrics.top_k(backend.asarray(np.zeros((4, 4))), t, 2), backend) == 0.5
    assert value(metrics.top_k(backend.asarray(np.full((4, 4), np.nan)), t, 2), backend) == 0.0


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("target", ["int64", "uint8", "bool", "float32", "sign", "soft"])
def test_logits(backend, shape, target):
    y = np.array([-2.0, -0.1, 0.0, 0.1, 3.0, 4.0])
    t = np.array([0, 1, 1, 1, 1, 0])
    made = {"sign": 2 * t - 1, "soft": 0.1 + 0.8 * t}
    given_t = np.reshape(made[target] if target in made else t.astype(target), shape)
    device_y, device_t = backend.asarray(np.reshape(y, shape)), backend.asarray(given_t)
    assert value(metrics.accuracy(device_y, device_t), backend) == 0.5
    np.testing.assert_array_equal(backend.host(metrics.confusion_matrix(device_y, device_t)), [[1, 1], [2, 2]])
    np.testing.assert_allclose(backend.host(metrics.recall(device_y, device_t, None)), [1 / 2, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(backend.host(metrics.precision(device_y, device_t, None)), [1 / 3, 2 / 3], rtol=1e-6)


def test_logits_take_labels_of_either_shape(backend):
    y, t = np.array([[-1.0], [2.0], [3.0]]), np.array([0, 1, 0])
    assert value(metrics.accuracy(backend.asarray(y), backend.asarray(t)), backend) == pytest.approx(2 / 3)
    y, t = y[:, 0], t[:, None]
    assert value(metrics.accuracy(backend.asarray(y), backend.asarray(t)), backend) == pytest.approx(2 / 3)


def test_one_hot_targets_are_labels(backend):
    y, t, _ = draw(0, 30, 4)
    one_hot = np.eye(4)[t]
    for f in (metrics.accuracy, metrics.top_k, metrics.f1):
        args = (2,) if f is metrics.top_k else ()
        expected = value(f(backend.asarray(y), backend.asarray(t), *args), backend)
        for dtype in ("float32", "int64", "bool"):
            assert value(f(backend.asarray(y), backend.asarray(one_hot, dtype), *args), backend) == expected


def test_predicted_labels(backend):
    p, t = np.array([0, 2, 2, 1, 2]), np.array([0, 2, 1, 1, 0])
    device_p, device_t = backend.asarray(p), backend.asarray(t.astype("uint8"))
    assert_close(metrics.accuracy(device_p, device_t), 0.6, backend, dtype="float32")
    assert_close(metrics.confusion_matrix(device_p, device_t, classes=4),
                 sk.confusion_matrix(t, p, labels=range(4)), backend, dtype="int64")
    expected = sk.f1_score(t, p, labels=range(4), average="macro", zero_division=0)
    assert_close(metrics.f1(device_p, device_t, classes=4), expected, backend, dtype="float32")
    if backend.name.startswith("numpy"):                  # the number of classes is found where it is free
        assert metrics.confusion_matrix(p, t).shape == (3, 3)
        assert metrics.confusion_matrix(p + 1, t).shape == metrics.confusion_matrix(p, t + 1).shape == (4, 4)
    else:
        with pytest.raises(ValueError, match="classes="):
            metrics.confusion_matrix(device_p, device_t)


def test_sequences_count_every_step(backend):
    y, t, _ = draw(1, 24, 3)
    steps_y, steps_t = backend.asarray(y.reshape(4, 6, 3)), backend.asarray(t.reshape(4, 6))
    flat_y, flat_t = backend.asarray(y), backend.asarray(t)
    for f in (metrics.accuracy, metrics.f1, lambda y, t: metrics.top_k(y, t, 2)):
        assert value(f(steps_y, steps_t), backend) == value(f(flat_y, flat_t), backend)


# Regression


@few
@given(seed=seeds, n=st.integers(2, 40), k=st.integers(0, 3))
def test_regression_against_scikit_learn(backend, dtype, seed, n, k):
    rng = np.random.default_rng(seed)
    shape = (n, k) if k else (n,)
    y, t = rng.standard_normal(shape).astype(dtype), (3.0 + rng.standard_normal(shape)).astype(dtype)
    device_y, device_t = backend.asarray(y), backend.asarray(t)
    exact = {"y_true": t.astype("float64"), "y_pred": y.astype("float64")}
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    assert_close(metrics.mse(device_y, device_t), sk.mean_squared_error(**exact), backend, dtype=dtype, **tolerance)
    assert_close(metrics.mae(device_y, device_t), sk.mean_absolute_error(**exact), backend, dtype=dtype, **tolerance)
    # √ of the mean over everything; scikit-learn's root_mean_squared_error is the mean of the outputs' roots
    assert_close(metrics.rmse(device_y, device_t), np.sqrt(sk.mean_squared_error(**exact)), backend, dtype=dtype,
                 **tolerance)
    if np.min(np.var(t, axis=0)) > 1e-3:                  # else R² is a quotient of roundings
        tolerance = {name: 10 * tol for name, tol in tolerance.items()}
        assert_close(metrics.r2(device_y, device_t), sk.r2_score(**exact), backend, dtype=dtype, **tolerance)


@pytest.mark.parametrize("shift, expected", [(0.0, 1.0), (1e-3, 0.0)])
def test_r2_of_a_constant_target(backend, shift, expected):
    """Alone, and beside an output that varies: over 60,000 rows of float32 the variance of 0.1 may round to more than 0."""
    constant = np.full((60000, 1), 0.1)
    line = constant.cumsum(axis=0)
    for t, off, total in ((constant, [shift], expected),
                          (np.hstack([constant, constant]), [shift, shift], expected),
                          (np.hstack([constant, line]), [shift, 0.0], (1.0 + expected) / 2)):
        got = metrics.r2(backend.asarray(t + off, "float32"), backend.asarray(t, "float32"))
        assert value(got, backend) == total


def test_r2_in_float32_holds_over_many_samples(backend):
    """Squares of 60,000 rows added one by one would be wrong in the fourth digit."""
    t = np.tile(np.array([[0.1, 5.2], [0.3, 5.4]], dtype="float32"), (30000, 1))
    y = t + np.float32(0.05)
    expected = sk.r2_score(t.astype("float64"), y.astype("float64"))
    assert_close(metrics.r2(backend.asarray(y), backend.asarray(t)), expected, backend, rtol=0.0, atol=3e-6)


def test_integer_targets_of_a_regression(backend):
    y, t = backend.asarray(np.array([1.5, 2.0, 4.0])), backend.asarray(np.array([1, 2, 3]))
    assert_close(metrics.mae(y, t), 0.5, backend, dtype=backend.widest)


# What they are not given


def test_targets_without_the_last_axis_are_an_error_in_regression(backend):
    """(n, 1) - (n,) would be (n, n): every prediction against every target."""
    y, t = backend.asarray(np.zeros((5, 1))), backend.asarray(np.zeros(5))
    for f in (metrics.mse, metrics.rmse, metrics.mae, metrics.r2):
        with pytest.raises(ValueError, match=r"\(5, 1\) and t \(5,\); reshape t to \(5, 1\)"):
            f(y, t)


f2 = np.zeros((4, 3))
labels = np.array([0, 1, 2, 0])
BAD = [
    ("labels of another length", metrics.accuracy, f2, labels[:3], ValueError, r"y \(4, 3\) and t \(3,\)"),
    ("labels with an axis too many", metrics.accuracy, f2, labels[:, None], ValueError, "drop t's last axis"),
    ("floating labels", metrics.accuracy, f2, labels * 1.0, TypeError, "integer labels"),
    ("one-hot of other classes", metrics.accuracy, f2, np.eye(4), ValueError, r"\(4, 3\)"),
    ("logits against two targets", metrics.accuracy, f2[:, 0], np.eye(4), ValueError, "yes-or-no"),
    ("truth values as predictions", metrics.accuracy, labels > 0, labels, TypeError, "scores or integer labels"),
    ("labels of another shape", metrics.accuracy, labels, labels[:2], ValueError, "same shape"),
    ("nothing", metrics.accuracy, f2[:0], labels[:0], ValueError, "at least one sample"),
    ("too many classes", lambda y, t: metrics.f1(y, t, classes=4), f2, labels, ValueError, "3 classes"),
    ("unknown average", lambda y, t: metrics.f1(y, t, "makro"), f2, labels, ValueError, "'macro'"),
    ("k of 0", lambda y, t: metrics.top_k(y, t, 0), f2, labels, ValueError, "from 1 to"),
    ("k above the classes", metrics.top_k, f2, labels, ValueError, "3, got 5"),
    ("top-k of logits", lambda y, t: metrics.top_k(y, t, 1), f2[:, 0], labels, ValueError, r"\(n, classes\)"),
    ("top-k of labels", lambda y, t: metrics.top_k(y, t, 1), labels, labels, ValueError, r"\(n, classes\)"),
    ("integer predictions of a regression", metrics.mse, labels, labels, TypeError, "floating predictions"),
    ("one sample for R²", metrics.r2, f2[:1], f2[:1], ValueError, "two samples"),
    ("an empty regression", metrics.mse, f2[:0], f2[:0], ValueError, "at least one sample"),
]


@pytest.mark.parametrize("f, y, t, error, match", [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input(backend, f, y, t, error, match):
    with pytest.raises(error, match=match):
        f(backend.asarray(y), backend.asarray(t))


def test_host_labels_out_of_range():
    with pytest.raises(ValueError, match="3 classes"):
        metrics.confusion_matrix(f2, np.array([0, 1, 3, 0]))
    with pytest.raises(ValueError, match="index 2"):
        metrics.confusion_matrix(np.array([0, 1, -1, 0]), labels)


def test_two_libraries():
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="one library"):
        metrics.accuracy(strict.asarray(f2), labels)


def test_names():
    assert metrics.get_metric("f1") is metrics.f1
    assert metrics.get_metric(len) is len
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        metrics.get_metric("acuracy")


def test_no_metric_waits_for_the_device(no_sync):
    y, t, _ = draw(2, 20, 4)
    xp, device = no_sync, no_sync.Device("device1")
    scores, values = (xp.asarray(a, device=device) for a in (y, y * 2.0 + 1.0))
    t = xp.asarray(t, device=device)
    for name, f in metrics.NAMES.items():
        regression = name in ("mse", "rmse", "mae", "r2")
        got = f(scores, values if regression else t, *([2] if name == "top_k" else []))
        assert got.shape == ()
    assert metrics.confusion_matrix(scores, t).shape == (4, 4)
    with pytest.raises(AssertionError, match="synchronisation"):
        float(got)

"""What a review of the layers found: each was wrong once."""

import numpy as np
import pytest

import xpnet as xn


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_ctc_counts_beyond_a_narrow_dtype(dtype):
    rng = np.random.default_rng(0)
    z, t = rng.standard_normal((2, 160, 5)), rng.integers(1, 5, (2, 70))
    want = xn.CTC("sum")(z, t)
    got = xn.CTC("sum")(z, t.astype(dtype))
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-9, atol=1e-12)
    if dtype == "uint8":                                  # 300 frames are more than a uint8 counts
        z = rng.standard_normal((1, 300, 3))
        want = xn.CTC("sum")((z, np.array([200])), np.array([[1, 2]]))
        got = xn.CTC("sum")((z, np.array([200], dtype="uint8")), np.array([[1, 2]]))
        np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
        np.testing.assert_allclose(got[1][0], want[1][0], rtol=1e-9, atol=1e-12)


def test_gradient_check_of_ctc_with_lengths():
    net = xn.Parallel(xn.LSTM(2, 3), xn.Identity(), split=True)
    x = np.random.default_rng(0).standard_normal((2, 5, 2))
    assert xn.gradient_check(xn.Model(net, dtype="float64"), (x, np.array([5, 4])), xn.CTC(), np.array([[1], [2]])).ok


@pytest.mark.parametrize("net", [lambda: xn.LayerNorm(4), lambda: xn.RMSNorm(4), lambda: xn.GroupNorm(1, 4)])
def test_mixed_precision_keeps_rows_of_large_activations(net):
    x = np.array([[-300, 300, -300, 300], [-200, 200, -200, 200]], dtype="float32")
    y, backward = xn.Model(net(), dtype="mixed").forward(x)
    np.testing.assert_allclose(y, np.sign(x), atol=2e-3)
    assert np.all(np.isfinite(backward(np.full_like(y, 1e-3), input_grad=True)[0]))


def test_mixed_precision_keeps_the_running_variance():
    x = np.array([[-300.0], [300.0]], dtype="float32")
    model = xn.Model(xn.Sequential(xn.BatchNorm(1)), dtype="mixed")
    for _ in range(200):
        y, backward = model.forward(x)
        backward(np.zeros_like(y))
    np.testing.assert_allclose(y, np.sign(x), atol=2e-3)
    np.testing.assert_allclose(model.predict(x), np.sign(x) / np.sqrt(2.0), rtol=1e-2)   # the running variance is the unbiased one


@pytest.mark.parametrize("net", [lambda: xn.Stacked(xn.Embedding(5, 2), xn.LSTM(2, 2, last=True)),
                                 lambda: xn.Sequential(xn.WeightNorm(xn.Embedding(5, 2)), xn.Flatten())])
def test_tokens_are_checked_within_other_containers(net):
    with pytest.raises(ValueError, match="holds tokens from 0 to 4"):
        xn.fit(xn.Model(net()), xn.SoftmaxCrossEntropy(), xn.SGD(0.1), (np.array([[1], [-1]]), np.array([0, 1])), progress=False)


def test_ignored_places_are_not_counted_by_metrics(backend):
    x = np.eye(3)[np.array([[0, 1, 2, 0], [2, 1, 0, 0]])]
    t = np.array([[0, 1, -1, -1], [2, 1, 0, -1]])
    model = backend.model(xn.Sequential(xn.Dense(3, 3, init=np.eye(3))))
    result = xn.evaluate(model, xn.SoftmaxCrossEntropy(ignore_index=-1), (x, t), metrics=["accuracy", "f1"])
    assert result["accuracy"] == 1.0 and result["f1"] == 1.0


def test_ctc_without_frames_says_nothing(backend):
    """A sample of length 0 says nothing for certain: ℓ = 0 for no labels, ∞ for any."""
    z = backend.asarray(np.random.default_rng(0).standard_normal((2, 5, 3)))
    none, some = (backend.asarray(np.array(t)) for t in ([[0, 0], [1, 2]], [[1, 0], [1, 2]]))
    full, lengths = backend.asarray(np.array([5, 5])), backend.asarray(np.array([0, 5]))
    alone = float(xn.CTC("sum")((z[1:, ...], full[1:]), none[1:, ...])[0])
    loss, (dz, _) = xn.CTC("sum")((z, lengths), none)
    assert float(loss) == pytest.approx(alone, rel=1e-5) and not backend.host(dz)[0].any()
    assert float(xn.CTC("sum")((z, lengths), some)[0]) == float("inf")
    assert float(xn.CTC("sum", zero_infinity=True)((z, lengths), some)[0]) == pytest.approx(alone, rel=1e-5)


def test_a_loss_of_one_prediction_refuses_a_network_of_two():
    model, x, t = xn.Model(xn.Parallel(xn.Dense(2, 3), xn.Dense(2, 3))), np.ones((4, 2)), np.ones((4, 3))
    for loss in (xn.MeanSquaredError(), xn.SoftmaxCrossEntropy()):
        with pytest.raises(ValueError, match=f"{type(loss).__name__} takes one array as its prediction, got 2 arrays"):
            xn.fit(model, loss, xn.SGD(0.1), (x, t), progress=False)
        with pytest.raises(ValueError, match="takes one array as its prediction, got 2 arrays"):
            xn.evaluate(model, loss, (x, t))


def test_summary_asks_for_the_shape_of_sequences():
    model = xn.Model(xn.Stacked(xn.LSTM(2, 3), xn.LSTM(3, 2)))
    with pytest.raises(ValueError, match="one sample is not .2,. here: .*; give its shape, as in input_shape="):
        model.summary()
    assert model.summary(input_shape=(7, 2)).rows


def test_batch_mean_with_ignored_places_is_the_mean_times_the_places():
    z, t = np.random.default_rng(0).standard_normal((2, 4, 3)), np.array([[0, 1, -1, -1], [2, 1, 0, -1]])
    mean, batch_mean = (xn.SoftmaxCrossEntropy(r, ignore_index=-1)(z, t) for r in ("mean", "batch_mean"))
    np.testing.assert_allclose(batch_mean[0], 4 * mean[0])
    np.testing.assert_allclose(batch_mean[1], 4 * mean[1])


@pytest.mark.parametrize("call", ["predict", "predict_proba", "predict_classes"])
def test_predict_checks_tokens_on_the_host(backend, call):
    """NumPy would read -1 as the last row of the table, other libraries whatever is there."""
    model = backend.model(xn.Sequential(xn.Embedding(5, 2), xn.Flatten()))
    model.link = "softmax"
    for tokens in ([[1], [-1]], [[5], [0]]):
        with pytest.raises(ValueError, match=r"x holds tokens from 0 to 4 for Embedding\(5, 2\), got values from"):
            getattr(model, call)(np.array(tokens))
    assert getattr(model, call)(np.array([[0], [4]])).shape[0] == 2
    on_device = backend.asarray(np.array([[0], [4]]))
    assert getattr(model, call)(on_device).shape[0] == 2


def test_predict_checks_lengths_on_the_host():
    model, x = xn.Model(xn.LSTM(2, 3)), np.zeros((2, 4, 2))
    assert model.predict((x, np.array([4, 0]))).shape == (2, 4, 3)
    for lengths in ([5, 1], [1, -1]):
        with pytest.raises(ValueError, match="x has lengths from 0 to 4, the number of steps"):
            model.predict((x, np.array(lengths)))


def test_predict_leaves_shapes_to_the_layers():
    tokens = xn.Model(xn.Sequential(xn.Embedding(5, 2), xn.Flatten()))
    with pytest.raises(xn.LayerError, match="got a tuple of 2 arrays"):
        tokens.predict((np.array([[1]]), np.array([1])))
    assert tokens.predict(np.zeros((2, 0), dtype=int)).shape == (2, 0)
    with pytest.raises(xn.LayerError, match="takes x of shape .batch, time, 2."):
        xn.Model(xn.LSTM(2, 3)).predict((np.zeros(2), np.array([1, 1])))


@pytest.mark.parametrize("net", [lambda: xn.Sequential(xn.LSTM(2, 3), xn.GRU(3, 2)),
                                 lambda: xn.Checkpoint(xn.Bidirectional(xn.RNN(2, 1), xn.RNN(2, 1)), xn.Tanh(), xn.LSTM(2, 2, last=True))])
def test_lengths_do_not_get_lost_in_a_sequential(backend, net):
    model, x = backend.model(net()), np.ones((2, 3, 2))
    with pytest.raises(xn.LayerError, match=r"layer [12] \((GRU|LSTM).* would read the padding as steps: write Stacked"):
        model.predict((x, np.array([3, 1])))
    assert model.predict(x).shape[0] == 2
    stacked = backend.model(xn.Stacked(*net().layers))
    assert stacked.predict((x, np.array([3, 1]))).shape[0] == 2


def test_one_recurrent_layer_in_a_sequential_takes_lengths(backend):
    model, x = backend.model(xn.Sequential(xn.LSTM(2, 3), xn.Dense(3, 1))), np.ones((2, 3, 2))
    assert model.predict((x, np.array([3, 1]))).shape == (2, 3, 1)


def test_weight_norm_of_zeros_is_refused():
    with pytest.raises(ValueError, match=r"initial W of Dense\(3, 2\) is 0 for 2 of 2 outputs, and 0 has no direction: give W another init"):
        xn.Model(xn.Sequential(xn.WeightNorm(xn.Dense(3, 2, init="zeros"))))
    with pytest.raises(ValueError, match="is 0 for 1 of 2 outputs"):
        xn.Model(xn.WeightNorm(xn.Dense(3, 2, init=np.array([[0.0, 1.0]] * 3))))


def test_top_k_does_not_count_ignored_places(backend):
    scores = np.array([[[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], [[1.0, 3.0, 2.0], [2.0, 1.0, 3.0]]])
    t = np.array([[1, -1], [0, -1]])                      # the second best, the worst, and two that do not count
    model, loss = backend.model(xn.Identity()), xn.SoftmaxCrossEntropy(ignore_index=-1)
    metrics = {f"top{k}": lambda y, t, k=k: xn.metrics.top_k(y, t, k) for k in (1, 2, 3)}
    result = xn.evaluate(model, loss, (scores, t), metrics)
    assert (result["top1"], result["top2"], result["top3"]) == (0.0, 0.5, 1.0)


def test_ctc_lengths_beyond_the_frames_are_all_frames(backend):
    z = backend.asarray(np.random.default_rng(0).standard_normal((2, 5, 3)))
    t, loss = backend.asarray(np.array([[0, 0], [1, 2]])), xn.CTC("sum")

    def of(lengths):
        value, (dz, _) = loss((z, backend.asarray(np.array(lengths))), t)
        return float(value), backend.host(dz)

    for given, means in ([0, 9], [0, 5]), ([-2, 6], [0, 5]):
        (value, dz), (expected, dz_expected) = of(given), of(means)
        assert value == expected
        np.testing.assert_array_equal(dz, dz_expected)

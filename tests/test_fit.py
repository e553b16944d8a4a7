"""Training: fit, its history, callbacks, progress, interruption, and what it does when a loss is not finite."""

import os
import signal
import sys
import warnings

import numpy as np
import pytest
from conftest import Bench, assert_close

import xpnet as xn
from xpnet import (
    SGD, Adam, BinaryCrossEntropy, Cosine, Dense, Dropout, EarlyStopping, LearningRate, MeanSquaredError, Model, Plateau, Sequential,
    SoftmaxCrossEntropy, Step, evaluate, fit,
)
from xpnet.data import batches


def blobs(n=60, seed=0):
    """Two classes that a line separates."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) % 2
    return (rng.standard_normal((n, 2)) + 3.0 * t[:, None]).astype("float32"), t


def classifier(bench, dtype="float32", seed=0, dropout=0.0):
    return bench.model(Sequential(Dense(2, 8, "tanh"), Dropout(dropout), Dense(8, 2)), dtype, seed)


def test_fit_learns_and_records(backend):
    x, t = blobs()
    model = classifier(backend)
    history = fit(model, SoftmaxCrossEntropy(), Adam(0.05), (x, t), validation=blobs(seed=1), epochs=8, batch_size=16,
                  metrics=["accuracy"], progress=False)
    assert list(history.columns) == ["epoch", "loss", "val_loss", "val_accuracy", "lr", "time"]
    assert history["epoch"] == list(range(1, 9)) and len(history) == 8 and not history.stopped
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_accuracy"][-1] > 0.9
    assert all(type(v) in (int, float) for column in history.columns.values() for v in column)
    assert model.link == "softmax"
    with pytest.raises(ValueError, match="unknown history column 'los'; did you mean 'loss'"):
        history["los"]


def test_fit_is_the_five_line_loop(backend, dtype):
    x, t = blobs()
    by_fit, by_hand = classifier(backend, dtype, dropout=0.3), classifier(backend, dtype, dropout=0.3)
    history = fit(by_fit, SoftmaxCrossEntropy(), Adam(0.05), (x, t), epochs=3, batch_size=16, seed=5, progress=False)
    loss_fn, optimizer = SoftmaxCrossEntropy(), Adam(0.05)
    train = by_hand.asarray(x), by_hand.asarray(t)
    means = []
    for epoch in range(3):
        total = 0.0
        for xb, tb in batches(train, batch_size=16, seed=5, epoch=epoch):
            y, backward = by_hand.forward(xb)
            loss, dy = loss_fn(y, tb)
            optimizer.step(by_hand, backward(dy))
            total += float(loss) * tb.shape[0]
        means.append(total / len(x))
    np.testing.assert_array_equal(backend.host(by_fit.params), backend.host(by_hand.params))
    np.testing.assert_allclose(history["loss"], means, rtol=1e-5)


def test_the_same_seed_trains_the_same_network_on_every_backend(backend, dtype):
    x, t = blobs()
    ours, reference = classifier(backend, dtype, dropout=0.5), classifier(Bench("numpy"), dtype, dropout=0.5)
    for model in (ours, reference):
        fit(model, SoftmaxCrossEntropy(), Adam(0.01), (x, t), epochs=3, batch_size=16, progress=False)
    assert_close(ours.params, reference.params, backend, rtol=1e-4 if dtype == "float32" else 1e-10, atol=1e-5 if dtype == "float32" else 1e-12)


def test_host_and_device_data_and_lists_and_iterables_train_the_same(backend):
    x, t = blobs()
    ready = list(batches((x, t), batch_size=16))
    results = []
    for data in ((x, t), (backend.asarray(x), backend.asarray(t)), ready):
        model = classifier(backend)
        kind = data if data is ready else tuple(batches(data, batch_size=16))
        fit(model, SoftmaxCrossEntropy(), SGD(0.1), list(kind), epochs=2, progress=False)
        results.append(backend.host(model.params))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_generator_trains_for_one_epoch_and_bad_batches_are_refused(backend):
    x, t = blobs()
    model = classifier(backend)
    history = fit(model, SoftmaxCrossEntropy(), SGD(0.1), (b for b in batches((x, t), batch_size=20)), progress=False)
    assert len(history) == 1
    bad = [(x[:4], t[:4]), (np.full((4, 2), np.nan, "float32"), t[:4])]
    with pytest.raises(ValueError, match="batch 2: x has 8 values"):
        fit(model, SoftmaxCrossEntropy(), SGD(0.1), bad, progress=False)


def test_memory_mapped_data_is_read_batch_by_batch(backend, tmp_path):
    x, t = blobs()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    one, two = classifier(backend), classifier(backend)
    for model, data in ((one, (x, t)), (two, (mapped, t))):
        fit(model, SoftmaxCrossEntropy(), SGD(0.1), data, epochs=2, batch_size=16, progress=False)
    np.testing.assert_array_equal(backend.host(one.params), backend.host(two.params))


@pytest.mark.parametrize("batch_size, steps", [(None, 1), (1, 10), (4, 3)], ids=["batch", "stochastic", "mini-batch"])
def test_batch_size_names_the_three_kinds_of_gradient_descent(batch_size, steps):
    x, t = blobs(10)
    model = Model(Sequential(Dense(2, 2)))
    fit(model, SoftmaxCrossEntropy(), SGD(0.1), (x, t), batch_size=batch_size, progress=False)
    assert model.step == steps                            # the last, partial batch is kept


def test_a_sample_weight_of_two_is_the_sample_twice(backend):
    x, t = blobs(12)
    weighted, doubled = classifier(backend), classifier(backend)
    w = np.where(np.arange(12) < 4, 2.0, 1.0)
    fit(weighted, SoftmaxCrossEntropy(), SGD(0.1), (x, t, w), epochs=3, batch_size=None, progress=False)
    fit(doubled, SoftmaxCrossEntropy(), SGD(0.1), (np.concatenate([x, x[:4]]), np.concatenate([t, t[:4]])), epochs=3, batch_size=None, progress=False)
    assert_close(weighted.params, backend.host(doubled.params), backend, rtol=1e-4, atol=1e-6)


def test_the_loss_of_an_epoch_for_sums_and_means():
    x, t = np.ones((5, 1), "float32"), np.zeros((5, 1), "float32")
    for reduction, expected in (("mean", 1.0), ("sum", 5.0), ("half_sum", 2.5), ("half_batch_mean", 0.5)):
        model = Model(Sequential(Dense(1, 1, init="ones")))
        assert fit(model, MeanSquaredError(reduction), SGD(0.0), (x, t), batch_size=2, progress=False)["loss"] == [pytest.approx(expected)]


def test_evaluate_is_over_all_data_at_once(backend):
    x, t = blobs(50)
    model = classifier(backend)
    y = model.predict(backend.asarray(x))
    expected = float(SoftmaxCrossEntropy()(y, backend.asarray(t))[0])
    for data in ((x, t), (backend.asarray(x), backend.asarray(t))):
        result = evaluate(model, SoftmaxCrossEntropy(), data, ["accuracy"], batch_size=7)
        assert result["loss"] == pytest.approx(expected, rel=1e-5)
        assert result["accuracy"] == pytest.approx(float(np.mean(backend.host(y).argmax(1) == t)))


def test_integer_targets_of_zero_and_one_serve_a_binary_loss(backend):
    x, t = blobs()
    model = backend.model(Sequential(Dense(2, 1)))
    history = fit(model, BinaryCrossEntropy(), Adam(0.1), (x, t[:, None]), epochs=20, progress=False, metrics=["accuracy"])
    assert history["accuracy"][-1] > 0.9 and model.link == "sigmoid"
    assert set(np.unique(model.predict_classes(x))) == {0, 1}


def test_metrics_may_be_functions_and_of_both_sets():
    x, t = blobs()

    def share_of_ones(y, t):
        return (y[:, 1] > y[:, 0]).mean()

    history = fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), SGD(0.1), (x, t), validation=(x, t), metrics=["accuracy", share_of_ones],
                  train_metrics=True, progress=False)
    assert {"accuracy", "val_accuracy", "share_of_ones", "val_share_of_ones"} <= set(history.columns)
    assert history["accuracy"] == history["val_accuracy"]


def test_history_to_pandas():
    pytest.importorskip("pandas")
    x, t = blobs()
    frame = fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), SGD(0.1), (x, t), epochs=3, progress=False).to_pandas()
    assert list(frame.index) == [1, 2, 3] and list(frame.columns) == ["loss", "lr", "time"]


# Callbacks.

def scripted(values):
    """A metric that returns these numbers, one an epoch."""
    rest = iter(values)

    def score(y, t):
        return next(rest)

    return score


def test_early_stopping_restores_the_best_weights(backend):
    x, t = blobs()
    seen = []
    early = EarlyStopping("val_score", patience=2)
    history = fit(classifier(backend), SoftmaxCrossEntropy(), SGD(0.1), (x, t), validation=(x, t), epochs=20, metrics=[scripted([1, 3, 2, 2, 2, 9])],
                  callbacks=[early, lambda run: seen.append((run.model, backend.host(run.model.params)))], progress=False)
    assert len(history) == 5 and early.best_epoch == 1 and early.best == 3
    assert "val_score has not improved on 3 (epoch 2) for 2 epochs" in history.stopped
    np.testing.assert_array_equal(backend.host(seen[-1][0].params), seen[1][1])


@pytest.mark.parametrize("mode, best", [("max", 2), ("min", 0), ("auto", 2)])
def test_early_stopping_knows_what_better_means(mode, best):
    x, t = blobs()
    early = EarlyStopping("score", patience=5, mode=mode)
    fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), SGD(0.1), (x, t), epochs=4, metrics=[scripted([1, 2, 4, 3])], callbacks=[early], progress=False)
    assert early.best_epoch == best


def test_schedules_by_step_and_by_epoch():
    x, t = blobs(40)
    history = fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), SGD(Cosine(0.1, steps=40)), (x, t), epochs=4, batch_size=4, progress=False)
    np.testing.assert_allclose(history["lr"], [Cosine(0.1, steps=40)(10 * e) for e in range(4)])
    history = fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), SGD(9.9), (x, t), epochs=4, callbacks=[LearningRate(Step(0.1, every=2))], progress=False)
    np.testing.assert_allclose(history["lr"], [0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("as_callback", [False, True])
def test_plateau_listens_to_the_validation_loss(as_callback):
    x, t = blobs(40)
    plateau = Plateau(0.0, gamma=0.5, patience=1)         # η = 0: the loss cannot improve
    plateau.now = plateau.lr = 1e-9
    optimizer = SGD(0.1 if as_callback else plateau)
    history = fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), optimizer, (x, t), epochs=6, callbacks=[LearningRate(plateau)] if as_callback else [],
                  progress=False)
    np.testing.assert_allclose(history["lr"], [1e-9, 1e-9, 1e-9, 5e-10, 5e-10, 2.5e-10])


def test_a_callback_may_be_any_function_and_stop_the_run():
    x, t = blobs()

    def stop_at_three(run):
        if run.epoch == 2:
            run.stop("enough")

    history = fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), SGD(0.1), (x, t), epochs=10, callbacks=[stop_at_three], progress=False)
    assert len(history) == 3 and history.stopped == "enough" and "enough" in repr(history)


# A loss that is not finite.

class Cracks(xn.Layer):
    """The identity until step 3, then infinite."""

    keeps_features = True

    def forward(self, params, x, ctx):
        y = x * (1.0 if ctx.random.step < 3 else float("inf"))
        return y, lambda dy, input_grad=True: (dy * 1.0, {})


def test_a_nonfinite_loss_stops_the_run_and_names_layer_and_step(backend):
    x, t = blobs()
    model = backend.model(Sequential(Dense(2, 8, "tanh"), Cracks(), Dense(8, 2)))
    with warnings.catch_warnings():                       # NumPy warns of inf - inf
        warnings.simplefilter("ignore")
        with pytest.warns(RuntimeWarning, match=r"at training step 4, first in the output of layer 1 \(Cracks\(\)\)"):
            history = fit(model, SoftmaxCrossEntropy(), Adam(0.01), (x, t), epochs=5, batch_size=20, progress=False)
    assert "non-finite at training step 4" in history.stopped
    assert len(history) == 1 and model.step == 3          # epoch 1 is whole; the model is as it was before step 4
    reference = backend.model(Sequential(Dense(2, 8, "tanh"), Cracks(), Dense(8, 2)))
    fit(reference, SoftmaxCrossEntropy(), Adam(0.01), (x, t), epochs=1, batch_size=20, progress=False)
    np.testing.assert_array_equal(backend.host(model.params), backend.host(reference.params))


def test_divergence_is_found_where_it_begins():
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None] * 100
    model = Model(Sequential(Dense(1, 8), Dense(8, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(RuntimeWarning, match="fit stopped: the loss became non-finite at training step"):
            history = fit(model, MeanSquaredError(), SGD(1.0), (x, x), epochs=50, batch_size=8, progress=False)
    assert np.all(np.isfinite(model.params)) and history.stopped


def test_a_nonfinite_loss_of_a_stream_cannot_be_replayed_and_says_so():
    x, t = blobs()
    model = Model(Sequential(Cracks(), Dense(2, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(RuntimeWarning, match="cannot be drawn again"):
            fit(model, SoftmaxCrossEntropy(), SGD(0.1), (b for b in batches((x, t), batch_size=10)), progress=False)
    assert np.all(np.isfinite(model.params))


# Progress and Ctrl-C.

def test_progress_with_tqdm_and_with_plain_lines(capfd, monkeypatch):
    x, t = blobs()
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)   # as if it were not installed
    fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), SGD(0.1), (x, t), validation=(x, t), epochs=2)
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1].startswith("epoch 2/2  loss ") and "val_loss" in lines[1]
    monkeypatch.undo()
    pytest.importorskip("tqdm")
    fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), SGD(0.1), (x, t), epochs=2, batch_size=20)
    out = capfd.readouterr()
    assert "6/6" in out.err and "loss" in out.err and out.out == ""


def test_ctrl_c_ends_after_the_step_and_keeps_the_history(backend):
    x, t = blobs()

    def press(run):
        if run.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    model = classifier(backend)
    history = fit(model, SoftmaxCrossEntropy(), SGD(0.1), (x, t), epochs=50, batch_size=20, callbacks=[press], progress=False)
    assert history.stopped == "interrupted" and len(history) == 2
    assert model.step == 7                                # two epochs of 3 steps, and the one in hand
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_steady_state_training_makes_no_host_synchronisation(no_sync, monkeypatch):
    """The loss is read when progress is read, and at no other time: strict's arrays raise on any conversion."""
    import xpnet.train

    bench = Bench("strict")
    reads = []
    monkeypatch.setattr(xpnet.train._Bar, "read", lambda self, total, count, steps: reads.append(steps) or setattr(self, "loss", 0.0) or 0.0)
    x, t = blobs()
    model = classifier(bench, dropout=0.3)
    fit(model, SoftmaxCrossEntropy(), Adam(0.01, clip=xn.ClipNorm(1.0)), (bench.asarray(x, "float32"), bench.asarray(t)), epochs=2, batch_size=16,
        progress=False)
    assert model.step == 8 and reads == [4, 4]            # once an epoch

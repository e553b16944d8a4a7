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
    SGD,
    Adam,
    BinaryCrossEntropy,
    Cosine,
    Dense,
    Dropout,
    EarlyStopping,
    LearningRate,
    MeanSquaredError,
    Model,
    Plateau,
    Sequential,
    SoftmaxCrossEntropy,
    Step,
    evaluate,
    fit,
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


@pytest.mark.parametrize("metrics", ["accuracy", ["accuracy"], {"accuracy": xn.metrics.accuracy}, xn.metrics.accuracy], ids=type)
def test_ways_to_name_a_metric(metrics):
    x, t = blobs()
    assert train(metrics=metrics)["accuracy"] == [evaluate(classifier_after_one_epoch(), SoftmaxCrossEntropy(), (x, t), metrics)["accuracy"]]


def classifier_after_one_epoch():
    model = classifier(Bench("numpy"))
    train(model=model)
    return model


def test_history_to_pandas():
    pytest.importorskip("pandas")
    x, t = blobs()
    frame = fit(classifier(Bench("numpy")), SoftmaxCrossEntropy(), SGD(0.1), (x, t), epochs=3, progress=False).to_pandas()
    assert list(frame.index) == [1, 2, 3] and list(frame.columns) == ["loss", "lr", "time"]


def test_a_run_that_ends_in_its_first_epoch_has_an_empty_history():
    pytest.importorskip("pandas")

    class Press:
        def epoch_begin(self, run):
            os.kill(os.getpid(), signal.SIGINT)

        def __call__(self, run):
            raise AssertionError("the epoch was not completed")

    history = train(callbacks=[Press()], validation=blobs())
    assert history.stopped == "interrupted" and len(history) == 0 and history["val_loss"] == []
    assert list(history.to_pandas().columns) == ["loss", "val_loss", "lr", "time"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "batch_mean", "sum"])
@pytest.mark.parametrize("class_weights", [None, [1.0, 5.0]])
def test_the_loss_of_an_epoch_is_the_loss_of_all_samples(weighted, reduction, class_weights, backend):
    """At η = 0, where batches of unequal weight and size are as one."""
    x, t = blobs(50)
    data = (x, t, np.where(np.arange(50) < 20, 0.0, 7.0)) if weighted else (x, t)
    model, loss = classifier(backend), SoftmaxCrossEntropy(reduction, class_weights=class_weights)
    expected = evaluate(model, loss, data)["loss"]
    for d in (data, tuple(backend.asarray(a, "float32" if a.dtype.kind == "f" else None) for a in data), list(batches(data, 16))):
        history = fit(model, loss, SGD(0.0), d, batch_size=16, progress=False)
        assert history["loss"] == [pytest.approx(expected, rel=1e-5)]


def test_a_batch_without_weight_does_not_stop_the_run(monkeypatch):
    x, t = blobs(32)
    monkeypatch.setattr(xn.progress._Bar, "due", lambda self: True)
    history = train(data=(x, t, np.where(np.arange(32) < 16, 0.0, 1.0)), batch_size=None)
    lone = train(data=[(x[:16], t[:16], np.zeros(16)), (x[16:], t[16:], np.ones(16))])
    assert not history.stopped and not lone.stopped


@pytest.mark.parametrize("as_list", [False, True], ids=["arrays", "list"])
def test_two_runs_of_two_epochs_are_one_of_four(backend, dtype, as_list):
    x, t = blobs()
    data = list(batches((x, t), batch_size=16)) if as_list else (x, t)
    once, twice = classifier(backend, dtype, dropout=0.3), classifier(backend, dtype, dropout=0.3)
    losses = fit(once, SoftmaxCrossEntropy(), Adam(0.05), data, epochs=4, batch_size=16, progress=False)["loss"]
    optimizer, again = Adam(0.05), []
    for _ in range(2):
        again += fit(twice, SoftmaxCrossEntropy(), optimizer, data, epochs=2, batch_size=16, progress=False)["loss"]
    np.testing.assert_array_equal(backend.host(once.params), backend.host(twice.params))
    assert losses == again and once.epoch == twice.epoch == 4


def test_drop_last():
    model = classifier(Bench("numpy"))
    train(model=model, batch_size=16, drop_last=True)
    assert model.step == 3                                # of 60 samples


@pytest.mark.parametrize("where", ["training", "validation"])
def test_memory_mapped_integers_serve_a_loss_of_real_targets(backend, tmp_path, where):
    x, t = blobs()
    np.save(tmp_path / "t.npy", t[:, None])
    mapped = x, np.load(tmp_path / "t.npy", mmap_mode="r")
    runs = []
    for data in ((x, t[:, None]), mapped):
        model = backend.model(Sequential(Dense(2, 1)))
        options = {"validation": data, "metrics": ["accuracy"]} if where == "validation" else {}
        history = fit(model, BinaryCrossEntropy(), SGD(0.1), (x, t[:, None]) if options else data, batch_size=16, progress=False, **options)
        runs.append((backend.host(model.params).tolist(), {n: v for n, v in history.columns.items() if n != "time"}))
    assert runs[0] == runs[1]


def test_batches_on_a_device_are_not_copied_back(no_sync, monkeypatch):
    """And the network is tried on one sample only where their shape is new."""
    import xpnet.progress

    bench, forwards = Bench("strict"), []
    monkeypatch.setattr(xpnet.progress.MeanLoss, "read", lambda self: 0.0)
    monkeypatch.setattr("xpnet.data.checks.to_host", lambda x: pytest.fail("a copy to the host"))
    monkeypatch.setattr(type(bench.backend), "to_host", lambda self, x: pytest.fail("a copy to the host") if self.owns(x) else np.asarray(x))
    x, t = blobs()
    model = classifier(bench)
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda x, training=True: forwards.append(training) or forward(x, training))
    ready = [(bench.asarray(x[i:i + 20]), bench.asarray(t[i:i + 20])) for i in (0, 20, 40)]
    fit(model, SoftmaxCrossEntropy(), SGD(0.1), ready, epochs=2, progress=False)
    assert forwards == [False] + 6 * [True]


# Callbacks.

def scripted(values):
    """A metric that returns these numbers, one an epoch, after a first call in which fit tries it."""
    rest = iter([0.0, *values])

    def score(y, t):
        return next(rest)

    return score


def test_early_stopping_restores_the_best_weights(backend):
    x, t = blobs()
    seen = []
    early = EarlyStopping("val_score", patience=3, mode="max")
    history = fit(classifier(backend), SoftmaxCrossEntropy(), SGD(0.1), (x, t), validation=(x, t), epochs=20, metrics=[scripted([1, 3, 2, 2, 2, 9])],
                  callbacks=[early, lambda run: seen.append((run.model, backend.host(run.model.params)))], progress=False)
    assert len(history) == 5 and early.best_epoch == 1 and early.best == 3
    assert "val_score has not improved on 3 (epoch 2) for 3 epochs" in history.stopped
    np.testing.assert_array_equal(backend.host(seen[-1][0].params), seen[1][1])


def train(**options):
    """fit on NumPy, of what a test does not look at."""
    x, t = blobs()
    options = {"data": (x, t), "optimizer": SGD(0.1), "loss": SoftmaxCrossEntropy(), "progress": False, **options}
    return fit(options.pop("model", None) or classifier(Bench("numpy")), **options)


NAN = float("nan")


@pytest.mark.parametrize("name, mode, values, best", [
    ("score", "max", [1, 2, 4, 3], 2), ("score", "min", [1, 2, 4, 3], 0), ("accuracy", "auto", [1, 2, 4, 3], 2), ("my_rmse", "auto", [1, 2, 4, 3], 0),
    ("score", "max", [NAN, 2, NAN, 1], 1), ("score", "min", [NAN, 2, NAN, 1], 3)])
def test_early_stopping_knows_what_better_means(name, mode, values, best):
    early = EarlyStopping(name, patience=5, mode=mode)
    train(epochs=4, metrics={name: scripted(values)}, callbacks=[early])
    assert early.best_epoch == best


@pytest.mark.parametrize("patience, epochs", [(1, 3), (2, 4)])
def test_early_stopping_waits_for_patience_epochs(patience, epochs):
    early = EarlyStopping("score", patience=patience, mode="max")
    assert len(train(epochs=9, metrics={"score": scripted([1, 2] + [0] * 7)}, callbacks=[early])) == epochs


@pytest.mark.parametrize("options, message", {
    "an unknown monitor": ({"callbacks": [EarlyStopping("val_los")]}, "unknown history column 'val_los'"),
    "a monitor without a direction": ({"callbacks": [EarlyStopping("score")], "metrics": {"score": scripted([])}}, "smaller or a larger 'score'"),
    "two lambdas": ({"metrics": [lambda y, t: 0.0, lambda y, t: 1.0]}, "'<lambda>' cannot be the name of a metric: two metrics have it"),
    "a column's name": ({"metrics": {"lr": lambda y, t: 0.0}}, "'lr' cannot be the name of a metric: columns"),
    "a metric that fails": ({"metrics": ["top_k"]}, "metric 'top_k' cannot be computed.*k is from 1 to the number of classes, 2"),
    "a metric of a stream": ({"data": [blobs()], "metrics": "accuracy"}, r"metrics of the training data need arrays, \(x, t\)"),
    "a stream for two epochs": ({"data": iter([blobs()]), "epochs": 2}, "once only, and epochs is 2"),
    "a list of arrays": ({"data": list(blobs())}, r"a list of arrays; write \(x, t\)"),
    "one array": ({"data": blobs()[0]}, "got one array"),
    "validation of one array": ({"validation": blobs()[0]}, "validation is a tuple of arrays.*got ndarray"),
    "a callback's class": ({"callbacks": [EarlyStopping]}, r"write EarlyStopping\(\.\.\.\)"),
}.values())
def test_what_cannot_work_is_refused_before_the_first_step(options, message):
    model = classifier(Bench("numpy"))
    with pytest.raises((ValueError, TypeError), match=message):
        train(model=model, **options)
    assert model.step == 0


def test_callbacks_end_however_the_run_ends():
    class Ends:
        ended = 0

        def __call__(self, run):
            raise RuntimeError("enough")

        def end(self, run):
            self.ended += 1

    ends, optimizer = Ends(), SGD(0.5)
    with pytest.raises(RuntimeError, match="enough"):
        train(callbacks=[LearningRate(Step(0.1, every=2)), ends], optimizer=optimizer)
    assert ends.ended == 1 and optimizer.lr == 0.5        # and the optimizer has its own rate again


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


def test_it_is_found_within_a_checkpoint_too():
    x, t = blobs()
    model = Model(Sequential(Dense(2, 8, "tanh"), xn.Checkpoint(Dense(8, 8), Cracks(), Dense(8, 2))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(RuntimeWarning, match=r"at training step 4, first in the output of layer 1\.1 \(Cracks\(\)\)"):
            fit(model, SoftmaxCrossEntropy(), Adam(0.01), (x, t), epochs=5, batch_size=20, progress=False)
    assert model.step == 3


def test_divergence_is_found_where_it_begins():
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None] * 100
    model = Model(Sequential(Dense(1, 8), Dense(8, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(RuntimeWarning, match="fit stopped: the loss or a parameter became non-finite at training step"):
            history = fit(model, MeanSquaredError(), SGD(1.0), (x, x), epochs=50, batch_size=8, progress=False)
    assert np.all(np.isfinite(model.params)) and history.stopped


def test_batches_in_a_list_can_be_replayed(backend):
    x, t = blobs()
    model = backend.model(Sequential(Cracks(), Dense(2, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(RuntimeWarning, match="at training step 4, first in the output of layer 0"):
            fit(model, SoftmaxCrossEntropy(), SGD(0.1), list(batches((x, t), batch_size=10)), progress=False)
    assert model.step == 3


class Poisoned(SGD):
    """An update that spoils a parameter that the loss does not see."""

    def update(self, xp, p, g, lr, t):
        super().update(xp, p, g, lr, t)
        if t == 5:
            p[-1:] = float("inf")


def test_a_nonfinite_parameter_is_seen_at_the_end_of_the_epoch(backend):
    class FirstTwo(xn.Layer):
        """The last feature, and with it the last bias, has no part in the loss."""

        def forward(self, params, x, ctx):
            return x[:, :2] * 1.0, lambda dy, input_grad=True: (ctx.xp.concat([dy, ctx.xp.zeros_like(dy[:, :1])], axis=1), {})

    x, t = blobs()
    model = backend.model(Sequential(Dense(2, 3), FirstTwo()))
    with pytest.warns(RuntimeWarning, match="at training step 5, first in the parameters after the step of Poisoned"):
        fit(model, SoftmaxCrossEntropy(), Poisoned(0.1), (x, t), epochs=2, batch_size=10, progress=False)
    assert model.step == 4 and np.all(np.isfinite(backend.host(model.params)))


def test_a_nonfinite_validation_loss_stops_the_run():
    x, t = np.ones((4, 1), "float32"), np.ones((4, 1), "float32")
    model = Model(Sequential(Dense(1, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(RuntimeWarning, match="the validation loss became non-finite after epoch 1"):
            history = fit(model, MeanSquaredError(), SGD(0.0), (x, t), validation=(1e30 * x, t), epochs=3, progress=False)
    assert len(history) == 1 and history.stopped


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


def test_ctrl_c_in_a_callback_ends_after_it_and_keeps_the_history(backend):
    x, t = blobs()

    def press(run):
        if run.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    model, before = classifier(backend), signal.getsignal(signal.SIGINT)   # a run in the background may ignore it
    history = fit(model, SoftmaxCrossEntropy(), SGD(0.1), (x, t), epochs=50, batch_size=20, callbacks=[press], progress=False)
    assert history.stopped == "interrupted" and len(history) == 2
    assert model.step == 6                                # two epochs of 3 steps
    assert signal.getsignal(signal.SIGINT) is before


def test_steady_state_training_makes_no_host_synchronisation(no_sync, monkeypatch):
    """The loss is read when progress is read, and at no other time: strict's arrays raise on any conversion."""
    import xpnet.progress

    bench = Bench("strict")
    reads = []
    monkeypatch.setattr(xpnet.progress.MeanLoss, "read", lambda self: reads.append(self.mass) or 0.0)
    x, t = blobs()
    model = classifier(bench, dropout=0.3)
    fit(model, SoftmaxCrossEntropy(), Adam(0.01, clip=xn.ClipNorm(1.0)), (bench.asarray(x, "float32"), bench.asarray(t)), epochs=2, batch_size=16,
        progress=False)
    assert model.step == 8 and reads == [60, 60]          # once an epoch


def test_a_sum_over_the_epoch_that_overflows_before_the_loss_does_is_found(backend):
    """n L passes float32's largest number one step before L does: the replay has to see the same."""
    x = np.random.default_rng(0).standard_normal((64, 1))
    model = backend.model(xn.Sequential(xn.Dense(1, 1)))
    with np.errstate(over="ignore", invalid="ignore"), pytest.warns(RuntimeWarning, match="fit stopped"):
        history = xn.fit(model, xn.MeanSquaredError(), xn.SGD(1.24), (x, 2 * x), epochs=2000, batch_size=None, progress=False)
    assert "non-finite at training step" in history.stopped and "the loss MeanSquaredError()" in history.stopped

"""Pictures: what is drawn is what was given, axes are labelled, the model is left as it was, and bad input is refused in clear words."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import STATE, Bench

import xpnet as xn
from xpnet import (
    SGD,
    Adam,
    BinaryCrossEntropy,
    Checkpoint,
    Concat,
    Dense,
    Dropout,
    Flatten,
    Hinge,
    History,
    MeanSquaredError,
    Model,
    Poisson,
    PReLU,
    ReLU,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    Tanh,
    fit,
)

matplotlib = pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.collections import FillBetweenPolyCollection, PathCollection  # noqa: E402

from xpnet import plot, profiling  # noqa: E402
from xpnet.plot.recorder import LEVELS  # noqa: E402


@pytest.fixture(autouse=True)
def drawn(request):
    """Every picture can be drawn to the end, warnings being errors; once is enough, since it is drawn from host arrays."""
    yield
    if getattr(request.node, "callspec", None) is None or request.node.callspec.params.get("backend", "numpy") == "numpy":
        for number in plt.get_fignums():
            plt.figure(number).set_dpi(50)
            plt.figure(number).canvas.draw()
    plt.close("all")


def blobs(n=40, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(n) % classes
    corners = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0]])
    return (0.4 * rng.standard_normal((n, 2)) + corners[t]).astype("float32"), t


def mlp(bench, out=3, dtype="float32"):
    return bench.model(Sequential(Dense(2, 6, "tanh"), Dropout(0.4), Dense(6, out)), dtype)


def state(bench, model):
    mixed = () if model.mixed is None else (model.mixed.scale, model.mixed.good, model.mixed.finite)
    vectors = [bench.host(v).tobytes() for v in (model.params, model.grads, *model.state.values(), *mixed)]
    return vectors, model.step, model.epoch, model.version, model.link


def labelled(ax):
    assert isinstance(ax, Axes)
    assert ax.get_xlabel() and ax.get_ylabel()
    return ax


def points(collection):
    return np.asarray(collection.get_offsets())


def scatters(ax):
    return [c for c in ax.collections if type(c) is PathCollection]


def by_label(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def history(n=3, **columns):
    made = History()
    for i in range(n):
        made.add({"epoch": i + 1, "loss": 1.0 / (i + 1), "lr": 0.1, "time": 1.0, **{k: v[i] for k, v in columns.items()}})
    return made


# The package.

def test_matplotlib_is_imported_by_the_first_picture_only():
    code = ("import sys, xpnet; from xpnet import plot; plot.Recorder([[1.0]], [1]); assert 'matplotlib' not in sys.modules; "
            "sys.modules['matplotlib.pyplot'] = None; plot.weights([[1.0]])")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == "ImportError: xpnet.plot needs matplotlib: pip install 'xpnet[plot]'"


def test_every_function_draws_into_the_axes_given():
    bench = Bench("numpy")
    x, t = blobs()
    model, recorder = mlp(bench), plot.Recorder(x, t)
    run = fit(model, SoftmaxCrossEntropy(), SGD(0.1), (x, t), epochs=2, callbacks=[recorder], progress=False)
    one = {
        "learning_curves": lambda ax: plot.learning_curves(run, ax=ax),
        "decision_boundary": lambda ax: plot.decision_boundary(model, x, t, ax=ax, resolution=10),
        "regression_fit": lambda ax: plot.regression_fit(np.sin, x[:, 0], x[:, 1], ax=ax),
        "residuals": lambda ax: plot.residuals(x[:, 0], x[:, 1], ax=ax),
        "confusion_matrix": lambda ax: plot.confusion_matrix(t, t, ax=ax),
        "misclassified": lambda ax: plot.misclassified(np.zeros((2, 3, 3)), [0, 1], [1, 1], ax=ax),
        "weights": lambda ax: plot.weights(np.eye(4), ax=ax),
        "gradient_flow": lambda ax: plot.gradient_flow(recorder, ax=ax),
        "loss_surface": lambda ax: plot.loss_surface(model, SoftmaxCrossEntropy(), (x, t), ax=ax, resolution=3),
        "network": lambda ax: plot.network(model, ax=ax),
        "profile": lambda ax: plot.profile(profiled(model, x, t), ax=ax),
    }
    many = {
        "activations": lambda ax: plot.activations(recorder, ax=ax),
        "gradients": lambda ax: plot.gradients(recorder, ax=ax),
    }
    assert {*one, *many} == {*plot.__all__} - {"COLOURS", "Recorder"}
    figure, axes = plt.subplots(1, 3)
    for name, draw in one.items():
        assert draw(axes[0]) is axes[0], name
        with pytest.raises(TypeError, match="ax is a matplotlib Axes, as made by plt.subplots"):
            draw(figure)
        plt.close("all")
        figure, axes = plt.subplots(1, 3)
    for name, draw in many.items():
        found = draw(axes)
        assert isinstance(found, np.ndarray) and all(a is b for a, b in zip(found, axes)), name
        with pytest.raises(ValueError, match="ax holds 1 Axes, and there are [23] panels to draw"):
            draw(axes[0])
    assert len(plt.get_fignums()) == 1                    # and none was made beside


# Learning curves.

def test_learning_curves_draw_the_history():
    run = history(val_loss=[0.9, 0.8, 0.7])
    ax = labelled(plot.learning_curves(run))
    lines = by_label(ax)
    assert list(lines) == ["training", "validation"]
    assert list(lines["training"].get_xdata()) == [1, 2, 3] and list(lines["training"].get_ydata()) == run["loss"]
    assert list(lines["validation"].get_ydata()) == run["val_loss"]
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "loss" and ax.get_xlabel() == "epoch"
    assert plot.learning_curves(run, log=False).get_yscale() == "linear"
    assert plot.learning_curves(history(val_loss=[0.9, 0.0, 0.7])).get_yscale() == "linear"   # 0 has no place on a logarithmic axis


def test_learning_curves_of_other_columns_and_several_runs():
    run = history(accuracy=[0.5, 0.6, 0.7], val_accuracy=[0.4, 0.5, 0.6])
    ax = plot.learning_curves(run, ["accuracy", "val_accuracy"])
    assert list(by_label(ax)) == ["training", "validation"] and ax.get_yscale() == "linear" and ax.get_ylabel() == "accuracy"
    assert list(by_label(plot.learning_curves(run, "accuracy"))) == ["training"]
    assert list(by_label(plot.learning_curves(run, ["loss", "val_accuracy"]))) == ["training loss", "validation accuracy"]
    lines = by_label(plot.learning_curves({"η = 0.1": history(val_loss=[0.9, 0.8, 0.7]), "η = 1": history()}))
    assert list(lines) == ["η = 0.1 training", "η = 0.1 validation", "η = 1 training"]
    colours = [line.get_color() for line in lines.values()]
    assert colours[0] == colours[1] != colours[2]
    assert lines["η = 0.1 training"].get_linestyle() == "-" and lines["η = 0.1 validation"].get_linestyle() == "--"
    alone = by_label(plot.learning_curves({"η = 0.1": history(), "η = 1": history()}))   # no validation: the label says it all
    assert list(alone) == ["η = 0.1", "η = 1"] and len({line.get_linestyle() for line in alone.values()}) == 2


def test_learning_curves_refuse():
    with pytest.raises(TypeError, match="takes the History that fit returns, or {label: History}, got list"):
        plot.learning_curves([1.0, 0.5])
    with pytest.raises(ValueError, match="the history 'a' holds no epoch"):
        plot.learning_curves({"a": History()})
    with pytest.raises(ValueError, match="unknown history column 'acuracy'; did you mean 'accuracy'"):
        plot.learning_curves(history(accuracy=[1, 1, 1]), ["acuracy"])
    with pytest.raises(ValueError, match="no columns"):
        plot.learning_curves(history(), [])
    with pytest.raises(ValueError, match="no history"):
        plot.learning_curves({})


# Decision boundary.

def image_of(ax):
    return np.asarray(ax.get_images()[0].get_array())


def nearest_class(ax, x):
    """The class whose colour the pixel at each point of x is nearest to."""
    image, (low, high, bottom, top) = image_of(ax), ax.get_images()[0].get_extent()
    row = ((x[:, 1] - bottom) / (top - bottom) * image.shape[0]).astype(int)
    column = ((x[:, 0] - low) / (high - low) * image.shape[1]).astype(int)
    full = np.array([matplotlib.colors.to_rgb(c) for c in plot.COLOURS])
    faded = 1.0 - 0.55 * (1.0 - full)
    return np.argmin(((image[row, column][:, None] - faded[None]) ** 2).sum(axis=-1), axis=1)


def test_decision_boundary_of_a_model(backend):
    x, t = blobs()
    model = mlp(backend)
    fit(model, SoftmaxCrossEntropy(), Adam(0.05), (x, t), epochs=15, batch_size=8, progress=False)
    before = state(backend, model)
    ax = labelled(plot.decision_boundary(model, backend.asarray(x), backend.asarray(t), resolution=40))
    assert state(backend, model) == before
    for j, collection in enumerate(scatters(ax)):
        np.testing.assert_array_equal(points(collection), x[t == j])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["class 0", "class 1", "class 2"]
    assert np.mean(nearest_class(ax, x) == model.predict_classes(x)) > 0.95


def test_decision_boundary_mixes_colours_by_probability_at_the_middle_of_each_pixel():
    x = np.array([[0.0, 0.0], [1.0, 2.0]])
    ax = plot.decision_boundary(lambda p: np.stack([1.0 - p[:, 0], p[:, 0]], axis=1), x, resolution=4, margin=0.0)
    assert ax.get_images()[0].get_extent() == [0.0, 1.0, 0.0, 2.0]
    one, two = (np.array(matplotlib.colors.to_rgb(c)) for c in plot.COLOURS[:2])
    u = np.array([[0.125], [0.375], [0.625], [0.875]])
    expected = 1.0 - 0.55 * (1.0 - (1.0 - u) * one - u * two)
    np.testing.assert_allclose(image_of(ax), np.broadcast_to(expected, (4, 4, 3)))


@pytest.mark.parametrize("loss, classes", [(BinaryCrossEntropy(), (0, 1)), (Hinge(), (-1, 1))])
def test_decision_boundary_of_one_output(backend, loss, classes):
    x, t = blobs(classes=2)
    t = np.array(classes)[t]
    model = mlp(backend, out=1)
    fit(model, loss, Adam(0.05), (x, t[:, None].astype("float32")), epochs=15, batch_size=8, progress=False)
    ax = plot.decision_boundary(model, x, t, resolution=40, labels=["no", "yes"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["no", "yes"]
    np.testing.assert_array_equal(points(scatters(ax)[1]), x[t == 1])
    assert np.mean(nearest_class(ax, x) == (model.predict_classes(x) == 1)) > 0.95
    assert np.abs(model.predict(border(ax))).max() < 0.1   # the logit is 0 where the answer changes


def border(ax):
    """The vertices of the one line that is drawn between two classes."""
    line, = (c for c in ax.collections if isinstance(c, matplotlib.contour.ContourSet))
    return np.concatenate([p.vertices for p in line.get_paths()])


def test_decision_boundary_of_functions():
    """x₁ + x₂ = 3 parts the classes, said in each way a classifier may say it."""
    x, t = np.array([[0.0, 0.0], [3.0, 3.0], [0.0, 2.0], [3.0, 1.0]]), np.array([0, 1, 0, 1])

    def score(p):
        return p.sum(axis=1) - 3.0

    def sigmoid(p):
        return 1.0 / (1.0 + np.exp(-score(p)))

    ways = {
        "score": (score, {}), "column": (lambda p: score(p)[:, None], {}), "labels": (lambda p: (score(p) > 0).astype(int), {}),
        "truth": (lambda p: score(p) > 0, {}), "probabilities": (lambda p: np.stack([1 - sigmoid(p), sigmoid(p)], axis=1), {}),
        "scores": (lambda p: np.stack([-score(p), score(p)], axis=1), {}), "one probability": (sigmoid, {"threshold": 0.5}),
    }
    for name, (classifier, options) in ways.items():
        ax = plot.decision_boundary(classifier, x, t, resolution=51, **options)
        assert np.abs(border(ax).sum(axis=1) - 3.0).max() < (0.08 if name in ("labels", "truth") else 1e-6), name
        assert [len(points(c)) for c in scatters(ax)] == [2, 2], name
        assert list(nearest_class(ax, x)) == [0, 1, 0, 1] or name == "probabilities", name
        plt.close("all")
    assert not scatters(plot.decision_boundary(score, x))  # no targets, no points
    assert len(plot.decision_boundary(score, x + 10.0).collections) == 0   # and no line where none is, without a warning


def test_decision_boundary_of_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression, Perceptron

    x, t = blobs()
    names = np.array(["one", "three", "two"])[t]
    for classifier in (LogisticRegression(), Perceptron()):
        classifier.fit(x, names)
        ax = plot.decision_boundary(classifier, x, names, resolution=60)
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["class one", "class three", "class two"]
        np.testing.assert_array_equal(points(scatters(ax)[2]), x[names == "two"])
        assert np.mean(np.array(["one", "three", "two"] + 5 * [""])[nearest_class(ax, x)] == classifier.predict(x)) > 0.9


def test_decision_boundary_refuses():
    x, t = blobs(classes=2)
    model = mlp(Bench("numpy"), out=2)
    with pytest.raises(ValueError, match=r"takes x of shape \(n, 2\), two features to draw along, got \(40, 3\)"):
        plot.decision_boundary(model, np.zeros((40, 3)))
    with pytest.raises(ValueError, match=r"for 40 points, got \(39,\)"):
        plot.decision_boundary(model, x, t[1:])
    with pytest.raises(ValueError, match=r"labels \[2\], which are not among the classifier's classes \[0, 1\]"):
        plot.decision_boundary(model, x, t * 2, resolution=5)
    with pytest.raises(ValueError, match="labels are the names of 2 classes, got 3"):
        plot.decision_boundary(model, x, t, labels="abc", resolution=5)
    with pytest.raises(TypeError, match="classifier is a Model, an object with predict_proba or predict, or a function"):
        plot.decision_boundary("tree", x, t)
    with pytest.raises(ValueError, match="answer has shape"):
        plot.decision_boundary(lambda p: 1.0, x, t)
    with pytest.raises(ValueError, match="not all finite"):
        plot.decision_boundary(lambda p: p[:, 0] * np.nan, x, t)
    with pytest.raises(ValueError, match="parts two classes, and t holds 3"):
        plot.decision_boundary(lambda p: p[:, 0], *blobs())
    with pytest.raises(ValueError, match="threshold is for a single score"):
        plot.decision_boundary(model, x, t, threshold=0.4)
    model.link = "exp"
    with pytest.raises(ValueError, match="the model predicts a rate"):
        plot.decision_boundary(model, x, t)
    model.link = "sigmoid"
    with pytest.raises(ValueError, match="2 separate yes-or-no answers"):
        plot.decision_boundary(model, x, t)


# Regression.

def test_regression_fit_of_one_input(backend):
    x, t = np.linspace(-2.0, 2.0, 9)[:, None], np.linspace(0.0, 1.0, 9)[:, None]
    model = backend.model(Sequential(Dense(1, 4, "tanh"), Dense(4, 1)))
    before = state(backend, model)
    ax = labelled(plot.regression_fit(model, backend.asarray(x), backend.asarray(t)))
    assert state(backend, model) == before
    np.testing.assert_allclose(points(scatters(ax)[0]), np.hstack([x, t]), atol=1e-6)
    curve = by_label(ax)["fit"].get_xydata()
    assert curve[0, 0] == pytest.approx(-2.0) and curve[-1, 0] == pytest.approx(2.0)
    np.testing.assert_allclose(curve[:, 1:], model.predict(curve[:, :1]), atol=1e-6)
    flat = plot.regression_fit(model, x[:, 0], t[:, 0])   # without the second axis
    np.testing.assert_array_equal(by_label(flat)["fit"].get_xydata(), curve)
    ax = plot.regression_fit(lambda z: np.stack([z, z * z], axis=1), x[:, 0], np.hstack([x, t]))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["data 0", "fit 0", "data 1", "fit 1"]


def test_regression_fit_of_many_inputs(backend):
    x, t = blobs()
    t = t[:, None].astype("float32")
    model = mlp(backend, out=1)
    ax = labelled(plot.regression_fit(model, backend.asarray(x), backend.asarray(t)))
    np.testing.assert_allclose(points(scatters(ax)[0]), np.hstack([t, model.predict(x)]), atol=1e-6)
    diagonal = by_label(ax)["y = t"].get_xydata()
    assert np.array_equal(diagonal[:, 0], diagonal[:, 1])


def test_residuals(backend):
    y, t = np.array([1.0, 2.0, 4.0]), np.array([[1.5], [2.0], [3.0]])
    ax = labelled(plot.residuals(backend.asarray(y), backend.asarray(t)))
    np.testing.assert_array_equal(points(scatters(ax)[0]), [[1.0, -0.5], [2.0, 0.0], [4.0, 1.0]])


def test_regression_refuses():
    with pytest.raises(ValueError, match=r"one row a sample, got y \(3,\), t \(2,\)"):
        plot.residuals(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match=r"same shape, got y \(3, 2\) and t \(3,\)"):
        plot.residuals(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(TypeError, match="y is an array of real numbers, got dtype <U1"):
        plot.residuals(["a"], [1.0])
    with pytest.raises(ValueError, match=r"t is empty, of shape \(0,\)"):
        plot.residuals([1.0], [])
    with pytest.raises(TypeError, match="predict is a Model, an object with predict, or a function"):
        plot.regression_fit(3, np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"the prediction has shape \(400, 2\) for 400 inputs, and t \(3, 1\)"):
        plot.regression_fit(lambda x: np.stack([x, x], axis=1), np.arange(3.0), np.zeros(3))


# Matrices as images.

def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_confusion_matrix(backend):
    t = np.array([0, 0, 0, 0, 1, 1, 2])
    y = np.array([0, 0, 0, 1, 1, 1, 0])
    counts = [[3, 1, 0], [0, 2, 0], [1, 0, 0]]
    scores = np.eye(3)[y]
    for prediction in (y, scores):
        ax = labelled(plot.confusion_matrix(backend.asarray(prediction), backend.asarray(t), labels=["a", "b", "c"]))
        assert texts(ax) == [str(v) for row in counts for v in row]
        np.testing.assert_allclose(image_of(ax), [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        assert [tick.get_text() for tick in ax.get_xticklabels()] == [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    assert texts(plot.confusion_matrix(y, t, normalize=True))[:3] == ["0.75", "0.25", "0.00"]
    assert texts(plot.confusion_matrix([[0.3], [-0.2]], [1, 1])) == ["0", "0", "1", "1"]   # logits
    assert len(texts(plot.confusion_matrix([0, 1], [0, 1], labels="abc"))) == 9   # a class that does not occur
    with pytest.raises(ValueError, match="labels are the names of 3 classes, got 2"):
        plot.confusion_matrix(scores, t, labels=["a", "b"])
    with pytest.raises(ValueError):
        plot.confusion_matrix(y[1:], t)


def test_misclassified(backend):
    images = np.arange(10 * 6.0).reshape(10, 2, 3) / 60.0
    t = np.arange(10)
    y = np.where(t < 9, 9, t)                             # all but the last are wrong
    ax = labelled(plot.misclassified(backend.asarray(images), backend.asarray(y), backend.asarray(t)))
    assert texts(ax) == [f"{i} as 9" for i in range(9)] and ax.get_xlabel() == "9 of 9 misclassified among 10"
    tiles = np.asarray(ax.get_images()[0].get_array())
    assert tiles.shape == (2 * 14, 8 * 5)                 # eight in a row
    np.testing.assert_allclose(tiles[12:14, 6:9], 1.0 - images[1], rtol=1e-6)
    np.testing.assert_allclose(tiles[26:28, 1:4], 1.0 - images[8], rtol=1e-6)
    assert plot.misclassified(images, y, t, most=2).get_xlabel() == "the first 2 of 9 misclassified among 10"
    assert plot.misclassified(images, t, t).get_xlabel() == "0 of 0 misclassified among 10"
    with pytest.raises(ValueError, match=r"images are \(n, height, width\), with labels y and t \(n,\), got \(10, 6\)"):
        plot.misclassified(images.reshape(10, 6), y, t)
    with pytest.raises(ValueError, match="most is a positive integer, got 0"):
        plot.misclassified(images, y, t, most=0)


def test_weights(backend):
    W = np.arange(18.0).reshape(9, 2) - 5.0
    ax = labelled(plot.weights(backend.asarray(W), columns=2))
    image = np.ma.filled(ax.get_images()[0].get_array(), np.nan)
    fine = 6                                              # of each pixel, so that a gap is narrow
    assert image.shape == (3 * fine, 2 * 3 * fine + 1)
    np.testing.assert_array_equal(image[::fine, :3 * fine:fine], W[:, 0].reshape(3, 3))
    np.testing.assert_array_equal(image[::fine, 3 * fine + 1::fine], W[:, 1].reshape(3, 3))
    assert np.isnan(image[:, 3 * fine]).all()
    assert ax.get_images()[0].get_clim() == (-12.0, 12.0)  # 0 is white
    assert np.ma.count(plot.weights(np.ones((6, 5)), shape=(2, 3)).get_images()[0].get_array()) == 6 * 5 * fine * fine
    plot.weights(np.zeros((64, 300)))
    with pytest.raises(ValueError, match=r"shape is \(height, width\) of an image of 9 weights, got \(2, 4\)"):
        plot.weights(W, shape=(2, 4))
    with pytest.raises(ValueError, match=r"W has shape \(in, out\), got \(3,\)"):
        plot.weights(np.zeros(3))
    with pytest.raises(ValueError, match="columns is a positive integer, got 0"):
        plot.weights(W, columns=0)


# The recorder.

def by_hand(bench, model, x, t):
    """tanh(xW + b), then xW + b, softmax and cross-entropy, in float64 on the host: outputs, deltas, gradients."""
    W0, b0, W1, b1 = (bench.host(model.get_param(p)).astype(float) for p in ("0.W", "0.b", "2.W", "2.b"))
    a = np.tanh(x @ W0 + b0)
    z = a @ W1 + b1
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    dz = (p - np.eye(3)[t]) / len(t)
    da = dz @ W1.T
    ds = da * (1.0 - a * a)
    return {"0": a, "1": a, "2": z}, {"0": da, "1": da, "2": dz}, {"0.W": x.T @ ds, "0.b": ds.sum(0), "2.W": a.T @ dz, "2.b": dz.sum(0)}


def test_recorder_records_what_the_layers_hold_and_leaves_the_model(backend):
    x, t = blobs()
    model, recorder, loss = mlp(backend), plot.Recorder(backend.asarray(x), backend.asarray(t)), SoftmaxCrossEntropy()
    y, backward = model.forward(model.asarray(x))         # a step in hand, with dropout
    dy = loss(y, model.asarray(t))[1]
    backward(dy)
    before = state(backend, model)
    outputs, deltas, gradients = by_hand(backend, model, x, t)
    recorder.record(model, loss)
    assert state(backend, model) == before
    backward(dy)                                          # and it can still be finished
    assert recorder.epochs == [0] and list(recorder.layers) == ["0", "1", "2"] and recorder.weights == ["0.W", "2.W"]
    for kept, expected in ((recorder.activations, outputs), (recorder.deltas, {k: np.abs(v) for k, v in deltas.items()}),
                           (recorder.gradients, {k: np.abs(v) for k, v in gradients.items()})):
        assert set(kept) == set(expected)
        for path, values in expected.items():
            np.testing.assert_allclose(kept[path][0], np.quantile(values, LEVELS), rtol=1e-4, atol=1e-6)
    for path, values in gradients.items():
        assert recorder.norms[path][0] == pytest.approx(np.linalg.norm(values), rel=1e-4, abs=1e-6)
    assert recorder.losses[0] == pytest.approx(float(loss(model.forward(model.asarray(x), training=False)[0], model.asarray(t))[0]), rel=1e-5)


def test_recorder_does_not_change_training(backend):
    x, t = blobs()
    runs = []
    for callbacks in ([], [plot.Recorder(x[:10], t[:10])]):
        model = mlp(backend)
        runs.append(fit(model, SoftmaxCrossEntropy(), Adam(0.05), (x, t), epochs=3, batch_size=16, callbacks=callbacks, progress=False)["loss"])
        last = state(backend, model)
    assert runs[0] == runs[1]
    recorder, = callbacks
    assert recorder.epochs == [0, 1, 2, 3] and len(recorder.norms["0.W"]) == 4
    fit(model, SoftmaxCrossEntropy(), Adam(0.05), (x, t), epochs=1, callbacks=callbacks, progress=False)
    assert recorder.epochs == [0, 1, 2, 3, 4]             # it goes on, and records no epoch twice
    assert last != state(backend, model)


def test_recorder_every():
    x, t = blobs()
    recorder = plot.Recorder(x, t, every=2)
    fit(mlp(Bench("numpy")), SoftmaxCrossEntropy(), SGD(0.1), (x, t), epochs=5, callbacks=[recorder], progress=False)
    assert recorder.epochs == [0, 2, 4]


NETS = {
    "checkpoint": (Sequential(Dense(2, 4), Checkpoint(Dense(4, 4, "tanh"), ReLU()), Dense(4, 3)), ["0", "1.0", "1.1", "2"]),
    "branches": (Sequential(Concat(Dense(2, 4), Sequential(Dense(2, 3), Tanh())), Residual(Dense(7, 7, "relu")), Dense(7, 3)),
                 ["0.0", "0.1.0", "0.1.1", "1.0", "2"]),
    "alone": (Dense(2, 3), [""]),
    "no bias": (Sequential(Dense(2, 4, PReLU(4), bias=False), Dense(4, 3)), ["0", "1"]),
}


@pytest.mark.parametrize("name", NETS)
def test_recorder_hears_every_kind_of_network(name):
    net, layers = NETS[name]
    x, t = blobs()
    model, recorder = Model(net, "numpy", "float64"), plot.Recorder(x, t)
    recorder.record(model, SoftmaxCrossEntropy())
    assert list(recorder.layers) == layers and set(recorder.deltas) == set(layers)
    y, backward = model.forward(model.asarray(x), training=False)
    dy = SoftmaxCrossEntropy()(y, t)[1]
    np.testing.assert_allclose(recorder.activations[layers[-1]][0], np.quantile(y, LEVELS))
    np.testing.assert_allclose(recorder.deltas[layers[-1]][0], np.quantile(np.abs(dy), LEVELS))
    backward(dy)
    for path in recorder.weights:
        assert recorder.norms[path][0] == pytest.approx(np.linalg.norm(model.get_grad(path)))


def test_recorder_of_checkpoint_is_that_of_the_layers():
    x, t = blobs()
    plain, kept = [], []
    for container, found in ((Sequential, plain), (Checkpoint, kept)):
        recorder = plot.Recorder(x, t)
        recorder.record(Model(Sequential(Dense(2, 4), container(Dense(4, 4, "tanh"), ReLU()), Dense(4, 3)), "numpy"), SoftmaxCrossEntropy())
        found += [recorder.activations, recorder.deltas, recorder.gradients]
    for a, b in zip(plain, kept):
        assert set(a) == set(b)
        for path in a:
            np.testing.assert_array_equal(a[path], b[path])


def test_recorder_counts_a_shared_layer_at_each_place():
    layer = Dense(4, 4, "tanh")
    x, t = blobs()
    recorder = plot.Recorder(x, t)
    recorder.record(Model(Sequential(Dense(2, 4), layer, layer, Dense(4, 3)), "numpy"), SoftmaxCrossEntropy())
    assert list(recorder.layers) == ["0", "1", "2", "3"] and recorder.weights == ["0.W", "1.W", "3.W"]
    assert not np.array_equal(recorder.activations["1"], recorder.activations["2"])


@pytest.mark.parametrize("name", ["numpy", "cupy"])
def test_recorder_in_mixed_precision(name, request):
    """Deltas come without the loss scale, and the scale is left as it was."""
    if STATE[name] is not None or name not in (request.config.getoption("--backend") or [name]):
        pytest.skip(f"no {name}")
    bench = Bench(name)
    x, t = blobs()
    mixed, exact = (plot.Recorder(x, t) for _ in range(2))
    model = mlp(bench, dtype="mixed")
    before = state(bench, model)
    mixed.record(model, SoftmaxCrossEntropy())
    assert state(bench, model) == before
    exact.record(mlp(bench), SoftmaxCrossEntropy())
    for a, b in ((mixed.deltas, exact.deltas), (mixed.activations, exact.activations), (mixed.gradients, exact.gradients)):
        for path in b:
            np.testing.assert_allclose(a[path], b[path], rtol=0.02, atol=2e-3)


def test_recorder_layers_before_the_first_weights_have_no_deltas():
    x, t = blobs()
    recorder = plot.Recorder(x.reshape(-1, 2, 1), t)
    recorder.record(Model(Sequential(Flatten(), Dense(2, 3)), "numpy"), SoftmaxCrossEntropy())
    assert list(recorder.activations) == ["0", "1"] and list(recorder.deltas) == ["1"]
    assert len(plot.activations(recorder)) == 2 and len(plot.gradients(recorder, of="outputs")) == 1


def test_recorder_keeps_what_is_finite():
    recorder = plot.Recorder(np.ones((2, 2), "float32"), np.ones((2, 1), "float32"))
    model = Model(Sequential(Dense(2, 2, init=np.array([[1.0, 3e38], [1.0, 3e38]])), Dense(2, 1, init="zeros")), "numpy")
    with np.errstate(all="ignore"):
        recorder.record(model, MeanSquaredError())
    assert recorder.activations["0"][0][-1] == 2.0        # the other unit overflows
    assert np.isnan(recorder.activations["1"][0]).all()


def test_recorder_refuses():
    bench = Bench("numpy")
    x, t = blobs()
    with pytest.raises(TypeError, match="Recorder: every is an integer, got 0.5"):
        plot.Recorder(x, t, every=0.5)
    with pytest.raises(ValueError, match="targets run from 5 to 7, but 3 classes"):
        plot.Recorder(x, t + 5).record(mlp(bench), SoftmaxCrossEntropy())
    recorder = plot.Recorder(x, t)
    for draw in (plot.activations, plot.gradients, plot.gradient_flow):
        with pytest.raises(ValueError, match="the Recorder has recorded nothing yet"):
            draw(recorder)
        with pytest.raises(TypeError, match="as in recorder = plot.Recorder"):
            draw(history())
    recorder.record(mlp(bench), SoftmaxCrossEntropy())
    with pytest.raises(ValueError, match="holds the run of another model"):
        recorder.record(mlp(bench), SoftmaxCrossEntropy())
    with pytest.raises(ValueError, match="unknown layer '7'"):
        plot.activations(recorder, layers=["7"])
    with pytest.raises(ValueError, match="unknown of 'weight'; did you mean 'weights'"):
        plot.gradients(recorder, of="weight")


@pytest.fixture
def recorded(backend):
    x, t = blobs()
    recorder = plot.Recorder(x, t)
    model = mlp(backend)
    fit(model, SoftmaxCrossEntropy(), SGD(0.2), (x, t), epochs=3, batch_size=16, callbacks=[recorder], progress=False)
    return recorder, model


def band(ax, i):
    """The lower and upper edge of a band, by epoch."""
    vertices = [c for c in ax.collections if isinstance(c, FillBetweenPolyCollection)][i].get_paths()[0].vertices
    epochs = np.unique(vertices[:, 0])
    return np.array([[v[v[:, 0] == e][:, 1].min(), v[v[:, 0] == e][:, 1].max()] for v in (vertices,) for e in epochs])


def test_distributions_draw_the_quantiles(recorded):
    recorder, _ = recorded
    for panels, kept, titles in (
            (plot.activations(recorder), recorder.activations, ["0: Dense(2, 6, Tanh())", "1: Dropout(0.4)", "2: Dense(6, 3)"]),
            (plot.gradients(recorder), {p: recorder.gradients[p] for p in recorder.weights}, ["0.W", "2.W"]),
            (plot.gradients(recorder, of="outputs"), recorder.deltas, ["0: Dense(2, 6, Tanh())", "1: Dropout(0.4)", "2: Dense(6, 3)"])):
        assert [panel.get_title() for panel in panels] == titles
        for panel, rows in zip(panels, kept.values()):
            q = np.array(rows)
            labelled(panel)
            median = panel.get_lines()[0]
            assert list(median.get_xdata()) == recorder.epochs == [0, 1, 2, 3]
            np.testing.assert_allclose(median.get_ydata(), q[:, 50])
            np.testing.assert_allclose(band(panel, 0), q[:, [25, 75]], rtol=1e-6)
            visible = np.maximum(q[:, [5, 95]], panel.get_ylim()[0] / 10 if panel.get_yscale() == "log" else -np.inf)
            np.testing.assert_allclose(band(panel, 1), visible, rtol=1e-6)
        assert len(panels[0].figure.legends) == 1
    chosen = plot.activations(recorder, layers=["2"])
    assert [panel.get_title() for panel in chosen] == ["2: Dense(6, 3)"]


def test_gradients_that_are_zero_are_drawn_without_a_warning():
    x, t = blobs()
    recorder = plot.Recorder(x, t)
    recorder.record(Model(Sequential(Dense(2, 4, "relu", bias_init=np.full(4, -99.0)), Dense(4, 3)), "numpy"), SoftmaxCrossEntropy())
    assert recorder.norms["0.W"] == [0.0]
    plot.gradients(recorder)
    assert plot.gradient_flow(recorder).get_yscale() == "linear"


def test_gradient_flow_draws_the_norms(recorded):
    recorder, model = recorded
    ax = labelled(plot.gradient_flow(recorder))
    lines = by_label(ax)
    assert list(lines) == ["0.W", "2.W"] and ax.get_yscale() == "log"
    for path, line in lines.items():
        assert list(line.get_xdata()) == [0, 1, 2, 3] and list(line.get_ydata()) == recorder.norms[path]
    x, t = blobs()
    y, backward = model.forward(model.asarray(x), training=False)
    backward(SoftmaxCrossEntropy()(y, model.asarray(t))[1])
    ax = labelled(plot.gradient_flow(model))
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [recorder.norms[path][-1] for path in recorder.weights], rtol=1e-5)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.W", "2.W"]


def test_gradient_flow_refuses():
    with pytest.raises(ValueError, match="every gradient of the model is 0: run a backward pass first"):
        plot.gradient_flow(mlp(Bench("numpy")))
    with pytest.raises(ValueError, match="the network has no parameters"):
        plot.gradient_flow(Model(ReLU(), "numpy"))


def test_gradient_flow_of_a_deep_network_has_lines_of_different_colours():
    x, t = blobs()
    recorder = plot.Recorder(x, t)
    recorder.record(Model(Sequential(Dense(2, 4), *(Dense(4, 4, "tanh") for _ in range(20)), Dense(4, 3)), "numpy"), SoftmaxCrossEntropy())
    assert len({line.get_color() for line in plot.gradient_flow(recorder).get_lines()}) == 22
    assert len(plot.activations(recorder)) == 22


# Loss surface.

def test_loss_surface_is_the_loss_and_the_model_is_as_it_was(backend, monkeypatch):
    x, t = blobs()
    model, loss = mlp(backend), SoftmaxCrossEntropy()
    y, backward = model.forward(model.asarray(x))
    dy = loss(y, model.asarray(t))[1]
    backward(dy)
    before = state(backend, model)
    seen = {}
    monkeypatch.setattr(Axes, "contourf", lambda self, a, b, z, **options: seen.update(a=a, b=b, z=z) or original(self, a, b, z, **options))
    d1, d2 = np.zeros(model.layout.size), np.zeros(model.layout.size)
    d1[0], d2[-1] = 1.0, 2.0                              # the first weight, and the last bias
    labelled(plot.loss_surface(model, loss, (backend.asarray(x), backend.asarray(t)), directions=(d1, backend.asarray(d2)), resolution=5, span=2.0))
    assert state(backend, model) == before
    backward(dy)                                          # the parameters are those of its forward pass
    np.testing.assert_array_equal(seen["a"], [-2.0, -1.0, 0.0, 1.0, 2.0])
    theta = backend.host(model.params)
    for row, column in ((2, 2), (0, 3), (4, 1)):
        model.params = theta + seen["a"][column] * d1 + seen["b"][row] * d2
        expected = float(loss(model.forward(model.asarray(x), training=False)[0], model.asarray(t))[0])
        assert seen["z"][row, column] == pytest.approx(expected, rel=1e-5)


original = Axes.contourf


def test_random_directions_are_filter_normalised_and_the_same_everywhere(backend):
    from xpnet.plot.surface import filter_normalised

    model = mlp(backend)
    theta = backend.host(model.params).astype(float)
    first, second = filter_normalised(model, theta, seed=3)
    assert abs(first @ second) < 0.9 * np.linalg.norm(first) * np.linalg.norm(second)
    for slot in model.layout.slots:
        d, w = (v[slot.start:slot.stop].reshape(slot.param.shape) for v in (first, theta))
        if d.ndim == 1:
            assert not d.any()
        else:
            np.testing.assert_allclose(np.linalg.norm(d, axis=0), np.linalg.norm(w, axis=0), rtol=1e-12)   # of each unit
    here = Model(model.net, "numpy")
    for a, b, other in zip((first, second), filter_normalised(here, theta, seed=3), filter_normalised(here, theta, seed=4)):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, other)


def test_loss_surface_restores_after_an_error(monkeypatch):
    x, t = blobs()
    bench = Bench("numpy")
    model = mlp(bench)
    before = state(bench, model)
    monkeypatch.setattr(SoftmaxCrossEntropy, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plot.loss_surface(model, SoftmaxCrossEntropy(), (x, t), resolution=3)
    assert state(bench, model) == before


def test_loss_surface_of_losses_far_apart_is_logarithmic_and_of_infinite_ones_drawn():
    x = np.array([[1.0], [2.0]], "float32")
    ax = plot.loss_surface(Model(Dense(1, 1), "numpy"), MeanSquaredError(), (x, 2.0 * x + 0.1), resolution=11, span=20.0)
    assert "logarithmic" in ax.figure.axes[-1].get_ylabel()
    model = Model(Dense(1, 1, init="ones"), "numpy")
    with np.errstate(all="ignore"):
        plot.loss_surface(model, Poisson(), (np.full((2, 1), 60.0, "float32"), np.ones((2, 1), "float32")), resolution=5, span=1.0)


def test_loss_surface_refuses():
    x, t = blobs()
    model, loss = mlp(Bench("numpy")), SoftmaxCrossEntropy()
    with pytest.raises(TypeError, match="takes a Model and a Loss, got Sequential and SoftmaxCrossEntropy"):
        plot.loss_surface(model.net, loss, (x, t))
    with pytest.raises(ValueError, match=r"a direction has the shape of model.params, \(39,\), got \(3,\)"):
        plot.loss_surface(model, loss, (x, t), directions=(np.ones(3), np.ones(3)))
    with pytest.raises(TypeError, match="directions are two vectors of the parameters' size"):
        plot.loss_surface(model, loss, (x, t), directions=np.ones(39))
    with pytest.raises(ValueError, match="span is a positive number, got 0"):
        plot.loss_surface(model, loss, (x, t), span=0)
    with pytest.raises(ValueError, match="the loss is the same at every point"):
        plot.loss_surface(model, loss, (x, t), directions=(np.zeros(39), np.zeros(39)), resolution=3)


# Network diagram.

def circles(ax):
    return [p for p in ax.patches if isinstance(p, matplotlib.patches.Circle)]


def test_network_draws_units_and_weights(backend):
    model = backend.model(Sequential(Dense(2, 3, "sigmoid"), Dense(3, 1)))
    before = state(backend, model)
    sample = backend.asarray(np.array([0.5, -1.0]))
    ax = labelled(plot.network(model, values=sample))
    assert state(backend, model) == before
    assert len(circles(ax)) == 2 + 3 + 1 and len(ax.get_lines()) == 2 * 3 + 3 * 1
    W = [backend.host(model.get_param(path)) for path in ("0.W", "1.W")]
    hidden = 1.0 / (1.0 + np.exp(-(np.array([[0.5, -1.0]]) @ W[0])))
    expected = [f"{w:.3g}" for w in np.concatenate([W[0].ravel(), W[1].ravel()])] + \
        [f"{v:.2g}" for v in (0.5, -1.0, *hidden.ravel(), *(hidden @ W[1]).ravel())]
    assert texts(ax) == expected
    for line, w in zip(ax.get_lines(), np.concatenate([W[0].ravel(), W[1].ravel()])):
        assert line.get_color() == (plot.COLOURS[0] if w >= 0 else plot.COLOURS[3])
    widths = np.array([line.get_linewidth() for line in ax.get_lines()[:6]])
    np.testing.assert_allclose(widths, 0.2 + 2.3 * np.abs(W[0].ravel()) / np.abs(W[0]).max(), rtol=1e-6)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["input\n2 units", "0\n3 units\nSigmoid", "1\n1 units"]


def test_network_of_a_lone_net_of_large_layers_and_with_given_values():
    ax = plot.network(Sequential(Flatten(), Dense(784, 128), ReLU(), Dropout(0.5), Dense(128, 10)))
    assert len(circles(ax)) == 9 + 9 + 10 and texts(ax) == ["⋮", "⋮"]
    assert ax.get_xticklabels()[1].get_text() == "1\n128 units\nReLU\nDropout"
    ax = plot.network(Sequential(Dense(2, 1)), values=[[1.0, 2.0], [3.0]])
    assert texts(ax) == ["1", "2", "3"]
    assert len(circles(plot.network(Dense(3, 2)))) == 5


def test_network_draws_a_residual_with_its_sum():
    model = Model(Sequential(Residual(Dense(2, 3), Tanh(), Dense(3, 2)), Dense(2, 1)), "numpy", "float64")
    x = np.array([0.3, -0.7])
    y = model.net.layers[0].forward(model._views["0"], x[None], xn.Context(np))[0][0]
    written = [text.get_text() for text in plot.network(model, values=x).texts]
    assert "+ x" in written and all(f"{v:.2g}" in written for v in y)


def test_network_refuses():
    with pytest.raises(TypeError, match="network takes a layer such as Sequential"):
        plot.network([Dense(2, 3)])
    with pytest.raises(ValueError, match=r"cannot draw layer 0 \(Concat"):
        plot.network(Sequential(Concat(Dense(2, 3), Dense(2, 3))))
    with pytest.raises(ValueError, match="there are none in ReLU"):
        plot.network(ReLU())
    with pytest.raises(ValueError, match=r"values are one number a unit, \[2, 3\] in the columns, got \[2, 2\]"):
        plot.network(Dense(2, 3), values=[[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="a net has no weights to compute the values of a sample with"):
        plot.network(Dense(2, 3), values=np.ones(2))
    with pytest.raises(ValueError, match="values are a sample of 2 numbers"):
        plot.network(Model(Dense(2, 3), "numpy"), values=np.ones(5))


# A profile.

def profiled(model, x, t):
    return xn.profile(model, SoftmaxCrossEntropy(), SGD(0.1), x, t, steps=1, warmup=0,
                      machine=profiling.Machine("", {"float32": 1e9}, {1: 1e9}))


def bars(ax, colour):
    """(left, right, row) of each bar of a colour, in units of the axis."""
    found = [c for c in ax.collections if np.allclose(c.get_facecolor()[0, :3], matplotlib.colors.to_rgb(colour))]
    boxes = [c.get_paths()[0].get_extents() for c in found]
    return [(b.x0, b.x1, int(b.y0)) for b in boxes]


def test_profile_draws_layers_below_their_containers(backend):
    x, t = blobs()
    p = profiled(backend.model(Sequential(Dense(2, 4), Sequential(Tanh(), Residual(Dense(4, 4))), Dense(4, 3))), x, t)
    ax = labelled(plot.profile(p))
    scale = 1e3 if ax.get_xlabel().endswith("ms") else 1e6
    forward, backward = bars(ax, plot.flame.FORWARD), bars(ax, plot.flame.BACKWARD)
    order = ["", "0", "1", "1.0", "1.1", "1.1.0", "2"]
    assert [row for *_, row in forward] == [len(path.split(".")) if path else 0 for path in order]
    np.testing.assert_allclose([b - a for a, b, _ in forward], [scale * p.spans[path].forward for path in order], rtol=1e-9)
    back = ["", "2", "1", "1.1", "1.1.0", "1.0", "0"]     # from the last layer to the first
    np.testing.assert_allclose([b - a for a, b, _ in backward], [scale * p.spans[path].backward for path in back], rtol=1e-9)
    for drawn, paths in (forward, order), (backward, back):
        place = dict(zip(paths, drawn))
        for path in paths[1:]:
            around = place[path.rpartition(".")[0]]
            assert around[0] - 1e-9 <= place[path][0] and place[path][1] <= around[1] + 1e-9
    assert ax.get_xlim()[1] == pytest.approx(scale * p.seconds)   # nothing is drawn twice, and nothing left out
    assert len(bars(ax, plot.flame.COLOUR_OF["optimizer"])) == len(bars(ax, plot.flame.COLOUR_OF["loss"])) == 1
    assert "forward" in {text.get_text() for text in ax.texts}


def test_profile_draws_the_floor_within_its_bar():
    x, t = blobs()
    p = profiled(xn.Model(Dense(2, 3)), x, t)
    (row, *_) = p.rows
    scale = 1e3 if plot.profile(p).get_xlabel().endswith("ms") else 1e6
    black = sorted(b - a for a, b, _ in bars(plot.profile(p), "black"))
    expected = [min(w.floor, w.seconds) for w in (row.forward, row.backward, *(r.total for r in p.rows[1:-1]))]
    np.testing.assert_allclose(black, sorted(scale * s for s in expected if s), rtol=1e-6)


def test_profile_refuses():
    with pytest.raises(TypeError, match="profile takes the Profile that xpnet.profile gave, got Model"):
        plot.profile(xn.Model(Dense(2, 3)))

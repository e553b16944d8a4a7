"""Bad input: a clear error that says what was expected and what came, and a model that is as it was. One row a case."""

import numpy as np
import pytest
from conftest import NAMES, STATE, Bench

import xpnet as xn
from xpnet import (
    SGD,
    Adam,
    BinaryCrossEntropy,
    ClipNorm,
    ClipValue,
    Dense,
    Dropout,
    MeanSquaredError,
    Model,
    Momentum,
    Parallel,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    SoftmaxCrossEntropy,
    evaluate,
    fit,
)

RNG = np.random.default_rng(0)
X, LABELS, REAL = RNG.standard_normal((8, 3)).astype("float32"), np.arange(8) % 2, RNG.standard_normal((8, 2)).astype("float32")


class World:
    """A classifier 3 → 4 → 2 on a backend, and ways to call it."""

    def __init__(self, bench):
        self.bench = bench
        self.model = bench.model(Sequential(Dense(3, 4, "tanh"), ReLU(), Dense(4, 2)))
        self.a = bench.asarray

    def forward(self, x):
        return self.model.forward(x)

    def fit(self, x, t, *w, loss=None, **options):
        return fit(self.model, loss or SoftmaxCrossEntropy(), SGD(0.1), (x, t, *w), progress=False, **options)

    def foreign(self):
        """An array of another library, or of another device."""
        other = "torch" if self.bench.backend.kind == "array-api-strict" else "strict"
        return Bench(other).asarray(X, "float32")

    def with_value(self, value):
        x = X.copy()
        x[5, 1] = value
        return x


def without_file(w):
    w.model.load("no-such-file.npz")


CASES = {
    # The network as written.
    "features that do not fit": (lambda w: Sequential(Dense(3, 4), ReLU(), Dense(5, 2)), r"layer 2 \(Dense\(5, 2\)\) takes 5 features, but layer 0"),
    "a nested misfit": (lambda w: Sequential(Residual(Dense(3, 4)), Dense(9, 2)), r"takes 9 features, but layer 0 .* gives 4"),
    "a residual that changes the shape": (lambda w: Model(Sequential(Residual(Dense(3, 4)), Dense(4, 2)), w.bench.backend).forward(w.a(X)),
                                          r"layer 0 .*adds f\(x\) to x.*\(8, 4\).*\(8, 3\)"),
    "a layer class": (lambda w: Sequential(Dense(3, 4), ReLU), r"ReLU is a class; write ReLU\(\.\.\.\)"),
    "an activation class": (lambda w: Dense(3, 4, ReLU), r"activation=ReLU is a class; write activation=ReLU\(\)"),
    "a list of layers": (lambda w: Sequential([Dense(3, 4)]), r"takes layers, not a list: write Sequential\(\*layers\)"),
    "no layer": (lambda w: Sequential(Dense(3, 4), "relu"), r"takes layers, got 'relu'"),
    "an unknown activation": (lambda w: Dense(3, 4, "rellu"), r"unknown activation 'rellu'; did you mean 'relu'\?"),
    "an unknown initializer": (lambda w: Dense(3, 4, init="he_norm"), r"unknown initializer 'he_norm'; did you mean 'he_normal'\?"),
    "an initial array of the wrong shape": (lambda w: Dense(3, 4, init=np.ones((4, 3))), r"shape \(3, 4\) is needed, got \(4, 3\)"),
    "zero features": (lambda w: Dense(0, 4), r"in_features is an integer from 1 on, got 0"),
    "fractional features": (lambda w: Dense(3, 4.0), r"out_features is an integer, got 4\.0"),
    "a dropout probability of 1": (lambda w: Dropout(1.0), r"probability in \[0, 1\), got 1\.0"),
    "an impossible reshape": (lambda w: Reshape(-1, -1), r"one of which may be -1"),
    "no network": (lambda w: Model([Dense(3, 4)]), r"Model takes a layer"),
    # The backend.
    "an unknown backend": (lambda w: Model(w.model.net, backend="cuppy"), r"unknown backend 'cuppy'; did you mean 'cupy'\?"),
    "an unknown dtype": (lambda w: Model(w.model.net, dtype="float23"), r"unknown dtype 'float23'; did you mean 'float32'\?"),
    "a negative seed": (lambda w: Model(w.model.net, seed=-1), r"seed is an integer from 0 on, got -1"),
    # Forward and backward.
    "too many features": (lambda w: w.forward(w.a(np.ones((8, 5)), "float32")), r"layer 0 \(Dense\(3, 4, Tanh\(\)\)\) takes x of shape \(batch, 3\), got \(8, 5\)"),
    "a single number": (lambda w: w.forward(w.a(np.float32(1.0))), r"takes x of shape \(batch, 3\), got \(\)"),
    "a list for forward": (lambda w: w.forward([[1.0, 2.0, 3.0]]), r"got list; move it once with model\.asarray"),
    "an array of another backend": (lambda w: w.forward(w.foreign()), r"expected an array of backend .* move it once with model\.asarray"),
    "integers for a dense layer": (lambda w: w.forward(w.a(np.ones((8, 3), dtype=np.int64))), r"layer 0 .*parameters of dtype .*float32, got x of dtype .*int64"),
    "a gradient of the wrong shape": (lambda w: w.forward(w.a(X))[1](w.a(np.ones((8, 3)), "float32")), r"∂L/∂y of y's shape \(8, 2\), got \(8, 3\)"),
    "a tuple too short": (lambda w: Model(Parallel(Dense(3, 1), Dense(3, 1), split=True), w.bench.backend).forward((w.a(X),)),
                          r"takes a tuple of 2 arrays, one a branch, got a tuple of 1"),
    "a reshape that does not fit": (lambda w: Model(Sequential(Reshape(2, 2), Dense(2, 2)), w.bench.backend).forward(w.a(X)),
                                    r"layer 0 \(Reshape\(2, 2\)\) takes .* 4 numbers a sample, got \(8, 3\)"),
    "a lone layer": (lambda w: Model(Dense(3, 2), w.bench.backend).forward(w.a(np.ones((8, 5)), "float32")), r"Dense\(3, 2\) takes x of shape \(batch, 3\), got \(8, 5\)"),
    "a prediction in batches of 0": (lambda w: w.model.predict(X, batch_size=0), r"batch_size is an integer from 1 on, got 0"),
    "inputs of different length": (lambda w: Model(Parallel(Dense(3, 1), Dense(3, 1), split=True), w.bench.backend).predict((X, X[:5])), r"batch of samples"),
    "parameters of another size": (lambda w: setattr(w.model, "params", np.ones(3)), r"the vector has shape \(26,\), got \(3,\)"),
    "an empty prediction": (lambda w: w.model.predict(np.ones((0, 3), "float32")), r"empty batch"),
    "a prediction of one number": (lambda w: w.model.predict(1.0), r"batch of samples, got an array of shape \(\)"),
    "probabilities without a link": (lambda w: w.model.predict_proba(X), r"needs the link of a loss over probabilities"),
    "a tuple for a layer of one array": (lambda w: w.forward((w.a(X), w.a(X))), r"layer 0 .*takes x of shape \(batch, \.\.\.\), got a tuple of 2 arrays"),
    # Names.
    "an unknown parameter": (lambda w: w.model.get_param("0.w"), r"unknown parameter '0\.w'; did you mean '0\.W'\?"),
    "a parameter of the wrong shape": (lambda w: w.model.set_param("0.W", np.ones((4, 3))), r"'0\.W' has shape \(3, 4\), got \(4, 3\)"),
    "an unknown gradient": (lambda w: w.model.get_grad("3.W"), r"unknown parameter '3\.W'"),
    "a missing file": (without_file, r"no-such-file"),
    # Losses.
    "an unknown reduction": (lambda w: MeanSquaredError("avg"), r"unknown reduction 'avg'"),
    "targets of another shape": (lambda w: MeanSquaredError()(w.a(REAL), w.a(REAL[:, 0])), r"shape \(8, 2\), got \(8,\)"),
    "a column missing its axis": (lambda w: MeanSquaredError()(w.a(REAL[:, :1]), w.a(REAL[:, 0])), r"reshape the target to \(8, 1\)"),
    "float labels": (lambda w: SoftmaxCrossEntropy()(w.a(REAL), w.a(LABELS, "float32")), r"takes integer classes, got .*float32"),
    "labels with an axis too many": (lambda w: SoftmaxCrossEntropy()(w.a(REAL), w.a(LABELS[:, None])), r"drop the target's last axis"),
    "one output for a softmax": (lambda w: SoftmaxCrossEntropy()(w.a(REAL[:, :1]), w.a(LABELS)), r"at least 2 classes.*BinaryCrossEntropy"),
    "class weights of another number": (lambda w: SoftmaxCrossEntropy(class_weights=[1, 2, 3])(w.a(REAL), w.a(LABELS)), r"3 entries for 2 classes"),
    "label smoothing of 1": (lambda w: SoftmaxCrossEntropy(label_smoothing=1.0), r"label_smoothing is in \[0, 1\)"),
    "sample weights of another length": (lambda w: MeanSquaredError()(w.a(REAL), w.a(REAL), w.a(REAL[:3, 0])), r"shape \(8,\), one a sample, got \(3,\)"),
    "class weights by a dictionary": (lambda w: SoftmaxCrossEntropy(class_weights={0: 1.0, 1: 5.0}), r"class_weights is a list with a number for each class"),
    "negative class weights": (lambda w: SoftmaxCrossEntropy(class_weights=[-1, 1]), r"class_weights holds numbers from 0 on"),
    "a negative pos_weight": (lambda w: BinaryCrossEntropy(pos_weight=-3), r"pos_weight is a positive number"),
    "a reduction where delta goes": (lambda w: xn.Huber("half_mean"), r"delta is a positive number, got 'half_mean'"),
    # Optimizers.
    "a negative learning rate": (lambda w: SGD(-0.1), r"lr is a number from 0 on or a schedule, got -0\.1"),
    "a momentum of 1": (lambda w: Momentum(0.1, momentum=1.0), r"momentum is in \[0, 1\), got 1\.0"),
    "a beta above 1": (lambda w: Adam(beta2=1.5), r"beta2 is in \[0, 1\), got 1\.5"),
    "an unknown option": (lambda w: Adam(weight_dekay=0.1), r"weight_dekay"),
    "a clip at 0": (lambda w: ClipNorm(0.0), r"positive norm"),
    "a clip below 0": (lambda w: ClipValue(-1.0), r"positive limit"),
    "a path that does not exist": (lambda w: SGD(0.1, freeze=("4.*",)).step(w.model), r"unknown path or pattern '4\.\*'"),
    "gradients of another network": (lambda w: SGD(0.1).step(w.model, w.a(np.ones(3), "float32")), r"vector of gradients, of shape \(26,\), got \(3,\)"),
    # fit and evaluate.
    "x and t of different length": (lambda w: w.fit(X, LABELS[:6]), r"different lengths, 8, 6"),
    "empty data": (lambda w: w.fit(X[:0], LABELS[:0]), r"no samples"),
    "x alone": (lambda w: fit(w.model, SoftmaxCrossEntropy(), SGD(0.1), (X,), progress=False), r"\(x, t\) or \(x, t, sample weights\), got 1"),
    "NaN in x": (lambda w: w.fit(w.with_value(np.nan), LABELS), r"data: x has 1 value that is not finite; the first is nan at index \(5, 1\)"),
    "infinity in x": (lambda w: w.fit(w.with_value(np.inf), LABELS), r"not finite; the first is inf at index \(5, 1\)"),
    "NaN in a regression target": (lambda w: w.fit(X, w.with_value(np.nan)[:, :2], loss=MeanSquaredError()), r"data: t has 1 value that is not finite"),
    "NaN in the validation data": (lambda w: w.fit(X, LABELS, validation=(w.with_value(np.nan), LABELS)), r"validation: x has 1 value"),
    "labels out of range": (lambda w: w.fit(X, LABELS + 1), r"targets run from 1 to 2, but 2 classes are numbered 0 to 1"),
    "negative labels": (lambda w: w.fit(X, LABELS - 1), r"targets run from -1 to 0"),
    "fractional labels": (lambda w: w.fit(X, LABELS + 0.5), r"integer classes, got .*float"),
    "one class only": (lambda w: w.fit(X, LABELS * 0), r"one class only \(0\)"),
    "probabilities above 1": (lambda w: w.fit(X, REAL * 10, loss=BinaryCrossEntropy()), r"probabilities in \[0, 1\)?.*got values from"),
    "0 and 1 for a hinge": (lambda w: w.fit(X, np.abs(np.sign(REAL)) * 0.0, loss=xn.Hinge()), r"-1 and 1 for Hinge\(\).*write 2 \* t - 1"),
    "negative counts": (lambda w: w.fit(X, -np.abs(REAL), loss=xn.Poisson()), r"counts from 0 on for Poisson"),
    "soft targets that are no distribution": (lambda w: w.fit(X, np.abs(REAL)), r"probabilities that sum to 1"),
    "features that do not fit, in fit": (lambda w: w.fit(X[:, :2], LABELS), r"takes x of shape \(batch, 3\), got \(1, 2\)"),
    "text": (lambda w: w.fit(np.array([["a", "b", "c"]] * 8), LABELS), r"real numbers are needed"),
    "pixels as bytes": (lambda w: w.fit(np.ones((8, 3), np.uint8), LABELS), r"got x of dtype .*uint8.*convert"),
    "data on another backend": (lambda w: w.fit(w.foreign(), LABELS), r"array of another backend"),
    "a batch size of 0": (lambda w: w.fit(X, LABELS, batch_size=0), r"batch_size is an integer from 1 on, got 0"),
    "no epochs": (lambda w: w.fit(X, LABELS, epochs=0), r"epochs is a positive integer, got 0"),
    "an unknown metric": (lambda w: w.fit(X, LABELS, metrics=["acuracy"]), r"unknown metric 'acuracy'; did you mean 'accuracy'\?"),
    "a loss class": (lambda w: fit(w.model, SoftmaxCrossEntropy, SGD(0.1), (X, LABELS)), r"takes an instance of Loss as loss.*write SoftmaxCrossEntropy\(\.\.\.\)"),
    "an optimizer's name": (lambda w: fit(w.model, SoftmaxCrossEntropy(), "sgd", (X, LABELS)), r"takes an instance of Optimizer as optimizer"),
    "a network for a model": (lambda w: fit(w.model.net, SoftmaxCrossEntropy(), SGD(0.1), (X, LABELS)), r"takes an instance of Model as model"),
    "evaluating an iterable": (lambda w: evaluate(w.model, SoftmaxCrossEntropy(), [X]), r"evaluate takes \(x, t\)"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_bad_input_is_refused_and_changes_nothing(case, backend):
    if case == "an array of another backend" or case == "data on another backend":
        other = "torch" if backend.backend.kind == "array-api-strict" else "strict"
        if STATE[other] is not None:
            pytest.skip(f"needs {NAMES[other]}")
    call, message = CASES[case]
    world = World(backend)
    before = backend.host(world.model.params)
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        call(world)
    np.testing.assert_array_equal(backend.host(world.model.params), before)
    assert world.model.step == 0


def test_there_are_enough_cases():
    assert len(CASES) >= 40


def test_an_optimizer_does_not_drop_the_state_of_another_model():
    a, b = Model(Sequential(Dense(3, 2))), Model(Sequential(Dense(3, 2)))
    optimizer = Adam()
    optimizer.step(a)
    with pytest.raises(ValueError, match="state of another model after 1 steps"):
        optimizer.step(b)


def test_good_input_of_the_same_kinds_is_taken(backend):
    """The table above refuses for the reason it names, not for everything."""
    world = World(backend)
    assert len(world.fit(X, LABELS)) == 1
    assert len(world.fit(X, np.eye(2)[LABELS])) == 1      # one-hot
    assert len(world.fit(X, LABELS, np.ones(8))) == 1     # sample weights
    assert len(world.fit(X.tolist(), LABELS.tolist())) == 1
    assert len(world.fit(X, REAL, loss=MeanSquaredError())) == 1
    assert xn.evaluate(world.model, SoftmaxCrossEntropy(), (X, LABELS), ["accuracy"]).keys() == {"loss", "accuracy"}

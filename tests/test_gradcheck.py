"""The gradient check: finds what is wrong, says where, lets what is right pass, and is not fooled by kinks."""

import warnings

import numpy as np
import pytest
from broken import (
    BROKEN,
    BROKEN_LOSSES,
    BentLine,
    DropoutOfItsOwn,
    Embedding,
    LayerNorm,
    NoSkip,
    ReLUOneAtZero,
    ReLUTwoAtZero,
    ReLUWithOtherSide,
    RunningNorm,
)
from cases import LAYERS, draw, each
from conftest import TOLERANCE

import xpnet as xn
from xpnet.bug_zoo import spoiled, spoiled_loss
from xpnet.bug_zoo.open import Twice
from xpnet.gradcheck import gradient_check
from xpnet.layer import Layer
from xpnet.layout import Layout

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5))
T = RNG.standard_normal((4, 3))
P = RNG.dirichlet(np.ones(3), 4)
CLASSES = RNG.integers(0, 3, 4)


def drawn(shape, bench, seed=0):
    return each(bench.asarray, draw(shape, np.random.default_rng(seed)))


def around(layer):
    """A network with the layer as "1"."""
    y = layer(np.zeros((4, 5)))[0]
    return xn.Sequential(xn.Dense(5, 5, "tanh"), layer, *([] if isinstance(y, tuple) else [xn.Dense(y.shape[-1], 2)]))


def right(report):
    return report.ok and {row.band for row in report.rows} == {"right"}


# What is wrong is caught, located and, where the brief of BROKEN says so, explained.

@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_layer_is_caught_and_located(name, backend):
    case = BROKEN[name]
    report = gradient_check(around(case.make()), drawn(case.shape, backend))
    wrong = report.first_wrong
    assert not report.ok, report
    assert (wrong.path, wrong.parameter) == (case.path, case.parameter), report
    assert case.cause in report.cause if case.cause else not report.cause, report
    # The layers after it, and those before it in the backward pass, are not blamed. (One that writes into x does harm them.)
    blamed = {row.path for row in report.rows if row.band == "wrong"}
    assert blamed <= {"1", case.path} or name == "changes x", report


@pytest.mark.parametrize("name", list(BROKEN_LOSSES))
def test_a_broken_loss_is_caught(name, backend):
    make, cause = BROKEN_LOSSES[name]
    report = gradient_check(xn.Dense(5, 3), backend.asarray(X), make(), backend.asarray(P))
    assert (report.first_wrong.path, report.first_wrong.parameter) == ("loss", "y"), report
    assert cause in report.cause if cause else not report.cause, report
    assert {row.path for row in report.rows if row.band == "wrong"} == {"loss"}, report


def test_a_loss_that_changes_its_prediction_is_caught(backend):
    class Centered(xn.MeanSquaredError):
        def value_and_grad(self, xp, y, t, weights):
            y -= 0.5
            return super().value_and_grad(xp, y, t, weights)

    report = gradient_check(xn.Dense(5, 3), backend.asarray(X), Centered(), backend.asarray(T))
    assert report.cause == "the loss changes the y that it is given"


def test_at_least_twelve_layers_and_losses_are_broken():
    assert len(BROKEN) > 12 and len(BROKEN_LOSSES) > 5


def test_a_wrong_layer_is_found_deep_inside():
    net = xn.Sequential(xn.Dense(5, 6, "relu"), xn.Residual(xn.Dense(6, 6), xn.Checkpoint(xn.Parallel(LayerNorm("mean")), Take(0))),
                        xn.Dense(6, 3))
    report = gradient_check(net, X, xn.SoftmaxCrossEntropy(), CLASSES)
    assert (report.first_wrong.path, report.first_wrong.layer) == ("1.1.0.0", "LayerNorm()"), report
    holds = [row.path for row in report.rows if row.note == "it holds a wrong layer"]
    assert holds == ["1.1.0", "1.1", "1", ""]


class Take(Layer):
    """One of a tuple's arrays."""

    takes_tuples = True

    def __init__(self, i):
        self.i = i

    def forward(self, params, x, ctx):
        return x[self.i], lambda dy, input_grad=True: (tuple(dy if i == self.i else ctx.xp.zeros_like(e) for i, e in enumerate(x)), {})


def test_of_two_wrong_layers_the_first_in_backward_order_is_named():
    wrong = spoiled(xn.Dense, lambda dx, grads, *_: (dx, {**grads, "W": -grads["W"]}))
    report = gradient_check(xn.Sequential(wrong(5, 4), xn.Tanh(), wrong(4, 3)), X)
    assert [row.path for row in report.rows if row.band == "wrong"] == ["2", "0"]


def test_a_container_is_named_only_where_all_it_holds_is_right():
    report = gradient_check(xn.Sequential(NoSkip(xn.Tanh()), xn.Dense(5, 2)), X)
    assert report.first_wrong.path == "0" and "skip path" in report.cause
    report = gradient_check(xn.Sequential(NoSkip(ReLUWithOtherSide()), xn.Dense(5, 2)), X)
    assert report.first_wrong.path == "0.0"


def test_one_wrong_entry_of_a_small_array_is_found():
    def nudge(dx, grads, dy, x, params, xp):
        W = xp.reshape(xp.arange(15, dtype=x.dtype, device=x.device), (5, 3))
        return dx, {**grads, "W": grads["W"] * (1.0 + 1e-3 * xp.astype(W == 7.0, x.dtype))}

    report = gradient_check(spoiled(xn.Dense, nudge)(5, 3), X)
    assert report.first_wrong.parameter == "W"
    assert 4e-4 < report.first_wrong.error < 6e-4          # |1.001 - 1| / 2.001


def test_a_small_error_is_suspicious_and_the_tolerance_decides():
    tilted = spoiled(xn.Tanh, lambda dx, grads, *_: (dx * (1.0 + 2e-6), grads))
    report = gradient_check(tilted(), X)
    assert report.ok and {row.band for row in report.rows} == {"suspicious"}
    assert "Suspicious" in report.verdict() and 0.9e-6 < report.rows[0].error < 1.1e-6
    assert not gradient_check(tilted(), X, tolerance=1e-7).ok


@pytest.mark.parametrize("factor", [0.0, 1.01, -1.0])
def test_a_large_array_is_checked_by_directions_too(factor):
    """One column in 30 is wrong: the four entries that are looked at are right."""
    def spoil(dx, grads, dy, x, params, xp):
        W = grads["W"] * 1.0
        column = int(np.argmin(np.max(np.abs(W), axis=0)))
        W[:, column] *= factor
        return dx, {**grads, "W": W}

    x = np.random.default_rng(0).standard_normal((3, 40))
    assert right(gradient_check(xn.Dense(40, 30), x, max_entries=4))
    report = gradient_check(spoiled(xn.Dense, spoil)(40, 30), x, max_entries=4)
    assert report.first_wrong.parameter == "W" and report.cause == "", report


# What is right passes.

@pytest.mark.parametrize("name", list(LAYERS))
def test_every_layer_of_the_library_passes(name, backend):
    make, shape = LAYERS[name]
    assert right(gradient_check(make(), drawn(shape, backend, 1)))


@pytest.mark.parametrize("name", list(LAYERS))
def test_every_layer_passes_in_inference(name):
    make, shape = LAYERS[name]
    assert right(gradient_check(make(), draw(shape, RNG), training=False))


@pytest.mark.parametrize("name", ["Dense(gelu)", "Softmax", "Residual", "Sequential", "Checkpoint", "shared", "PReLU(5)"])
@pytest.mark.parametrize("scale,rows", [(1e-3, 1), (10.0, 2), (1.0, 30)])
def test_layers_pass_on_other_shapes_and_scales(name, scale, rows):
    make, shape = LAYERS[name]
    x = scale * np.random.default_rng(2).standard_normal((rows, *shape[1:]))
    assert gradient_check(make(), x).ok


def losses(reduction):
    each = xn.MeanSquaredError, xn.MeanAbsoluteError, xn.LogCosh, xn.Poisson, xn.BinaryCrossEntropy
    yield from ((loss(reduction), P) for loss in each)
    yield from ((xn.Huber(0.7, reduction), T), (xn.BinaryCrossEntropy(reduction, 3.0), P), (xn.Hinge(reduction), np.sign(T)),
                (xn.KLDivergence(reduction), P), (xn.MulticlassHinge(reduction), CLASSES))
    for options in ({}, {"label_smoothing": 0.1}, {"class_weights": [1.0, 2.0, 3.0]}):
        yield from ((xn.SoftmaxCrossEntropy(reduction, **options), t) for t in (CLASSES, P))


@pytest.mark.parametrize("weighted", [False, True])
def test_every_loss_passes(weighted, backend):
    weights = backend.asarray([0.5, 2.0, 1.0, 0.1]) if weighted else None
    for loss, t in losses("mean"):
        report = gradient_check(xn.Dense(5, 3), backend.asarray(X), loss, backend.asarray(t), weights=weights)
        assert right(report), (loss, report)


@pytest.mark.parametrize("reduction", ["batch_mean", "sum", "half_mean", "half_batch_mean", "half_sum"])
def test_every_reduction_passes(reduction):
    for loss, t in losses(reduction):
        assert right(gradient_check(xn.Identity(), T, loss, t))


def test_a_tuple_of_one_is_a_tuple():
    assert right(gradient_check(xn.Parallel(xn.Dense(5, 2)), X))
    assert right(gradient_check(xn.Parallel(xn.Dense(5, 2), split=True), (X,)))


def test_a_network_with_everything_passes(backend):
    net = xn.Sequential(xn.Dense(5, 8, "relu"), xn.Dropout(0.3), xn.Residual(xn.Dense(8, 8, "gelu"), xn.Dense(8, 8)),
                        xn.Checkpoint(xn.Dense(8, 6, "prelu"), xn.Dropout(0.2)), Twice(xn.Dense(6, 6, "tanh")), LayerNorm(),
                        xn.Concat(xn.Identity(), xn.Dense(6, 2)), xn.Dense(8, 3))
    report = gradient_check(backend.model(net), backend.asarray(X), xn.SoftmaxCrossEntropy(), backend.asarray(CLASSES))
    assert right(report), report
    assert [row.path for row in report.rows][:4] == ["loss", "7", "7", "7"]
    assert report.rows[-1].layer == "end to end"


def test_integers_are_not_differentiated(backend):
    tokens = backend.asarray(np.array([[0, 3, 3], [2, 0, 6]]))
    net = xn.Sequential(Embedding(7, 4), xn.Dense(4, 2))
    report = gradient_check(net, tokens)
    assert right(report), report
    assert ("0", "x") not in {(row.path, row.parameter) for row in report.rows}
    report = gradient_check(xn.Sequential(Embedding(7, 4, assign=True), xn.Dense(4, 2)), tokens)
    assert (report.first_wrong.path, report.first_wrong.parameter) == ("0", "W")


def test_buffers_are_read_and_not_written(backend, dtype):
    model = backend.model(xn.Sequential(RunningNorm(), xn.Dense(5, 2)), dtype)
    before = {k: backend.host(v) for k, v in model.state.items()}
    assert right(gradient_check(model, backend.asarray(X)))
    assert right(gradient_check(model, backend.asarray(X), training=False))
    for k, v in model.state.items():
        np.testing.assert_array_equal(backend.host(v), before[k])


def test_the_model_and_the_data_are_unchanged(backend, dtype):
    model = backend.model(xn.Sequential(xn.Dense(5, 4, "relu"), xn.Dropout(0.5), xn.Dense(4, 3)), dtype)
    x, t = backend.asarray(X, dtype), backend.asarray(CLASSES)
    y, backward = model.forward(x)
    backward(xn.SoftmaxCrossEntropy()(y, t)[1])
    before = [backend.host(a) for a in (model.params, model.grads, x, t)]
    params, grads, step = model.params, model.grads, model.step
    gradient_check(model, x, xn.SoftmaxCrossEntropy(), t)
    for a, b in zip((model.params, model.grads, x, t), before):
        np.testing.assert_array_equal(backend.host(a), b)
    assert model.params is params and model.grads is grads and model.step == step and str(model.params.dtype).endswith(dtype)


def test_a_mistake_that_a_bias_of_zero_hides_is_found():
    report = gradient_check(spoiled(xn.Dense, lambda dx, grads, dy, x, params, xp: (dx, {**grads, "W": grads["W"] + params["b"]}))(5, 3), X)
    assert report.first_wrong.parameter == "W"


def test_the_gradients_are_those_of_the_models_own_step(backend):
    """The check of a broken model fails: it is this model's net, parameters, seed and step that are checked."""
    model = backend.model(xn.Sequential(xn.Dense(5, 4), DropoutOfItsOwn(0.5), xn.Dense(4, 2)), "float32", seed=3)
    assert gradient_check(model, backend.asarray(X)).first_wrong.path == "1"


def test_a_shared_parameter_that_the_layout_does_not_add_is_found_end_to_end(monkeypatch):
    dense = xn.Dense(5, 5)
    net = xn.Sequential(dense, xn.Tanh(), dense)
    assert right(gradient_check(net, X))
    right_writer = Layout.writer

    def assigns(self, parts):
        write = right_writer(self, parts)
        return lambda grads: write({**grads, "2": {"W": 0.0 * grads["2"]["W"], "b": 0.0 * grads["2"]["b"]}})

    monkeypatch.setattr(Layout, "writer", assigns)
    report = gradient_check(net, X)
    assert (report.first_wrong.path, report.first_wrong.layer, report.first_wrong.parameter) == ("0", "end to end", "W")
    assert "0.W and 2.W are one parameter" in report.cause


# Kinks.

def test_a_point_on_a_kink_is_reported_and_not_failed(backend):
    x = backend.asarray(np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]]))
    report = gradient_check(xn.ReLU(), x)
    row = report.rows[0]
    assert report.ok and row.band == "right" and (row.checked, row.kinks) == (4, 2)
    assert row.note == "this point sits on a kink of ReLU(), unit (0, 0)"
    assert row.note in str(report)


@pytest.mark.parametrize("layer,x", [(xn.LeakyReLU(), 0.0), (xn.ELU(0.5), 0.0), (xn.HardSigmoid(), 3.0), (xn.HardSwish(), -3.0),
                                     (xn.PReLU(), 0.0), (xn.SELU(), 0.0)])
def test_every_kinked_activation_is_known(layer, x):
    report = gradient_check(layer, np.array([[x, 0.7, -0.4]]))
    assert report.ok and f"a kink of {layer!r}, unit (0, 0)" in next(row for row in report.rows if row.parameter == "x").note


def test_the_kink_of_a_fused_activation_is_named_with_layer_and_unit():
    model = xn.Model(xn.Sequential(xn.Dense(3, 4, "relu"), xn.Dense(4, 2)), dtype="float64")
    x = np.ones((2, 3))
    W = np.asarray(model.get_param("0.W"))
    W[:, 2] = (0.5, -0.25, -0.25)                         # z = 0 exactly, for every sample
    model.set_param("0.W", W)
    report = gradient_check(model, x)
    assert report.ok
    note = next(row for row in report.rows if row.path == "0" and row.parameter == "W").note
    assert note == "this point sits on a kink of ReLU() in layer 0, unit (0, 2)"
    assert "kink of ReLU() in layer 0" in report.rows[-1].note   # end to end, too


def test_many_units_on_their_kinks_at_once_are_left_out():
    """With W = 0 every unit is on its kink, and no one-sided slope of the whole need be near the gradient."""
    model = xn.Model(xn.Sequential(xn.Dense(5, 4, "relu", init="zeros"), xn.Dense(4, 1)), dtype="float64")
    for seed in range(5):
        report = gradient_check(model, X[:1], seed=seed)
        assert report.ok and report.rows[-1].kinks and report.rows[-2].kinks, report


def test_a_kink_between_the_steps_is_not_in_the_way():
    for distance in (3e-6, -3e-6, 2e-7, -2e-7):           # the step is 6e-6, the smaller one 1e-7
        report = gradient_check(xn.Sequential(xn.ReLU(), xn.Dense(3, 2)), np.array([[distance, 1.0, -1.0]]))
        assert right(report) and not any(row.kinks for row in report.rows), report


def test_on_a_kink_any_slope_between_the_two_is_right_and_others_are_not():
    x = np.array([[0.0, 1.0, -1.0]])
    assert gradient_check(xn.ReLU(), x).ok and gradient_check(ReLUOneAtZero(), x).ok
    report = gradient_check(ReLUTwoAtZero(), x)
    assert not report.ok and report.first_wrong.kinks == 0
    assert right(gradient_check(ReLUTwoAtZero(), x + 0.5))   # it is right everywhere else


def test_a_wrong_gradient_does_not_escape_as_a_kink():
    x = np.array([[0.0, 1e-9, 1.0, -1.0, 3e-6]])
    report = gradient_check(ReLUWithOtherSide(), x)
    assert not report.ok and report.first_wrong.path == ""
    report = gradient_check(xn.Sequential(xn.Dense(5, 4, ReLUWithOtherSide()), xn.Dense(4, 2)), np.zeros((2, 5)) + x)
    assert report.first_wrong.path == "0.activation", report


def test_a_kink_that_is_not_declared_is_probably_one():
    x = np.array([[0.0, 0.6, -0.3]])
    report = gradient_check(BentLine(), x)
    assert report.ok and "probably a kink" in report.rows[0].note and "BentLine" in report.rows[0].note
    report = gradient_check(BentLine(factor=1.5), x)
    assert not report.ok and report.first_wrong.kinks == 0 and "off by a factor" not in report.cause
    assert "off by a factor of 1.5" in gradient_check(BentLine(factor=1.5), x + 1.0).cause


def test_the_kink_of_a_loss_is_reported():
    y = np.array([[1.0, 2.0], [-1.0, 0.5]])
    report = gradient_check(xn.Identity(), y, xn.Hinge(), np.array([[1.0, 1.0], [-1.0, -1.0]]))
    assert report.ok and report.rows[0].kinks == 2
    assert report.rows[0].note == "this point sits on a kink of Hinge()"
    assert not gradient_check(xn.Identity(), y, spoiled_loss(xn.Hinge, lambda dy, *_: 2.0 * dy), np.sign(y) * -1.0).ok


def test_where_nothing_can_be_checked_the_report_is_not_ok():
    report = gradient_check(xn.ReLU(), np.zeros((2, 3)))
    assert not report.ok and report.first_wrong is None and report.rows[0].band == "unchecked"
    assert report.verdict().startswith("Nothing could be checked")
    with pytest.raises(AssertionError, match="try another x"):
        report.raise_if_wrong()


def test_a_layer_that_gets_a_gradient_of_zero_is_checked_all_the_same():
    """y = t: ∂L/∂y is 0, and so is every gradient of a layer behind it, right or wrong."""
    model = xn.Model(xn.Sequential(spoiled(xn.Dense, lambda dx, grads, *_: (-dx, grads))(5, 3)), dtype="float64")
    report = gradient_check(model, X, xn.MeanSquaredError(), model.forward(X)[0])
    assert (report.first_wrong.path, report.first_wrong.parameter) == ("0", "x"), report


@pytest.mark.parametrize("off", [0.0, 1e-12])
def test_the_minimum_of_a_loss_is_not_taken_for_a_mistake(off):
    """Every gradient is 0 there, and finite differences are left with f''."""
    model = xn.Model(xn.Sequential(xn.Dense(5, 6, "tanh"), xn.Dense(6, 3)), dtype="float64")
    assert gradient_check(model, X, xn.MeanSquaredError(), model.forward(X)[0] + off * T).ok


# The report.

def test_the_report_reads_well():
    report = gradient_check(xn.Sequential(xn.Dense(5, 3), spoiled(xn.Tanh, lambda dx, grads, *_: (-dx, grads))()), X)
    lines = str(report).splitlines()
    assert lines[0] == "Wrong: ∂L/∂x of layer 1 (BrokenTanh()): relative error 1.0e+00; guess: the sign is wrong."
    assert lines[2].split() == ["path", "layer", "gradient", "shape", "checked", "kinks", "error", "band"]
    assert len(lines) == 3 + len(report.rows)
    assert not report and repr(report) == str(report)
    with pytest.raises(AssertionError, match="the sign is wrong"):
        report.raise_if_wrong()
    good = gradient_check(xn.Dense(5, 3), X)
    assert good and good.raise_if_wrong() is good and good.cause == "" and good.first_wrong is None
    assert str(good).startswith("Right: every gradient agrees with finite differences, to a relative error of ")


def test_the_same_seed_gives_the_same_report():
    net = xn.Sequential(xn.Dense(5, 30, "tanh"), xn.Dropout(0.3), xn.Dense(30, 3))
    first, again, other = (gradient_check(net, X, seed=seed) for seed in (0, 0, 1))
    assert first.rows == again.rows and first.rows != other.rows


def test_a_backend_without_float64_is_replaced_and_that_is_said(backend):
    report = gradient_check(xn.Dense(5, 3), backend.asarray(X))
    assert right(report)
    assert [note.partition(" has ")[2] for note in report.notes] == ([] if backend.float64 else ["no float64: checked with NumPy on the host."])


def test_the_numbers_are_those_of_float64(backend, dtype):
    """Whatever the model's dtype: float32's rounding would show as 1e-3."""
    report = gradient_check(backend.model(xn.Sequential(xn.Dense(5, 4, "gelu"), xn.Dense(4, 3)), dtype), backend.asarray(X))
    assert max(row.error for row in report.rows) < 1e-7 < TOLERANCE["float32"]


# Bad input.

@pytest.mark.parametrize("args,error,match", [
    ((xn.ReLU, X), TypeError, "a Model or a layer such as"),
    ((xn.ReLU(), X, xn.MeanSquaredError, X), TypeError, "a loss such as MeanSquaredError"),
    ((xn.ReLU(), X, xn.MeanSquaredError()), ValueError, "a loss and its target t together"),
    ((xn.ReLU(), X, None, X), ValueError, "a loss and its target t together"),
    ((xn.ReLU(), X[:0]), ValueError, "at least one entry"),
    ((xn.ReLU(), X * np.nan), ValueError, "finite numbers only"),
    ((xn.ReLU(), [[1.0]]), TypeError, "expected an array"),
    ((xn.Sequential(xn.Dense(4, 3)), X), xn.LayerError, "layer 0"),
    ((xn.Dense(5, 3), X, xn.MeanSquaredError(), X), ValueError, "takes a target of the prediction's shape"),
    ((xn.Dense(5, 3), X, lambda y, t: (y, y), T), ValueError, "one number and ∂L/∂y, got an L of shape"),
])
def test_bad_input_is_an_error(args, error, match):
    with pytest.raises(error, match=match):
        gradient_check(*args)


@pytest.mark.parametrize("options", [{"max_entries": 0}, {"tolerance": 0.0}])
def test_bad_options_are_errors(options):
    with pytest.raises(ValueError, match="max_entries"):
        gradient_check(xn.ReLU(), X, **options)


def layer_with(backward):
    class Mine(Layer):
        def forward(self, params, x, ctx):
            return x * x, backward

    return xn.Sequential(Mine(), xn.Dense(5, 2))


@pytest.mark.parametrize("backward,error,match", [
    (lambda dy: (dy, {}), TypeError, r"the backward of layer 0 \(Mine\(\)\) is called as backward\(dy, input_grad=True\)"),
    (lambda dy, input_grad=True: dy, TypeError, r"the backward of layer 0 \(Mine\(\)\) returns \(dx, grads\)"),
])
def test_a_backward_that_breaks_the_contract_is_named(backward, error, match):
    with pytest.raises(error, match=match):
        gradient_check(layer_with(backward), X)


def test_an_error_in_backward_says_which_layer():
    with pytest.raises(ZeroDivisionError) as e:
        gradient_check(layer_with(lambda dy, input_grad=True: 1 / 0), X)
    assert e.value.__notes__ == ["in the backward of layer 0 (Mine())"]


def test_an_output_that_is_not_finite_is_an_error():
    class Log(Layer):
        def forward(self, params, x, ctx):
            return ctx.xp.log(x), lambda dy, input_grad=True: (dy / x, {})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"the output of layer 0 \(Log\(\)\) is not finite here"):
            gradient_check(xn.Sequential(Log(), xn.Dense(5, 2)), X)
    assert right(gradient_check(Log(), np.abs(X) + 0.1))
